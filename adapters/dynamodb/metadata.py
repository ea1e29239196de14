"""MetadataStore and MetadataReader on DynamoDB.

Record, postings and reclaim entry change in one TransactWriteItems, conditional on the record's version or on the
entry. A transaction carries a ClientRequestToken, so that sending it again after a lost reply does it once; where a
condition fails on such a second try all the same, what is found there decides whether the first one won.

An owner's usage is one item among the reclaim entries, in the transactions that reserve and forget. It is kept whether
there is a quota or not (ADR 15), and it is where one owner's parallel uploads meet.

What is strongly consistent: every read by id and by tags. Pages by owner and by title, counts and the walk over what
is due come from global secondary indexes, which DynamoDB brings up to date within moments but not at once.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from botocore.exceptions import ClientError

from adapters.dynamodb.errors import ConditionFailed
from adapters.dynamodb.items import (
    ABSENT,
    UNCHANGED,
    Item,
    entry_from,
    entry_key,
    image_from,
    is_claimed,
    posting_key,
    record_item,
    record_key,
    reservation_item,
    time_text,
    trashed_item,
    usage_from,
    usage_key,
)
from adapters.dynamodb.listings import Listings
from adapters.dynamodb.retrying import Attempts, Patience
from adapters.dynamodb.tables import SHARDS, Tables
from application.ports import Filter, Position, Slice
from domain.errors import Conflict, NotFound, PreconditionFailed
from domain.image import Image, Revision
from domain.quota import UNLIMITED, Quota, Usage
from domain.reclaim import ReclaimEntry, Reservation, TrashedImage, check_takeover
from domain.values import ImageId, Tag, UserId

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import (
        AttributeValueTypeDef,
        ConditionCheckTypeDef,
        DeleteTypeDef,
        PutTypeDef,
        TransactWriteItemTypeDef,
        UpdateTypeDef,
    )

_NO_ID = UUID(int=0)


class DynamoMetadata:
    """Records, postings and reclaim entries in three tables. Safe to share between threads, as the client is.

    Args:
        client: a low-level client with short timeouts. It may retry by itself; this class does in any case.
        tables: the tables' names.
        patience: how long conflicts, throttling and lost replies are met with another try.
        prober: the client for `ping`, with still shorter timeouts and no tries of its own; by default the other one.
    """

    def __init__(
        self,
        client: "DynamoDBClient",
        tables: Tables,
        *,
        patience: Patience | None = None,
        prober: "DynamoDBClient | None" = None,
    ) -> None:
        """Keep the clients; no request is made."""
        self._client = client
        self._prober = prober or client
        self._tables = tables
        self._patience = patience or Patience()
        self._listings = Listings(client, tables)

    # ---- MetadataStore

    def reserve(self, reservation: Reservation, *, at: datetime, quota: Quota = UNLIMITED) -> Image | None:
        """See MetadataStore.reserve."""
        attempts = self._patience.begin()
        replaced: ReclaimEntry | None = None
        while True:
            more = reservation.usage if replaced is None else reservation.usage - replaced.usage
            try:
                self._transact(attempts, self._reservation(reservation, replaced, more, quota))
            except ConditionFailed as failure:
                record, entry, used = (*failure.items, None)[:3]
                if record is not None:
                    return image_from(record)
                if entry is None:
                    quota.admit(more, used=usage_from(used))
                    replaced = None  # or it was not the quota: what was to be replaced is gone
                else:
                    replaced, claimed = entry_from(entry), is_claimed(entry)
                    if failure.maybe_done and not claimed and replaced == reservation:
                        return None
                    check_takeover(replaced, reservation, claimed=claimed, at=at)
                attempts.pause(failure)
            else:
                return None

    def abandon(self, image_id: ImageId, *, holder: UUID, due: datetime) -> None:
        """See MetadataStore.abandon."""
        try:
            self._patience.begin().call(
                lambda: self._client.update_item(
                    TableName=self._tables.reclaim,
                    Key=entry_key(image_id),
                    ConditionExpression="holder = :holder AND due > :due AND attribute_not_exists(claimant)",
                    UpdateExpression="SET due = :due",
                    ExpressionAttributeValues={":holder": {"S": str(holder)}, ":due": {"S": time_text(due)}},
                )
            )
        except ConditionFailed:
            return  # committed, taken over, or being swept; or it is due as soon as that

    def commit(self, image: Image, *, holder: UUID) -> None:
        """See MetadataStore.commit."""
        attempts = self._patience.begin()
        entry: DeleteTypeDef = {
            "TableName": self._tables.reclaim,
            "Key": entry_key(image.image_id),
            "ConditionExpression": "holder = :holder AND user_id = :owner AND attribute_not_exists(claimant)",
            "ExpressionAttributeValues": {":holder": {"S": str(holder)}, ":owner": {"S": image.owner}},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        try:
            self._transact(attempts, [{"Delete": entry}, *self._arrival(image)])
        except ConditionFailed as failure:
            if failure.items[0] is None and self._find(attempts, image.owner, image.image_id) == image:
                return
            raise Conflict("the upload lost its reservation") from failure

    def update(
        self,
        owner: UserId,
        image_id: ImageId,
        change: Callable[[Image], Revision],
        *,
        expected_version: int | None = None,
    ) -> Revision:
        """See MetadataStore.update."""
        attempts = self._patience.begin()
        image = _at_version(self._find(attempts, owner, image_id), expected_version)
        while True:
            revision = change(image)
            if revision.event is None:
                return revision
            try:
                self._transact(attempts, self._replacement(image, revision.image))
            except ConditionFailed as failure:
                stored = _record_in(failure)
                if failure.maybe_done and stored == revision.image:
                    return revision
                image = _at_version(stored, expected_version)
                attempts.pause(failure)
            else:
                return revision

    def trash(
        self, owner: UserId, image_id: ImageId, *, at: datetime, due: datetime, expected_version: int | None = None
    ) -> TrashedImage:
        """See MetadataStore.trash."""
        attempts = self._patience.begin()
        image = _at_version(self._find(attempts, owner, image_id), expected_version)
        while True:
            trashed = TrashedImage(image=image, deleted_at=at, due=due)
            try:
                self._transact(attempts, self._removal(trashed))
            except ConditionFailed as failure:
                stored = _record_in(failure)
                if stored is None and failure.maybe_done and self._find_entry(attempts, image_id) == trashed:
                    return trashed
                image = _at_version(stored, expected_version)
                attempts.pause(failure)
            else:
                return trashed

    def restore(self, owner: UserId, image_id: ImageId, *, at: datetime) -> TrashedImage:
        """See MetadataStore.restore."""
        attempts = self._patience.begin()
        trashed = _restorable(self._find_entry_item(attempts, image_id), owner, at)
        while True:
            try:
                self._transact(attempts, self._return(trashed))
            except ConditionFailed as failure:
                if failure.maybe_done and self._find(attempts, owner, image_id) == trashed.image:
                    return trashed
                trashed = _restorable(failure.items[0], owner, at)
                attempts.pause(failure)
            else:
                return trashed

    def due(self, at: datetime) -> Iterator[ImageId]:
        """See MetadataStore.due. Each walk starts in another shard, so that several sweepers meet less."""
        first = int(self._patience.random() * len(SHARDS))
        for shard in SHARDS[first:] + SHARDS[:first]:
            for key in self._listings.due(self._patience.begin(), shard, at):
                yield UUID(key["image_id"]["S"])

    def claim(self, image_id: ImageId, *, claimant: UUID, at: datetime, until: datetime) -> ReclaimEntry | None:
        """See MetadataStore.claim."""
        try:
            response = self._patience.begin().call(
                lambda: self._client.update_item(
                    TableName=self._tables.reclaim,
                    Key=entry_key(image_id),
                    ConditionExpression="due <= :at AND (attribute_not_exists(claimant) OR claim_until <= :at)",
                    UpdateExpression="SET claimant = :claimant, claim_until = :until",
                    ExpressionAttributeValues={
                        ":at": {"S": time_text(at)},
                        ":claimant": {"S": str(claimant)},
                        ":until": {"S": time_text(until)},
                    },
                    ReturnValues="ALL_NEW",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            )
        except ConditionFailed as failure:
            (entry,) = failure.items
            if entry is not None and failure.maybe_done and entry.get("claimant") == {"S": str(claimant)}:
                return entry_from(entry)
            return None
        return entry_from(response["Attributes"])

    def forget(self, image_id: ImageId, *, claimant: UUID) -> None:
        """See MetadataStore.forget. The entry is read first, for what it takes of whose quota."""
        attempts = self._patience.begin()
        item = self._find_entry_item(attempts, image_id)
        if item is None or item.get("claimant") != {"S": str(claimant)}:
            return
        entry = entry_from(item)
        # What is claimed never changes but for its claimant.
        delete: DeleteTypeDef = {
            "TableName": self._tables.reclaim,
            "Key": entry_key(image_id),
            "ConditionExpression": "claimant = :claimant",
            "ExpressionAttributeValues": {":claimant": {"S": str(claimant)}},
        }
        try:
            self._transact(attempts, [{"Delete": delete}, *self._charge(entry.owner, Usage() - entry.usage)])
        except ConditionFailed:
            return  # forgotten already, or another sweeper's by now

    def usage(self, owner: UserId) -> Usage:
        """See MetadataReader.usage."""
        response = self._patience.begin().call(
            lambda: self._client.get_item(TableName=self._tables.reclaim, Key=usage_key(owner), ConsistentRead=True)
        )
        return usage_from(response.get("Item"))

    def ping(self) -> None:
        """See MetadataStore.ping. One read of a key that is in none of the tables; never tried twice."""
        Patience(deadline_s=0).begin().call(
            lambda: self._prober.batch_get_item(
                RequestItems={
                    self._tables.metadata: {"Keys": [{**entry_key(_NO_ID), "user_id": {"S": "-"}}]},
                    self._tables.postings: {"Keys": [{"posting": {"S": "-"}, "position": {"S": "-"}}]},
                    self._tables.reclaim: {"Keys": [entry_key(_NO_ID)]},
                }
            )
        )

    # ---- MetadataReader

    def get(self, owner: UserId, image_id: ImageId) -> Image:
        """See MetadataReader.get."""
        return _at_version(self._find(self._patience.begin(), owner, image_id), None)

    def page(self, owner: UserId, which: Filter, *, limit: int, after: Position | None = None) -> Slice:
        """See MetadataReader.page. By owner and by title it may lag behind writes by moments; by tags it does not."""
        return self._listings.page(self._patience.begin(), owner, which, limit, after)

    def count(self, owner: UserId) -> int:
        """See MetadataReader.count. It may lag behind writes by moments."""
        return self._listings.count(self._patience.begin(), owner)

    # ---- the transactions

    def _reservation(
        self, reservation: Reservation, replaced: ReclaimEntry | None, more: Usage, quota: Quota
    ) -> "list[TransactWriteItemTypeDef]":
        """Return the actions of a reservation: no record, checked first; then the entry; then the usage, if it changes.

        The record is checked even for a new random id, which doubles the units of the write. An entry beside a living
        record would make its object garbage once it is due: that is not left to the quality of anybody's ids.
        """
        entry: PutTypeDef = {
            "TableName": self._tables.reclaim,
            "Item": reservation_item(reservation),
            "ConditionExpression": ABSENT,
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        if isinstance(replaced, Reservation):
            # Just the attempt that was looked at; nothing else of it could have changed.
            entry["ConditionExpression"] = "holder = :replaced AND attribute_not_exists(claimant)"
            entry["ExpressionAttributeValues"] = {":replaced": {"S": str(replaced.holder)}}
        no_record: ConditionCheckTypeDef = {
            "TableName": self._tables.metadata,
            "Key": record_key(reservation.owner, reservation.image_id),
            "ConditionExpression": ABSENT,
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        return [{"ConditionCheck": no_record}, {"Put": entry}, *self._charge(reservation.owner, more, quota)]

    def _charge(self, owner: UserId, more: Usage, quota: Quota = UNLIMITED) -> "list[TransactWriteItemTypeDef]":
        """Return the action that adds to the owner's usage if it fits into the quota; none when nothing is added."""
        if more == Usage():
            return []
        values = {":images": more.images, ":size_bytes": more.size_bytes, ":one": 1}
        conditions: list[str] = []
        for name, limit in (("images", quota.images), ("size_bytes", quota.size_bytes)):
            if limit is not None and values[f":{name}"] > 0:
                room = values[f":{name}_used"] = limit - values[f":{name}"]
                absent = f"attribute_not_exists({name}) OR " if room >= 0 else ""
                conditions.append(f"({absent}{name} <= :{name}_used)")
        update: UpdateTypeDef = {
            "TableName": self._tables.reclaim,
            "Key": usage_key(owner),
            "UpdateExpression": "ADD images :images, size_bytes :size_bytes, revision :one",
            "ExpressionAttributeValues": {name: {"N": str(number)} for name, number in values.items()},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        if conditions:
            update["ConditionExpression"] = " AND ".join(conditions)
        return [{"Update": update}]

    def _replacement(self, old: Image, new: Image) -> "list[TransactWriteItemTypeDef]":
        """Return the actions that put ``new`` in the place of ``old``: 1 + 60 for 30 tags and 30 others, of 100."""
        record: PutTypeDef = {
            "TableName": self._tables.metadata,
            "Item": record_item(new),
            "ConditionExpression": UNCHANGED,
            "ExpressionAttributeValues": _state(old),
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        gone = [tag for tag in old.tags if tag not in new.tags]
        come = [tag for tag in new.tags if tag not in old.tags]
        return [{"Put": record}, *self._postings_out(old, gone), *self._postings_in(new, come)]

    def _removal(self, trashed: TrashedImage) -> "list[TransactWriteItemTypeDef]":
        image = trashed.image
        record: DeleteTypeDef = {
            "TableName": self._tables.metadata,
            "Key": record_key(image.owner, image.image_id),
            "ConditionExpression": UNCHANGED,
            "ExpressionAttributeValues": _state(image),
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        entry: PutTypeDef = {"TableName": self._tables.reclaim, "Item": trashed_item(trashed)}
        return [{"Delete": record}, {"Put": entry}, *self._postings_out(image, image.tags)]

    def _return(self, trashed: TrashedImage) -> "list[TransactWriteItemTypeDef]":
        image = trashed.image
        entry: DeleteTypeDef = {
            "TableName": self._tables.reclaim,
            "Key": entry_key(image.image_id),
            # Just the trashed record that was read: it may have come back, changed, and gone to the trash again.
            "ConditionExpression": (
                "deleted_at = :deleted_at AND due = :due AND version = :version AND attribute_not_exists(claimant)"
            ),
            "ExpressionAttributeValues": {
                ":deleted_at": {"S": time_text(trashed.deleted_at)},
                ":due": {"S": time_text(trashed.due)},
                ":version": {"N": str(image.version)},
            },
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        return [{"Delete": entry}, *self._arrival(image)]

    def _arrival(self, image: Image) -> "list[TransactWriteItemTypeDef]":
        record: PutTypeDef = {
            "TableName": self._tables.metadata,
            "Item": record_item(image),
            "ConditionExpression": ABSENT,
        }
        return [{"Put": record}, *self._postings_in(image, image.tags)]

    def _postings_in(self, image: Image, tags: Sequence[Tag]) -> "list[TransactWriteItemTypeDef]":
        return [{"Put": {"TableName": self._tables.postings, "Item": posting_key(image, tag)}} for tag in tags]

    def _postings_out(self, image: Image, tags: Sequence[Tag]) -> "list[TransactWriteItemTypeDef]":
        return [{"Delete": {"TableName": self._tables.postings, "Key": posting_key(image, tag)}} for tag in tags]

    def _transact(self, attempts: Attempts, actions: "Sequence[TransactWriteItemTypeDef]") -> None:
        token = str(uuid4())

        def send() -> None:
            nonlocal token
            try:
                self._client.transact_write_items(TransactItems=actions, ClientRequestToken=token)
            except ClientError as error:
                if error.response["Error"]["Code"] == "TransactionCanceledException":
                    # Known not to have been done, so the next try is a new one; after a lost reply it is the same.
                    token = str(uuid4())
                raise

        attempts.call(send)

    # ---- reads by key

    def _find(self, attempts: Attempts, owner: UserId, image_id: ImageId) -> Image | None:
        response = attempts.call(
            lambda: self._client.get_item(
                TableName=self._tables.metadata, Key=record_key(owner, image_id), ConsistentRead=True
            )
        )
        item = response.get("Item")
        return None if item is None else image_from(item)

    def _find_entry_item(self, attempts: Attempts, image_id: ImageId) -> Item | None:
        response = attempts.call(
            lambda: self._client.get_item(TableName=self._tables.reclaim, Key=entry_key(image_id), ConsistentRead=True)
        )
        return response.get("Item")

    def _find_entry(self, attempts: Attempts, image_id: ImageId) -> ReclaimEntry | None:
        item = self._find_entry_item(attempts, image_id)
        return None if item is None else entry_from(item)


def _state(image: Image) -> "dict[str, AttributeValueTypeDef]":
    return {":version": {"N": str(image.version)}, ":created_at": {"S": time_text(image.created_at)}}


def _at_version(image: Image | None, expected_version: int | None) -> Image:
    if image is None:
        raise NotFound
    if expected_version is not None and image.version != expected_version:
        raise PreconditionFailed(f"the image is at version {image.version}")
    return image


def _record_in(failure: ConditionFailed) -> Image | None:
    """Return the record that a transaction on it, its first action, found at another version or not at all."""
    item = failure.items[0]
    return None if item is None else image_from(item)


def _restorable(item: Item | None, owner: UserId, at: datetime) -> TrashedImage:
    # Somebody else's is not even looked at: it takes no longer to refuse than what is not there.
    if item is None or item["user_id"] != {"S": owner} or is_claimed(item):
        raise NotFound
    entry = entry_from(item)
    if not isinstance(entry, TrashedImage) or not entry.can_be_restored(at=at):
        raise NotFound
    return entry
