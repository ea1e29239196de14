"""DynamoDB and S3: clients by boto3's own configuration, and the adapters on them.

Region, endpoint, profile, role and credentials are boto3's business (``AWS_REGION``, ``AWS_ENDPOINT_URL``, ...).
"""

import os
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from adapters.dynamodb import DynamoMetadata, Tables
from adapters.s3 import Presigner, S3Objects, client_config
from application.ports import Clock
from domain.errors import Unavailable
from entrypoints.settings import Settings
from entrypoints.stores import Stores

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

_CONNECT_TIMEOUT_S = 1.0
_READ_TIMEOUT_S = 5.0
_ATTEMPTS = 3
# Health checks answer within two seconds, whatever happens.
_PROBE_TIMEOUT_S = 0.7


def aws_stores(settings: Settings, clock: Clock) -> Stores:
    """Return the stores on AWS, or on a server that speaks its language. No request is made.

    Raises:
        Unavailable: boto3 finds no region or no credentials.
    """
    session = boto3.Session()
    credentials = session.get_credentials()
    if credentials is None:
        raise Unavailable("boto3 finds no AWS credentials")
    try:
        s3 = s3_client(session, settings)
        prober = s3_client(session, settings, connect_timeout_s=_PROBE_TIMEOUT_S, attempts=1)
        dynamodb = dynamodb_client(session, settings)
    except (BotoCoreError, ValueError) as error:
        raise Unavailable(f"AWS can't be used: {error}") from error
    objects = S3Objects(
        s3,
        settings.bucket,
        clock=clock,
        presigner=Presigner(s3, settings.bucket, credentials, clock=clock, window_s=settings.presign_window_s),
        kms_key_id=settings.kms_key_id,
        prober=prober,
    )

    def close() -> None:
        for client in (s3, prober, dynamodb):
            client.close()

    return Stores(
        metadata=DynamoMetadata(dynamodb, Tables(settings.table_prefix)),
        objects=objects,
        signed_objects=None,
        reads_inline=False,
        spool_dir=None,
        close=close,
    )


def s3_client(
    session: boto3.Session,
    settings: Settings,
    *,
    connect_timeout_s: float = _CONNECT_TIMEOUT_S,
    attempts: int = _ATTEMPTS,
) -> "S3Client":
    """Return a client for the bucket. Its pool is as large as the pool of threads."""
    elsewhere = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    config = client_config(
        settings.threads,
        connect_timeout_s=connect_timeout_s,
        read_timeout_s=_PROBE_TIMEOUT_S if attempts == 1 else _READ_TIMEOUT_S,
        attempts=attempts,
        addressing_style="auto" if elsewhere else "virtual",
        accelerate=settings.transfer_acceleration,
    )
    return session.client("s3", config=config)


def dynamodb_client(session: boto3.Session, settings: Settings) -> "DynamoDBClient":
    """Return a client for the tables."""
    return session.client(
        "dynamodb",
        config=Config(
            max_pool_connections=settings.threads,
            connect_timeout=_CONNECT_TIMEOUT_S,
            read_timeout=_READ_TIMEOUT_S,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            parameter_validation=False,
        ),
    )
