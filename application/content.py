"""The bytes of an upload, with their length and digest."""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO, Self

_CHUNK_BYTES = 256 * 1024


class HashedBytes(io.BytesIO):
    """Bytes in memory that are hashed once, when somebody first asks: a store need not do it again.

    So whoever runs the upload pays for it, and not the event loop that took the bytes in.
    """

    def __init__(self, data: bytes) -> None:
        """Take the bytes. ``data`` stays as it is, whatever is done to the stream."""
        super().__init__(data)
        self.data = data
        self._sha256: str | None = None

    def sha256(self) -> str:
        """Return the SHA-256 of the data, in hex."""
        if self._sha256 is None:
            self._sha256 = hashlib.sha256(self.data).hexdigest()
        return self._sha256


@dataclass(frozen=True, slots=True)
class Content:
    """A whole file: a seekable stream, its length in bytes and its SHA-256 in hex. The stream stays the caller's.

    Made by `of`, or by who has hashed it on its way.
    """

    stream: BinaryIO
    size_bytes: int
    _sha256: Callable[[], str] = field(compare=False, repr=False)

    @property
    def sha256(self) -> str:
        """Of bytes in memory it is computed when somebody first asks."""
        return self._sha256()

    @classmethod
    def of(cls, source: bytes | BinaryIO) -> Self:
        """Measure bytes, or a seekable file from its start, in bounded memory."""
        if isinstance(source, bytes):
            stream = HashedBytes(source)
            return cls(stream, len(source), stream.sha256)
        digest, size_bytes = hashlib.sha256(), 0
        source.seek(0)
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
            size_bytes += len(chunk)
        source.seek(0)
        return cls(source, size_bytes, digest.hexdigest)
