"""S3 in process: moto behind a wire that is as strict as S3, notes every request, and fails those that a test names."""

import hashlib
import threading
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import boto3
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.core.models import botocore_stubber

from adapters.s3 import Presigner, S3Objects, client_config
from application.ports import Clock

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "image-uploads"
ACCESS_KEY, SECRET_KEY = "AKIDEXAMPLE", "secret"


class Request(dict[str, str]):
    """The headers of one attempt of a request, names in lower case; and its operation."""

    operation: str


@dataclass
class Wire:
    """Stands between the client and moto.

    moto checks conditions and writes in separate steps, so one request at a time gives its requests what S3 promises
    of each: that it is atomic. It takes any checksum, so they are checked here.

    ``before`` and ``after`` hold the faults to come, by operation, each for one attempt: the request never arrives,
    or its reply is lost.
    """

    requests: list[Request] = field(default_factory=list)
    before: dict[str, Exception] = field(default_factory=dict)
    after: dict[str, Exception] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def counts(self) -> Counter[str]:
        return Counter(request.operation for request in self.requests)

    def only(self, operation: str) -> Request:
        (request,) = [request for request in self.requests if request.operation == operation]
        return request

    def __call__(self, *, request: AWSPreparedRequest, event_name: str, **_: object) -> AWSResponse:
        seen = Request({name.lower(): _text(value) for name, value in request.headers.items()})
        seen.operation = event_name.rpartition(".")[2]
        with self._lock:
            self.requests.append(seen)
            _raise(self.before.pop(seen.operation, None))
            _check_sha256(seen, cast("BinaryIO", request.body))
            response = botocore_stubber(event_name, request)
            assert response is not None, "moto is not on"
            _raise(self.after.pop(seen.operation, None))
            return response


@contextmanager
def s3_on_moto() -> Iterator[tuple["S3Client", Wire]]:
    """A client to an empty, versioned bucket, and its wire."""
    with mock_aws():
        client: S3Client = _session().client("s3", config=client_config(10))
        client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        wire = Wire()
        # In moto's place, not before it: botocore calls every handler, and takes the first answer.
        client.meta.events.unregister("before-send", cast("Any", botocore_stubber))
        client.meta.events.register("before-send.s3", cast("Any", wire))
        yield client, wire


def objects_on(client: "S3Client", clock: Clock, **options: Any) -> S3Objects:
    presigner = Presigner(client, BUCKET, Credentials(ACCESS_KEY, SECRET_KEY), clock=clock, window_s=1)
    return S3Objects(client, BUCKET, clock=clock, presigner=presigner, **options)


@cache
def _session() -> boto3.session.Session:
    # Made once, because it reads the service's model from disk.
    return boto3.Session(aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY, region_name="eu-west-1")


def _raise(fault: Exception | None) -> None:
    if fault is not None:
        raise fault


def _check_sha256(request: Request, body: BinaryIO) -> None:
    """Refuse bytes that are not those of the header."""
    if (promised := request.get("x-amz-checksum-sha256")) is None:
        return
    digest = b64encode(hashlib.sha256(body.read()).digest()).decode()
    body.seek(0)
    if digest != promised:
        raise ClientError({"Error": {"Code": "BadDigest", "Message": "The SHA256 did not match"}}, request.operation)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
