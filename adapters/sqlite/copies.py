"""Copies of a catalog that no service uses: what goes into an archive, and what comes out of one."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from heapq import merge
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from adapters.sqlite.rows import IMAGE_COLUMNS, RECLAIM_COLUMNS, held_from_row, image_from_row, to_micros
from adapters.sqlite.schema import migrate
from adapters.sqlite.usage import recount_all
from domain.errors import Damaged, Unavailable
from domain.image import Image
from domain.reclaim import TrashedImage
from domain.values import ImageId

# ruff: noqa: S608 (statements are put together of constants; what comes from outside is always a parameter)
_RECORDS = f"SELECT {', '.join(IMAGE_COLUMNS)} FROM images ORDER BY image_id"
_TRASH = f"""
    SELECT {", ".join(RECLAIM_COLUMNS)}, claimant, claimed_until FROM reclaim
    WHERE kind = 'trashed' ORDER BY image_id"""
_OWN_POSTINGS = """
    DELETE FROM postings WHERE (owner, created_at, image_id) IN
    (SELECT owner, created_at, image_id FROM images WHERE image_id = ?)"""


class Holdings(NamedTuple):
    """How many records and trashed records a catalog has, and how long all their originals are together."""

    records: int
    trashed: int
    size_bytes: int


class CatalogCopy:
    """One catalog file for its user alone; a context manager. Without a write-ahead log, so the one file is all of it.

    Args:
        path: the file. It is brought up to date at once.

    Raises:
        Unavailable: it is no catalog, or was written by a later version; later calls raise it as well.
    """

    def __init__(self, path: Path) -> None:
        with _failures():
            self._db = sqlite3.connect(path, isolation_level=None)
            try:
                # What was an archive is a stranger's file: none of its views and triggers may call what has effects.
                self._db.execute("PRAGMA trusted_schema = OFF")
                self._db.execute("PRAGMA journal_mode = DELETE")
                with self._changing():
                    migrate(self._db)
            except BaseException:
                self._db.close()
                raise

    def __enter__(self) -> Self:
        """Return the copy; the block's end closes it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._db.close()

    def prune(self, at: datetime) -> None:
        """Keep what can be read or restored at that time: no upload that has not committed, and nothing to be purged.

        What was deleted before is really gone from the file: SQLite alone would leave it in unused pages.
        """
        with _failures():
            with self._changing():
                self._db.execute(
                    """DELETE FROM reclaim WHERE
                        kind = 'reservation' OR claimant IS NOT NULL OR due <= ? OR due <= deleted_at""",
                    (to_micros(at),),
                )
                recount_all(self._db)
            self._db.execute("VACUUM")

    def holdings(self) -> Holdings:
        """Count what there is."""
        with _failures():
            records, size_bytes = self._db.execute(
                "SELECT count(*), coalesce(sum(size_bytes), 0) FROM images"
            ).fetchone()
            trashed = [image.size_bytes for image in self._trash()]
            return Holdings(records, len(trashed), size_bytes + sum(trashed))

    def originals(self) -> Iterator[Image]:
        """Walk the records and the trashed records by image id, in bounded memory. The file must not change meanwhile.

        Raises:
            Damaged: a row is none that Calotype writes.
        """
        with _failures():
            yield from merge(self._records(), self._trash(), key=lambda image: image.image_id.bytes)

    def drop(self, image_ids: Iterable[ImageId]) -> None:
        """Remove the images, from the trash too, in one transaction."""
        with _failures(), self._changing():
            for image_id in image_ids:
                for statement in (
                    _OWN_POSTINGS,
                    "DELETE FROM images WHERE image_id = ?",
                    "DELETE FROM reclaim WHERE image_id = ?",
                ):
                    self._db.execute(statement, (image_id.bytes,))
            recount_all(self._db)

    def _records(self) -> Iterator[Image]:
        return map(image_from_row, self._db.execute(_RECORDS))

    def _trash(self) -> Iterator[Image]:
        for row in self._db.execute(_TRASH):
            entry = held_from_row(row).entry
            if isinstance(entry, TrashedImage):
                yield entry.image

    @contextmanager
    def _changing(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.commit()
        except BaseException:
            self._db.rollback()
            raise


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise Unavailable(f"the catalog can't be used: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged("the catalog has a row that Calotype did not write") from error
