"""ObjectAudit on files: everything below the root, and a quarantine beside the slots.

    objects/quarantine/{day}/3/f/images/{image_id}/{filename}

A copy in quarantine is a second name of the same file, where the file system has hard links: it takes no room as long
as the original is there, and keeps the time of its last change. `mv` back to the same path restores it.
"""
# ruff: noqa: PTH116, PTH120
# (pathlib knows no bytes paths)

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime
from itertools import count
from pathlib import Path

from adapters.filesystem.disk import NO_HARD_LINKS, Disk, opened
from adapters.filesystem.failures import store_failures
from adapters.filesystem.layout import IMAGES, PARTIAL, ImagePlace
from application.ports import Clock, FoundObject, Quarantined
from domain.errors import Unavailable
from domain.image import OBJECT_ROOT, image_id_of
from domain.values import ImageId

QUARANTINE = b"quarantine"

_PIECE_BYTES = 256 * 1024
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_DAY_FOLDER = re.compile(rb"(\d{4}-\d\d-\d\d)(?:\.\d+)?")
_OBJECT_DEPTH = 5
_PARTIAL_DEPTH = 4


class FilesystemObjectAudit:
    """ObjectAudit on the folder of a FilesystemObjects.

    A place is a file's path below the root. Names that are no UTF-8 are in it as Python writes them
    (surrogateescape), so that every file there can be found and moved.
    """

    def __init__(self, root: Path, *, clock: Clock, disk: Disk | None = None) -> None:
        """Keep the folder; nothing is made."""
        self._root = os.fsencode(root.absolute())
        self._clock = clock
        self._disk = disk or Disk()

    def objects(self, *, after: str | None = None) -> Iterator[FoundObject]:
        """See ObjectAudit.objects. Memory grows with the largest folder, a slot: a 256th of all images."""
        behind = [] if after is None else _to_path(after).split(b"/")
        with store_failures():
            for path in _files(self._root, behind, skipped=QUARANTINE):
                if (status := self._status(path)) is not None:
                    yield self._found(path, status)

    @store_failures()
    def is_there(self, found: FoundObject) -> bool:
        """See ObjectAudit.is_there."""
        return self._current(found) is not None

    @store_failures()
    def quarantine(self, found: FoundObject, *, at: datetime) -> Quarantined | None:
        """See ObjectAudit.quarantine."""
        status = self._current(found)
        if status is None:
            return None
        path = _to_path(found.place)
        for folder in self._folders_of(at):
            target = b"%b/%b" % (folder, path)
            try:
                self._copy(self._absolute(path), target)
            except FileExistsError:
                if not os.path.samestat(os.stat(target), status):
                    continue  # of another object under the same name, on the same day
            except FileNotFoundError:
                return None
            self._disk.sync_folder(os.path.dirname(target))
            return Quarantined(found, _identity(status))
        raise AssertionError

    @store_failures()
    def remove(self, quarantined: Quarantined, *, deadline: datetime) -> None:
        """See ObjectAudit.remove."""
        status = self._current(quarantined.found)
        if self._clock.now() >= deadline:
            raise Unavailable("the removal took too long")
        if status is None or _identity(status) != quarantined.original:
            return
        path = self._absolute(_to_path(quarantined.found.place))
        folder = os.path.dirname(path)
        with suppress(FileNotFoundError):
            self._disk.unlink(path)
            self._disk.sync_folder(folder)
        if quarantined.found.key is not None:
            # The image's own folder, if this was all of it. What is not empty stays.
            with suppress(OSError):
                self._disk.rmdir(folder)

    @store_failures()
    def purge(self, *, before: datetime) -> int:
        """See ObjectAudit.purge."""
        removed = 0
        quarantine = self._absolute(QUARANTINE)
        for name, _ in _sorted_entries(quarantine):
            if (day := _day_of(name)) is not None and day < before.astimezone(UTC).date():
                removed += self._remove_tree(b"%b/%b" % (quarantine, name))
        return removed

    def _found(self, path: bytes, status: os.stat_result) -> FoundObject:
        key, image_id = _owner_of(self._root, path)
        return FoundObject(
            place=_to_place(path),
            key=key,
            image_id=image_id,
            size_bytes=status.st_size,
            modified_at=datetime.fromtimestamp(status.st_mtime, UTC),
        )

    def _status(self, path: bytes) -> os.stat_result | None:
        try:
            status = os.stat(self._absolute(path), follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status if stat.S_ISREG(status.st_mode) else None

    def _current(self, found: FoundObject) -> os.stat_result | None:
        path = _to_path(found.place)
        status = self._status(path)
        return status if status is not None and self._found(path, status) == found else None

    def _folders_of(self, at: datetime) -> Iterator[bytes]:
        day = self._absolute(b"%b/%b" % (QUARANTINE, at.astimezone(UTC).date().isoformat().encode()))
        yield day
        yield from (b"%b.%d" % (day, number) for number in count(2))

    def _copy(self, source: bytes, target: bytes) -> None:
        self._disk.make_root(os.path.dirname(target))
        try:
            self._disk.link(source, target)
        except OSError as error:
            if error.errno not in NO_HARD_LINKS:
                raise
            self._copy_bytes(source, target)

    def _copy_bytes(self, source: bytes, target: bytes) -> None:
        temporary = b"%b.tmp" % os.path.dirname(target)
        with suppress(FileNotFoundError):
            self._disk.unlink(temporary)  # of a repair that died
        with opened(source, _FILE_FLAGS) as reading, self._disk.temporary(temporary) as writing:
            while piece := os.read(reading, _PIECE_BYTES):
                self._disk.write_all(writing, piece)
            self._disk.sync(writing)
            self._disk.publish(temporary, target)

    def _remove_tree(self, folder: bytes) -> int:
        removed = 0
        for path, folders, names in os.walk(folder, topdown=False):
            for name in names:
                self._disk.unlink(b"%b/%b" % (path, name))
            for name in folders:
                self._disk.rmdir(b"%b/%b" % (path, name))
            removed += len(names)
        self._disk.rmdir(folder)
        return removed

    def _absolute(self, path: bytes) -> bytes:
        return b"%b/%b" % (self._root, path)


def _files(root: bytes, behind: list[bytes], *, skipped: bytes = b"", above: bytes = b"") -> Iterator[bytes]:
    """Walk the paths below the root of all that is no folder, sorted name by name, behind a path given in its names."""
    first, *rest = behind or [b""]
    for name, is_folder in _sorted_entries(root + b"/" + above):
        if name < first or name == skipped:
            continue
        path = above + name
        if is_folder:
            yield from _files(root, rest if name == first else [], above=path + b"/")
        elif name != first or rest:
            yield path


def _sorted_entries(folder: bytes) -> list[tuple[bytes, bool]]:
    """Return what is in a folder, each with whether it is one itself; what a link leads to is none."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return []  # removed since its name was read, or a file by now


def _owner_of(root: bytes, path: bytes) -> tuple[str | None, ImageId | None]:
    """Return the key that leads to a path, and the image it is of; None and None for where no put writes."""
    parts = path.split(b"/")
    if len(parts) == _OBJECT_DEPTH and parts[2] == IMAGES:
        key = _key(parts[3], parts[4])
        image_id = None if key is None else image_id_of(key)
        if image_id is not None and _absolute_folder(root, image_id) == os.path.dirname(root + b"/" + path):
            return key, image_id
    if len(parts) == _PARTIAL_DEPTH and parts[2] == PARTIAL:
        image_id = image_id_of(f"{OBJECT_ROOT}{parts[3].partition(b'.')[0].decode(errors='replace')}/-")
        return None, image_id
    return None, None


def _key(image_id: bytes, filename: bytes) -> str | None:
    try:
        return f"{OBJECT_ROOT}{image_id.decode()}/{filename.decode()}"
    except UnicodeDecodeError:
        return None  # such a name was never an object's


def _absolute_folder(root: bytes, image_id: ImageId) -> bytes:
    return ImagePlace.of(root, str(image_id)).folder


def _identity(status: os.stat_result) -> str:
    return f"{status.st_dev}:{status.st_ino}"


def _day_of(name: bytes) -> date | None:
    match = _DAY_FOLDER.fullmatch(name)
    try:
        return None if match is None else date.fromisoformat(match[1].decode())
    except ValueError:
        return None


def _to_place(path: bytes) -> str:
    return path.decode(errors="surrogateescape")


def _to_path(place: str) -> bytes:
    return place.encode(errors="surrogateescape")
