"""A snapshot: the catalog as it is at one moment, and behind it the objects of all its records.

Objects never change, so copying them later than the catalog takes nothing from the archive, but for one case: an
image that is deleted for good and swept in between. Sweepers are not made to wait for that; a snapshot may take
hours, and what its owner wants gone should go. The manifest names such images instead, and restoring leaves them
out. Any other object that can't be read is damage, and fails the snapshot.
"""

import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import msgspec

from adapters.filesystem import FilesystemObjects, load_secret
from adapters.sqlite import CatalogCopy, SqliteMetadata
from application.ports import Clock
from domain.errors import Damaged, NotFound, Unavailable
from domain.image import Image
from entrypoints.backup.archive import CATALOG, FORMAT, SECRET, ArchiveWriter, Manifest
from entrypoints.stores import CATALOG_NAME, OBJECTS_NAME, SECRET_NAME

Progress = Callable[[int, int], object]
"""Told how many of how many bytes of objects are through."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What an archive holds."""

    records: int
    trashed: int
    objects: int
    object_bytes: int
    purged: int
    """How many of the records, trashed or not, have no object because they were deleted for good meanwhile."""


def snapshot(
    folder: Path, write: Callable[[bytes], object], *, clock: Clock, scratch: Path | None, progress: Progress
) -> Summary:
    """Write an archive of a data folder, which a service may go on using.

    Args:
        folder: the data folder.
        write: takes the archive's bytes, all that it is given.
        clock: the time.
        scratch: where a copy of the catalog may lie meanwhile; None for the system's folder for temporary files.
        progress: told of each object.

    Raises:
        Unavailable: there is no catalog, or a store fails.
        Damaged: an object is missing, or is not what was stored.
        OSError: the archive or the copy can't be written.
    """
    if not (folder / CATALOG_NAME).is_file():
        raise Unavailable(f"{folder} is no data folder: it has no {CATALOG_NAME}")
    secret = load_secret(folder / SECRET_NAME)
    objects = FilesystemObjects(folder / OBJECTS_NAME, clock=clock, public_url="", secret=secret)
    with (
        SqliteMetadata(folder / CATALOG_NAME) as metadata,
        tempfile.TemporaryDirectory(prefix=".calotype-snapshot-", dir=scratch) as temporary,
        (Path(temporary) / "sums").open("w+b") as sums,
    ):
        at, copy = clock.now(), Path(temporary) / CATALOG
        metadata.backup_to(copy)
        archive = ArchiveWriter(write, sums, at)
        with CatalogCopy(copy) as catalog:
            catalog.prune(at)
            holdings = catalog.holdings()
            archive.add_file(CATALOG, copy)
            archive.add_bytes(SECRET, secret)
            copied = _Copied(archive, objects, metadata)
            for image in catalog.originals():
                copied.add(image)
                progress(copied.size_bytes, holdings.size_bytes)
        archive.finish(
            lambda sums_sha256: Manifest(
                format=FORMAT,
                created_at=at,
                records=holdings.records,
                trashed=holdings.trashed,
                objects=copied.objects,
                object_bytes=copied.size_bytes,
                purged=copied.purged,
                sums_sha256=sums_sha256,
            )
        )
    return Summary(
        records=holdings.records,
        trashed=holdings.trashed,
        objects=copied.objects,
        object_bytes=copied.size_bytes,
        purged=len(copied.purged),
    )


@dataclass(slots=True)
class _Copied:
    """The objects in the archive so far."""

    archive: ArchiveWriter
    store: FilesystemObjects
    live: SqliteMetadata
    objects: int = 0
    size_bytes: int = 0
    purged: list[UUID] = field(default_factory=list)

    def add(self, image: Image) -> None:
        """Copy an original, or note that it was purged."""
        try:
            body = self.store.open(image.key, sha256=image.sha256)
        except (NotFound, Damaged) as error:
            # Asked only now: the sweeper first claims the entry, then deletes. So an object that it took belongs to
            # nothing in the live catalog any more, whatever has come under its id since.
            if self.live.holds(image):
                raise Damaged(
                    f"the object of image {image.image_id} of {image.owner} is missing or is not what was stored"
                ) from error
            self.purged.append(image.image_id)
            return
        with closing(body):
            self.archive.add(image.key, body, image.size_bytes, sha256=image.sha256, at=image.created_at)
        self.objects += 1
        self.size_bytes += image.size_bytes
