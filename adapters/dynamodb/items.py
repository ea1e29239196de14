"""What the items hold, and the way between them and the domain's values.

Decoding is written out attribute by attribute: boto3's general deserialiser takes 2.5 times as long, and a page has a
hundred items. Stored text was parsed when it came in, so its classes are put back on without parsing again.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias, TypeVar
from uuid import UUID

from application.ports import Position
from domain.image import Image
from domain.quota import Usage
from domain.reclaim import ReclaimEntry, Reservation, TrashedImage
from domain.values import Description, Filename, ImageId, MediaType, Tag, Title, UserId

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

Item: TypeAlias = Mapping[str, "AttributeValueTypeDef"]
Key: TypeAlias = dict[str, "AttributeValueTypeDef"]

_Text = TypeVar("_Text", bound=str)
_USAGE = "usage#"


# ---- records


def record_key(owner: UserId, image_id: ImageId) -> Key:
    """Return the key of a record. It names the owner: another user's image is not found by it."""
    return {"image_id": {"S": str(image_id)}, "user_id": {"S": owner}}


def record_item(image: Image) -> Key:
    """Return the record as an item of the metadata table."""
    item: Key = {
        "image_id": {"S": str(image.image_id)},
        "user_id": {"S": image.owner},
        "s3_key": {"S": image.key},
        "filename": {"S": image.filename},
        "title": {"S": image.title},
        "owner_title": {"S": owner_title(image.owner, image.title)},
        "description": {"S": image.description},
        "tags": {"L": [{"S": tag} for tag in image.tags]},
        "content_type": {"S": image.media_type.value},
        "size_bytes": {"N": str(image.size_bytes)},
        "width": {"N": str(image.width)},
        "height": {"N": str(image.height)},
        "sha256": {"S": image.sha256},
        "created_at": {"S": time_text(image.created_at)},
        "updated_at": {"S": time_text(image.updated_at)},
        "version": {"N": str(image.version)},
    }
    if image.fingerprint is not None:
        item["fingerprint"] = {"S": image.fingerprint}
    return item


def image_from(item: Item) -> Image:
    """Return the image that an item of the metadata table holds."""
    fingerprint = item.get("fingerprint")
    return Image(
        image_id=UUID(item["image_id"]["S"]),
        owner=_trusted(UserId, item["user_id"]["S"]),
        filename=_trusted(Filename, item["filename"]["S"]),
        title=_trusted(Title, item["title"]["S"]),
        description=_trusted(Description, item["description"]["S"]),
        tags=tuple([_trusted(Tag, tag["S"]) for tag in item["tags"]["L"]]),
        media_type=MediaType(item["content_type"]["S"]),
        size_bytes=int(item["size_bytes"]["N"]),
        width=int(item["width"]["N"]),
        height=int(item["height"]["N"]),
        sha256=item["sha256"]["S"],
        created_at=time_from(item["created_at"]["S"]),
        updated_at=time_from(item["updated_at"]["S"]),
        version=int(item["version"]["N"]),
        fingerprint=None if fingerprint is None else fingerprint["S"],
    )


def owner_title(owner: UserId, title: Title) -> str:
    """Return the partition of one owner's images with one title. No user id has a ``#``, so it is unambiguous."""
    return f"{owner}#{title.folded}"


ABSENT = "attribute_not_exists(image_id)"
UNCHANGED = "version = :version AND created_at = :created_at"
"""A record in the state that was read. The version alone would not say so: an image that was purged, and uploaded again
with the same idempotency key, starts anew at version 1."""


# ---- postings


def posting_key(image: Image, tag: Tag) -> Key:
    """Return the posting of one tag of an image; it has no attributes beside its key."""
    return posting_row(image.owner, tag, position_of(image))


def posting_row(owner: UserId, tag: Tag, position: Position) -> Key:
    """Return the key of a posting, as `posting_key` does."""
    return {"posting": {"S": posting(owner, tag)}, "position": {"S": position_text(position)}}


def posting(owner: UserId, tag: Tag) -> str:
    """Return the partition of one owner's images with one tag."""
    return f"{owner}#tag#{tag}"


def position_of(image: Image) -> Position:
    """Return the image's place in every listing it is in."""
    return Position(image.created_at, image.image_id)


def position_text(position: Position) -> str:
    """Return the position so that text order is listing order: both parts have a fixed length."""
    return f"{time_text(position.created_at)}#{position.image_id}"


def position_from(text: str) -> Position:
    """Return the position that the text stands for."""
    created_at, _, image_id = text.partition("#")
    return Position(time_from(created_at), UUID(image_id))


# ---- reclaim entries


def entry_key(image_id: ImageId) -> Key:
    """Return the key of an image's reclaim entry."""
    return {"image_id": {"S": str(image_id)}}


def reservation_item(reservation: Reservation) -> Key:
    """Return the reservation as an unclaimed item of the reclaim table."""
    item = _entry_item(reservation.image_id, reservation.owner, reservation.due)
    item["holder"] = {"S": str(reservation.holder)}
    item["lease_until"] = {"S": time_text(reservation.lease_until)}
    if reservation.size_bytes is not None:
        item["size_bytes"] = {"N": str(reservation.size_bytes)}
    if reservation.fingerprint is not None:
        item["fingerprint"] = {"S": reservation.fingerprint}
    return item


def trashed_item(trashed: TrashedImage) -> Key:
    """Return the trashed record as an unclaimed item of the reclaim table."""
    image = trashed.image
    item = _entry_item(image.image_id, image.owner, trashed.due)
    item["deleted_at"] = {"S": time_text(trashed.deleted_at)}
    item["version"] = {"N": str(image.version)}
    item["record"] = {"M": record_item(image)}
    return item


def entry_from(item: Item) -> ReclaimEntry:
    """Return the reservation or trashed record that an item of the reclaim table holds."""
    if "record" in item:
        return TrashedImage(
            image=image_from(item["record"]["M"]),
            deleted_at=time_from(item["deleted_at"]["S"]),
            due=time_from(item["due"]["S"]),
        )
    fingerprint, size_bytes = item.get("fingerprint"), item.get("size_bytes")
    return Reservation(
        image_id=UUID(item["image_id"]["S"]),
        owner=_trusted(UserId, item["user_id"]["S"]),
        holder=UUID(item["holder"]["S"]),
        lease_until=time_from(item["lease_until"]["S"]),
        due=time_from(item["due"]["S"]),
        size_bytes=None if size_bytes is None else int(size_bytes["N"]),
        fingerprint=None if fingerprint is None else fingerprint["S"],
    )


def is_claimed(item: Item) -> bool:
    """Tell whether a sweeper ever claimed the entry: then nobody but sweepers may act on it."""
    return "claimant" in item


def _entry_item(image_id: ImageId, owner: UserId, due: datetime) -> Key:
    text = str(image_id)
    return {
        "image_id": {"S": text},
        "user_id": {"S": owner},
        # The last hex digit: random in a random UUID, and part of the hash in one made from a name.
        "shard": {"S": text[-1]},
        "due": {"S": time_text(due)},
    }


# ---- owners' usage


def usage_key(owner: UserId) -> Key:
    """Return the key of an owner's usage: an item among the reclaim entries, and of no shard, so never due."""
    return {"image_id": {"S": f"{_USAGE}{owner}"}}


def usage_owner(item: Item) -> UserId | None:
    """Return whose usage an item of the reclaim table is; None for an entry."""
    kind, separator, owner = item["image_id"]["S"].partition("#")
    return _trusted(UserId, owner) if kind + separator == _USAGE else None


def usage_from(item: Item | None) -> Usage:
    """Return what a usage item holds: nothing when there is none yet."""
    if item is None:
        return Usage()
    return Usage(images=int(item["images"]["N"]), size_bytes=int(item["size_bytes"]["N"]))


# ---- plain values


def time_text(moment: datetime) -> str:
    """Return ``2024-01-04T10:30:00.000000`` in UTC: always 26 characters, so that text order is time order."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")


def time_from(text: str) -> datetime:
    """Return the time that the text stands for."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _trusted(of: type[_Text], text: str) -> _Text:
    return str.__new__(of, text)
