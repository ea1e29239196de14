"""Objects in a bucket of S3, or of a server that speaks its language."""

import io
import random
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar
from urllib.parse import unquote_plus

from adapters.s3.body import S3Body, Source, Stretch
from adapters.s3.client import send_small_unasked
from adapters.s3.deadline import Deadline, guard, running
from adapters.s3.deletion import delete_objects
from adapters.s3.errors import KeyTaken, Raced, UploadGone, translated
from adapters.s3.multipart import abort, put_in_parts
from adapters.s3.presign import Presigner
from application.ports import ByteRange, Clock, Disposition, ObjectInfo, SignedUrl, StoredObject
from domain.disposition import content_disposition
from domain.errors import Conflict, NotFound, Unavailable
from domain.image import Image
from domain.values import MediaType

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import (
        HeadObjectOutputTypeDef,
    )

_MIB = 1024 * 1024
_MEDIA_TYPES = {media_type.value: media_type for media_type in MediaType}

_T = TypeVar("_T")


@dataclass(slots=True)
class S3Objects:
    """ObjectStore on S3.

    Deadlines hold for every attempt of a request and every block that is read for it, so a call outlives its
    deadline only by what the last request still takes: at most the client's connect and read time-outs.

    Args:
        client: made with `client_config`. Its requests in the course of a put or a deletion are bound to the deadline.
        bucket: the bucket's name.
        clock: the time.
        presigner: of the same bucket.
        kms_key_id: the KMS key to encrypt with (SSE-KMS); None leaves the keys to S3 (SSE-S3).
        multipart_from_bytes: from this size on an object goes up in parts.
        part_bytes: the length of a part; S3 allows no less than 5 MiB.
        prober: the client for `ping`, with short time-outs and no second attempts; by default the other one.
        sleep: how to wait before an upload is made again.
    """

    client: "S3Client"
    bucket: str
    _: KW_ONLY
    clock: Clock
    presigner: Presigner
    kms_key_id: str | None = None
    multipart_from_bytes: int = 16 * _MIB
    part_bytes: int = 8 * _MIB
    prober: "S3Client | None" = None
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        """Bind the client to deadlines, and let it send small bodies at once."""
        guard(self.client)
        send_small_unasked(self.client)

    def put(self, target: StoredObject, content: BinaryIO, *, deadline: datetime) -> None:
        """See ObjectStore.put. The content must be seekable: what fails on the way is sent again."""
        with translated():
            start = content.tell()
            if content.seek(0, io.SEEK_END) - start != target.size_bytes:
                raise Unavailable("the file has not the promised length")
        source = Source(content, Deadline(self.clock, deadline))
        try:
            self._deliver(target, Stretch(source, start, target.size_bytes))
        except Unavailable as error:
            if source.failure is not None and source.failure is not error:
                raise source.failure from error
            raise

    def open(self, key: str, byte_range: ByteRange | None = None, *, sha256: str | None = None) -> S3Body:
        """See ObjectStore.open. One GetObject, whose bytes are read as the caller asks for them.

        A whole object is checked as it passes, so a wrong one breaks off before its end. S3 verifies what it stores
        against checksums of its own (https://docs.aws.amazon.com/AmazonS3/latest/userguide/DataDurability.html), and
        ranges are left to that.
        """
        asked: dict[str, Any] = (
            {} if byte_range is None else {"Range": f"bytes={byte_range.start}-{byte_range.stop - 1}"}
        )
        with translated():
            reply = self.client.get_object(Bucket=self.bucket, Key=key, **asked)
        # "bytes 0-9/100" (RFC 9110, section 14.4)
        size_bytes = reply["ContentLength"] if byte_range is None else int(reply["ContentRange"].rpartition("/")[2])
        info = _info(key, size_bytes, reply["LastModified"], reply["ContentType"])
        return S3Body(info, reply["Body"], sha256=sha256 if byte_range is None else None)

    def open_at_hand(self, key: str, byte_range: ByteRange | None = None, *, sha256: str) -> None:
        """See ObjectStore.open_at_hand. Nothing is."""

    def head(self, key: str) -> ObjectInfo:
        """See ObjectStore.head."""
        reply = self._head(key)
        return _info(key, reply["ContentLength"], reply["LastModified"], reply["ContentType"])

    def signed_url(self, image: Image, *, disposition: Disposition, ttl_s: int) -> SignedUrl:
        """See ObjectStore.signed_url and Presigner.sign; media type and disposition are pinned in the URL."""
        return self.presigner.sign(
            image.key,
            content_type=image.media_type,
            content_disposition=content_disposition(disposition, image.filename),
            ttl_s=ttl_s,
        )

    def delete_prefix(self, prefix: str, *, deadline: datetime) -> None:
        """See ObjectStore.delete_prefix. Every version goes, every delete marker, and every upload under way."""
        if not prefix.endswith("/"):
            raise ValueError("a prefix that is no folder would match the objects of other images")
        with running(Deadline(self.clock, deadline)):
            # Uploads first: one that completes meanwhile is found among the versions.
            self._abort_uploads(prefix)
            self._delete_versions(prefix)

    def list_prefix(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See ObjectStore.list_prefix; media types are not known here."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        for page in _each(pages):
            for found in page.get("Contents", ()):
                yield _info(found["Key"], found["Size"], found["LastModified"])

    def ping(self) -> None:
        """See ObjectStore.ping."""
        with translated():
            (self.prober or self.client).head_bucket(Bucket=self.bucket)

    # ---- what a put is made of

    def _deliver(self, target: StoredObject, body: Stretch) -> None:
        while True:
            try:
                return self._send(target, body)
            except (KeyTaken, UploadGone):
                # Perhaps by this very call, when the reply to an earlier attempt was lost.
                return self._check_same(target)
            except Raced:
                self.sleep(random.uniform(0.05, 0.5))  # noqa: S311 (jitter, not a secret)

    def _send(self, target: StoredObject, body: Stretch) -> None:
        properties = self._properties(target)
        if len(body) >= self.multipart_from_bytes:
            put_in_parts(self.client, body, properties, part_bytes=self.part_bytes, sha256=target.sha256)
            return
        with running(body.source.deadline), translated():
            self.client.put_object(
                **properties,
                Body=body.as_file(),
                ContentLength=len(body),
                ChecksumSHA256=_base64(target.sha256),  # which says by itself what algorithm it is of
                IfNoneMatch="*",
            )

    def _properties(self, target: StoredObject) -> dict[str, Any]:
        if self.kms_key_id is None:
            encryption: dict[str, Any] = {"ServerSideEncryption": "AES256"}
        else:
            # A bucket key spares a call (and a fee) of KMS for each object.
            encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.kms_key_id, "BucketKeyEnabled": True}
        metadata = {"owner": target.owner, "image-id": str(target.image_id), "sha256": target.sha256}
        return {
            "Bucket": self.bucket,
            "Key": target.key,
            "ContentType": target.media_type.value,
            "Metadata": metadata,
            **encryption,
        }

    def _check_same(self, target: StoredObject) -> None:
        try:
            stored = self._head(target.key)
        except NotFound as absence:
            raise Unavailable("the object was deleted while it was being stored") from absence
        if not _is_same(stored, target):
            raise Conflict("another object is stored under this key")

    def _head(self, key: str) -> "HeadObjectOutputTypeDef":
        with translated():
            return self.client.head_object(Bucket=self.bucket, Key=key, ChecksumMode="ENABLED")

    # ---- what a deletion is made of

    def _abort_uploads(self, prefix: str) -> None:
        pages = self.client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self.bucket, Prefix=prefix, EncodingType="url"
        )
        for page in _each(pages):
            decoded = unquote_plus if page.get("EncodingType") == "url" else str
            for upload in page.get("Uploads", ()):
                abort(
                    self.client,
                    {"Bucket": self.bucket, "Key": decoded(upload["Key"]), "UploadId": upload["UploadId"]},
                )

    def _delete_versions(self, prefix: str) -> None:
        more = True
        while more:
            # Always the first page: not every server finds its way on from a marker that was deleted meanwhile.
            with translated():
                page = self.client.list_object_versions(Bucket=self.bucket, Prefix=prefix)
            found = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            delete_objects(
                self.client, self.bucket, [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in found]
            )
            more = page["IsTruncated"]


def _info(key: str, size_bytes: int, modified_at: datetime, media_type: str = "") -> ObjectInfo:
    return ObjectInfo(
        key=key,
        size_bytes=size_bytes,
        modified_at=modified_at.astimezone(UTC),
        media_type=_MEDIA_TYPES.get(media_type),
    )


def _is_same(stored: "HeadObjectOutputTypeDef", target: StoredObject) -> bool:
    if stored["ContentLength"] != target.size_bytes:
        return False
    checksum = stored.get("ChecksumSHA256", "-")
    if stored.get("ChecksumType") == "COMPOSITE" or "-" in checksum:
        # It came in parts, and S3 has but a digest of their digests. The metadata has what put_in_parts verified.
        return stored["Metadata"].get("sha256") == target.sha256
    return checksum == _base64(target.sha256)


def _base64(sha256: str) -> str:
    return b64encode(bytes.fromhex(sha256)).decode()


def _each(pages: Iterable[_T]) -> Iterator[_T]:
    """Walk the pages of a listing; each may fail on its way."""
    walk = iter(pages)
    while True:
        with translated():
            page = next(walk, None)
        if page is None:
            return
        yield page
