"""The bytes of an upload, with their length and digest."""

import hashlib
import io
from dataclasses import dataclass
from typing import BinaryIO, Self

_CHUNK_BYTES = 256 * 1024


class HashedBytes(io.BytesIO):
    """Bytes in memory, with the SHA-256 that they had when they were taken: a store need not hash them once more."""

    def __init__(self, data: bytes) -> None:
        """Take the bytes, and hash them. ``data`` and ``sha256`` stay as they are, whatever is done to the stream."""
        super().__init__(data)
        self.data = data
        self.sha256 = hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class Content:
    """A whole file: a seekable stream, its length in bytes and its SHA-256 in hex. The stream stays the caller's."""

    stream: BinaryIO
    size_bytes: int
    sha256: str

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
        return cls(source, size_bytes, digest.hexdigest())
