"""Files that are asked for again and again, kept in memory.

The system's cache saves the disk, not the way from there: a third of what it takes to send a large file that lies in
that cache is copies of it, and the threads that make them (docs/adr/0019-hot-files-stay-in-memory.md).
"""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from adapters.filesystem.contents import STAMP_STEP_NS, Stamps, stamps_of

_SMALLEST_BYTES = 256 * 1024  # what is smaller takes hardly less from memory
_LARGEST_PART = 4
_HOT_S = 10.0
_COLD_S = 600.0
_ASKED_MAX = 4096  # some 1 MB


@dataclass(slots=True)
class HotFile:
    """A file that has its room, and what has been read of it since, in the pieces that it was read in.

    Whoever sends it may do so for minutes, and hold it beyond its time: when its room goes to others it lets go of its
    pieces, and keeps no more.
    """

    stamps: Stamps
    size_bytes: int
    asked_s: float
    _pieces: dict[int, bytes] = field(default_factory=dict)
    _kept_bytes: int = 0
    _has_room: bool = True
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def piece(self, at: int, size: int) -> bytes | None:
        """Return so many bytes from there on, if a piece is just that."""
        piece = self._pieces.get(at)
        return piece if piece is not None and len(piece) == size else None

    def keep(self, at: int, data: bytes | bytearray, descriptor: int) -> None:
        """Keep what was read there, unless the open file has been altered meanwhile, or its room is gone.

        Raises:
            OSError: the file doesn't tell.
        """
        if stamps_of(os.fstat(descriptor)) != self.stamps:
            return
        with self._lock:
            if not self._has_room:
                return
            if self._kept_bytes + len(data) > self.size_bytes:  # it was read in other pieces before
                self._pieces.clear()
                self._kept_bytes = 0
            self._kept_bytes += len(data)
            self._pieces[at] = bytes(data)

    def end(self) -> None:
        """Give the room back."""
        with self._lock:
            self._has_room = False
            self._pieces.clear()


class HotFiles:
    """Keeps files that are asked for twice within ten seconds, and each until it has cooled and another needs its room.

    What nobody has asked for in ten minutes goes as soon as any is asked for: it may have been deleted elsewhere.
    While all that is kept is hot nothing else comes in: who walks through a library of any size turns nothing over.
    A file is kept if it is not small, and takes a quarter of the room at most. Threads may share it.

    Args:
        most_bytes: to keep, all files together.
        clock: seconds.
    """

    def __init__(self, most_bytes: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin empty."""
        self.room_bytes = most_bytes
        self._largest_bytes = most_bytes // _LARGEST_PART
        self._clock = clock
        self._lock = threading.Lock()
        self._files: dict[bytes, HotFile] = {}  # in both, whoever was asked for last is the last
        self._asked_s: dict[bytes, float] = {}

    def ask(self, path: bytes, status: os.stat_result) -> HotFile | None:
        """Return the file if it is hot, which this may make it; None if it isn't, or there is no room for it.

        ``status`` is that of the file as it is now; what was kept of other bytes is kept no longer.
        """
        if not _SMALLEST_BYTES <= status.st_size <= self._largest_bytes:
            return None
        stamps, now_s = stamps_of(status), self._clock()
        with self._lock:
            self._drop_cold(now_s)
            file = self._files.get(path)
            if file is not None and file.stamps == stamps:
                file.asked_s = now_s
                self._files[path] = self._files.pop(path)
                return file
            self._drop(path)
            is_hot = self._is_hot(path, now_s) and time.time_ns() - status.st_ctime_ns > STAMP_STEP_NS
            if not is_hot or not self._has_room(status.st_size, now_s):
                return None
            self.room_bytes -= status.st_size
            file = self._files[path] = HotFile(stamps, status.st_size, now_s)
            return file

    def forget(self, folder: bytes) -> None:
        """Keep nothing of a folder any longer."""
        with self._lock:
            for path in [each for each in self._files if each.rpartition(b"/")[0] == folder]:
                self._drop(path)

    def _is_hot(self, path: bytes, now_s: float) -> bool:
        asked_s = self._asked_s.pop(path, None)
        if len(self._asked_s) >= _ASKED_MAX:
            del self._asked_s[next(iter(self._asked_s))]
        self._asked_s[path] = now_s
        return asked_s is not None and now_s - asked_s <= _HOT_S

    def _has_room(self, size_bytes: int, now_s: float) -> bool:
        """Make it, if need be, of what has cooled; return False if that isn't enough."""
        while self.room_bytes < size_bytes:
            path, coldest = next(iter(self._files.items()))
            if now_s - coldest.asked_s <= _HOT_S:
                return False
            self._drop(path)
        return True

    def _drop_cold(self, now_s: float) -> None:
        while self._files:
            path, coldest = next(iter(self._files.items()))
            if now_s - coldest.asked_s <= _COLD_S:
                return
            self._drop(path)

    def _drop(self, path: bytes) -> None:
        file = self._files.pop(path, None)
        if file is not None:
            file.end()
            self.room_bytes += file.size_bytes
