"""Pages of an owner's images: by owner and by title from an index, by tags from the postings.

Every position comes back as a key condition (``created_at <= ...``), never as a raw key from outside, so a cursor may
name an image that is gone, and can't reach into another owner's partition.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING

from adapters.dynamodb.descent import Batch, Bound, Descent, Fetch, in_all, in_any
from adapters.dynamodb.items import (
    Item,
    image_from,
    owner_title,
    position_from,
    position_of,
    position_text,
    posting,
    record_key,
    time_text,
)
from adapters.dynamodb.retrying import Attempts
from adapters.dynamodb.tables import DUE_INDEX, OWNER_INDEX, TITLE_INDEX, Tables
from application.ports import ByOwner, ByTags, ByTitle, Filter, Position, Slice
from domain.image import Image
from domain.values import ImageId, UserId

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import (
        KeysAndAttributesUnionTypeDef,
        QueryInputTypeDef,
        QueryOutputTypeDef,
    )

_KEYS_A_BATCH = 100
"""How many keys one BatchGetItem takes."""


class Listings:
    """Reads of several items at once. Safe to share between threads."""

    def __init__(self, client: "DynamoDBClient", tables: Tables) -> None:
        """Keep the client."""
        self._client = client
        self._tables = tables

    def page(self, attempts: Attempts, owner: UserId, which: Filter, limit: int, after: Position | None) -> Slice:
        """See MetadataReader.page."""
        match which:
            case ByOwner():
                return self._indexed(attempts, OWNER_INDEX, "user_id", owner, limit, after)
            case ByTitle(title):
                return self._indexed(attempts, TITLE_INDEX, "owner_title", owner_title(owner, title), limit, after)
            case ByTags():
                return self._tagged(attempts, owner, which, limit, after)

    def count(self, attempts: Attempts, owner: UserId) -> int:
        """See MetadataReader.count."""
        request: QueryInputTypeDef = {
            "TableName": self._tables.metadata,
            "IndexName": OWNER_INDEX,
            "Select": "COUNT",
            "KeyConditionExpression": "user_id = :owner",
            "ExpressionAttributeValues": {":owner": {"S": owner}},
        }
        return sum(response["Count"] for response in self._responses(attempts, request))

    def due(self, attempts: Attempts, shard: str, at: datetime) -> Iterator[Item]:
        """Walk the keys of a shard's reclaim entries that are due, the oldest first, one response at a time."""
        request: QueryInputTypeDef = {
            "TableName": self._tables.reclaim,
            "IndexName": DUE_INDEX,
            "KeyConditionExpression": "#shard = :shard AND due <= :at",
            "ExpressionAttributeNames": {"#shard": "shard"},  # a reserved word
            "ExpressionAttributeValues": {":shard": {"S": shard}, ":at": {"S": time_text(at)}},
        }
        for response in self._responses(attempts, request):
            yield from response["Items"]
            attempts.restart()  # whoever walks may have taken minutes over these

    # ---- from an index

    def _indexed(
        self, attempts: Attempts, index: str, attribute: str, value: str, limit: int, after: Position | None
    ) -> Slice:
        """Read a page from an index of records: one Query, unless its end falls between images of the same microsecond.

        In which order an index has the items of one range key is DynamoDB's own affair, so a start key can't be used
        to resume among them. The condition therefore takes in the whole microsecond of ``after``, whose seen part is
        dropped here; and where the page ends inside such a group, the group is read to its end before it is sorted.
        """
        condition, values = f"{attribute} = :value", {":value": {"S": value}}
        if after is not None:
            condition += " AND created_at <= :after"
            values[":after"] = {"S": time_text(after.created_at)}
        request: QueryInputTypeDef = {
            "TableName": self._tables.metadata,
            "IndexName": index,
            "KeyConditionExpression": condition,
            "ExpressionAttributeValues": values,
            "ScanIndexForward": False,
            # One more than the page tells whether another follows; and `after` itself is most often still there.
            "Limit": limit + (1 if after is None else 2),
        }
        images: list[Image] = []
        for response in self._responses(attempts, request):
            images += map(image_from, response["Items"])
            if after is not None:
                images = [image for image in images if position_of(image) < after]
            if len(images) > limit and images[-1].created_at < images[limit - 1].created_at:
                break
        images.sort(key=position_of, reverse=True)
        return _slice(images[:limit], follows=len(images) > limit)

    # ---- from the postings

    def _tagged(self, attempts: Attempts, owner: UserId, which: ByTags, limit: int, after: Position | None) -> Slice:
        """Read a page from the postings, and its records with one BatchGetItem.

        Both reads are consistent, but not of one moment. A posting whose record is gone, or changed its tags, by the
        time of the second is passed over, and the next takes its place.
        """
        start = None if after is None else Bound(position_text(after), inclusive=False)
        walks = [
            Descent(self._postings(attempts, posting(owner, tag)), start=start, batch=limit + 1)
            for tag in dict.fromkeys(which.tags)
        ]
        met = in_all(walks) if which.match == "all" and len(walks) > 1 else in_any(walks)
        images: list[Image] = []
        while len(images) < limit:
            positions = [position_from(text) for text in islice(met, limit - len(images))]
            if not positions:
                return _slice(images, follows=False)
            found = self._records(attempts, owner, [position.image_id for position in positions])
            images += [
                image
                for position in positions
                if (image := found.get(position.image_id)) is not None
                and position_of(image) == position
                and _carries(image, which)
            ]
        return _slice(images, follows=next(met, None) is not None)

    def _postings(self, attempts: Attempts, value: str) -> Fetch:
        def fetch(bound: Bound | None, size: int) -> Batch:
            condition, values = "posting = :posting", {":posting": {"S": value}}
            request: QueryInputTypeDef = {
                "TableName": self._tables.postings,
                "KeyConditionExpression": condition,
                "ExpressionAttributeValues": values,
                "ScanIndexForward": False,
                "ConsistentRead": True,
                "Limit": size,
            }
            if bound is not None:
                comparison = "<=" if bound.inclusive else "<"
                request["KeyConditionExpression"] = f"{condition} AND #position {comparison} :bound"
                request["ExpressionAttributeNames"] = {"#position": "position"}  # a reserved word
                values[":bound"] = {"S": bound.text}
            for response in self._responses(attempts, request):
                if response["Items"]:
                    rows = [item["position"]["S"] for item in response["Items"]]
                    return Batch(rows, last="LastEvaluatedKey" not in response)
            return Batch((), last=True)

        return fetch

    def _records(self, attempts: Attempts, owner: UserId, image_ids: Sequence[ImageId]) -> dict[ImageId, Image]:
        """Read records by their ids, consistently; those that are not there are left out."""
        found: dict[ImageId, Image] = {}
        for at in range(0, len(image_ids), _KEYS_A_BATCH):
            keys = [record_key(owner, image_id) for image_id in dict.fromkeys(image_ids[at : at + _KEYS_A_BATCH])]
            for item in self._batch(attempts, {self._tables.metadata: {"Keys": keys, "ConsistentRead": True}}):
                image = image_from(item)
                found[image.image_id] = image
        return found

    def _batch(self, attempts: Attempts, wanted: "dict[str, KeysAndAttributesUnionTypeDef]") -> Iterator[Item]:
        while True:
            asked = wanted
            response = attempts.call(lambda: self._client.batch_get_item(RequestItems=asked))  # noqa: B023 (called at once)
            for items in response["Responses"].values():
                yield from items
            wanted = {**response.get("UnprocessedKeys", {})}
            if not wanted:
                return
            # Throttled in part, or over 16 MB: DynamoDB asks for a pause before the rest is asked for.
            attempts.pause()

    def _responses(self, attempts: Attempts, request: "QueryInputTypeDef") -> "Iterator[QueryOutputTypeDef]":
        """Send a query, and go on where a response stopped short of the end (at the limit, or at 1 MB)."""
        while True:
            asked = request
            response = attempts.call(lambda: self._client.query(**asked))  # noqa: B023 (called at once)
            yield response
            if "LastEvaluatedKey" not in response:
                return
            request = {**request, "ExclusiveStartKey": response["LastEvaluatedKey"]}


def _slice(images: Sequence[Image], *, follows: bool) -> Slice:
    return Slice(tuple(images), position_of(images[-1]) if follows else None)


def _carries(image: Image, which: ByTags) -> bool:
    wanted = set(which.tags)
    return wanted <= set(image.tags) if which.match == "all" else not wanted.isdisjoint(image.tags)
