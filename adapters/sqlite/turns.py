"""A lock that is handed to whoever has waited for it longest."""

import threading
from collections import deque


class Turns:
    """One at a time, in the order of asking. Python's own lock goes to whoever asks at the right moment."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._taken = False
        self._waiting = deque[threading.Lock]()

    def take(self, timeout_s: float = -1) -> bool:
        """Wait for the turn, for ever without a time-out; return False if it did not come in time."""
        with self._mutex:
            if not self._taken:
                self._taken = True
                return True
            gate = threading.Lock()
            gate.acquire()
            self._waiting.append(gate)
        try:
            if gate.acquire(timeout=timeout_s):
                return True
        except BaseException:  # Ctrl-C
            if not self._left(gate):
                self.give()
            raise
        return not self._left(gate)

    def _left(self, gate: threading.Lock) -> bool:
        """Leave the queue; return False if the turn was handed over just now."""
        with self._mutex:
            if gate in self._waiting:
                self._waiting.remove(gate)
                return True
            return False

    def give(self) -> None:
        """End the turn: the next one's begins."""
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False
