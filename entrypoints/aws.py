"""DynamoDB and S3: clients by boto3's own configuration, and the adapters on them.

Region, endpoint, profile, role and credentials are boto3's business (``AWS_REGION``, ``AWS_ENDPOINT_URL``, ...).
"""

import os
import platform
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import urlsplit

import boto3
import botocore
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, NoRegionError

from adapters.dynamodb import (
    DynamoMetadata,
    Tables,
    parse_replies_fast,
    resolve_endpoints_fast,
    send_items_as_they_are,
)
from adapters.s3 import Presigner, S3Objects, client_config
from application.ports import Clock
from domain.errors import Unavailable
from entrypoints.settings import Settings
from entrypoints.stores import Stores

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client


class _Effort(NamedTuple):
    """How long one attempt of a request may take, and how many there are."""

    connect_timeout_s: float
    read_timeout_s: float
    attempts: int


# Items are small, and answered in milliseconds. The adapter itself tries again, within its own deadline: attempts of
# botocore's under that would multiply.
RECORDS = _Effort(1, 3, attempts=1)
# S3 may take its time to store what it was sent; but one that says nothing is to be answered for in about ten seconds.
_OBJECTS = _Effort(1, 4, attempts=2)
# Health checks answer within two seconds, whatever happens.
_HEALTH = _Effort(0.7, 0.7, attempts=1)
_PROBES_AT_ONCE = 4
# Left to itself botocore puts this together for every request, twice: a fifth of the time that one takes.
_USER_AGENT = f"calotype Botocore/{botocore.__version__} Python/{platform.python_version()}"
_AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")

UNUSABLE = (BotoCoreError, ValueError, OSError)
"""What boto3 raises when its configuration is of no use; OSError when a program for credentials can't be run."""


def aws_stores(settings: Settings, clock: Clock) -> Stores:
    """Return the stores on AWS, or on a server that speaks its language. Neither store is asked for anything.

    Raises:
        Unavailable: boto3 finds no region or no credentials, or what it finds is of no use.
    """
    try:
        session = aws_session(settings)
        credentials = _credentials(session)
        s3 = s3_client(session, settings)
        s3_prober = s3_client(session, settings, _HEALTH)
        dynamodb = dynamodb_client(session, settings, RECORDS)
        dynamodb_prober = dynamodb_client(session, settings, _HEALTH)
    except NoRegionError as error:
        raise Unavailable("AWS can't be used: set AWS_REGION, or a region in the profile") from error
    except UNUSABLE as error:
        raise Unavailable(f"AWS can't be used: {error}") from error
    objects = S3Objects(
        s3,
        settings.bucket,
        clock=clock,
        presigner=Presigner(s3, settings.bucket, credentials, clock=clock, window_s=settings.presign_window_s),
        kms_key_id=settings.kms_key_id,
        prober=s3_prober,
    )

    def close() -> None:
        for client in (s3, s3_prober, dynamodb, dynamodb_prober):
            client.close()

    return Stores(
        metadata=DynamoMetadata(dynamodb, Tables(settings.table_prefix), prober=dynamodb_prober),
        objects=objects,
        signed_objects=None,
        reads_inline=False,
        spool_dir=None,
        close=close,
    )


def aws_session(settings: Settings) -> boto3.Session:
    """Return a session. Of ``AWS_REGION``, which every other SDK of AWS reads, boto3 alone does not know.

    Raises:
        BotoCoreError: AWS_PROFILE names a profile that is not there.
    """
    session = botocore.session.get_session()
    resolve_endpoints_fast(session)
    send_items_as_they_are(session)
    if settings.dynamodb_parser == "msgspec":
        parse_replies_fast(session)
    return boto3.Session(region_name=os.environ.get("AWS_REGION") or None, botocore_session=session)


def s3_client(session: boto3.Session, settings: Settings, effort: _Effort = _OBJECTS) -> "S3Client":
    """Return a client for the bucket. Its pool is as large as the pool of threads."""

    def client(addressing_style: Literal["auto", "virtual"]) -> "S3Client":
        config = client_config(
            _pool_size(settings, effort),
            connect_timeout_s=effort.connect_timeout_s,
            read_timeout_s=effort.read_timeout_s,
            attempts=effort.attempts,
            addressing_style=addressing_style,
            accelerate=settings.transfer_acceleration,
            user_agent=_USER_AGENT,
        )
        return session.client("s3", config=config)

    # Variables and profiles name other endpoints in several ways: only a client knows where it will go.
    anywhere = client("auto")
    host = urlsplit(anywhere.meta.endpoint_url).hostname or ""
    if not host.endswith(_AWS_DOMAINS):
        return anywhere
    anywhere.close()
    return client("virtual")


def dynamodb_client(session: boto3.Session, settings: Settings, effort: _Effort = _OBJECTS) -> "DynamoDBClient":
    """Return a client for the tables. Its pool is as large as the pool of threads."""
    return session.client(
        "dynamodb",
        config=Config(
            max_pool_connections=_pool_size(settings, effort),
            connect_timeout=effort.connect_timeout_s,
            read_timeout=effort.read_timeout_s,
            retries={"mode": "standard", "total_max_attempts": effort.attempts},
            parameter_validation=False,
            user_agent=_USER_AGENT,
        ),
    )


def _pool_size(settings: Settings, effort: _Effort) -> int:
    return _PROBES_AT_ONCE if effort is _HEALTH else settings.threads


def _credentials(session: boto3.Session) -> "Credentials":
    credentials = session.get_credentials()
    if credentials is None:
        raise Unavailable(
            "boto3 finds no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, "
            "or run where a role gives some"
        )
    return credentials
