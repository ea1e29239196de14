"""Multipart uploads: large objects in parts, whole or not at all.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html. SHA-256 exists there for each part and as a
"composite" of the parts', never for the whole object. So the whole is checked here, on the same pass over the file
that takes the parts' digests, and S3 holds each part to its digest.
"""

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from adapters.s3.body import Stretch
from adapters.s3.deadline import running
from adapters.s3.errors import UploadGone, translated
from domain.errors import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

_CHUNK_BYTES = 256 * 1024


def put_in_parts(
    client: "S3Client", body: Stretch, properties: dict[str, Any], *, part_bytes: int, sha256: str
) -> None:
    """Upload the body in parts, create-only; abort what was begun if anything fails.

    Args:
        client: bound to deadlines.
        body: the bytes, with the deadline.
        properties: Bucket, Key, and what else CreateMultipartUpload takes.
        part_bytes: the length of a part.
        sha256: of the whole, in hex.

    Raises:
        KeyTaken: there is an object under the key.
        Raced: the whole must be done again.
        UploadGone: the upload ended under another attempt's hands, perhaps well.
        Unavailable: also when the bytes have another digest.
    """
    parts = body.split(part_bytes)
    digests = _digests(parts, expected=sha256)
    with running(body.source.deadline), translated():
        begun = client.create_multipart_upload(**properties, ChecksumAlgorithm="SHA256", ChecksumType="COMPOSITE")
    upload = {"Bucket": properties["Bucket"], "Key": properties["Key"], "UploadId": begun["UploadId"]}
    try:
        with running(body.source.deadline), translated():
            done = [
                _put_part(client, upload, number, part, digest)
                for number, (part, digest) in enumerate(zip(parts, digests, strict=True), start=1)
            ]
            client.complete_multipart_upload(
                **upload,
                MultipartUpload={"Parts": done},
                ChecksumType="COMPOSITE",
                MpuObjectSize=len(body),
                IfNoneMatch="*",
            )
    except BaseException:
        _abort_quietly(client, upload)
        raise


def abort(client: "S3Client", upload: dict[str, Any]) -> None:
    """End an upload (Bucket, Key, UploadId) and free its parts; one that ended before is fine."""
    with suppress(UploadGone), translated():
        client.abort_multipart_upload(**upload)


def _put_part(
    client: "S3Client", upload: dict[str, Any], number: int, part: Stretch, digest: str
) -> "CompletedPartTypeDef":
    reply = client.upload_part(
        **upload,
        PartNumber=number,
        Body=part.as_file(),
        ContentLength=len(part),
        ChecksumAlgorithm="SHA256",
        ChecksumSHA256=digest,
    )
    return {"PartNumber": number, "ETag": reply["ETag"], "ChecksumSHA256": digest}


def _abort_quietly(client: "S3Client", upload: dict[str, Any]) -> None:
    # The caller learns of the failure that led here. What can't be aborted now, delete_prefix or the bucket's
    # lifecycle rule will.
    with suppress(Unavailable):
        abort(client, upload)


def _digests(parts: list[Stretch], *, expected: str) -> list[str]:
    whole, digests = hashlib.sha256(), []
    for part in parts:
        of_part = hashlib.sha256()
        for chunk in _chunks(part):
            of_part.update(chunk)
            whole.update(chunk)
        digests.append(b64encode(of_part.digest()).decode())
    if whole.hexdigest() != expected:
        raise Unavailable("the bytes are not those that were promised")
    return digests


def _chunks(part: Stretch) -> Iterator[bytes]:
    file = part.as_file()
    with translated():
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
