"""Deleting several objects with one request."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adapters.s3.errors import translated
from domain.errors import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef


def delete_objects(client: "S3Client", bucket: str, objects: "Sequence[ObjectIdentifierTypeDef]") -> None:
    """Delete objects, or versions of them: at most 1,000, which is a page of a listing.

    Raises:
        Unavailable: some are still there.
    """
    if not objects:
        return
    with translated():
        reply = client.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
    if failures := reply.get("Errors", ()):
        raise Unavailable(f"S3 DeleteObjects: {len(failures)} refused, the first as {failures[0].get('Code')}")
