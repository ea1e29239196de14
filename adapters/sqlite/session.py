"""Connections: how they are opened and shared, when a transaction ends, and what becomes of sqlite3's errors."""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from domain.errors import Unavailable

Row = tuple[Any, ...]

_PRAGMAS = (
    # A commit has reached the disk when it returns; fullfsync makes macOS mean it, and is ignored elsewhere.
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -65536",
)
_WAL_RETRY_S = 0.01
# Held while a file is made and opened, so that no other thread opens it before whoever makes it has closed it.
_OPENING = threading.Lock()
_PRIMARY_CODE = 0xFF  # the rest tells the kind of a kind (https://www.sqlite.org/rescode.html)


class Session:
    """One kept connection behind a lock. No transaction outlives the block it was opened for.

    Whatever sqlite3 raises, a closed session included, leaves as Unavailable from the cause, and so does waiting for
    the file or for the other threads longer than ``timeout_s`` each.
    """

    def __init__(self, path: Path, *, timeout_s: float) -> None:
        """Open the file, and make it if it is not there; its folder is."""
        self._lock = threading.Lock()
        self._timeout_s = timeout_s
        try:
            self._connection = _connect(path, timeout_s)
        except (sqlite3.Error, OSError) as error:
            raise Unavailable(f"the catalog {path} can't be opened: {error}") from error

    def fetch(self, statement: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> list[Row]:
        """Return all the rows of one statement, which is its own transaction."""
        with self._alone() as connection:
            return connection.execute(statement, parameters).fetchall()

    @contextmanager
    def transaction(self, mode: Literal["DEFERRED", "IMMEDIATE"]) -> Iterator[sqlite3.Connection]:
        """Run a block as one transaction: committed when the block ends, rolled back when it raises.

        ``DEFERRED`` is for reading, from one snapshot. ``IMMEDIATE`` is for writing: it takes the file's one write
        lock before anything is read, so that nothing read in the block is stale when the block writes.
        """
        with self._alone() as connection:
            connection.execute(f"BEGIN {mode}")
            try:
                yield connection
                connection.commit()
            except BaseException:
                connection.rollback()
                raise

    def close(self) -> None:
        """Close the connection, once whoever uses it is done. May be repeated."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _alone(self) -> Iterator[sqlite3.Connection]:
        # The wait has an end: behind a file that another process keeps locked, threads would queue for minutes.
        if not self._lock.acquire(timeout=self._timeout_s):
            raise Unavailable("the catalog is busy")
        try:
            yield self._connection
        except sqlite3.Error as error:
            raise Unavailable("the catalog failed") from error
        finally:
            self._lock.release()


def _connect(path: Path, timeout_s: float) -> sqlite3.Connection:
    with _OPENING:
        _make(path)
        # Transactions are begun by hand: the module's own would begin them late, after the first read.
        connection = sqlite3.connect(path, timeout=timeout_s, isolation_level=None, check_same_thread=False)
    try:
        _use_wal(connection, timeout_s)
        for pragma in _PRAGMAS:
            connection.execute(pragma)
    except BaseException:
        connection.close()
        raise
    return connection


def _make(path: Path) -> None:
    """Make the file, for its owner alone, if it is not there: SQLite would make it readable to all.

    A file that is there is never opened here. Closing it would take away the locks of every connection that this
    process has to it (POSIX; https://www.sqlite.org/howtocorrupt.html, section 2.2), and with them the catalog.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _use_wal(connection: sqlite3.Connection, timeout_s: float) -> None:
    # The switch does not wait by SQLite's own timeout when another process is just making the file too.
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & _PRIMARY_CODE == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() >= deadline:
                raise
            time.sleep(_WAL_RETRY_S)
            continue
        if mode != "wal":
            raise sqlite3.NotSupportedError(f"its file system has no write-ahead log, only {mode}")
        return
