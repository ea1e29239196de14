"""ObjectAudit on S3: the keys below ``images/``, and a quarantine below ``quarantine/{day}/`` in the same bucket.

Uploads in parts that never ended are no objects yet; the bucket's lifecycle aborts them after a day.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from adapters.s3.deadline import Deadline, guard, running
from adapters.s3.deletion import delete_objects
from adapters.s3.errors import translated
from application.ports import Clock, FoundObject, Quarantined
from domain.errors import NotFound, Unavailable
from domain.image import OBJECT_ROOT, image_id_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CopySourceTypeDef, HeadObjectOutputTypeDef, ListObjectsV2OutputTypeDef

QUARANTINE = "quarantine/"
# What S3 calls the one version of an object that has no others.
_UNVERSIONED = "null"


@dataclass(frozen=True, slots=True)
class S3ObjectAudit:
    """ObjectAudit on a bucket. An original is told from what takes its place by its version id.

    Args:
        client: as S3Objects'. Its requests in the course of a removal are bound to the deadline.
        bucket: the bucket's name; versioned.
        clock: the time.
    """

    client: "S3Client"
    bucket: str
    clock: Clock

    def __post_init__(self) -> None:
        """Bind the client to deadlines."""
        guard(self.client)

    def objects(self, *, after: str | None = None) -> Iterator[FoundObject]:
        """See ObjectAudit.objects. One request for 1,000 keys."""
        for page in self._pages(OBJECT_ROOT, after):
            for each in page.get("Contents", ()):
                yield _found(each["Key"], each["Size"], each["LastModified"])

    def is_there(self, found: FoundObject) -> bool:
        """See ObjectAudit.is_there."""
        return self._current(found) is not None

    def quarantine(self, found: FoundObject, *, at: datetime) -> Quarantined | None:
        """See ObjectAudit.quarantine. S3 copies by itself; of several copies of a day the bucket keeps all versions."""
        head = self._current(found)
        if head is None:
            return None
        version = head.get("VersionId", _UNVERSIONED)
        if version == _UNVERSIONED:
            raise Unavailable("the bucket is not versioned: an object can't be told from what takes its place")
        key = f"{QUARANTINE}{at.astimezone(UTC).date()}/{found.place}"
        source: CopySourceTypeDef = {"Bucket": self.bucket, "Key": found.place, "VersionId": version}
        try:
            with translated():
                self.client.copy_object(Bucket=self.bucket, Key=key, CopySource=source)
        except NotFound:
            return None
        return Quarantined(found, version)

    def remove(self, quarantined: Quarantined, *, deadline: datetime) -> None:
        """See ObjectAudit.remove. Only the version that was copied goes."""
        with running(Deadline(self.clock, deadline)), translated():
            self.client.delete_object(Bucket=self.bucket, Key=quarantined.found.place, VersionId=quarantined.original)

    def purge(self, *, before: datetime) -> int:
        """See ObjectAudit.purge. What it deletes stays a non-current version until the bucket's lifecycle ends it."""
        removed = 0
        for page in self._pages(QUARANTINE):
            keys = [each["Key"] for each in page.get("Contents", ()) if _was_kept_before(each["Key"], before)]
            removed += self._delete(keys)
        return removed

    def _pages(self, prefix: str, after: str | None = None) -> "Iterator[ListObjectsV2OutputTypeDef]":
        # Each page goes on behind the last key rather than by a token, which S3 lets grow old.
        while True:
            with translated():
                page = self.client.list_objects_v2(Bucket=self.bucket, Prefix=prefix, StartAfter=after or "")
            yield page
            if not page["IsTruncated"]:
                return
            after = page["Contents"][-1]["Key"]

    def _current(self, found: FoundObject) -> "HeadObjectOutputTypeDef | None":
        try:
            with translated():
                head = self.client.head_object(Bucket=self.bucket, Key=found.place)
        except NotFound:
            return None
        # HTTP's dates have whole seconds.
        unchanged = head["LastModified"].replace(microsecond=0) == found.modified_at.replace(microsecond=0)
        return head if unchanged and head["ContentLength"] == found.size_bytes else None

    def _delete(self, keys: list[str]) -> int:
        delete_objects(self.client, self.bucket, [{"Key": key} for key in keys])
        return len(keys)


def _found(key: str, size_bytes: int, modified_at: datetime) -> FoundObject:
    image_id = image_id_of(key)
    return FoundObject(
        place=key,
        key=None if image_id is None else key,
        image_id=image_id,
        size_bytes=size_bytes,
        modified_at=modified_at.astimezone(UTC),
    )


def _was_kept_before(key: str, before: datetime) -> bool:
    day = key.removeprefix(QUARANTINE).partition("/")[0]
    try:
        return date.fromisoformat(day) < before.astimezone(UTC).date()
    except ValueError:
        return False
