"""The way back: an archive into an empty data folder, every byte checked on its way, all of it or nothing."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO, cast
from uuid import UUID

from adapters.filesystem import DeferredSync, Disk, FilesystemObjects, load_secret
from adapters.sqlite import CatalogCopy, Holdings
from application.ports import Clock, StoredObject
from domain.image import Image
from entrypoints.backup.archive import CATALOG, SECRET, SUMS, ArchiveReader, BadArchive, Member
from entrypoints.backup.snapshots import Progress, Summary
from entrypoints.stores import CATALOG_NAME, OBJECTS_NAME, SECRET_NAME

# Inside the folder itself, which may be a mount: only within one file system can things be moved at once.
_STAGING = ".calotype-restore"
_NO_DEADLINE = timedelta(days=365)


class NotEmpty(Exception):
    """The folder to restore into holds something already."""


def restore(source: BinaryIO, folder: Path, *, clock: Clock, progress: Progress) -> Summary:
    """Make a data folder of an archive.

    Args:
        source: the archive, read once from here on.
        folder: made if it is not there; empty otherwise.
        clock: the time.
        progress: told of each object.

    Raises:
        BadArchive: it is cut short, was altered, or is none. The folder is as it was before, also after any other
            failure.
        NotEmpty: the folder holds something, or another restore runs.
        Unavailable: a store fails, or the archive is of a later version.
        Damaged: the archive's catalog or secret is none.
        OSError: the folder can't be written, or the archive can't be read.
    """
    with _staged(folder) as staging:
        return _Unpacking(ArchiveReader(source), staging, clock, progress).run()


class _Unpacking:
    """One archive into one folder."""

    def __init__(self, archive: ArchiveReader, folder: Path, clock: Clock, progress: Progress) -> None:
        self._archive = archive
        self._folder = folder
        self._clock = clock
        self._progress = progress
        self._disk = DeferredSync()  # nobody sees the folder before it is complete
        self._without_object: list[UUID] = []
        self._size_bytes = 0

    def run(self) -> Summary:
        self._save(self._archive.required(CATALOG), CATALOG_NAME)
        self._save(self._archive.required(SECRET), SECRET_NAME)
        objects = FilesystemObjects(
            self._folder / OBJECTS_NAME,
            clock=self._clock,
            public_url="",
            secret=load_secret(self._folder / SECRET_NAME),
            disk=self._disk,
        )
        with CatalogCopy(self._folder / CATALOG_NAME) as catalog:
            holdings = catalog.holdings()
            member = self._archive.next()
            # Both sides are in the order of the ids. The catalog says what may come, and under which name; what the
            # archive calls its members is compared with that, and never becomes a path.
            for image in catalog.originals():
                if member.name != image.key:
                    self._without_object.append(image.image_id)
                    continue
                self._put(objects, image, member)
                self._progress(self._size_bytes, holdings.size_bytes)
                member = self._archive.next()
            self._check_end(member, holdings)
            catalog.drop(self._without_object)
            records, trashed, size_bytes = catalog.holdings()
        self._disk.settle(os.fsencode(self._folder))
        return Summary(
            records=records,
            trashed=trashed,
            objects=records + trashed,
            object_bytes=size_bytes,
            purged=len(self._without_object),
        )

    def _save(self, member: Member, name: str) -> None:
        path = self._folder / name
        with path.open("xb") as file:
            path.chmod(0o600)
            member.copy_to(file)

    def _put(self, objects: FilesystemObjects, image: Image, member: Member) -> None:
        content = cast("BinaryIO", member.expecting(image.size_bytes, image.sha256))
        try:
            objects.put(StoredObject.of(image), content, deadline=self._no_deadline())
        except ValueError as error:
            raise BadArchive(f"its catalog has an object of the name {image.key!r}") from error
        self._size_bytes += image.size_bytes

    def _no_deadline(self) -> datetime:
        return self._clock.now() + _NO_DEADLINE

    def _check_end(self, sums: Member, holdings: Holdings) -> None:
        if sums.name != SUMS:
            raise BadArchive(f"{sums.name} is in it, and its catalog does not know it in this place")
        expected = self._archive.sums_sha256
        if sums.sha256() != expected:
            raise BadArchive(f"its members are not those of its {SUMS}")
        manifest = self._archive.manifest()
        if manifest.sums_sha256 != expected:
            raise BadArchive(f"its {SUMS} is not that of its manifest")
        if manifest.purged != self._without_object:
            raise BadArchive("objects are missing from it")
        objects = holdings.records + holdings.trashed - len(self._without_object)
        if (manifest.records, manifest.trashed, manifest.objects, manifest.object_bytes) != (
            holdings.records,
            holdings.trashed,
            objects,
            self._size_bytes,
        ):
            raise BadArchive("its manifest counts other things than are in it")


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """Give a folder to fill, and move what is in it to its place; after a failure everything is as it was."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    staging = folder / _STAGING
    try:
        _take(staging)
        try:
            yield staging
            _move(staging, folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except BaseException:
        for path in made:
            with suppress(OSError):
                path.rmdir()
        raise


def _take(staging: Path) -> None:
    try:
        staging.mkdir(mode=0o700)
    except FileExistsError as error:
        raise NotEmpty(f"{staging} is there: another restore runs, or was killed") from error
    # Only now: of two restores into one empty folder, one has made the staging folder.
    if list(staging.parent.iterdir()) != [staging]:
        staging.rmdir()
        raise NotEmpty(f"{staging.parent} is not empty")


def _move(staging: Path, folder: Path) -> None:
    _sync_folder(staging)
    if list(folder.iterdir()) != [staging]:
        raise NotEmpty(f"{folder} is not empty any more")
    # The catalog last: without it nothing looks like a data folder.
    names = (OBJECTS_NAME, SECRET_NAME, CATALOG_NAME)
    try:
        for name in names:
            (staging / name).rename(folder / name)
    except BaseException:
        for name in names:
            with suppress(FileNotFoundError):
                (folder / name).rename(staging / name)
        raise
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    Disk().sync_folder(os.fsencode(folder))
