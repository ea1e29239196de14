"""Records and reclaim entries as rows, and back. The only place that knows how a value is stored."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, cast
from uuid import UUID

import msgspec

from domain.image import Image
from domain.reclaim import ReclaimEntry, Reservation, TrashedImage
from domain.values import Description, Filename, MediaType, Tag, Title, UserId

IMAGE_COLUMNS = (
    "owner",
    "created_at",
    "image_id",
    "filename",
    "title",
    "description",
    "tags",
    "media_type",
    "size_bytes",
    "width",
    "height",
    "sha256",
    "updated_at",
    "version",
    "fingerprint",
)
RECLAIM_COLUMNS = (
    "image_id",
    "kind",
    "owner",
    "due",
    "holder",
    "lease_until",
    "fingerprint",
    "deleted_at",
    "record",
    "size_bytes",
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MEDIA_TYPES = {str(media_type): media_type for media_type in MediaType}
# Makes a value of text that was parsed before it was stored. Parsing it again would be the greater part of reading a
# page: 50 records with three tags each take 270 us this way, and 630 us by the values' constructors.
_trusted = str.__new__
_parse_records = msgspec.json.Decoder(tuple[Image, ...], dec_hook=cast("Callable[[type, Any], Any]", _trusted)).decode
_to_json = json.JSONEncoder(ensure_ascii=False).encode  # made once: json.dumps makes one a call
_parse_tags = msgspec.json.Decoder(tuple[str, ...]).decode


class Held(NamedTuple):
    """A reclaim entry, and by whom and until when it is claimed."""

    entry: ReclaimEntry
    claimant: UUID | None
    claimed_until: datetime | None


def to_micros(moment: datetime) -> int:
    """Return whole microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """Return the time in UTC."""
    return _EPOCH + timedelta(microseconds=micros)


def image_to_row(image: Image) -> tuple[Any, ...]:
    """Return the values of `IMAGE_COLUMNS`."""
    return (
        image.owner,
        to_micros(image.created_at),
        image.image_id.bytes,
        image.filename,
        image.title,
        image.description,
        _tags_to_text(image.tags),
        image.media_type,
        image.size_bytes,
        image.width,
        image.height,
        image.sha256,
        to_micros(image.updated_at),
        image.version,
        image.fingerprint,
    )


def image_from_row(row: Sequence[Any]) -> Image:
    """Return the record of a row of `IMAGE_COLUMNS`."""
    (
        owner,
        created_at,
        id_bytes,
        filename,
        title,
        description,
        tags,
        media_type,
        size_bytes,
        width,
        height,
        sha256,
        updated_at,
        version,
        fingerprint,
    ) = row
    return Image(
        image_id=UUID(bytes=id_bytes),
        owner=_trusted(UserId, owner),
        filename=_trusted(Filename, filename),
        title=_trusted(Title, title),
        description=_trusted(Description, description),
        tags=tags_from_text(tags),
        media_type=_MEDIA_TYPES[media_type],
        size_bytes=size_bytes,
        width=width,
        height=height,
        sha256=sha256,
        created_at=from_micros(created_at),
        updated_at=from_micros(updated_at),
        version=version,
        fingerprint=fingerprint,
    )


def _as_json(column: str) -> str:
    match column:
        case "image_id":
            return "hex(image_id)"
        case "tags":
            return "json(tags)"
        case "created_at" | "updated_at":
            # Whole seconds and the rest apart, both counted from the year 1: before 1970 a remainder would be negative.
            micros = f"({column} + 62135596800000000)"
            seconds = f"datetime({micros} / 1000000 - 62135596800, 'unixepoch')"
            return f"{seconds} || '.' || substr(1000000 + {micros} % 1000000, 2) || 'Z'"
        case _:
            return column


# ruff: noqa: S608 (put together of constants)
_AS_JSON = ", ".join(f"'{column}', {_as_json(column)}" for column in IMAGE_COLUMNS)


def as_one_row(select: str) -> str:
    """Return a statement that gives the rows of another, of `IMAGE_COLUMNS` and in its order, in one; see images_from.

    sqlite3 lets go of the interpreter lock for every row, and a server's other threads take it each time. And msgspec
    makes records of JSON faster than Python calls their constructor: 50 take 100 us, row by row 270.
    """
    return f"SELECT json_group_array(json_object({_AS_JSON})) FROM ({select})"


def images_from(row: Sequence[Any]) -> tuple[Image, ...]:
    """Return the records in the one row of such a statement."""
    (text,) = row
    return _parse_records(text)


def _tags_to_text(tags: Sequence[Tag]) -> str:
    # JSON, for a tag may hold any character, so none is left to separate them.
    return _to_json(tags)


def tags_from_text(text: str) -> tuple[Tag, ...]:
    """Return the tags in their column."""
    return tuple([_trusted(Tag, tag) for tag in _parse_tags(text)])


def entry_to_row(entry: ReclaimEntry) -> tuple[Any, ...]:
    """Return the values of `RECLAIM_COLUMNS`."""
    if isinstance(entry, Reservation):
        return (
            entry.image_id.bytes,
            "reservation",
            entry.owner,
            to_micros(entry.due),
            entry.holder.bytes,
            to_micros(entry.lease_until),
            entry.fingerprint,
            None,
            None,
            entry.size_bytes,
        )
    return (
        entry.image.image_id.bytes,
        "trashed",
        entry.image.owner,
        to_micros(entry.due),
        None,
        None,
        None,
        to_micros(entry.deleted_at),
        _record_to_text(entry.image),
        entry.image.size_bytes,
    )


def held_from_row(row: Sequence[Any]) -> Held:
    """Return the entry of a row of `RECLAIM_COLUMNS` with ``claimant`` and ``claimed_until`` behind them."""
    (
        id_bytes,
        kind,
        owner,
        due,
        holder,
        lease_until,
        fingerprint,
        deleted_at,
        record,
        size_bytes,
        claimant,
        claimed_until,
    ) = row
    entry: ReclaimEntry
    if kind == "reservation":
        entry = Reservation(
            image_id=UUID(bytes=id_bytes),
            owner=_trusted(UserId, owner),
            holder=UUID(bytes=holder),
            lease_until=from_micros(lease_until),
            due=from_micros(due),
            size_bytes=size_bytes,
            fingerprint=fingerprint,
        )
    else:
        entry = TrashedImage(image=_record_from_text(record), deleted_at=from_micros(deleted_at), due=from_micros(due))
    if claimant is None:
        return Held(entry, None, None)
    return Held(entry, UUID(bytes=claimant), from_micros(claimed_until))


def _record_to_text(image: Image) -> str:
    record = dict(zip(IMAGE_COLUMNS, image_to_row(image), strict=True))
    record["image_id"] = image.image_id.hex
    return _to_json(record)


def _record_from_text(text: str) -> Image:
    record = json.loads(text)
    record["image_id"] = bytes.fromhex(record["image_id"])
    return image_from_row([record[column] for column in IMAGE_COLUMNS])
