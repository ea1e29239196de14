"""The tables, and how a file of an older version comes up to date. Nothing here reads or writes an image.

The order of the keys is the design. An owner's records lie together in the order of the listing, so a page of a
library is one range scan with no further look-ups; a tag's postings lie together in the same order, so a page by tag
reads its matches and nothing else. Both carry the record's whole key, so the way from a match to its record is a
single search.

Postings declare no foreign key: SQLite would search them for children at every removal of a record, which takes one
more index as large as they are. They change only beside their record, in its transaction.

Times are whole microseconds since 1970 in UTC, identifiers their 16 bytes; both sort as their values do.
"""

import sqlite3
from itertools import chain

from domain.errors import Unavailable

# Each step leads from one version to the next, and is never changed once released. Only syntax of SQLite 3.24 and
# before: Python links whatever the system has.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE images (
            owner TEXT NOT NULL,
            created_at INTEGER NOT NULL,
            image_id BLOB NOT NULL,
            filename TEXT NOT NULL,
            title TEXT NOT NULL,
            title_folded TEXT NOT NULL,
            description TEXT NOT NULL,
            tags TEXT NOT NULL, -- a JSON array, in the order given
            media_type TEXT NOT NULL,
            size_bytes INTEGER NOT NULL,
            width INTEGER NOT NULL,
            height INTEGER NOT NULL,
            sha256 TEXT NOT NULL,
            updated_at INTEGER NOT NULL,
            version INTEGER NOT NULL,
            fingerprint TEXT,
            PRIMARY KEY (owner, created_at, image_id)
        ) WITHOUT ROWID
        """,
        "CREATE UNIQUE INDEX images_by_id ON images (image_id)",
        "CREATE INDEX images_by_title ON images (owner, title_folded, created_at, image_id)",
        """
        CREATE TABLE postings (
            owner TEXT NOT NULL,
            tag TEXT NOT NULL,
            created_at INTEGER NOT NULL,
            image_id BLOB NOT NULL,
            PRIMARY KEY (owner, tag, created_at, image_id)
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE reclaim (
            image_id BLOB NOT NULL PRIMARY KEY,
            kind TEXT NOT NULL CHECK (kind IN ('reservation', 'trashed')),
            owner TEXT NOT NULL,
            due INTEGER NOT NULL,
            holder BLOB, -- a reservation's
            lease_until INTEGER, -- a reservation's
            fingerprint TEXT, -- a reservation's
            deleted_at INTEGER, -- a trashed image's
            record TEXT, -- a trashed image's, a JSON object
            claimant BLOB,
            claimed_until INTEGER
        )
        """,
        "CREATE INDEX reclaim_by_due ON reclaim (due, image_id)",
    ),
    (
        # What the entry takes of its owner's quota; NULL for nothing, as with reservations from before there were
        # quotas.
        "ALTER TABLE reclaim ADD COLUMN size_bytes INTEGER",
        # Not by JSON functions, which SQLite may be built without before 3.38. The name can't be found in a value:
        # quotes are escaped there. CAST reads the digits that a text begins with.
        """
        UPDATE reclaim SET size_bytes = CAST(substr(record, instr(record, '"size_bytes": ') + 14) AS INTEGER)
        WHERE kind = 'trashed'
        """,
        """
        CREATE TABLE usage (
            owner TEXT NOT NULL PRIMARY KEY,
            images INTEGER NOT NULL,
            size_bytes INTEGER NOT NULL
        ) WITHOUT ROWID
        """,
        """
        INSERT INTO usage
        SELECT owner, count(*), sum(size_bytes)
        FROM (
            SELECT owner, size_bytes FROM images
            UNION ALL SELECT owner, size_bytes FROM reclaim WHERE size_bytes IS NOT NULL
        )
        GROUP BY owner
        """,
    ),
    (
        # The image is the key, where an index led from it to a row's number: every upload changed that index twice.
        """
        CREATE TABLE entries (
            image_id BLOB NOT NULL PRIMARY KEY,
            kind TEXT NOT NULL CHECK (kind IN ('reservation', 'trashed')),
            owner TEXT NOT NULL,
            due INTEGER NOT NULL,
            holder BLOB, -- a reservation's
            lease_until INTEGER, -- a reservation's
            fingerprint TEXT, -- a reservation's
            deleted_at INTEGER, -- a trashed image's
            record TEXT, -- a trashed image's, a JSON object
            claimant BLOB,
            claimed_until INTEGER,
            size_bytes INTEGER -- what it takes of its owner's quota
        ) WITHOUT ROWID
        """,
        """
        INSERT INTO entries
        SELECT
            image_id, kind, owner, due, holder, lease_until, fingerprint, deleted_at, record, claimant, claimed_until,
            size_bytes
        FROM reclaim
        ORDER BY image_id -- as they come to lie: twice as fast, and no page is split
        """,
        "DROP TABLE reclaim",
        "ALTER TABLE entries RENAME TO reclaim",
        "CREATE INDEX reclaim_by_due ON reclaim (due, image_id)",
    ),
)


def migrate(db: sqlite3.Connection) -> None:
    """Bring the file up to date, in the write transaction that is open: one process does it while the others wait.

    Raises:
        Unavailable: the file was written by a later version of Calotype.
    """
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version == len(MIGRATIONS):
        return
    if version > len(MIGRATIONS):
        raise Unavailable(
            f"the catalog has schema version {version} and this Calotype knows versions up to {len(MIGRATIONS)}: "
            "a newer Calotype wrote it, and is needed to open it"
        )
    for statement in chain.from_iterable(MIGRATIONS[version:]):
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
