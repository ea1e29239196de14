"""Bytes on their way: stretches of a file going up, an object coming down."""

import hashlib
import io
from typing import BinaryIO, Self, cast

from botocore.response import StreamingBody

from adapters.s3.deadline import Deadline
from adapters.s3.errors import translated
from application.ports import ObjectInfo
from domain.errors import Damaged, Unavailable

_BLOCK_BYTES = 256 * 1024


class Source:
    """A seekable file that is read in blocks, each of them before the deadline.

    So an upload that is too slow stops at a block, and S3 never has the last byte. A failure to read is final, and
    kept: botocore would take it for one of the connection, and try again.
    """

    def __init__(self, file: BinaryIO, deadline: Deadline) -> None:
        self.deadline = deadline
        self.failure: BaseException | None = None
        self._file = file

    def read_at(self, position: int, size: int) -> bytes:
        """Return bytes from a position of the file: at least one, at most ``size`` or a block."""
        if self.failure is not None:
            raise self.failure
        try:
            return self._block(position, size)
        except BaseException as failure:
            self.failure = failure
            raise

    def _block(self, position: int, size: int) -> bytes:
        self._file.seek(position)
        block = self._file.read(min(size, _BLOCK_BYTES))
        if not block:
            # S3 would wait for the rest until the connection times out.
            raise Unavailable("the file ended before its promised length")
        self.deadline.check()
        return block


class Stretch(io.RawIOBase):
    """``size_bytes`` of a source from ``start`` on, as a file of its own that botocore may send and rewind."""

    def __init__(self, source: Source, start: int, size_bytes: int) -> None:
        self.source = source
        self._start = start
        self._size_bytes = size_bytes
        self._at = 0

    def __len__(self) -> int:
        """Return the length, which botocore asks for."""
        return self._size_bytes

    def as_file(self) -> BinaryIO:
        """Return this, at its start, as the type that stands for files in signatures."""
        self.seek(0)
        return cast("BinaryIO", self)

    def split(self, part_bytes: int) -> "list[Stretch]":
        """Return this in parts of one length, the last as long as is left."""
        return [
            Stretch(self.source, self._start + at, min(part_bytes, self._size_bytes - at))
            for at in range(0, self._size_bytes, part_bytes)
        ]

    def readable(self) -> bool:
        """See io.IOBase."""
        return True

    def seekable(self) -> bool:
        """See io.IOBase."""
        return True

    def tell(self) -> int:
        """See io.IOBase."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """See io.IOBase."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size_bytes}[whence]
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        """Return at most ``size`` bytes, or all the rest; raise what the source does."""
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(_BLOCK_BYTES), b""))
        wanted = min(size, self._size_bytes - self._at)
        if wanted <= 0:
            return b""
        data = self.source.read_at(self._start + self._at, wanted)
        self._at += len(data)
        return data


class S3Body:
    """ObjectBody over the reply to one GetObject, read as it arrives.

    With ``sha256``, that of all the bytes to come, Damaged is raised in place of the last of them if it is not theirs.
    """

    path: str | None = None

    def __init__(self, info: ObjectInfo, stream: StreamingBody, *, sha256: str | None = None) -> None:
        self.info = info
        self._stream = stream
        self._sha256 = sha256
        self._digest = hashlib.sha256()
        self._left = info.size_bytes

    def read(self, size: int = -1, /) -> bytes:
        """See ObjectBody.read; a connection that breaks off is Unavailable, never a short object."""
        with translated():
            data: bytes = self._stream.read(None if size < 0 else size)
        if self._sha256 is not None and data:
            self._check(data)
        return data

    def _check(self, data: bytes) -> None:
        self._digest.update(data)
        self._left -= len(data)
        if self._left <= 0 and self._digest.hexdigest() != self._sha256:
            raise Damaged(f"the bytes of {self.info.key} are not those that were stored")

    def read_at_hand(self, size: int, /) -> None:
        """See ObjectBody.read_at_hand."""
        del size

    def close(self) -> None:
        """See ObjectBody.close; a connection with unread bytes in it ends here, any other was kept already."""
        self._stream.close()

    def __enter__(self) -> Self:
        """Return itself; the block's end closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()
