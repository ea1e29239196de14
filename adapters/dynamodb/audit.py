"""RecordAudit on DynamoDB: scans of whole tables, which nothing else here does.

A position is a key in text. A scan goes on behind any key, in the order of the table's own hash, also behind one whose
item is gone. One question can't be asked of a single moment: a record is found by its id alone only with a Query,
and no transaction reads both that and the reclaim entry. `standing` and `hold` say what they do instead.
"""

import json
from collections import defaultdict
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from adapters.dynamodb.errors import ConditionFailed
from adapters.dynamodb.items import (
    ABSENT,
    UNCHANGED,
    Item,
    Key,
    entry_from,
    entry_key,
    image_from,
    position_from,
    posting_key,
    posting_row,
    record_key,
    reservation_item,
    time_text,
    usage_from,
    usage_key,
    usage_owner,
)
from adapters.dynamodb.retrying import Attempts, Patience
from adapters.dynamodb.tables import Tables
from application.ports import Estimate, Miscount, Position, Posting, Standing
from domain.image import Image
from domain.quota import Usage
from domain.reclaim import audit_hold
from domain.values import ImageId, Tag, UserId

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import (
        AttributeValueTypeDef,
        ConditionCheckTypeDef,
        ScanInputTypeDef,
        TransactWriteItemTypeDef,
    )

_NONE: "AttributeValueTypeDef" = {"N": "0"}


class DynamoRecordAudit:
    """RecordAudit. Safe to share between threads, as the client is.

    Args:
        client: as DynamoMetadata's.
        tables: the tables' names.
        patience: as DynamoMetadata's.
    """

    def __init__(self, client: "DynamoDBClient", tables: Tables, *, patience: Patience | None = None) -> None:
        """Keep the client; no request is made."""
        self._client = client
        self._tables = tables
        self._patience = patience or Patience()

    def estimate(self) -> Estimate:
        """See RecordAudit.estimate. DynamoDB counts every six hours."""
        return Estimate(self._count(self._tables.metadata), self._count(self._tables.postings))

    def records(self, *, after: str | None = None) -> Iterator[tuple[str, Image]]:
        """See RecordAudit.records."""
        start = None
        if after is not None:
            image_id, owner = json.loads(after)
            start = record_key(owner, UUID(image_id))
        for image in map(image_from, self._scan(self._tables.metadata, start)):
            yield json.dumps([str(image.image_id), image.owner]), image

    def postings(self, *, after: str | None = None) -> Iterator[tuple[str, Posting]]:
        """See RecordAudit.postings. A row of another shape is passed over: no listing ever asks for it."""
        start: Key | None = None
        if after is not None:
            name, position = json.loads(after)
            start = {"posting": {"S": name}, "position": {"S": position}}
        for item in self._scan(self._tables.postings, start):
            row = item["posting"]["S"], item["position"]["S"]
            if (posting := _posting_of(*row)) is not None:
                yield json.dumps(row), posting

    def standing(self, image_id: ImageId) -> Standing:
        """See RecordAudit.standing.

        Not quite of one moment. The record is asked for before the entry and, if neither is there, after it: each
        step of an image's life puts one in the place of the other, and only two steps between these reads are missed.
        """
        attempts = self._patience.begin()
        record = self._find(attempts, image_id)
        has_entry = self._has_entry(attempts, image_id)
        if record is None and not has_entry:
            record = self._find(attempts, image_id)
        return Standing(record, has_entry)

    def unposted(self, image: Image) -> tuple[Tag, ...]:
        """See RecordAudit.unposted."""
        if not image.tags:
            return ()
        attempts = self._patience.begin()
        record, *postings = self._read(attempts, _record_of(image), [posting_key(image, tag) for tag in image.tags])
        if record is None or image_from(record) != image:
            return ()
        return tuple(tag for tag, posting in zip(image.tags, postings, strict=True) if posting is None)

    def is_dangling(self, posting: Posting) -> bool:
        """See RecordAudit.is_dangling."""
        attempts, key = self._patience.begin(), _record_named_by(posting)
        response = attempts.call(
            lambda: self._client.get_item(TableName=self._tables.metadata, Key=key, ConsistentRead=True)
        )
        if _calls_for(response.get("Item"), posting):
            return False  # as it nearly always is; a transaction takes four times the units
        record, row = self._read(attempts, key, [_row_of(posting)])
        return row is not None and not _calls_for(record, posting)

    def mend(self, posting: Posting) -> bool:
        """See RecordAudit.mend."""
        attempts = self._patience.begin()
        while True:
            record, row = self._read(attempts, _record_named_by(posting), [_row_of(posting)])
            is_called_for = _calls_for(record, posting)
            if is_called_for == (row is not None):
                return False
            try:
                attempts.call(lambda: self._write(record, posting, add=is_called_for))  # noqa: B023 (called at once)
            except ConditionFailed as failure:
                attempts.pause(failure)
            else:
                return True

    def miscounts(self) -> Iterator[Miscount]:
        """See RecordAudit.miscounts.

        Everything is counted twice, and of an owner is told only what was the same both times: the recorded usage,
        which no reservation and no sweep has touched between, and which ids are records and which are entries. So
        nobody is told of who was only just moving something to the trash or back.
        """
        first = self._count_all()
        suspects = {owner for owner, count in first.items() if count.recorded != count.actual}
        if not suspects:
            return
        second = self._count_all(suspects)
        for owner in sorted(suspects):
            if (count := first[owner]) == second.get(owner):
                yield Miscount(owner, count.recorded, count.actual, count.revision)

    def recount(self, miscount: Miscount) -> bool:
        """See RecordAudit.recount. As long as the recorded usage is untouched, what is stored is what was counted."""
        condition = "revision = :revision" if miscount.revision else "attribute_not_exists(revision)"
        values = {
            ":images": miscount.actual.images,
            ":size_bytes": miscount.actual.size_bytes,
            ":next": miscount.revision + 1,
            **({":revision": miscount.revision} if miscount.revision else {}),
        }
        try:
            self._patience.begin().call(
                lambda: self._client.update_item(
                    TableName=self._tables.reclaim,
                    Key=usage_key(miscount.owner),
                    ConditionExpression=condition,
                    UpdateExpression="SET images = :images, size_bytes = :size_bytes, revision = :next",
                    ExpressionAttributeValues={name: {"N": str(number)} for name, number in values.items()},
                )
            )
        except ConditionFailed as failure:
            return failure.maybe_done
        return True

    def hold(self, image_id: ImageId, *, claimant: UUID, until: datetime) -> bool:
        """See RecordAudit.hold.

        The entry goes in if there is none, and then the record is asked for: with our entry there, none can come any
        more. If one is there, the entry goes out again. An upload would have to run from reserve to commit between
        the caller's last look and this write, and we would have to die right behind it, for the entry to stay beside
        a record.
        """
        attempts = self._patience.begin()
        if self._find(attempts, image_id) is not None:
            return False
        try:
            attempts.call(lambda: self._put_hold(image_id, claimant, until))
        except ConditionFailed as failure:
            (entry,) = failure.items
            if entry is None or entry.get("claimant") != {"S": str(claimant)}:
                return False
        if self._find(attempts, image_id) is None:
            return True
        self.release(image_id, claimant=claimant)
        return False

    def release(self, image_id: ImageId, *, claimant: UUID) -> None:
        """See RecordAudit.release."""
        try:
            self._patience.begin().call(
                lambda: self._client.delete_item(
                    TableName=self._tables.reclaim,
                    Key=entry_key(image_id),
                    ConditionExpression="claimant = :claimant",
                    ExpressionAttributeValues={":claimant": {"S": str(claimant)}},
                )
            )
        except ConditionFailed:
            return  # released already, or collected by a sweeper

    # ---- requests

    def _count(self, table: str) -> int:
        response = self._patience.begin().call(lambda: self._client.describe_table(TableName=table))
        return response["Table"]["ItemCount"]

    def _count_all(self, owners: Container[UserId] | None = None) -> dict[UserId, "_Count"]:
        """Count what each owner, or each of some, has recorded and stored."""
        counts: defaultdict[UserId, _Count] = defaultdict(_Count)

        def of(owner: UserId | None) -> _Count | None:
            return None if owner is None or (owners is not None and owner not in owners) else counts[owner]

        # All usage before anything that it counts: what is reserved between changes it, and is told by the revision.
        for item in self._scan(self._tables.reclaim, None):
            if (count := of(usage_owner(item))) is not None:
                count.recorded, count.revision = usage_from(item), int(item.get("revision", _NONE)["N"])
        for item in self._scan(self._tables.reclaim, None):
            if usage_owner(item) is None and (count := of((entry := entry_from(item)).owner)) is not None:
                count.entries.add(item, entry.usage)
        for item in self._scan(self._tables.metadata, None):
            if (count := of((image := image_from(item)).owner)) is not None:
                count.records.add(item, image.usage)
        return counts

    def _scan(self, table: str, start: Key | None) -> Iterator[Item]:
        request: ScanInputTypeDef = {"TableName": table, "ConsistentRead": True}
        while True:
            asked: ScanInputTypeDef = request if start is None else {**request, "ExclusiveStartKey": start}
            # A deadline a page: whoever walks may have taken minutes over the last.
            response = self._patience.begin().call(lambda: self._client.scan(**asked))  # noqa: B023 (called at once)
            yield from response["Items"]
            if "LastEvaluatedKey" not in response:
                return
            start = response["LastEvaluatedKey"]

    def _find(self, attempts: Attempts, image_id: ImageId) -> Image | None:
        response = attempts.call(
            lambda: self._client.query(
                TableName=self._tables.metadata,
                KeyConditionExpression="image_id = :id",
                ExpressionAttributeValues={":id": {"S": str(image_id)}},
                ConsistentRead=True,
            )
        )
        return next(map(image_from, response["Items"]), None)

    def _has_entry(self, attempts: Attempts, image_id: ImageId) -> bool:
        response = attempts.call(
            lambda: self._client.get_item(TableName=self._tables.reclaim, Key=entry_key(image_id), ConsistentRead=True)
        )
        return "Item" in response

    def _read(self, attempts: Attempts, record: Key, postings: Sequence[Key]) -> list[Item | None]:
        """Read a record and postings (at most 31 items of the 100 a transaction takes) as they are at one moment."""
        keys = [(self._tables.metadata, record), *((self._tables.postings, key) for key in postings)]
        response = attempts.call(
            lambda: self._client.transact_get_items(
                TransactItems=[{"Get": {"TableName": table, "Key": key}} for table, key in keys]
            )
        )
        return [each.get("Item") for each in response["Responses"]]

    def _write(self, record: Item | None, posting: Posting, *, add: bool) -> None:
        """Add or remove a posting, on the condition that its record is still as it was read."""
        table, row = self._tables.postings, _row_of(posting)
        change: TransactWriteItemTypeDef = (
            {"Put": {"TableName": table, "Item": row}} if add else {"Delete": {"TableName": table, "Key": row}}
        )
        check = self._unchanged(record, posting)
        self._client.transact_write_items(TransactItems=[{"ConditionCheck": check}, change])

    def _unchanged(self, record: Item | None, posting: Posting) -> "ConditionCheckTypeDef":
        check: ConditionCheckTypeDef = {
            "TableName": self._tables.metadata,
            "Key": _record_named_by(posting),
            "ConditionExpression": ABSENT,
        }
        if record is not None:
            check["ConditionExpression"] = UNCHANGED
            check["ExpressionAttributeValues"] = {":version": record["version"], ":created_at": record["created_at"]}
        return check

    def _put_hold(self, image_id: ImageId, claimant: UUID, until: datetime) -> None:
        item = reservation_item(audit_hold(image_id, claimant=claimant, until=until))
        self._client.put_item(
            TableName=self._tables.reclaim,
            Item={**item, "claimant": {"S": str(claimant)}, "claim_until": {"S": time_text(until)}},
            ConditionExpression=ABSENT,
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )


@dataclass(slots=True)
class _Sum:
    """What some items take of a quota, and which they are: the exclusive or of their ids."""

    usage: Usage = Usage()  # noqa: RUF009 (a value, immutable)
    ids: int = 0

    def add(self, item: Item, usage: Usage) -> None:
        self.usage += usage
        self.ids ^= UUID(item["image_id"]["S"]).int


@dataclass(slots=True)
class _Count:
    """What one owner has recorded, and what is stored."""

    recorded: Usage = Usage()  # noqa: RUF009 (a value, immutable)
    revision: int = 0
    entries: _Sum = field(default_factory=_Sum)
    records: _Sum = field(default_factory=_Sum)

    @property
    def actual(self) -> Usage:
        return self.entries.usage + self.records.usage


def _record_of(image: Image) -> Key:
    return record_key(image.owner, image.image_id)


def _record_named_by(posting: Posting) -> Key:
    return record_key(posting.owner, posting.image_id)


def _calls_for(record: Item | None, posting: Posting) -> bool:
    if record is None:
        return False
    image = image_from(record)
    return posting.tag in image.tags and image.created_at == posting.created_at


def _row_of(posting: Posting) -> Key:
    return posting_row(posting.owner, posting.tag, Position(posting.created_at, posting.image_id))


def _posting_of(posting: str, position: str) -> Posting | None:
    # No user id has a "#", so the first one ends it.
    owner, separator, tag = posting.partition("#tag#")
    try:
        created_at, image_id = position_from(position)
    except ValueError:
        return None
    # As they stand: parsing would refuse, or change, what an audit is there to find.
    return Posting(str.__new__(UserId, owner), str.__new__(Tag, tag), created_at, image_id) if separator else None
