"""Connections: how they are opened and shared, when a transaction ends, and what becomes of sqlite3's errors."""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from adapters.sqlite.turns import FileTurns, Turns
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


@dataclass(slots=True, eq=False)
class _Group:
    """Blocks that wrote one after another, and are committed together."""

    ended: threading.Event = field(default_factory=threading.Event)
    committed: bool = False
    error: sqlite3.Error | None = None


class Session:
    """One kept connection behind a lock. No transaction outlives the blocks it was opened for.

    Whatever sqlite3 raises, a closed session included, leaves as Unavailable from the cause, and so does waiting for
    other processes or for the other threads longer than ``timeout_s`` each.
    """

    def __init__(self, path: Path, *, timeout_s: float) -> None:
        """Open the file, and make it if it is not there; its folder is."""
        self._turns = Turns()
        self._timeout_s = timeout_s
        self._group: _Group | None = None
        try:
            self._connection = _connect(path, timeout_s)
            try:
                self._file_turns = FileTurns(path)
            except BaseException:
                self._connection.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise Unavailable(f"the catalog {path} can't be opened: {error}") from error

    def fetch(self, statement: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> list[Row]:
        """Return all the rows of one statement, which is its own transaction."""
        with self._alone() as connection:
            self._end_group()
            return connection.execute(statement, parameters).fetchall()

    def transaction(self, mode: Literal["DEFERRED", "IMMEDIATE"]) -> AbstractContextManager[sqlite3.Connection]:
        """Run a block as one transaction: committed when the block ends, rolled back when it raises.

        ``DEFERRED`` is for reading, from one snapshot. ``IMMEDIATE`` is for writing: it takes the file's one write
        lock before anything is read, so that nothing read in the block is stale when the block writes.

        Blocks that come to write while a commit waits for the disk are committed together by the next one. Each ends
        when that is done, and fails if it fails; one that raises undoes what it did, and nothing of the others.
        """
        return self._grouped() if mode == "IMMEDIATE" else self._snapshot()

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        with self._alone() as connection:
            self._end_group()
            try:
                connection.execute("BEGIN DEFERRED")
                yield connection
            finally:
                connection.rollback()

    def close(self) -> None:
        """Close the connection, once whoever uses it is done. May be repeated."""
        self._turns.take()
        try:
            self._end_group()
            self._connection.close()
            self._file_turns.close()
        finally:
            self._turns.give()

    @contextmanager
    def _grouped(self) -> Iterator[sqlite3.Connection]:
        # The first block of a group begins its transaction, lets those go first who are waiting already, and commits
        # what they all did. One that joins may have read what is never committed; so it isn't told how it ended, be it
        # by an error, before that is known.
        group: _Group | None = None
        leads = False
        try:
            with self._alone() as connection:
                leads = self._group is None
                group = self._joined(connection)
                try:
                    yield connection
                except BaseException:
                    if leads:
                        group = None
                    self._undo(connection, leads=leads)
                    raise
        finally:
            if group is not None:
                self._settle(group, leads=leads)

    def _joined(self, connection: sqlite3.Connection) -> _Group:
        if self._group is None:
            return self._begun(connection)
        connection.execute("SAVEPOINT block")
        return self._group

    def _begun(self, connection: sqlite3.Connection) -> _Group:
        try:
            has_turn = self._file_turns.take(self._timeout_s)
        except OSError as error:
            raise Unavailable("the catalog can't be locked") from error
        if not has_turn:
            raise Unavailable("the catalog is busy")
        group = self._group = _Group()
        try:
            # It may have to wait all the same: programs that know nothing of turns may write too.
            connection.execute("BEGIN IMMEDIATE")
        except BaseException:
            # After Ctrl-C it may have begun.
            self._end_group(connection.rollback)
            raise
        return group

    def _undo(self, connection: sqlite3.Connection, *, leads: bool) -> None:
        """Undo a block. Where that can't be done alone, as after some failures, the group is undone, and fails."""
        if not leads and connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK TO block")
                connection.execute("RELEASE block")
                return
        self._end_group(connection.rollback)

    def _settle(self, group: _Group, *, leads: bool) -> None:
        """Wait until the group has ended; raise Unavailable if it failed."""
        # Whoever leads ends it. The others do if that takes too long, for the one who leads may have been interrupted.
        if not leads:
            group.ended.wait(self._timeout_s)
        while not group.ended.is_set():
            self._turns.take()
            try:
                self._end_group()
            finally:
                self._turns.give()
        if not group.committed:
            raise Unavailable("the catalog failed") from group.error

    def _end_group(self, end: Callable[[], None] | None = None) -> None:
        """Commit what is open, or end it in another way. The turn is ours."""
        group, self._group = self._group, None
        if group is None:
            return
        try:
            (end or self._connection.commit)()
            group.committed = end is None
        except sqlite3.Error as error:
            group.error = error
        finally:
            # Nothing stays open, whatever happened; behind a commit this does nothing.
            with suppress(sqlite3.Error):
                self._connection.rollback()
            group.ended.set()
            self._file_turns.give()

    def _alone(self) -> "_Alone":
        return _Alone(self._connection, self._turns, self._timeout_s)


@dataclass(slots=True)
class _Alone:
    """A block that has the connection to itself. A class because a generator costs twice what its own work does."""

    connection: sqlite3.Connection
    turns: Turns
    timeout_s: float

    def __enter__(self) -> sqlite3.Connection:
        # The wait has an end: behind a file that another process keeps locked, threads would queue for minutes.
        if not self.turns.take(self.timeout_s):
            raise Unavailable("the catalog is busy")
        return self.connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.turns.give()
        if isinstance(error, sqlite3.Error):
            raise Unavailable("the catalog failed") from error


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
