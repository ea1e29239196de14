"""A bound on what all inspections of a process may work on at a time."""

import threading
from typing import BinaryIO

from application.ports import ImageInspector, Inspection
from domain.errors import Overloaded
from domain.limits import Limits


class BoundedInspector:
    """Inspects while there is room. A file counts with all its bytes; one of more than all the room is let in alone.

    Args:
        inspector: does the work.
        most_bytes: of files under inspection.
    """

    def __init__(self, inspector: ImageInspector, *, most_bytes: int) -> None:
        """Begin with nothing under inspection."""
        self._inspector = inspector
        self._most_bytes = most_bytes
        self._bytes = 0
        self._lock = threading.Lock()

    def inspect(self, content: BinaryIO, *, limits: Limits) -> Inspection:
        """See ImageInspector.inspect; raises Overloaded when there is no room."""
        size_bytes = content.seek(0, 2)
        with self._lock:
            if self._bytes and self._bytes + size_bytes > self._most_bytes:
                raise Overloaded("too much is being inspected")
            self._bytes += size_bytes
        try:
            return self._inspector.inspect(content, limits=limits)
        finally:
            with self._lock:
                self._bytes -= size_bytes
