"""Files to upload: finding them, and reading each so that it can't change unnoticed."""

import hashlib
import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Self

# What is picked up in folders. Names decide nothing else: the server looks at the bytes.
IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .gif .webp .avif .heic .heif .tif .tiff .bmp".split()  # noqa: SIM905 (reads better)
)
_CHUNK_BYTES = 256 * 1024


class FileChanged(Exception):
    """A file was written to while it was read."""


def find_images(paths: Iterable[Path], on_error: Callable[[OSError], object]) -> list[Path]:
    """Return the named files, and the image files below the named folders, sorted; each path once.

    Inside folders hidden files and folders are passed over, and links to folders aren't followed. A folder that
    can't be read is told to ``on_error``.
    """

    def files() -> Iterator[Path]:
        for path in paths:
            if path.is_dir():
                yield from _images_below(path, on_error)
            else:
                yield path

    return list(dict.fromkeys(files()))


def _images_below(folder: Path, on_error: Callable[[OSError], object]) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder, onerror=on_error):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield Path(parent, name)


class SteadyFile(io.BufferedIOBase):
    """A file with its length and digest, read again and again, that is always the same bytes.

    The digest is taken when it is opened. A later reading that comes to other bytes raises FileChanged instead of
    ending, so that a body made of it is never complete. Close it, or use it as a context.

    Args:
        path: a regular file.
        on_read: told the position after each read and seek; may raise to stop the reading.
    """

    def __init__(self, path: Path, on_read: Callable[[int], object] = lambda _: None) -> None:
        """Open and measure the file; raise OSError if that can't be done."""
        super().__init__()
        # Looked at before it is opened: opening a pipe would wait for its writer, perhaps for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError("not a regular file")
        self._file: BinaryIO = path.open("rb")
        self._on_read = on_read
        try:
            self.sha256, self.size_bytes = self._measured()
        except BaseException:
            self._file.close()
            raise
        self.seek(0)

    def _measured(self) -> tuple[str, int]:
        digest, size_bytes = hashlib.sha256(), 0
        while chunk := self._file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size_bytes += len(chunk)
            self._on_read(0)
        return digest.hexdigest(), size_bytes

    def __enter__(self) -> Self:
        """Return the file."""
        return self

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to the start, or to the end to learn the length. There is no reading from the middle."""
        if offset != 0 or whence not in {os.SEEK_SET, os.SEEK_END}:
            raise io.UnsupportedOperation("only the start and the end can be sought")
        self._file.seek(0)
        self._digest = hashlib.sha256()
        self._position = 0 if whence == os.SEEK_SET else self.size_bytes
        if whence == os.SEEK_SET:
            self._on_read(0)
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes; raise FileChanged at the end, or past it, if they aren't the bytes first seen."""
        chunk = self._file.read(-1 if size is None else size)
        self._digest.update(chunk)
        self._position += len(chunk)
        at_end = not chunk and size != 0
        if self._position > self.size_bytes or (at_end and self._digest.hexdigest() != self.sha256):
            raise FileChanged("it was changed while it was read")
        self._on_read(self._position)
        return chunk

    def close(self) -> None:
        """Close the file."""
        if hasattr(self, "_file"):  # a file that could not be opened is closed too, by the interpreter
            self._file.close()
        super().close()
