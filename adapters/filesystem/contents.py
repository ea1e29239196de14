"""What objects' bytes come to: each file is read whole once, and not again at every request."""

import hashlib
import os
import threading
import time
from typing import NamedTuple

from domain.values import MediaType

SNIFFED_BYTES = 64
_PIECE_BYTES = 256 * 1024
_KNOWN_MAX = 16_384  # some 9 MB
# Kernels stamp files with a clock that stands still for up to 10 ms: a second write may leave no trace in the stamps.
STAMP_STEP_NS = 20_000_000

Stamps = tuple[int, ...]
"""What tells whether a file was altered: times, size, and which file it is."""


def stamps_of(status: os.stat_result) -> Stamps:
    """Return a file's stamps."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class FileContent(NamedTuple):
    """A file's SHA-256, and the format that its first bytes tell."""

    sha256: bytes
    media_type: MediaType | None


class KnownContents:
    """What is in files as they were last read, kept as long as nothing about a file has changed.

    A write changes the time of the inode's last change, which no program can set. So what was altered from outside
    is read anew and found. A medium that forgets bits by itself stamps nothing: that is for audits to find.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self._lock = threading.Lock()
        self._known: dict[bytes, tuple[Stamps, FileContent]] = {}

    def known(self, path: bytes, status: os.stat_result) -> FileContent | None:
        """Return what is in the file with this status; None if it would have to be read."""
        known = self._known.get(path)
        return known[1] if known is not None and known[0] == stamps_of(status) else None

    def of(self, path: bytes, descriptor: int, status: os.stat_result) -> FileContent:
        """Return what is in the file that is open; ``status`` is its own, taken before. Raise OSError."""
        if (known := self.known(path, status)) is not None:
            return known
        # Before it is read: how long that takes says nothing of how old the stamps were when they were taken.
        is_settled = time.time_ns() - status.st_ctime_ns > STAMP_STEP_NS
        content = _read(descriptor)
        if is_settled:
            self._keep(path, stamps_of(status), content)
        return content

    def _keep(self, path: bytes, stamps: Stamps, content: FileContent) -> None:
        with self._lock:
            self._known.pop(path, None)
            while len(self._known) >= _KNOWN_MAX:
                del self._known[next(iter(self._known))]
            self._known[path] = (stamps, content)


def _read(descriptor: int) -> FileContent:
    digest, at, head = hashlib.sha256(), 0, b""
    while piece := os.pread(descriptor, _PIECE_BYTES, at):
        digest.update(piece)
        head = head or piece[:SNIFFED_BYTES]
        at += len(piece)
    return FileContent(digest.digest(), MediaType.sniff(head))
