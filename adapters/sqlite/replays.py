"""What was signed for one use, and has been used. The workers of one machine share the file."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from adapters.sqlite.session import Session

_TABLE = "CREATE TABLE IF NOT EXISTS used (digest BLOB PRIMARY KEY, until_s REAL NOT NULL) WITHOUT ROWID"
_INDEX = "CREATE INDEX IF NOT EXISTS used_until ON used (until_s)"
# A few of those that are over, so that no call has to clear away what a busy hour has left.
_FORGET = "DELETE FROM used WHERE digest IN (SELECT digest FROM used WHERE until_s < ? ORDER BY until_s LIMIT 100)"
_REMEMBER = "INSERT OR IGNORE INTO used (digest, until_s) VALUES (?, ?)"
_PAGES_MAX = 32 * 1024  # of 4 KiB: about a million uses at a time


class SqliteReplays:
    """Remembers digests, each until its time is over. Beyond 128 MiB of them no more are taken.

    Every call may raise Unavailable, also when the file is full: what can't be remembered must not be done.
    """

    def __init__(self, path: Path, *, timeout_s: float = 5.0, now: Callable[[], float] = time.time) -> None:
        """Open the file, and make it if it is not there; its folder is."""
        self._now = now
        self._session = Session(path, timeout_s=timeout_s)
        self._session.write(_make_table)
        self._session.fetch(f"PRAGMA max_page_count = {_PAGES_MAX}")

    def is_first(self, digest: bytes, *, until_s: float) -> bool:
        """Say whether a digest is new, and remember it until then (seconds since the epoch). One of many hears yes."""

        def remember(db: sqlite3.Connection) -> bool:
            db.execute(_FORGET, (self._now(),))
            return db.execute(_REMEMBER, (digest, until_s)).rowcount == 1

        return self._session.write(remember)

    def close(self) -> None:
        """Let go of the file. May be repeated."""
        self._session.close()


def _make_table(db: sqlite3.Connection) -> None:
    db.execute(_TABLE)
    db.execute(_INDEX)
