"""The archive: a plain tar (POSIX.1-2001, pax) whose members come in one order, and can be read as they come.

    catalog.sqlite3                  the records, a SQLite file of its own
    secret                           what signs URLs
    images/{image_id}/{filename}     an original each, in the order of their ids
    SHA256SUMS                       of all members above, as sha256sum(1) writes and checks it
    manifest.json                    what there should be, and the digest of SHA256SUMS

docs/backup.md tells the same to people. Nothing here knows what is in the members.
"""

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, BinaryIO, Protocol
from uuid import UUID

import msgspec

FORMAT = 1
CATALOG = "catalog.sqlite3"
SECRET = "secret"  # noqa: S105 (a file's name)
SUMS = "SHA256SUMS"
MANIFEST = "manifest.json"

_PIECE_BYTES = 256 * 1024
_READ_AHEAD_BYTES = 1024 * 1024
_MANIFEST_MAX_BYTES = 256 * 1024 * 1024
_END = bytes(2 * tarfile.BLOCKSIZE)


class BadArchive(Exception):
    """The archive is cut short, was altered, or is none; the message is a sentence about it."""


class Readable(Protocol):
    """Bytes to be had piece by piece."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most ``size`` bytes; empty at the end."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The last member: what the archive holds. ``records`` and ``trashed`` as in its catalog."""

    format: int
    created_at: datetime
    records: int
    trashed: int
    objects: int
    object_bytes: int
    purged: list[UUID]
    """Images in the catalog that were deleted for good while their objects were copied: they have none here."""
    sums_sha256: str


class ArchiveWriter:
    """Writes members one after the other; keeps nothing of them but a line each, in a file.

    Args:
        write: takes all the bytes it is given, as a file's ``write`` does.
        sums: an empty file for the sums, readable too.
        at: the time that members carry which have none of their own.
    """

    def __init__(self, write: Callable[[bytes], object], sums: BinaryIO, at: datetime) -> None:
        """Write nothing yet."""
        self._write = write
        self._sums = sums
        self._at = at
        self._sums_digest = hashlib.sha256()
        self._sums_bytes = 0

    def add_bytes(self, name: str, data: bytes) -> None:
        """Write a member that is in memory."""
        self.add(name, io.BytesIO(data), len(data), sha256=hashlib.sha256(data).hexdigest())

    def add_file(self, name: str, path: Path) -> None:
        """Write a file."""
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size_bytes = file.tell()
            file.seek(0)
            self.add(name, file, size_bytes, sha256=sha256)

    def add(self, name: str, content: Readable, size_bytes: int, *, sha256: str, at: datetime | None = None) -> None:
        """Write a member of known length and digest. Raise EOFError if the content ends before its length."""
        line = f"{sha256}  {name}\n".encode()
        self._sums.write(line)
        self._sums_digest.update(line)
        self._sums_bytes += len(line)
        self._member(name, content, size_bytes, at or self._at)

    def finish(self, manifest: Callable[[str], Manifest]) -> None:
        """Write the sums, the manifest that is made with their digest, and the end of the tar."""
        self._sums.seek(0)
        self._member(SUMS, self._sums, self._sums_bytes, self._at)
        document = msgspec.json.format(msgspec.json.encode(manifest(self._sums_digest.hexdigest()))) + b"\n"
        self._member(MANIFEST, io.BytesIO(document), len(document), self._at)
        self._write(_END)

    def _member(self, name: str, content: Readable, size_bytes: int, at: datetime) -> None:
        header = tarfile.TarInfo(name)
        header.size, header.mode, header.mtime = size_bytes, 0o600, int(at.timestamp())
        # Not by TarFile: it keeps a record of every member it has written until it is closed.
        self._write(header.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict"))
        left = size_bytes
        while left > 0:
            if not (piece := content.read(min(left, _PIECE_BYTES))):
                raise EOFError(f"{name} ended before its length")
            left -= len(piece)
            self._write(piece)
        self._write(bytes(-size_bytes % tarfile.BLOCKSIZE))


class Member:
    """A member on its way in, to be read once, from start to end. Its name is the archive's word, and never a path."""

    def __init__(self, name: str, size_bytes: int, file: IO[bytes]) -> None:
        """Read nothing yet."""
        self.name = name
        self.size_bytes = size_bytes
        self._file = file
        self._left = size_bytes
        self._expected: str | None = None
        self._digest = hashlib.sha256()

    def expecting(self, size_bytes: int, sha256: str) -> "Member":
        """Return itself; reading the last bytes, or these, now raises BadArchive if they aren't what is expected."""
        self._expected = sha256
        if self.size_bytes != size_bytes:
            raise BadArchive(f"{self.name} has another length than its record says")
        return self

    def read(self, size: int = -1, /) -> bytes:
        """Return at most ``size`` bytes, or all the rest; raise BadArchive if the archive ends before."""
        wanted = self._left if size < 0 else min(size, self._left)
        with _unreadable():
            data = self._file.read(wanted)
        self._digest.update(data)
        self._left -= len(data)
        if self._left == 0 and self._expected not in {None, self._digest.hexdigest()}:
            raise BadArchive(f"{self.name} is not what its record says")
        return data

    def copy_to(self, file: BinaryIO) -> None:
        """Write the rest to a file."""
        while piece := self.read(_PIECE_BYTES):
            file.write(piece)

    def sha256(self) -> str:
        """Read on to the end, and return the digest of everything in hex."""
        while self.read(_PIECE_BYTES):
            pass
        return self._digest.hexdigest()


class ArchiveReader:
    """Gives members one after the other, from a file that need not be seekable, and sums them up meanwhile."""

    def __init__(self, file: BinaryIO) -> None:
        """Begin; raise BadArchive if that is no tar."""
        with _unreadable():
            self._tar = tarfile.open(fileobj=file, mode="r|", bufsize=_READ_AHEAD_BYTES)  # noqa: SIM115 (holds nothing)
        self._sums = hashlib.sha256()
        self._current: Member | None = None

    @property
    def sums_sha256(self) -> str:
        """The digest of the sums of all members that were read, but for the one that was given last."""
        return self._sums.hexdigest()

    def next(self) -> Member:
        """Return the next member; raise BadArchive at the end: there is always one more than was found."""
        if self._current is not None:
            self._sums.update(f"{self._current.sha256()}  {self._current.name}\n".encode())
        with _unreadable():
            header = self._tar.next()
            self._tar.members.clear()  # type: ignore[attr-defined]  # it would remember each, and typeshed forgot them
            file = None if header is None or not header.isreg() else self._tar.extractfile(header)
        if header is None:
            raise BadArchive("it is cut short")
        if file is None:
            raise BadArchive(f"{header.name} is not a file")
        self._current = Member(header.name, header.size, file)
        return self._current

    def required(self, name: str) -> Member:
        """Return the next member, which must have this name."""
        member = self.next()
        if member.name != name:
            raise BadArchive(f"it has {member.name} where {name} should be")
        return member

    def manifest(self) -> Manifest:
        """Read the manifest, which must come next."""
        member = self.required(MANIFEST)
        if member.size_bytes > _MANIFEST_MAX_BYTES:
            raise BadArchive("its manifest is too long to be one")
        try:
            manifest = msgspec.json.decode(member.read(), type=Manifest)
        except msgspec.MsgspecError as error:
            raise BadArchive(f"its manifest can't be read: {error}") from error
        if manifest.format != FORMAT:
            raise BadArchive(f"it is of format {manifest.format}, and this Calotype knows format {FORMAT}")
        return manifest


@contextmanager
def _unreadable() -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, UnicodeError, ValueError) as error:
        raise BadArchive(f"it can't be read: {error}") from error
