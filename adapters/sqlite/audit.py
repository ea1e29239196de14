"""RecordAudit on the SQLite file, by connections of its own: an audit's long walks leave the service's cache alone."""

import json
import sqlite3
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID

from adapters.sqlite.rows import (
    IMAGE_COLUMNS,
    RECLAIM_COLUMNS,
    entry_to_row,
    from_micros,
    image_from_row,
    tags_from_text,
    to_micros,
)
from adapters.sqlite.session import Row, Session, one_write
from adapters.sqlite.usage import MISCOUNTS, add_usage, count_usage, read_usage
from application.ports import Estimate, Miscount, Posting, Standing
from domain.image import Image
from domain.quota import Usage
from domain.reclaim import audit_hold
from domain.values import ImageId, Tag, UserId

_BATCH = 500

# ruff: noqa: S608 (statements are put together of constants; what comes from outside is always a parameter)
_IMAGE = ", ".join(IMAGE_COLUMNS)
_RECORDS = f"""
    SELECT {_IMAGE} FROM images WHERE (owner, created_at, image_id) > (?, ?, ?)
    ORDER BY owner, created_at, image_id LIMIT ?"""
_RECORD = f"SELECT {_IMAGE} FROM images WHERE image_id = ?"
_ENTRY = "SELECT 1 FROM reclaim WHERE image_id = ?"
_STANDING = f"""
    SELECT EXISTS (SELECT 1 FROM reclaim WHERE image_id = ?1), {_IMAGE}
    FROM (SELECT 1) LEFT JOIN images ON image_id = ?1"""
# With the plus it goes by the table, not by the index of ids: a walk of postings finds the records one by the other.
_TAGS = "SELECT tags FROM images WHERE owner = ? AND created_at = ? AND +image_id = ?"
_PUT_HOLD = (
    f"INSERT INTO reclaim ({', '.join(RECLAIM_COLUMNS)}, claimant, claimed_until) "
    f"VALUES ({'?, ' * len(RECLAIM_COLUMNS)}?, ?)"
)
_FORGET = "DELETE FROM reclaim WHERE image_id = ? AND claimant = ?"
_POSTINGS = """
    SELECT owner, tag, created_at, image_id FROM postings
    WHERE (owner, tag, created_at, image_id) > (?, ?, ?, ?)
    ORDER BY owner, tag, created_at, image_id LIMIT ?"""
_THE_POSTING = "owner = ? AND tag = ? AND created_at = ? AND image_id = ?"
_POSTING = f"SELECT 1 FROM postings WHERE {_THE_POSTING}"
_COUNT_POSTED = "SELECT count(*) FROM postings WHERE owner = ? AND created_at = ? AND image_id = ? AND tag IN ({})"
_ADD_POSTING = "INSERT OR IGNORE INTO postings (owner, tag, created_at, image_id) VALUES (?, ?, ?, ?)"
_REMOVE_POSTING = f"DELETE FROM postings WHERE {_THE_POSTING}"


class SqliteRecordAudit:
    """RecordAudit. Safe to share between threads.

    Args:
        path: the file of a SqliteMetadata, which has brought it up to date.
        busy_timeout_s: as there.

    Raises:
        Unavailable: the file can't be opened.
    """

    def __init__(self, path: Path, *, busy_timeout_s: float = 5.0) -> None:
        self._writer = Session(path, timeout_s=busy_timeout_s)

    def __enter__(self) -> Self:
        """Return the audit; the block's end closes it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file; every later call is Unavailable. May be repeated."""
        self._writer.close()

    def estimate(self) -> Estimate:
        """See RecordAudit.estimate. It is exact."""
        [counts] = self._writer.fetch("SELECT (SELECT count(*) FROM images), (SELECT count(*) FROM postings)")
        return Estimate(*counts)

    def records(self, *, after: str | None = None) -> Iterator[tuple[str, Image]]:
        """See RecordAudit.records. In the order of the table; no transaction is open while the caller works.

        That is the order in which images came, so what is looked at beside each record (its postings, its file) lies
        near what was looked at before: by id, each would be at another end of the disk.
        """
        last = ("", 0, b"") if after is None else _from_position(after)
        while batch := self._writer.fetch(_RECORDS, (*last, _BATCH)):
            for image in map(image_from_row, batch):
                last = _row_of_record(image)
                yield _to_position(last), image

    def postings(self, *, after: str | None = None) -> Iterator[tuple[str, Posting]]:
        """See RecordAudit.postings. In the order of the table; no transaction is open while the caller works."""
        last = ("", "", 0, b"") if after is None else _from_position(after)
        while batch := self._writer.fetch(_POSTINGS, (*last, _BATCH)):
            for row in batch:
                yield _to_position(row), _posting_from_row(row)
            last = batch[-1]

    def standing(self, image_id: ImageId) -> Standing:
        """See RecordAudit.standing."""
        [(has_entry, *record)] = self._writer.fetch(_STANDING, (image_id.bytes,))
        return Standing(None if record[0] is None else image_from_row(record), bool(has_entry))

    def unposted(self, image: Image) -> tuple[Tag, ...]:
        """See RecordAudit.unposted."""
        if not image.tags:
            return ()
        statement = _COUNT_POSTED.format(", ".join("?" * len(image.tags)))
        [(posted,)] = self._writer.fetch(statement, (*_row_of_record(image), *image.tags))
        if posted == len(image.tags):
            return ()  # as it nearly always is, and four statements less
        with self._writer.snapshot() as db:
            lacking = tuple(tag for tag in image.tags if not _is_there(db, _row_of(image, tag)))
            # Its record is read again only where something is amiss: in the same transaction, so of the same moment.
            return lacking if lacking and _record(db, image.image_id) == image else ()

    def is_dangling(self, posting: Posting) -> bool:
        """See RecordAudit.is_dangling."""
        tags = self._writer.fetch(_TAGS, _row_of_record(posting))
        if any(posting.tag in tags_from_text(text) for (text,) in tags):
            return False  # as it nearly always is, and without the rest of the record
        with self._writer.snapshot() as db:
            return not _is_called_for(db, posting) and _is_there(db, _to_row(posting))

    @one_write
    def mend(self, db: sqlite3.Connection, posting: Posting) -> bool:
        """See RecordAudit.mend."""
        statement = _ADD_POSTING if _is_called_for(db, posting) else _REMOVE_POSTING
        return db.execute(statement, _to_row(posting)).rowcount > 0

    def miscounts(self) -> Iterator[Miscount]:
        """See RecordAudit.miscounts. All at one moment, and no more memory than for those that are wrong."""
        for owner, images, size_bytes, actual_images, actual_bytes in self._writer.fetch(MISCOUNTS):
            recorded = Usage(images=images, size_bytes=size_bytes)
            actual = Usage(images=actual_images, size_bytes=actual_bytes)
            yield Miscount(str.__new__(UserId, owner), recorded, actual, revision=0)

    @one_write
    def recount(self, db: sqlite3.Connection, miscount: Miscount) -> bool:
        """See RecordAudit.recount. Counted anew, whatever it was."""
        wrong_by = count_usage(db, miscount.owner) - read_usage(db, miscount.owner)
        add_usage(db, miscount.owner, wrong_by)
        return wrong_by != Usage()

    @one_write
    def hold(self, db: sqlite3.Connection, image_id: ImageId, *, claimant: UUID, until: datetime) -> bool:
        """See RecordAudit.hold."""
        if _record(db, image_id) is not None or _has_entry(db, image_id):
            return False
        entry = audit_hold(image_id, claimant=claimant, until=until)
        db.execute(_PUT_HOLD, (*entry_to_row(entry), claimant.bytes, to_micros(until)))
        return True

    @one_write
    def release(self, db: sqlite3.Connection, image_id: ImageId, *, claimant: UUID) -> None:
        """See RecordAudit.release."""
        db.execute(_FORGET, (image_id.bytes, claimant.bytes))


def _record(db: sqlite3.Connection, image_id: ImageId) -> Image | None:
    row = db.execute(_RECORD, (image_id.bytes,)).fetchone()
    return None if row is None else image_from_row(row)


def _has_entry(db: sqlite3.Connection, image_id: ImageId) -> bool:
    return db.execute(_ENTRY, (image_id.bytes,)).fetchone() is not None


def _is_there(db: sqlite3.Connection, row: Row) -> bool:
    return db.execute(_POSTING, row).fetchone() is not None


def _is_called_for(db: sqlite3.Connection, posting: Posting) -> bool:
    image = _record(db, posting.image_id)
    return image is not None and posting.tag in image.tags and _row_of(image, posting.tag) == _to_row(posting)


def _row_of_record(one: Image | Posting) -> Row:
    return one.owner, to_micros(one.created_at), one.image_id.bytes


def _row_of(image: Image, tag: Tag) -> Row:
    return image.owner, tag, to_micros(image.created_at), image.image_id.bytes


def _to_row(posting: Posting) -> Row:
    return posting.owner, posting.tag, to_micros(posting.created_at), posting.image_id.bytes


def _posting_from_row(row: Row) -> Posting:
    owner, tag, created_at, id_bytes = row
    # As they stand: parsing would refuse, or change, what an audit is there to find.
    return Posting(str.__new__(UserId, owner), str.__new__(Tag, tag), from_micros(created_at), UUID(bytes=id_bytes))


def _to_position(row: Row) -> str:
    *others, id_bytes = row
    return json.dumps([*others, id_bytes.hex()])


def _from_position(position: str) -> Row:
    *others, id_hex = json.loads(position)
    return *others, bytes.fromhex(id_hex)
