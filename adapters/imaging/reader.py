"""A cursor over a hostile file: it hands out bytes, and ends a walk that is made to go on for ever."""

import re
import time
from typing import BinaryIO

from application.content import HashedBytes

MAX_FRAMES = 10_000
# Segments, chunks, blocks or boxes. The densest real files have about one in 1,000 bytes.
_MAX_PARTS = 200_000
# A walk of 25 MB takes milliseconds; up to a second if somebody has made it as slow as the other limits allow.
_WALK_CPU_S = 1.0
_WALK_BYTES_A_CPU_S = 100_000_000
_SEARCH_BYTES = 64 * 1024
_STEP_BYTES = 4 * 1024
_AT_HAND_BYTES = 512 * 1024


class BrokenError(Exception):
    """The container contradicts itself; the text is the end of a sentence that starts with the file."""


class TooManyFramesError(Exception):
    """There are more than MAX_FRAMES frames."""


class TooMuchMetadataError(Exception):
    """There is more metadata than the limit allows."""


class Reader:
    """A buffered cursor that stays inside the file.

    ``take`` hands out about twice the file's length at most. A sound file gives no reason to read a byte twice, while
    one with overlapping tables could keep us reading for ever. The time is that of this thread's own work, so that a
    busy machine is not held against a file.
    """

    __slots__ = ("_allowance", "_buffer", "_cpu_until", "_metadata", "_parts", "_start", "_stream", "at", "size")

    def __init__(self, stream: BinaryIO, *, max_metadata_bytes: int) -> None:
        self._stream = stream
        self.size = stream.seek(0, 2)
        self.at = 0
        # What is in memory is read where it is, and is too short to take long. The clock is looked at before each piece
        # of what is longer.
        self._buffer = stream.data if isinstance(stream, HashedBytes) and self.size <= _AT_HAND_BYTES else b""
        self._start = 0
        self._allowance = 2 * self.size + _SEARCH_BYTES
        self._parts = _MAX_PARTS
        self._metadata = max_metadata_bytes
        self._cpu_until = time.thread_time() + _WALK_CPU_S + self.size / _WALK_BYTES_A_CPU_S

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        at = self.at - self._start
        if at < 0 or at + count > len(self._buffer):
            self._fill(max(count, _STEP_BYTES))
            at = 0
            if count > len(self._buffer):
                raise BrokenError("ends before its image does")
        self._allowance -= count
        if self._allowance < 0:
            raise BrokenError("has tables that overlap")
        self.at += count
        return self._buffer[at : at + count]

    def peek(self, count: int) -> bytes:
        """Return the next ``count`` bytes, or the fewer that are left, without passing over them."""
        at = self.at - self._start
        if at < 0 or at + count > len(self._buffer):
            self._fill(max(count, _STEP_BYTES))
            at = 0
        return self._buffer[at : at + count]

    def ends_with(self, tail: bytes) -> bool:
        """Tell whether the rest of the file ends like that. The cursor stays."""
        at = self.at
        self.at = max(at, self.size - len(tail))
        is_there = self.peek(len(tail)) == tail
        self.at = at
        return is_there

    def skip(self, count: int) -> None:
        """Pass over ``count`` bytes, which must be there."""
        if count > self.size - self.at:
            raise BrokenError("ends before its image does")
        self.at += count

    def count_part(self, worth: int = 1) -> None:
        """Note a part of the container, worth so many others; there is an end to how many a file may have."""
        self._parts -= worth
        if self._parts < 0:
            raise BrokenError(f"is made of more than {_MAX_PARTS} parts")

    def count_metadata(self, count: int) -> None:
        """Note so many bytes of texts, profiles and the like. They are never read, but there is an end to them too."""
        self._metadata -= count
        if self._metadata < 0:
            raise TooMuchMetadataError

    def find(self, pattern: re.Pattern[bytes]) -> None:
        """Move to the next match of a two-byte pattern."""
        while True:
            if not self._start <= self.at < self._start + len(self._buffer) - 1:
                self._fill(_SEARCH_BYTES)
                if len(self._buffer) < 2:  # noqa: PLR2004
                    raise BrokenError("ends before its image does")
            if found := pattern.search(self._buffer, self.at - self._start):
                self.at = self._start + found.start()
                return
            # The last byte may be the first of a match across the border.
            self.at = self._start + len(self._buffer) - 1

    def skip_sub_blocks(self) -> None:
        """Pass over a GIF's sub-blocks: each begins with its length, and one of length 0 is the last."""
        while True:
            at = self.at - self._start
            if not 0 <= at < len(self._buffer):
                self._fill(_SEARCH_BYTES)
                at = 0
                if not self._buffer:
                    raise BrokenError("ends before its image does")
            buffer, stop, length = self._buffer, len(self._buffer), 1
            while length and at < stop:
                length = buffer[at]
                at += 1 + length
            self.at = self._start + at
            if not length:
                return

    def _fill(self, count: int) -> None:
        if time.thread_time() > self._cpu_until:
            raise BrokenError("takes too long to read")
        count = min(count, self.size - self.at)
        self._buffer = b""  # let go of the old one first
        if count > 0:
            self._stream.seek(self.at)
            self._buffer = self._stream.read(count)
        self._start = self.at
