"""Connections: how they are opened and shared, when a transaction ends, and what becomes of sqlite3's errors."""

import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass
from functools import update_wrapper
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

from adapters.sqlite.turns import FileTurns, Turns
from domain.errors import Unavailable

P = ParamSpec("P")
R = TypeVar("R")
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


@dataclass(slots=True)
class _Group:
    """Blocks that wrote one after another, and are committed together."""

    committed: bool = False
    error: BaseException | None = None


class _Block(Generic[R]):
    """A piece of work on the connection, and how it ended."""

    __slots__ = ("_error", "_result", "group", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], R]) -> None:
        self.work = work
        self.group: _Group | None = None
        self._result: R
        self._error: Exception | None = None

    def run(self, connection: sqlite3.Connection) -> bool:
        """Do the work; return False if it raised."""
        try:
            self._result = self.work(connection)
        except Exception as error:  # noqa: BLE001 (it is raised by `outcome`, to whom the work belongs)
            self._error = error
            return False
        return True

    def run_within(self, connection: sqlite3.Connection) -> None:
        """Do the work within another's transaction, in his thread; what it wrote before it raised is undone.

        Raises:
            sqlite3.Error: it can't be undone alone, as after some failures.
        """
        handled = sys.exception()
        connection.execute("SAVEPOINT block")
        if not self.run(connection):
            _cut_off(self._error, handled)
            if isinstance(self._error, sqlite3.Error) and not connection.in_transaction:
                # As on a full disk: SQLite has undone all of it. That is why, and not that nothing is left to undo.
                error, self._error = self._error, None
                try:
                    raise error
                finally:
                    del error
            connection.execute("ROLLBACK TO block")
        # Not left to the commit: of pages that stand in several savepoints SQLite keeps copies, in a file before long.
        connection.execute("RELEASE block")

    def outcome(self) -> R:
        """Return or raise what came of it, which is nothing if the group that it was in is not committed."""
        error, self._error = self._error, None
        try:
            if self.group is not None and not self.group.committed:
                # Nor is anybody told of his own error: it may come of what another did, which is undone.
                raise Unavailable("the catalog failed") from self.group.error
            if isinstance(error, sqlite3.Error):
                raise Unavailable("the catalog failed") from error
            if error is not None:
                raise error
            return self._result
        finally:
            del error  # its trace leads back here: a circle, which only a collection would end


class Session:
    """One kept connection behind a lock. No transaction outlives the call it was opened for.

    Whatever sqlite3 raises, a closed session included, leaves as Unavailable from the cause, and so does waiting for
    other processes or for the other threads longer than ``timeout_s`` each.
    """

    def __init__(self, path: Path, *, timeout_s: float) -> None:
        """Open the file, and make it if it is not there; its folder is."""
        self._turns = Turns[_Block[Any]]()
        self._timeout_s = timeout_s
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
            return connection.execute(statement, parameters).fetchall()

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Read in a block, all of it as it is at one moment."""
        with self._alone() as connection:
            try:
                connection.execute("BEGIN DEFERRED")
                yield connection
            finally:
                connection.rollback()

    def write(self, work: Callable[[sqlite3.Connection], R]) -> R:
        """Do the work as one transaction: committed when it returns, rolled back when it raises.

        It has the file's one write lock before it reads anything, so nothing that it reads is stale when it writes.

        Whoever writes does the work of those who wait, too, in his thread, and commits all of it at once. Each of them
        fails if that fails; one that raises undoes what it did, and nothing of the others. Work lets an sqlite3.Error
        out: it may have undone the transaction, and what was written behind it would stay.
        """
        block = _Block(work)
        if self._turns.take(self._timeout_s, block):
            self._lead(block)
        elif block.group is None:
            raise Unavailable("the catalog is busy")
        return block.outcome()

    def close(self) -> None:
        """Close the connection, once whoever uses it is done. May be repeated."""
        self._turns.take()
        try:
            self._connection.close()
            self._file_turns.close()
        finally:
            self._turns.give()

    def _lead(self, block: _Block[Any]) -> None:
        """Run a block, and those of whoever waits behind it, in one transaction. The turn is ours, and ends."""
        woken: list[Callable[[], None]] = []
        try:
            self._take_file_turn()
            try:
                self._run_together(block, woken)
            finally:
                # Nothing stays open, whatever happened; behind a commit this does nothing.
                with suppress(sqlite3.Error):
                    self._connection.rollback()
                self._file_turns.give()
        finally:
            self._turns.give()
            for wake in woken:
                wake()

    def _take_file_turn(self) -> None:
        try:
            has_turn = self._file_turns.take(self._timeout_s)
        except OSError as error:
            raise Unavailable("the catalog can't be locked") from error
        if not has_turn:
            raise Unavailable("the catalog is busy")

    def _run_together(self, block: _Block[Any], woken: list[Callable[[], None]]) -> None:
        group = _Group()
        try:
            # It may have to wait all the same: programs that know nothing of turns may write too.
            self._connection.execute("BEGIN IMMEDIATE")
            if not block.run(self._connection):
                return
            _require_transaction(self._connection)
            while (errand := self._turns.next_errand()) is not None:
                other, wake = errand
                woken.append(wake)
                other.group = group
                other.run_within(self._connection)
            self._connection.commit()
            group.committed = True
        except BaseException as error:
            # Not the error itself: its trace leads back to the group, which would be a circle, as in `outcome`.
            if isinstance(error, sqlite3.Error):
                group.error = copy(error)
                raise Unavailable("the catalog failed") from error
            group.error = RuntimeError(f"interrupted by {error!r}")
            raise

    def _alone(self) -> "_Alone":
        return _Alone(self._connection, self._turns, self._timeout_s)


class _Writing(Protocol):
    _writer: Session


W = TypeVar("W", bound=_Writing)


def one_write(method: Callable[Concatenate[W, sqlite3.Connection, P], R]) -> Callable[Concatenate[W, P], R]:
    """Make a method one write of its object's session. What it is given beside its arguments is the connection."""

    def write(self: W, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._writer.write(lambda db: method(self, db, *args, **kwargs))

    return update_wrapper(write, method)


@dataclass(slots=True)
class _Alone:
    """A block that has the connection to itself. A class because a generator costs twice what its own work does."""

    connection: sqlite3.Connection
    turns: Turns[Any]
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


def _cut_off(error: BaseException | None, handled: BaseException | None) -> None:
    """Take out of an error's history what the thread that made it was just handling: that is somebody else's."""
    if handled is None:
        return
    found, seen = [error], set[int]()
    while found:
        each = found.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        if each.__context__ is handled:
            each.__context__ = None
        found += [each.__context__, each.__cause__]


def _require_transaction(connection: sqlite3.Connection) -> None:
    # Whoever writes next would begin another one, and the first be told that what is undone was done.
    if not connection.in_transaction:
        raise sqlite3.OperationalError("the transaction was undone")


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
