"""The bytes of an upload, with their length and digest."""

import hashlib
import io
from dataclasses import dataclass
from typing import BinaryIO, Self

_CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Content:
    """A whole file: a seekable stream, its length in bytes and its SHA-256 in hex. The stream stays the caller's."""

    stream: BinaryIO
    size_bytes: int
    sha256: str

    @classmethod
    def of(cls, source: bytes | BinaryIO) -> Self:
        """Measure bytes, or a seekable file from its start, in bounded memory."""
        stream = io.BytesIO(source) if isinstance(source, bytes) else source
        digest, size_bytes = hashlib.sha256(), 0
        stream.seek(0)
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
            size_bytes += len(chunk)
        stream.seek(0)
        return cls(stream, size_bytes, digest.hexdigest())
