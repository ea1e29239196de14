"""A disk that is as bad as POSIX allows."""

import os
import shutil
from collections import defaultdict
from itertools import chain
from pathlib import Path

from adapters.filesystem.disk import Disk


def files_below(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if not path.is_dir()]


class Cut(Exception):
    """The process died here: nothing after it happens, no cleaning up either."""


class FragileDisk(Disk):
    """Loses, at a power cut, every change that was not synced.

    Data belongs to a file and names belong to their folder; to sync one is not to sync the other. ``left`` is how
    many operations happen before the process dies; None is all.
    """

    def __init__(self, folder: Path) -> None:
        self.left: int | None = None
        self.operations = 0
        self._folder = folder
        self._graves = folder / "graves"
        self._graves.mkdir()
        self._paths: dict[int, Path] = {}
        self._unsynced_data: set[int] = set()
        self._added: defaultdict[int, list[Path]] = defaultdict(list)
        self._removed: defaultdict[int, list[tuple[Path, Path | None]]] = defaultdict(list)

    def create(self, path: bytes) -> int:
        self._step()
        descriptor = super().create(path)
        self._add(Path(os.fsdecode(path)))
        return descriptor

    def write(self, descriptor: int, data: memoryview) -> int:
        self._step()
        self._unsynced_data.add(os.fstat(descriptor).st_ino)
        return super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        self._step()
        inode = os.fstat(descriptor).st_ino
        self._unsynced_data.discard(inode)
        self._added.pop(inode, None)
        self._removed.pop(inode, None)

    def link(self, source: bytes, target: bytes) -> None:
        self._step()
        super().link(source, target)
        self._add(Path(os.fsdecode(target)))

    def mkdir(self, path: bytes) -> None:
        self._step()
        super().mkdir(path)
        folder = Path(os.fsdecode(path))
        self._add(folder)
        self._paths[folder.stat().st_ino] = folder

    def unlink(self, path: bytes | str, *, dir_fd: int | None = None) -> None:
        self._step()
        name = Path(os.fsdecode(path))
        if dir_fd is not None:
            name = self._paths[os.fstat(dir_fd).st_ino] / name
        grave = self._graves / str(self.operations)
        grave.hardlink_to(name)
        super().unlink(path, dir_fd=dir_fd)
        self._removed[name.parent.stat().st_ino].append((name, grave))

    def rmdir(self, path: bytes) -> None:
        self._step()
        super().rmdir(path)
        name = Path(os.fsdecode(path))
        self._removed[name.parent.stat().st_ino].append((name, None))

    def lose_power(self) -> None:
        removed = list(chain.from_iterable(self._removed.values()))
        for path in (path for path, grave in removed if grave is None):
            path.mkdir()
        for path, grave in removed:
            if grave is not None and path.parent.exists():
                path.hardlink_to(grave)
        for path in chain.from_iterable(self._added.values()):
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
        for path in files_below(self._folder):
            if path.stat().st_ino in self._unsynced_data:
                os.truncate(path, 0)

    def _step(self) -> None:
        if self.left == 0:
            raise Cut
        self.operations += 1
        if self.left is not None:
            self.left -= 1

    def _add(self, path: Path) -> None:
        self._added[path.parent.stat().st_ino].append(path)
