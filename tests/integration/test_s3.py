"""What is special to S3: requests counted, encryption, parts, retries, and what versions leave behind."""

import hashlib
import io
import itertools
import uuid
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any, ClassVar

import boto3
import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, IncompleteReadError
from botocore.response import StreamingBody

from adapters.memory import FixedClock
from adapters.s3 import S3Objects, client_config
from adapters.s3.body import S3Body
from adapters.s3.errors import translated
from application.ports import ByteRange, StoredObject
from domain.errors import CalotypeError, Conflict, NotFound, Unavailable
from domain.image import object_prefix
from domain.values import Filename, MediaType, UserId
from tests.builders import an_image
from tests.integration.s3_on_moto import BUCKET, Wire, objects_on, s3_on_moto
from tests.waiting import PATIENCE_S

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SMALL = b"\xff\xd8\xff" + b"small"
PART_BYTES = 5 * 1024 * 1024
LARGE = b"\xff\xd8\xff" + bytes(range(251)) * 45_000  # two parts of 5 MiB and a rest


@dataclass
class World:
    client: "S3Client"
    wire: Wire
    clock: FixedClock = field(default_factory=FixedClock)

    def __post_init__(self) -> None:
        self.objects = self.store()

    def store(self, **options: Any) -> S3Objects:
        return objects_on(
            self.client, self.clock, multipart_from_bytes=PART_BYTES, part_bytes=PART_BYTES, sleep=self.sleep, **options
        )

    def sleep(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))

    def put(self, target: StoredObject, data: bytes) -> None:
        self.objects.put(target, io.BytesIO(data), deadline=self.clock.now() + timedelta(minutes=1))

    def stored(self, data: bytes = SMALL, *, filename: str = "cat.jpg") -> StoredObject:
        target = promised(data, filename=filename)
        self.put(target, data)
        return target

    def read(self, target: StoredObject) -> bytes:
        with closing(self.objects.open(target.key)) as body:
            return body.read()

    def delete(self, target: StoredObject) -> None:
        self.objects.delete_prefix(object_prefix(target.image_id), deadline=self.clock.now() + timedelta(minutes=1))

    def remains(self) -> list[str]:
        """Every version, delete marker and unfinished upload in the bucket."""
        versions = self.client.list_object_versions(Bucket=BUCKET)
        uploads = self.client.list_multipart_uploads(Bucket=BUCKET)
        found = (versions.get("Versions", ()), versions.get("DeleteMarkers", ()), uploads.get("Uploads", ()))
        return [each["Key"] for each in itertools.chain[Any](*found)]


@pytest.fixture
def world() -> Iterator[World]:
    with s3_on_moto() as (client, wire):
        yield World(client, wire)
        assert not wire.before, "a fault that never came"
        assert not wire.after, "a fault that never came"


def promised(data: bytes, *, filename: str = "cat.jpg") -> StoredObject:
    image_id = uuid.uuid4()
    return StoredObject(
        key=object_prefix(image_id) + Filename(filename),
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        media_type=MediaType.JPEG,
        owner=UserId("ada@example.org|1"),
        image_id=image_id,
    )


def lost() -> ConnectionClosedError:
    return ConnectionClosedError(endpoint_url="https://s3")


def refused(code: str, operation: str = "PutObject") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, operation)


# ---- requests


@pytest.mark.parametrize(("size_bytes", "leave"), [(1024 * 1024, None), (1024 * 1024 + 1, "100-continue")])
def test_leave_to_send_is_asked_for_large_bodies_alone(world: World, size_bytes: int, leave: str | None) -> None:
    world.stored(bytes(size_bytes))
    assert world.wire.only("PutObject").get("expect") == leave


def test_an_upload_is_one_request_that_says_everything(world: World) -> None:
    target = world.stored()

    assert world.wire.counts == {"PutObject": 1}
    request = world.wire.only("PutObject")
    assert request["if-none-match"] == "*"
    assert request["content-length"] == str(len(SMALL))
    assert request["content-type"] == "image/jpeg"
    assert b64decode(request["x-amz-checksum-sha256"]).hex() == target.sha256
    assert request["x-amz-server-side-encryption"] == "AES256"
    assert request["x-amz-meta-owner"] == target.owner
    assert request["x-amz-meta-image-id"] == str(target.image_id)
    assert "x-amz-trailer" not in request


def test_the_bytes_are_sent_without_being_hashed_again_and_the_signature_covers_their_checksum(world: World) -> None:
    world.stored()

    request = world.wire.only("PutObject")
    assert request["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
    assert "x-amz-checksum-sha256" in request["authorization"]


def test_a_download_is_one_request(world: World) -> None:
    target = world.stored()
    world.wire.requests.clear()

    with closing(world.objects.open(target.key, ByteRange(3, 5))) as body:
        assert body.read() == SMALL[3:5]

    assert world.wire.counts == {"GetObject": 1}


def test_signing_makes_no_request(world: World) -> None:
    signed = world.objects.signed_url(an_image(filename="café.jpg"), disposition="attachment", ttl_s=60)

    assert world.wire.counts == {}
    assert "response-content-type=image%2Fjpeg" in signed.url
    assert (
        "response-content-disposition=attachment%3B%20filename%3D%22cafe.jpg%22%3B%20filename%2A%3DUTF-8" in signed.url
    )


def test_deleting_an_image_is_three_requests(world: World) -> None:
    target = world.stored()
    world.wire.requests.clear()

    world.delete(target)

    assert world.wire.counts == {"ListMultipartUploads": 1, "ListObjectVersions": 1, "DeleteObjects": 1}


def test_a_ping_goes_through_the_client_made_for_it(world: World) -> None:
    config = client_config(1, connect_timeout_s=0.1, attempts=1)
    dead = boto3.client("s3", endpoint_url="http://127.0.0.1:9", config=config, region_name="eu-west-1")

    world.objects.ping()
    assert world.wire.counts == {"HeadBucket": 1}
    with pytest.raises(Unavailable):
        world.store(prober=dead).ping()


# ---- encryption


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["whole", "in parts"])
def test_a_key_of_kms_is_used_where_one_is_set(world: World, data: bytes) -> None:
    world.objects = world.store(kms_key_id="key-1")

    target = world.stored(data)

    stored = world.client.head_object(Bucket=BUCKET, Key=target.key)
    assert (stored["ServerSideEncryption"], stored["SSEKMSKeyId"]) == ("aws:kms", "key-1")
    request = next(request for request in world.wire.requests if "x-amz-server-side-encryption" in request)
    assert request["x-amz-server-side-encryption-bucket-key-enabled"] == "true"


# ---- in parts


def test_a_large_object_goes_up_in_parts_with_a_checksum_each(world: World) -> None:
    target = world.stored(LARGE)

    assert world.wire.counts == {"CreateMultipartUpload": 1, "UploadPart": 3, "CompleteMultipartUpload": 1}
    parts = [request for request in world.wire.requests if request.operation == "UploadPart"]
    assert [int(part["content-length"]) for part in parts] == [PART_BYTES, PART_BYTES, len(LARGE) - 2 * PART_BYTES]
    last_bytes = hashlib.sha256(LARGE[2 * PART_BYTES :]).digest()
    assert b64decode(parts[-1]["x-amz-checksum-sha256"]) == last_bytes
    complete = world.wire.only("CompleteMultipartUpload")
    assert (complete["if-none-match"], complete["x-amz-mp-object-size"]) == ("*", str(len(LARGE)))
    assert world.read(target) == LARGE
    stored = world.client.head_object(Bucket=BUCKET, Key=target.key)
    assert (stored["ContentType"], stored["Metadata"]["owner"]) == ("image/jpeg", target.owner)
    assert world.remains() == [target.key]


@pytest.mark.parametrize("operation", ["UploadPart", "CompleteMultipartUpload"])
@pytest.mark.parametrize("code", ["AccessDenied", "BadDigest", "InvalidPart"])
def test_an_upload_that_fails_is_aborted(world: World, operation: str, code: str) -> None:
    world.wire.before[operation] = refused(code, operation)

    with pytest.raises(Unavailable):
        world.stored(LARGE)

    assert world.wire.counts["AbortMultipartUpload"] == 1
    assert world.remains() == []


def test_an_upload_behind_its_deadline_is_aborted(world: World) -> None:
    target = promised(LARGE)

    class SlowInTheEnd(io.BytesIO):
        rereads = 0

        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() == 0:
                self.rereads += 1  # once for the digests, once to send
            if self.rereads > 1 and self.tell() > PART_BYTES:
                world.clock.advance(timedelta(minutes=1))
            return super().read(size)

    with pytest.raises(Unavailable, match="deadline"):
        world.objects.put(target, SlowInTheEnd(LARGE), deadline=world.clock.now() + timedelta(minutes=1))

    assert world.wire.counts == {"CreateMultipartUpload": 1, "UploadPart": 2, "AbortMultipartUpload": 1}
    assert world.remains() == []


def test_a_failure_to_abort_does_not_hide_why(world: World) -> None:
    world.wire.before |= {
        "UploadPart": refused("BadDigest", "UploadPart"),
        "AbortMultipartUpload": refused("AccessDenied", "AbortMultipartUpload"),
    }

    with pytest.raises(Unavailable, match="BadDigest"):
        world.stored(LARGE)


def test_parts_of_other_bytes_than_promised_are_never_sent(world: World) -> None:
    target = promised(LARGE)

    with pytest.raises(Unavailable):
        world.put(target, LARGE[:-1] + b"!")

    assert world.wire.counts == {}


def test_an_object_in_parts_is_never_replaced(world: World) -> None:
    target = world.stored(LARGE)
    other = LARGE[:-1] + b"!"

    world.put(target, LARGE)
    with pytest.raises(Conflict):
        world.put(replace(target, sha256=hashlib.sha256(other).hexdigest()), other)

    assert world.read(target) == LARGE
    assert world.remains() == [target.key]


# ---- what gets lost on the way


@pytest.mark.parametrize(
    ("data", "operation"),
    [
        (SMALL, "PutObject"),
        (LARGE, "CreateMultipartUpload"),
        (LARGE, "UploadPart"),
        (LARGE, "CompleteMultipartUpload"),
    ],
)
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_put_survives_a_connection_that_breaks(world: World, data: bytes, operation: str, side: str) -> None:
    getattr(world.wire, side)[operation] = lost()

    target = world.stored(data)

    assert world.wire.counts[operation] >= 2
    assert world.read(target) == data


@pytest.mark.parametrize(("data", "operation"), [(SMALL, "PutObject"), (LARGE, "CompleteMultipartUpload")])
def test_a_put_that_races_another_is_made_again(world: World, data: bytes, operation: str) -> None:
    world.wire.before[operation] = refused("ConditionalRequestConflict", operation)

    target = world.stored(data)

    assert world.wire.counts[operation] == 2
    assert world.remains() == [target.key]


def test_a_put_that_races_until_its_deadline_is_unavailable(world: World) -> None:
    class AlwaysRaced(dict[str, Exception]):
        def pop(self, *_args: Any) -> Any:
            return refused("ConditionalRequestConflict")

    world.wire.before, kept = AlwaysRaced(), world.wire.before

    with pytest.raises(Unavailable, match="deadline"):
        world.stored()

    world.wire.before = kept
    assert world.wire.counts["PutObject"] > 60 / 0.5


def test_no_attempt_is_repeated_behind_the_deadline(world: World) -> None:
    def break_late(**_event: object) -> None:
        world.clock.advance(timedelta(minutes=1))
        raise lost()

    world.client.meta.events.register("before-send.s3", break_late)
    with pytest.raises(Unavailable, match="deadline"):
        world.stored()

    assert world.wire.counts == {"PutObject": 1}


def test_an_object_deleted_under_a_repeated_put_is_unavailable(world: World) -> None:
    world.wire.before["PutObject"] = refused("PreconditionFailed")

    with pytest.raises(Unavailable, match="deleted"):
        world.stored()


# ---- what is left behind


def test_a_deletion_leaves_no_version_no_marker_and_no_upload(world: World) -> None:
    target, other = world.stored(), world.stored()
    for data in (b"two", b"three"):
        world.client.put_object(Bucket=BUCKET, Key=target.key, Body=data)
    world.client.delete_object(Bucket=BUCKET, Key=target.key)
    for each in (target, other):
        world.client.create_multipart_upload(Bucket=BUCKET, Key=each.key)
    world.client.delete_object(Bucket=BUCKET, Key=world.stored(filename="x.jpg").key)
    kept = len(world.remains()) - 5

    world.delete(target)

    assert target.key not in world.remains()
    assert len(world.remains()) == kept


def test_a_deletion_goes_on_behind_the_first_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")
    target = promised(SMALL)
    for _ in range(5):
        world.client.put_object(Bucket=BUCKET, Key=target.key, Body=b"x")
    world.wire.requests.clear()

    world.delete(target)

    assert world.wire.counts["DeleteObjects"] == 3
    assert world.remains() == []


@pytest.mark.parametrize("filename", ["a%2Bb+c d.jpg", "<&>\"'.jpg", "猫\U0001f408.jpg"])
def test_a_key_that_xml_or_a_url_would_change_is_deleted(world: World, filename: str) -> None:
    target = world.stored(filename=filename)
    world.client.create_multipart_upload(Bucket=BUCKET, Key=target.key)

    world.delete(target)

    assert world.remains() == []


def test_an_object_that_s3_would_not_delete_is_unavailable(world: World) -> None:
    target = world.stored()

    def refuse(*, parsed: dict[str, Any], **_event: object) -> None:
        parsed["Errors"] = [{"Key": target.key, "Code": "InternalError"}]

    world.client.meta.events.register("after-call.s3.DeleteObjects", refuse)
    with pytest.raises(Unavailable, match="InternalError"):
        world.delete(target)


def test_a_prefix_that_could_match_other_images_is_refused(world: World) -> None:
    with pytest.raises(ValueError, match="folder"):
        world.objects.delete_prefix("images/1", deadline=world.clock.now() + timedelta(minutes=1))


# ---- errors


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("NoSuchKey", NotFound),
        ("404", NotFound),
        ("NoSuchBucket", Unavailable),
        ("PreconditionFailed", Conflict),
        ("ConditionalRequestConflict", Unavailable),
        ("SlowDown", Unavailable),
        ("AccessDenied", Unavailable),
        ("InvalidRange", Unavailable),
        ("", Unavailable),
    ],
)
def test_errors_of_s3_become_errors_of_the_domain(code: str, expected: type[CalotypeError]) -> None:
    with pytest.raises(expected) as caught, translated():
        raise refused(code)
    assert isinstance(caught.value.__cause__, ClientError)


@pytest.mark.parametrize("error", [lost(), OSError("disk"), TimeoutError(), RuntimeError("still expired")])
def test_whatever_else_fails_on_the_way_is_unavailable(error: Exception) -> None:
    with pytest.raises(Unavailable) as caught, translated():
        raise error
    assert caught.value.__cause__ is error


# ---- connections


class Answer(BaseHTTPRequestHandler):
    """Answers every GET with a megabyte, or with less than it says."""

    protocol_version = "HTTP/1.1"
    connections: ClassVar[int] = 0
    body: ClassVar[bytes] = b"x" * 1024 * 1024
    says: ClassVar[int] = 1024 * 1024

    def setup(self) -> None:
        type(self).connections += 1
        super().setup()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(self.says))
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        try:
            self.wfile.write(self.body)
        except OSError:
            self.close_connection = True
        if self.says != len(self.body):
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        del format, args


@contextmanager
def served(handler: type[Answer]) -> Iterator[S3Objects]:
    """A store on a server that counts its connections."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{server.server_port}",
            config=client_config(2, read_timeout_s=PATIENCE_S),
            region_name="eu-west-1",
            aws_access_key_id="AKID",
            aws_secret_access_key="secret",
        )
        try:
            yield objects_on(client, FixedClock())
        finally:
            client.close()
            server.shutdown()


@pytest.mark.parametrize(
    ("use", "connections"),
    [(lambda body: body.read(), 1), (lambda body: body.read(10), 5), (lambda body: body.close(), 5)],
    ids=["read", "read in part", "not read"],
)
def test_a_connection_is_kept_if_and_only_if_its_body_was_read(
    use: Callable[[S3Body], object], connections: int
) -> None:
    class Counting(Answer):
        connections = 0

    with served(Counting) as objects:
        for _ in range(5):
            with closing(objects.open("images/1/cat.jpg")) as body:
                use(body)

    assert Counting.connections == connections


def test_a_body_that_breaks_off_is_unavailable_and_no_short_object() -> None:
    class Short(Answer):
        body = b"x" * 1000

    with served(Short) as objects, closing(objects.open("images/1/cat.jpg")) as body:
        assert body.read(1000) == Short.body
        with pytest.raises(Unavailable):
            body.read(1000)


def test_a_body_shorter_than_its_length_is_unavailable() -> None:
    info = an_image()
    stream = StreamingBody(io.BytesIO(b"abc"), 10)
    with pytest.raises(Unavailable) as caught:
        S3Body(info, stream).read()  # type: ignore[arg-type]
    assert isinstance(caught.value.__cause__, IncompleteReadError)
