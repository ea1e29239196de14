"""Locks that are handed to whoever has waited for them: between threads, and between processes."""

import errno
import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

# The same however long somebody has waited: who looks less often later on is overtaken by those who have just come. Of
# four processes that write all the time, one write in a hundred saw 40 of the others' pass; this way it is 12.
_LOOK_EVERY_S = 0.0005
_CLOSED = -1
E = TypeVar("E")


class _Waiter(Generic[E]):
    """Somebody who waits for the turn, or until whoever has it has done the errand."""

    __slots__ = ("_gate", "errand", "has_turn")

    def __init__(self, errand: E | None) -> None:
        self.errand = errand
        self.has_turn = False
        self._gate = threading.Lock()
        self._gate.acquire()

    def wait(self, timeout_s: float) -> bool:
        """Return False if it took longer."""
        return self._gate.acquire(timeout=timeout_s)

    def wake(self) -> None:
        """End the wait."""
        self._gate.release()


class Turns(Generic[E]):
    """One at a time, in the order of asking. Python's own lock goes to whoever asks at the right moment.

    Who waits may leave an errand. Whoever has the turn may do it within his own, so that a thread which only has
    something done is woken once, when it is done, and the turn changes hands less often.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._taken = False
        self._waiting = deque[_Waiter[E]]()

    def take(self, timeout_s: float = -1, errand: E | None = None) -> bool:
        """Wait for the turn, for ever without a time-out; return False if it did not come in time.

        Also False if another has taken the errand over. Then this waits until it is done, or whoever took it was
        interrupted.
        """
        with self._mutex:
            if not self._taken:
                self._taken = True
                return True
            waiter = _Waiter(errand)
            self._waiting.append(waiter)
        try:
            if not waiter.wait(timeout_s) and not self._left(waiter):
                while not (waiter.wait(timeout_s) or self._is_lost(timeout_s)):
                    pass
        except BaseException:  # Ctrl-C
            if not self._left(waiter) and waiter.has_turn:
                self.give()
            raise
        return waiter.has_turn

    def _is_lost(self, timeout_s: float) -> bool:
        """Tell whether whoever took the errand over was interrupted: then the turn is free, and nobody will wake us."""
        if not self.take(timeout_s):
            return False
        self.give()
        return True

    def _left(self, waiter: _Waiter[E]) -> bool:
        """Leave the queue; return False if the turn was handed over just now, or the errand taken."""
        with self._mutex:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
                return True
            return False

    def next_errand(self) -> tuple[E, Callable[[], None]] | None:
        """Take over what the next in the queue wants done, and what is to be called when it is. The turn is ours.

        It is to be called once the turn has ended, for it wakes him.
        """
        with self._mutex:
            if not self._waiting or (errand := self._waiting[0].errand) is None:
                return None
            return errand, self._waiting.popleft().wake

    def give(self) -> None:
        """End the turn: the next one's begins."""
        with self._mutex:
            if self._waiting:
                waiter = self._waiting.popleft()
                waiter.has_turn = True
                waiter.wake()
            else:
                self._taken = False


class FileTurns:
    """One process at a time. A process that has had its turn gets the next one only behind another that waits.

    SQLite's own waiting sleeps for up to 100 ms between two looks, and whoever has just written is there first: with
    two processes that write all the time, one in a hundred writes waited longer than 50 ms, and some for half a second.

    There are two locks: on who writes, and on who comes next. The system drops both when a process dies.

    Every call may raise OSError.
    """

    def __init__(self, path: Path) -> None:
        """Open the two files, ``{path}-turn`` and ``{path}-next``; nothing is ever in them."""
        self._turn = _opened(f"{path}-turn")
        try:
            self._next = _opened(f"{path}-next")
        except BaseException:
            os.close(self._turn)
            raise

    def take(self, timeout_s: float) -> bool:
        """Wait for the turn; return False if it did not come in time."""
        if self._turn == _CLOSED:
            raise OSError(errno.EBADF, "closed")
        deadline = time.monotonic() + timeout_s
        try:
            # Half of the time at most: whoever is next may have been stopped, and the turn itself is free.
            _locked(self._next, deadline - timeout_s / 2)
            return _locked(self._turn, deadline)
        finally:
            fcntl.flock(self._next, fcntl.LOCK_UN)

    def give(self) -> None:
        """End the turn."""
        fcntl.flock(self._turn, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the files, and end the turn with them. May be repeated."""
        descriptors = {self._turn, self._next} - {_CLOSED}
        self._turn = self._next = _CLOSED
        for descriptor in descriptors:
            os.close(descriptor)


def _opened(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _locked(descriptor: int, deadline: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            # Not a wait in the system, which would have no end if the other process is stopped.
            time.sleep(_LOOK_EVERY_S)
        else:
            return True
