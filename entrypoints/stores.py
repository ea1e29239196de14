"""Which stores stand behind the ports: SQLite and files, or DynamoDB and S3. Nothing else knows which it is."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from application.ports import Clock, MetadataReader, MetadataStore, ObjectStore, SignedObjects
from domain.errors import Unavailable
from entrypoints.settings import Settings

CATALOG_NAME, OBJECTS_NAME, SECRET_NAME = "catalog.sqlite3", "objects", "secret"
"""What a data folder holds."""


class Records(MetadataStore, MetadataReader, Protocol):
    """Both sides of the records in one adapter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stores:
    """The two stores, and what the edge has to know of them."""

    metadata: Records
    objects: ObjectStore
    signed_objects: SignedObjects | None
    """Set when presigned URLs point at this service."""
    reads_inline: bool
    """Whether a read takes less time than handing it to a thread."""
    spool_dir: Path | None
    """Where uploads are spooled; None for the system's folder for temporary files."""
    close: Callable[[], None]


def open_stores(settings: Settings, clock: Clock) -> Stores:
    """Open the stores that the settings name.

    Raises:
        Unavailable: they can't be opened.
    """
    if settings.storage == "aws":
        # An SDK takes a third of a second to import: only where it is used.
        from entrypoints.aws import aws_stores  # noqa: PLC0415

        return aws_stores(settings, clock)
    return embedded_stores(settings, clock)


def embedded_stores(settings: Settings, clock: Clock) -> Stores:
    """Open SQLite and files in the data folder; make it if need be."""
    from adapters.filesystem import Disk, FilesystemObjects, load_secret  # noqa: PLC0415 (as above)
    from adapters.sqlite import SqliteMetadata  # noqa: PLC0415

    folder = settings.data_path
    try:
        Disk().make_root(os.fsencode(folder))
        folder.mkdir(exist_ok=True)  # refuses what is no folder
    except OSError as error:
        raise Unavailable(f"the data folder {folder} can't be used: {error.strerror}") from error
    objects = FilesystemObjects(
        folder / OBJECTS_NAME,
        clock=clock,
        public_url=settings.base_url,
        secret=load_secret(folder / SECRET_NAME),
        window_s=settings.presign_window_s,
        hot_bytes=settings.hot_files_bytes,
    )
    metadata = SqliteMetadata(folder / CATALOG_NAME)
    return Stores(
        metadata=metadata,
        objects=objects,
        signed_objects=objects,
        reads_inline=True,
        spool_dir=folder,
        close=metadata.close,
    )
