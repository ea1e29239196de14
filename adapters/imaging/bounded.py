"""A bound on what all inspections of a process may work on at a time."""

import threading
from typing import BinaryIO, Protocol

from application.ports import Inspection
from domain.errors import Overloaded
from domain.limits import Limits
from domain.values import UserId


class _Inspector(Protocol):
    """Does the work, whoever it is for."""

    def inspect(self, content: BinaryIO, *, limits: Limits) -> Inspection: ...


class BoundedInspector:
    """Inspects while there is room, of which a single owner gets half at most.

    A file counts with all its bytes. One of more than its owner's half is let in while that owner has no other, one of
    more than all the room while nobody has.

    Args:
        inspector: does the work.
        most_bytes: of files under inspection.
    """

    def __init__(self, inspector: _Inspector, *, most_bytes: int) -> None:
        """Begin with nothing under inspection."""
        self._inspector = inspector
        self._most_bytes = most_bytes
        self._bytes = 0
        self._bytes_of: dict[UserId, int] = {}
        self._lock = threading.Lock()

    def inspect(self, content: BinaryIO, *, limits: Limits, owner: UserId) -> Inspection:
        """See ImageInspector.inspect; raises Overloaded when there is no room."""
        size_bytes = content.seek(0, 2)
        with self._lock:
            own_bytes = self._bytes_of.get(owner, 0)
            for taken, most in ((self._bytes, self._most_bytes), (own_bytes, self._most_bytes // 2)):
                if taken and taken + size_bytes > most:
                    raise Overloaded("too much is being inspected")
            self._bytes += size_bytes
            self._bytes_of[owner] = own_bytes + size_bytes
        try:
            return self._inspector.inspect(content, limits=limits)
        finally:
            with self._lock:
                self._bytes -= size_bytes
                if own_bytes := self._bytes_of.pop(owner, 0) - size_bytes:
                    self._bytes_of[owner] = own_bytes
