"""MetadataStore and MetadataReader on one SQLite file.

A write is one immediate transaction, so writers follow one another, in this process and in all others, and no
condition can turn false between its check and the write. Reads have a connection of their own: in WAL mode they see
the last commit and never wait for one.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self
from uuid import UUID

from adapters.sqlite.intersection import Place, places_with_all
from adapters.sqlite.known import KnownImages, as_stamps
from adapters.sqlite.rows import (
    IMAGE_COLUMNS,
    RECLAIM_COLUMNS,
    Held,
    as_one_row,
    entry_to_row,
    held_from_row,
    image_from_row,
    image_to_row,
    images_from,
    to_micros,
)
from adapters.sqlite.schema import migrate
from adapters.sqlite.session import Row, Session, one_write
from adapters.sqlite.usage import add_usage, read_usage
from application.ports import ByOwner, ByTags, ByTitle, Filter, Position, Slice
from domain.errors import Conflict, NotFound, PreconditionFailed, Unavailable
from domain.image import Image, Revision
from domain.quota import UNLIMITED, Quota, Usage
from domain.reclaim import ReclaimEntry, Reservation, TrashedImage, check_takeover
from domain.values import ImageId, Tag, UserId

_ABOVE_ALL: Place = (2**63 - 1, b"")
_BELOW_ALL: Place = (-(2**63), b"")

_DUE_BATCH = 500

# ruff: noqa: S608 (statements are put together of constants; what comes from outside is always a parameter)
_IMAGE = ", ".join(f"images.{column}" for column in IMAGE_COLUMNS)
_RECORD_BY_ID = f"SELECT {_IMAGE} FROM images WHERE image_id = ?"
_OWN_RECORD_BY_ID = f"{_RECORD_BY_ID} AND owner = ?"
_RECORD_BY_KEY = f"SELECT {_IMAGE} FROM images WHERE owner = ? AND created_at = ? AND image_id = ?"
_INSERT_RECORD = f"INSERT INTO images ({', '.join(IMAGE_COLUMNS)}, title_folded) VALUES ({'?, ' * len(IMAGE_COLUMNS)}?)"
_INSERT_POSTING = "INSERT INTO postings (owner, tag, created_at, image_id) VALUES (?, ?, ?, ?)"
_DELETE_POSTING = "DELETE FROM postings WHERE owner = ? AND tag = ? AND created_at = ? AND image_id = ?"

_ENTRY = f"SELECT {', '.join(RECLAIM_COLUMNS)}, claimant, claimed_until FROM reclaim WHERE image_id = ?"
_OWN_ENTRY = f"{_ENTRY} AND owner = ?"
# Replacing is for takeovers: the conditions have been checked in the same transaction.
_PUT_ENTRY = (
    f"INSERT OR REPLACE INTO reclaim ({', '.join(RECLAIM_COLUMNS)}) VALUES ({', '.join('?' for _ in RECLAIM_COLUMNS)})"
)
# What nearly every upload does, in one statement: each lets go of the interpreter lock several times.
_PUT_FIRST_ENTRY = f"""
    INSERT INTO reclaim ({", ".join(RECLAIM_COLUMNS)}) SELECT {", ".join("?" for _ in RECLAIM_COLUMNS)}
    WHERE NOT EXISTS (SELECT 1 FROM images WHERE image_id = ?) ON CONFLICT (image_id) DO NOTHING"""
_END_RESERVATION = """
    DELETE FROM reclaim WHERE image_id = ? AND kind = 'reservation' AND holder = ? AND claimant IS NULL"""
_CLAIM_ENTRY = "UPDATE reclaim SET claimant = ?, claimed_until = ? WHERE image_id = ?"
_DELETE_ENTRY = "DELETE FROM reclaim WHERE image_id = ?"
_ABANDON_ENTRY = """
    UPDATE reclaim SET due = :due
    WHERE image_id = :id AND holder = :holder AND claimant IS NULL AND due > :due"""
_DUE_ENTRIES = """
    SELECT due, image_id FROM reclaim
    WHERE due <= ? AND (due, image_id) > (?, ?)
    ORDER BY due, image_id LIMIT ?"""


class _Listing(NamedTuple):
    """What reads a page: the statement that gives its stamps, and the one that gives its records."""

    stamps: str
    records: str


def _listing(select: str) -> _Listing:
    return _Listing(as_stamps(select), as_one_row(select))


# Each page is one range scan in the order of its index, newest first, that stops at the limit.
_PAGE_BY_OWNER = _listing(f"""
    SELECT {_IMAGE} FROM images
    WHERE owner = ? AND (created_at, image_id) < (?, ?)
    ORDER BY created_at DESC, image_id DESC LIMIT ?""")
_PAGE_BY_TITLE = _listing(f"""
    SELECT {_IMAGE} FROM images
    WHERE owner = ? AND title_folded = ? AND (created_at, image_id) < (?, ?)
    ORDER BY created_at DESC, image_id DESC LIMIT ?""")
# CROSS keeps the order of the loops (SQLite's documented meaning of it): from the postings to their records.
_PAGE_BY_TAG = _listing(f"""
    SELECT {_IMAGE} FROM postings CROSS JOIN images USING (owner, created_at, image_id)
    WHERE postings.owner = ? AND postings.tag = ? AND (postings.created_at, postings.image_id) < (?, ?)
    ORDER BY postings.created_at DESC, postings.image_id DESC LIMIT ?""")


class SqliteMetadata:
    """MetadataStore and MetadataReader. Safe to share between threads; each process opens its own.

    Args:
        path: the file. It is made, or brought up to date, at once; its folder must be there.
        busy_timeout_s: how long a call may wait for other processes, and for other threads, before it ends as
            Unavailable.

    Raises:
        Unavailable: the file can't be opened, or was written by a later version.
    """

    def __init__(self, path: Path, *, busy_timeout_s: float = 5.0) -> None:
        self._known = KnownImages()
        self._writer = Session(path, timeout_s=busy_timeout_s)
        try:
            self._writer.write(migrate)
            self._reader = Session(path, timeout_s=busy_timeout_s)
        except BaseException as error:
            self._writer.close()
            if isinstance(error, Unavailable) and isinstance(error.__cause__, sqlite3.Error):
                # For an operator, who can give it room, or take away what stands in a migration's way.
                raise Unavailable(f"{error}: {error.__cause__}") from error.__cause__
            raise

    def __enter__(self) -> Self:
        """Return the store; the block's end closes it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the store."""
        self.close()

    def close(self) -> None:
        """Close the file; every later call is Unavailable. May be repeated."""
        self._reader.close()
        self._writer.close()

    @one_write
    def reserve(
        self, db: sqlite3.Connection, reservation: Reservation, *, at: datetime, quota: Quota = UNLIMITED
    ) -> Image | None:
        """See MetadataStore.reserve."""
        more, row = reservation.usage, entry_to_row(reservation)
        if not db.execute(_PUT_FIRST_ENTRY, (*row, reservation.image_id.bytes)).rowcount:
            if (record := _record(db, reservation.image_id)) is not None:
                return record
            if (held := _held(db, reservation.image_id)) is not None:
                check_takeover(held.entry, reservation, claimed=held.claimant is not None, at=at)
                more -= held.entry.usage
            db.execute(_PUT_ENTRY, row)
        if quota != UNLIMITED:
            quota.admit(more, used=read_usage(db, reservation.owner))
        add_usage(db, reservation.owner, more)
        return None

    @one_write
    def abandon(self, db: sqlite3.Connection, image_id: ImageId, *, holder: UUID, due: datetime) -> None:
        """See MetadataStore.abandon."""
        db.execute(_ABANDON_ENTRY, {"id": image_id.bytes, "holder": holder.bytes, "due": to_micros(due)})

    @one_write
    def commit(self, db: sqlite3.Connection, image: Image, *, holder: UUID) -> None:
        """See MetadataStore.commit."""
        if not db.execute(_END_RESERVATION, (image.image_id.bytes, holder.bytes)).rowcount:
            if _held(db, image.image_id) is None and _record(db, image.image_id) == image:
                return
            raise Conflict("the upload lost its reservation")
        self._known.forget(image.image_id)
        _insert_record(db, image)

    @one_write
    def update(
        self,
        db: sqlite3.Connection,
        owner: UserId,
        image_id: ImageId,
        change: Callable[[Image], Revision],
        *,
        expected_version: int | None = None,
    ) -> Revision:
        """See MetadataStore.update. ``change`` is called once, with the file's write lock held."""
        image = _owned(db, owner, image_id, expected_version)
        revision = change(image)
        if revision.event is not None:
            _delete_record(db, image)
            _insert_record(db, revision.image)
        return revision

    @one_write
    def trash(
        self,
        db: sqlite3.Connection,
        owner: UserId,
        image_id: ImageId,
        *,
        at: datetime,
        due: datetime,
        expected_version: int | None = None,
    ) -> TrashedImage:
        """See MetadataStore.trash."""
        image = _owned(db, owner, image_id, expected_version)
        trashed = TrashedImage(image=image, deleted_at=at, due=due)
        _delete_record(db, image)
        db.execute(_PUT_ENTRY, entry_to_row(trashed))
        return trashed

    @one_write
    def restore(self, db: sqlite3.Connection, owner: UserId, image_id: ImageId, *, at: datetime) -> TrashedImage:
        """See MetadataStore.restore."""
        row = db.execute(_OWN_ENTRY, (image_id.bytes, owner)).fetchone()
        held = None if row is None else held_from_row(row)
        if held is None or held.claimant is not None or not isinstance(held.entry, TrashedImage):
            raise NotFound
        if not held.entry.can_be_restored(at=at):
            raise NotFound
        db.execute(_DELETE_ENTRY, (image_id.bytes,))
        _insert_record(db, held.entry.image)
        return held.entry

    def due(self, at: datetime) -> Iterator[ImageId]:
        """See MetadataStore.due. No transaction is open while the caller works on an id."""
        last = _BELOW_ALL
        while batch := self._reader.fetch(_DUE_ENTRIES, (to_micros(at), *last, _DUE_BATCH)):
            yield from (UUID(bytes=id_bytes) for _, id_bytes in batch)
            last = batch[-1]

    @one_write
    def claim(
        self, db: sqlite3.Connection, image_id: ImageId, *, claimant: UUID, at: datetime, until: datetime
    ) -> ReclaimEntry | None:
        """See MetadataStore.claim."""
        held = _held(db, image_id)
        if held is None or held.entry.due > at:
            return None
        if held.claimed_until is not None and held.claimed_until > at:
            return None
        db.execute(_CLAIM_ENTRY, (claimant.bytes, to_micros(until), image_id.bytes))
        return held.entry

    @one_write
    def forget(self, db: sqlite3.Connection, image_id: ImageId, *, claimant: UUID) -> None:
        """See MetadataStore.forget."""
        held = _held(db, image_id)
        if held is not None and held.claimant == claimant:
            db.execute(_DELETE_ENTRY, (image_id.bytes,))
            add_usage(db, held.entry.owner, Usage() - held.entry.usage)

    def get(self, owner: UserId, image_id: ImageId) -> Image:
        """See MetadataReader.get."""
        rows = self._reader.fetch(_OWN_RECORD_BY_ID, (image_id.bytes, owner))
        if not rows:
            raise NotFound
        return image_from_row(rows[0])

    def page(self, owner: UserId, which: Filter, *, limit: int, after: Position | None = None) -> Slice:
        """See MetadataReader.page."""
        below = _ABOVE_ALL if after is None else (to_micros(after.created_at), after.image_id.bytes)
        # One more than asked for tells whether anything follows.
        found = self._matches(owner, which, below, limit + 1)
        images = found[:limit]
        if len(found) <= limit:
            return Slice(images, None)
        return Slice(images, Position(images[-1].created_at, images[-1].image_id))

    def count(self, owner: UserId) -> int:
        """See MetadataReader.count."""
        [(count,)] = self._reader.fetch("SELECT count(*) FROM images WHERE owner = ?", (owner,))
        return int(count)

    def usage(self, owner: UserId) -> Usage:
        """See MetadataReader.usage."""
        with self._reader.snapshot() as db:
            return read_usage(db, owner)

    def ping(self) -> None:
        """See MetadataStore.ping."""
        self._reader.fetch("PRAGMA user_version")

    def backup_to(self, path: Path) -> None:
        """Copy the catalog, as it is at one moment, to a file that is not there yet. Others may go on writing."""
        with self._reader.snapshot() as db, closing(sqlite3.connect(path)) as copy:
            db.backup(copy)

    def holds(self, image: Image) -> bool:
        """Tell whether this very upload can still be read or restored, or its sweeper has at least not come yet."""
        with self._reader.snapshot() as db:
            current, held = _record(db, image.image_id), _held(db, image.image_id)
        if current is None and held is not None and held.claimant is None and isinstance(held.entry, TrashedImage):
            current = held.entry.image
        # An id comes back with its idempotency key, and then for another upload.
        return current is not None and current.created_at == image.created_at

    def _matches(self, owner: UserId, which: Filter, below: Place, limit: int) -> tuple[Image, ...]:
        match which:
            case ByOwner():
                return self._page(_PAGE_BY_OWNER, (owner, *below, limit))
            case ByTitle(title):
                return self._page(_PAGE_BY_TITLE, (owner, title.folded, *below, limit))
            case ByTags((tag,)):
                return self._page(_PAGE_BY_TAG, (owner, tag, *below, limit))
            case ByTags(tags, "any"):
                return self._page(*_page_by_any(owner, tags, below, limit))
            case ByTags(tags):
                with self._reader.snapshot() as db:
                    places = islice(places_with_all(db, owner, tags, below), limit)
                    rows = [db.execute(_RECORD_BY_KEY, (owner, *place)).fetchone() for place in places]
                return tuple(map(image_from_row, rows))

    def _page(self, listing: _Listing, parameters: Sequence[object] | Mapping[str, object]) -> tuple[Image, ...]:
        [(stamps,)] = self._reader.fetch(listing.stamps, parameters)
        if (known := self._known.find(stamps)) is not None:
            return known
        # All of them are read again, for a page is one snapshot: what was missing may be gone or changed by now.
        [row] = self._reader.fetch(listing.records, parameters)
        images = images_from(row)
        self._known.add(images)
        return images


def _page_by_any(owner: UserId, tags: tuple[Tag, ...], below: Place, limit: int) -> tuple[_Listing, dict[str, object]]:
    """Return the listing that merges the newest of each tag, and its parameters.

    The page lies within the union of each tag's own page, so no tag is read further than the limit.
    """
    newest = " UNION ".join(
        f"""SELECT * FROM (
            SELECT created_at, image_id FROM postings
            WHERE owner = :owner AND tag = :tag{n} AND (created_at, image_id) < (:time, :id)
            ORDER BY created_at DESC, image_id DESC LIMIT :limit)"""
        for n in range(len(tags))
    )
    listing = _listing(f"""
        SELECT {_IMAGE}
        FROM ({newest} ORDER BY created_at DESC, image_id DESC LIMIT :limit) AS page
        CROSS JOIN images ON images.owner = :owner
            AND images.created_at = page.created_at AND images.image_id = page.image_id
        ORDER BY page.created_at DESC, page.image_id DESC LIMIT :limit""")
    time, id_bytes = below
    parameters = {f"tag{n}": tag for n, tag in enumerate(tags)}
    return listing, {"owner": owner, "time": time, "id": id_bytes, "limit": limit, **parameters}


def _record(db: sqlite3.Connection, image_id: ImageId) -> Image | None:
    row = db.execute(_RECORD_BY_ID, (image_id.bytes,)).fetchone()
    return None if row is None else image_from_row(row)


def _owned(db: sqlite3.Connection, owner: UserId, image_id: ImageId, expected_version: int | None) -> Image:
    # Somebody else's is not even read: it takes no longer to refuse than what is not there.
    row = db.execute(_OWN_RECORD_BY_ID, (image_id.bytes, owner)).fetchone()
    if row is None:
        raise NotFound
    image = image_from_row(row)
    if expected_version is not None and image.version != expected_version:
        raise PreconditionFailed(f"the image is at version {image.version}")
    return image


def _held(db: sqlite3.Connection, image_id: ImageId) -> Held | None:
    row = db.execute(_ENTRY, (image_id.bytes,)).fetchone()
    return None if row is None else held_from_row(row)


def _insert_record(db: sqlite3.Connection, image: Image) -> None:
    db.execute(_INSERT_RECORD, (*image_to_row(image), image.title.folded))
    db.executemany(_INSERT_POSTING, _postings(image))


def _delete_record(db: sqlite3.Connection, image: Image) -> None:
    db.execute("DELETE FROM images WHERE image_id = ?", (image.image_id.bytes,))
    db.executemany(_DELETE_POSTING, _postings(image))


def _postings(image: Image) -> list[Row]:
    time, id_bytes = to_micros(image.created_at), image.image_id.bytes
    return [(image.owner, tag, time, id_bytes) for tag in image.tags]
