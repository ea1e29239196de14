"""Make a library of any size, fast, through the real adapters: `python -m bench.seed FOLDER COUNT`, or on AWS.

Every record is reserved and committed, every object is put, as an upload would. All objects hold the same small
picture, each in a file of its own: a million photos of 200 KB would be 200 GB.

In a data folder, what is left out is waiting for the disk. The catalog is written in memory (/dev/shm), where a sync
costs nothing, and copied; the objects' folder is synced as a whole at the end, as `calotype restore` does it.

`python -m bench.seed aws COUNT` fills the bucket and the tables that the environment names, as `calotype` finds them
(AWS_ENDPOINT_URL, CALOTYPE_BUCKET, CALOTYPE_TABLE_PREFIX); `calotype bootstrap` makes them.
"""

import argparse
import hashlib
import io
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from uuid import UUID

import calotype
from adapters.filesystem import DeferredSync, FilesystemObjects, load_secret
from adapters.sqlite import SqliteMetadata
from adapters.system import SystemClock
from application.ports import StoredObject
from bench.library import DESCRIPTION, READER, Photo, photo, small_picture
from domain.image import object_prefix
from domain.reclaim import Reservation
from entrypoints.settings import load_settings
from entrypoints.stores import Stores, open_stores

_MEMORY = Path("/dev/shm")  # noqa: S108 (a folder of our own is made in it)
_HOLDER = UUID(int=1)
_OWNER = calotype.UserId(READER)
_PICTURE = small_picture()
_SHA256 = hashlib.sha256(_PICTURE).hexdigest()
_FILENAME, _DESCRIPTION = calotype.Filename("photo.png"), calotype.Description(DESCRIPTION)
_THREADS = 4
_parse_tags = cache(calotype.parse_tags)


def seed(data_dir: Path, size: int) -> None:
    """Fill a data folder with so many pictures of one owner."""
    data_dir.mkdir(parents=True, exist_ok=True)
    # Two processes: one is busy with SQLite, the other with the file system.
    putting = get_context("fork").Process(target=_put_objects, args=(data_dir, size))
    putting.start()
    _commit_records(data_dir, size)
    putting.join()
    if putting.exitcode != 0:
        raise RuntimeError("the objects could not be put")


def seed_aws(size: int) -> None:
    """Fill the bucket and the tables that the environment names with so many pictures of one owner.

    Raises:
        Unavailable: they can't be used.
        Conflict: some of the pictures are there.
    """
    stores = open_stores(load_settings(storage="aws"), SystemClock())
    try:
        with ThreadPoolExecutor(_THREADS) as pool:
            for _ in pool.map(partial(_upload, stores), range(size)):
                pass
    finally:
        stores.close()


def image(each: Photo) -> calotype.Image:
    """Return the record of a picture. The same number has the same id everywhere."""
    return calotype.Image(
        image_id=image_id(each.number),
        owner=_OWNER,
        filename=_FILENAME,
        title=calotype.Title(each.title),
        description=_DESCRIPTION,
        tags=_parse_tags(each.tags),
        media_type=calotype.MediaType.PNG,
        size_bytes=len(_PICTURE),
        width=8,
        height=8,
        sha256=_SHA256,
        created_at=each.created_at,
        updated_at=each.created_at,
    )


def image_id(number: int) -> UUID:
    """Return ids in no order, as random ones are in none."""
    return UUID(bytes=hashlib.md5(b"%d" % number, usedforsecurity=False).digest(), version=4)


def _commit_records(data_dir: Path, size: int) -> None:
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as memory:
        catalog = Path(memory, "catalog.sqlite3")
        with SqliteMetadata(catalog) as store:
            for record in map(image, map(photo, range(size))):
                store.reserve(_reservation(record), at=record.created_at)
                store.commit(record, holder=_HOLDER)
        # Closed, so its write-ahead log is part of it.
        with catalog.open("rb") as source, (data_dir / catalog.name).open("xb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())


def _put_objects(data_dir: Path, size: int) -> None:
    root, disk = data_dir / "objects", DeferredSync()
    load_secret(data_dir / "secret", disk=disk)
    store = FilesystemObjects(root, clock=SystemClock(), public_url="http://localhost", secret=bytes(32), disk=disk)
    deadline = datetime.now(UTC) + timedelta(days=1)
    for number in range(size):
        store.put(_original(image_id(number)), io.BytesIO(_PICTURE), deadline=deadline)
    os.sync()


def _upload(stores: Stores, number: int) -> None:
    record = image(photo(number))
    stores.metadata.reserve(_reservation(record), at=record.created_at)
    deadline = datetime.now(UTC) + timedelta(minutes=1)
    stores.objects.put(_original(record.image_id), io.BytesIO(_PICTURE), deadline=deadline)
    stores.metadata.commit(record, holder=_HOLDER)


def _reservation(record: calotype.Image) -> Reservation:
    at = record.created_at
    return Reservation(
        image_id=record.image_id,
        owner=record.owner,
        holder=_HOLDER,
        lease_until=at,
        due=at,
        size_bytes=record.size_bytes,
    )


def _original(identity: UUID) -> StoredObject:
    return StoredObject(
        key=f"{object_prefix(identity)}{_FILENAME}",
        size_bytes=len(_PICTURE),
        sha256=_SHA256,
        media_type=calotype.MediaType.PNG,
        owner=_OWNER,
        image_id=identity,
    )


def main() -> None:
    """Seed what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("place", metavar="FOLDER", help="a data folder, or aws")
    parser.add_argument("count", type=int, metavar="COUNT")
    arguments = parser.parse_args()
    begun = time.perf_counter()
    if arguments.place == "aws":
        seed_aws(arguments.count)
    else:
        seed(Path(arguments.place), arguments.count)
    print(f"{arguments.count:,} images in {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
