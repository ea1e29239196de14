"""What is special to objects in files: durability, crashes, full disks, strange names, and the signing secret."""

import errno
import hashlib
import io
import os
import shutil
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from threading import Barrier
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

from adapters.filesystem import FilesystemObjects, load_secret
from adapters.filesystem.contents import KnownContents
from adapters.filesystem.disk import Disk
from adapters.filesystem.layout import place_of_key
from adapters.memory import FixedClock
from application.ports import ByteRange, Disposition, ObjectBody, Permit, SignedUrl, StoredObject
from domain.errors import Conflict, Damaged, NotFound, Unavailable
from domain.image import Image, object_prefix
from domain.values import Description, Filename, ImageId, MediaType, Title, UserId
from tests.integration.fragile_disk import Cut, FragileDisk, files_below
from tests.waiting import wait_until

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 4
PIECES = b"\xff\xd8\xff\xe0" + b"several pieces of a stream, and a rest; " * 20_000
CLOCK = FixedClock()
LATER = CLOCK.now() + timedelta(seconds=60)


class Unsynced(Disk):
    """Doesn't wait for the disk: only FragileDisk, which waits for none, and a few tests are about durability."""

    def sync(self, descriptor: int) -> None:
        pass


UNSYNCED = Unsynced()


def store(root: Path, disk: Disk = UNSYNCED, clock: FixedClock = CLOCK) -> FilesystemObjects:
    return FilesystemObjects(root, clock=clock, public_url="http://localhost:8000", secret=b"s" * 32, disk=disk)


def promised(data: bytes = JPEG, *, image_id: ImageId | None = None, filename: str = "photo.jpg") -> StoredObject:
    image_id = image_id or uuid.uuid4()
    return StoredObject(
        key=object_prefix(image_id) + filename,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        media_type=MediaType.JPEG,
        owner=UserId("ada"),
        image_id=image_id,
    )


def put(objects: FilesystemObjects, target: StoredObject, data: bytes = JPEG) -> None:
    objects.put(target, io.BytesIO(data), deadline=LATER)


def read(objects: FilesystemObjects, target: StoredObject) -> bytes:
    with closing(objects.open(target.key)) as body:
        return body.read()


def delete(objects: FilesystemObjects, target: StoredObject) -> None:
    objects.delete_prefix(object_prefix(target.image_id), deadline=LATER)


def path_of(root: Path, target: StoredObject) -> Path:
    return Path(os.fsdecode(place_of_key(os.fsencode(root), target.key).path))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "objects"


# ---- a disk that is as bad as POSIX allows


def dying_disks(tmp_path: Path, call: Callable[[FilesystemObjects], None]) -> list[tuple[Path, FragileDisk, bool]]:
    """Make the call on stores of their own, each dying one operation later; return root, disk and whether it ended."""
    runs = []
    for left in count():
        folder = tmp_path / str(left)
        folder.mkdir()
        disk = FragileDisk(folder)
        objects = store(folder / "objects", disk)
        disk.left = left
        ended = False
        with suppress(Cut):
            call(objects)
            ended = True
        runs.append((folder / "objects", disk, ended))
        if ended and disk.left:
            return runs
    raise AssertionError


def test_a_power_cut_during_put_leaves_the_object_whole_or_absent(tmp_path: Path) -> None:
    target = promised(PIECES)
    runs = dying_disks(tmp_path, lambda objects: put(objects, target, PIECES))
    assert len(runs) > 15
    for root, disk, acknowledged in runs:
        disk.lose_power()
        objects = store(root)
        present = [info.key for info in objects.list_prefix()]
        assert present == [target.key] if acknowledged else present in ([], [target.key])
        if present:
            assert read(objects, target) == PIECES
        put(objects, target, PIECES)
        assert read(objects, target) == PIECES
        delete(objects, target)
        assert files_below(root) == []


@pytest.mark.parametrize("same_image", [True, False])
def test_what_another_process_left_unsynced_does_not_cost_an_acknowledged_object(
    tmp_path: Path, *, same_image: bool
) -> None:
    first = promised()
    second = first if same_image else promised(filename="other.jpg", image_id=first.image_id)
    for root, disk, _ in dying_disks(tmp_path, lambda objects: put(objects, first)):
        disk.left = None
        put(store(root, disk), second)
        disk.lose_power()
        assert read(store(root), second) == JPEG


def test_a_power_cut_during_a_deletion_leaves_the_object_whole_or_absent(tmp_path: Path) -> None:
    target = promised()

    def put_then_delete(objects: FilesystemObjects) -> None:
        put(objects, target)
        delete(objects, target)

    for root, disk, acknowledged in dying_disks(tmp_path, put_then_delete):
        disk.lose_power()
        if acknowledged:
            assert files_below(root) == []
        for info in store(root).list_prefix():
            assert (info.key, read(store(root), target)) == (target.key, JPEG)


def test_a_repeated_deletion_makes_durable_what_an_earlier_one_removed(tmp_path: Path) -> None:
    target = promised()

    def put_then_delete(objects: FilesystemObjects) -> None:
        put(objects, target)
        delete(objects, target)

    for root, disk, _ in dying_disks(tmp_path, put_then_delete):
        disk.left = None
        delete(store(root, disk), target)
        disk.lose_power()
        assert files_below(root) == []


def test_to_sync_is_to_ask_the_kernel() -> None:
    # A pipe is the one thing that can be opened everywhere and that fsync refuses.
    for descriptor in os.pipe():
        with pytest.raises(OSError, match="Invalid argument"):
            Disk().sync(descriptor)
        os.close(descriptor)


def test_a_real_disk_stores_and_deletes(root: Path) -> None:
    objects, target = store(root, Disk()), promised(PIECES)
    put(objects, target, PIECES)
    put(objects, target, PIECES)
    assert read(objects, target) == PIECES
    delete(objects, target)
    assert files_below(root) == []


def test_an_unpublished_file_does_not_come_back_after_its_deletion(tmp_path: Path, root: Path) -> None:
    disk, target = FragileDisk(tmp_path), promised()
    put(store(root, disk), target)
    slot = path_of(root, target).parents[2]
    (slot / "partial" / f"{target.image_id}.1").touch()
    disk.sync_folder(os.fsencode(slot))  # what nobody waits for may become durable all the same
    delete(store(root, disk), target)
    disk.lose_power()
    assert files_below(root) == []


def test_a_deletion_spares_the_unpublished_files_of_other_images(root: Path) -> None:
    target = promised()
    put(store(root), target)
    other = path_of(root, target).parents[2] / "partial" / f"{uuid.uuid4()}.1"
    other.touch()
    delete(store(root), target)
    assert files_below(root) == [other]


def test_a_process_killed_during_put_leaves_nothing_but_what_a_deletion_removes(root: Path) -> None:
    target = promised(PIECES)
    code = f"""
import sys, time
from datetime import UTC, datetime, timedelta
sys.path.insert(0, "."); from tests.integration.test_filesystem import *
class Endless(io.BytesIO):
    def read(self, size=-1):
        if self.tell() > 300_000:
            print("half", flush=True)
            time.sleep(60)
        return super().read(size)
target = promised(PIECES, image_id=uuid.UUID("{target.image_id}"))
store(Path({str(root)!r})).put(target, Endless(PIECES), deadline=LATER)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        process.kill()
    left = files_below(root)
    assert [path.parent.name for path in left] == ["partial"]
    assert left[0].stat().st_size > 0
    objects = store(root)
    assert list(objects.list_prefix()) == []
    delete(objects, promised())
    assert files_below(root) == left
    delete(objects, target)
    assert files_below(root) == []


def test_a_put_removes_what_dead_attempts_at_the_same_upload_left(root: Path) -> None:
    target, other = promised(), f"{uuid.uuid4()}.1"
    put(store(root), target)
    partials = path_of(root, target).parents[2] / "partial"
    # The first died in the middle, the second between publishing and removing its own name.
    (partials / f"{target.image_id}.1").write_bytes(JPEG[:99])
    (partials / f"{target.image_id}.2").hardlink_to(path_of(root, target))
    (partials / other).touch()
    put(store(root), target)
    assert {path.name for path in files_below(root)} == {"photo.jpg", other}
    assert read(store(root), target) == JPEG


def test_the_rests_of_dead_attempts_stay_away_after_a_power_cut(tmp_path: Path, root: Path) -> None:
    disk, target = FragileDisk(tmp_path), promised()
    put(store(root, disk), target)
    partials = path_of(root, target).parents[2] / "partial"
    (partials / f"{target.image_id}.1").touch()
    disk.sync_folder(os.fsencode(partials))
    put(store(root, disk), target)
    disk.lose_power()
    assert files_below(root) == [path_of(root, target)]


# ---- processes that sleep at the worst moment


class SleepyDisk(Unsynced):
    """Before one operation, lets others act."""

    def __init__(self, before: str, meanwhile: Callable[[], None], *, has_links: bool = True) -> None:
        self._before = before
        self._meanwhile = meanwhile
        self._has_links = has_links

    def _wake(self, operation: str) -> None:
        if operation == self._before:
            self._before = ""
            self._meanwhile()

    def link(self, source: bytes, target: bytes) -> None:
        if not self._has_links:
            raise OSError(errno.EOPNOTSUPP, "no hard links")
        self._wake("link")
        super().link(source, target)

    def rename(self, source: bytes, target: bytes) -> None:
        self._wake("rename")
        super().rename(source, target)

    def unlink(self, path: bytes | str, *, dir_fd: int | None = None) -> None:
        self._wake("unlink")
        super().unlink(path, dir_fd=dir_fd)

    def rmdir(self, path: bytes) -> None:
        self._wake("rmdir")
        super().rmdir(path)


@pytest.mark.parametrize(("before", "has_links"), [("link", True), ("rename", False)])
def test_a_put_that_slept_while_its_image_was_collected_publishes_nothing(
    root: Path, before: str, *, has_links: bool
) -> None:
    target = promised()
    disk = SleepyDisk(before, lambda: delete(store(root), target), has_links=has_links)
    with pytest.raises(Unavailable):
        put(store(root, disk), target)
    assert files_below(root) == []


@pytest.mark.parametrize(("before", "has_links"), [("link", True), ("rename", False)])
@pytest.mark.parametrize("data", [JPEG, PIECES], ids=["the same", "another"])
def test_a_put_whose_file_another_put_took_for_the_rest_of_a_dead_one_ends_as_if_it_came_later(
    root: Path, before: str, data: bytes, *, has_links: bool
) -> None:
    target = promised()
    faster = promised(data, image_id=target.image_id)
    disk = SleepyDisk(before, lambda: put(store(root), faster, data), has_links=has_links)
    with suppress(Conflict) if data == JPEG else pytest.raises(Conflict):
        put(store(root, disk), target)
    assert read(store(root), target) == data
    assert files_below(root) == [path_of(root, target)]


def test_without_hard_links_a_put_waits_for_the_one_that_publishes(root: Path) -> None:
    first = promised(JPEG)
    second = promised(PIECES, image_id=first.image_id)
    with ThreadPoolExecutor(1) as pool:
        late: list[Future[None]] = []

        def another_puts() -> None:
            disk = SleepyDisk("", lambda: None, has_links=False)
            late.append(pool.submit(put, store(root, disk), second, PIECES))
            wait(late, timeout=0.2)

        put(store(root, SleepyDisk("rename", another_puts, has_links=False)), first)
        assert isinstance(late[0].exception(), Conflict)
    assert read(store(root), first) == JPEG


def test_what_a_put_publishes_during_a_deletion_is_deleted_as_well(root: Path) -> None:
    target = promised()
    put(store(root), promised(image_id=target.image_id, filename="other.jpg"))
    path = path_of(root, target)
    partial = path.parents[2] / "partial" / f"{target.image_id}.1"
    partial.touch()
    objects = store(root, SleepyDisk("unlink", lambda: path.hardlink_to(partial)))
    delete(objects, target)
    assert files_below(root) == []


@pytest.mark.parametrize("before", ["unlink", "rmdir"])
def test_a_deletion_that_slept_does_not_touch_a_later_upload(root: Path, before: str) -> None:
    target = promised()
    put(store(root), target)

    def others_collect_and_upload_again() -> None:
        delete(store(root), target)
        put(store(root), target)

    with pytest.raises(Unavailable):
        delete(store(root, SleepyDisk(before, others_collect_and_upload_again)), target)
    assert read(store(root), target) == JPEG


def test_what_was_interrupted_is_removed_also_where_the_power_took_its_folder(root: Path) -> None:
    target, other = promised(), promised()
    put(store(root), target)
    (slot,) = {path.parents[2] for path in files_below(root)}
    delete(store(root), target)
    left = [slot / "partial" / f"{each.image_id}.0" for each in (target, other)]
    for path in left:
        path.write_bytes(JPEG[:9])
    put(store(root), target)
    assert set(files_below(root)) == {slot / "images" / str(target.image_id) / "photo.jpg", left[1]}


@pytest.mark.parametrize(("before", "has_links"), [("link", True), ("rename", False)])
def test_an_upload_whose_empty_folder_a_late_deletion_took_makes_it_again(
    root: Path, before: str, *, has_links: bool
) -> None:
    target = promised()

    def take_the_folder() -> None:
        (folder,) = root.glob(f"?/?/images/{target.image_id}")
        folder.rmdir()

    disk = SleepyDisk(before, take_the_folder, has_links=has_links)
    put(store(root, disk), target)
    assert read(store(root), target) == JPEG
    assert len(files_below(root)) == 1


def test_a_slot_that_somebody_removed_is_made_anew(root: Path) -> None:
    objects, target = store(root), promised()
    put(objects, target)
    for removed in ("partial", "images", "."):
        (slot,) = {path.parents[2] for path in files_below(root)}
        shutil.rmtree(slot / removed)
        with pytest.raises(Unavailable):
            put(objects, target)
        put(objects, target)
        assert read(objects, target) == JPEG


def test_a_put_that_begins_too_late_leaves_not_even_a_folder(root: Path) -> None:
    late = FixedClock()
    late.advance(timedelta(seconds=60))
    with pytest.raises(Unavailable):
        put(store(root, clock=late), promised())
    assert list(root.iterdir()) == []


def test_a_deletion_stops_at_its_deadline(root: Path) -> None:
    clock, image_id = FixedClock(), uuid.uuid4()
    for number in range(3):
        put(store(root), promised(image_id=image_id, filename=f"{number}.jpg"))
    disk = SleepyDisk("unlink", lambda: clock.advance(timedelta(seconds=60)))
    with pytest.raises(Unavailable):
        store(root, disk, clock).delete_prefix(object_prefix(image_id), deadline=LATER)
    assert len(files_below(root)) == 2


# ---- disks that refuse


class FailingDisk(Unsynced):
    """Refuses one kind of operation."""

    def __init__(self, operation: str, code: int) -> None:
        self.refused = ""
        self._operation = operation
        self._code = code

    def refuse(self) -> None:
        self.refused = self._operation

    def _check(self, operation: str) -> None:
        if operation == self.refused:
            raise OSError(self._code, os.strerror(self._code))

    def create(self, path: bytes) -> int:
        self._check("create")
        return super().create(path)

    def write(self, descriptor: int, data: memoryview) -> int:
        self._check("write")
        return super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        self._check("sync")
        super().sync(descriptor)

    def link(self, source: bytes, target: bytes) -> None:
        self._check("link")
        super().link(source, target)

    def mkdir(self, path: bytes) -> None:
        self._check("mkdir")
        super().mkdir(path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EIO, errno.EDQUOT, errno.EMFILE])
@pytest.mark.parametrize("operation", ["create", "write", "sync", "link", "mkdir"])
def test_a_disk_that_refuses_makes_put_unavailable_and_leaves_nothing(root: Path, operation: str, code: int) -> None:
    disk, target = FailingDisk(operation, code), promised()
    objects = store(root, disk)
    disk.refuse()
    with pytest.raises(Unavailable) as failure:
        put(objects, target)
    assert isinstance(failure.value.__cause__, OSError)
    assert failure.value.__cause__.errno == code
    assert str(root) not in str(failure.value)
    assert files_below(root) == []
    disk.refused = ""
    put(objects, target)
    assert read(objects, target) == JPEG


def test_short_writes_are_carried_on(root: Path) -> None:
    class Stingy(Unsynced):
        def write(self, descriptor: int, data: memoryview) -> int:
            return super().write(descriptor, data[:999])

    target = promised(PIECES)
    put(store(root, Stingy()), target, PIECES)
    assert read(store(root), target) == PIECES


def test_a_file_size_limit_of_the_system_makes_put_unavailable(root: Path) -> None:
    # The kernel takes a part of the write that passes the limit, and refuses the rest: a full disk, for real.
    code = f"""
import resource, sys
sys.path.insert(0, "."); from tests.integration.test_filesystem import *
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
try:
    put(store(Path({str(root)!r})), promised(PIECES), PIECES)
except Unavailable as failure:
    print(errno.errorcode[failure.__cause__.errno])
"""
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"EFBIG\n"
    assert files_below(root) == []


# ---- names


def test_an_object_is_where_the_layout_says(root: Path) -> None:
    target = promised(image_id=uuid.UUID("12345678-1234-4234-8234-123456789abc"))
    put(store(root), target)
    levels = hashlib.sha256(b"images/12345678-1234-4234-8234-123456789abc").hexdigest()
    assert files_below(root) == [root / levels[0] / levels[1] / target.key]


def test_files_are_their_owners_alone(root: Path) -> None:
    old = os.umask(0)
    try:
        put(store(root), promised())
    finally:
        os.umask(old)
    for path in (root, *root.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


FOLDER = "images/12345678-1234-4234-8234-123456789abc/"


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/etc/passwd",
        "photo.jpg",
        FOLDER,
        FOLDER + ".",
        FOLDER + "..",
        FOLDER + "../../secret",
        FOLDER + "a/b",
        FOLDER + "/a",
        FOLDER + "a\0b",
        FOLDER + "\ud800",
        FOLDER + "x" * 256,
        FOLDER + "é" * 128,
        "/" + FOLDER + "a",
        FOLDER.upper() + "a",
        "images/../a",
        "images/12345678-1234-4234-8234-123456789ab/a",
        "images/12345678-1234-4234-8234-123456789abc\n/a",
        "partial/12345678-1234-4234-8234-123456789abc/a",
    ],
)
def test_a_key_of_another_shape_is_refused(root: Path, key: str) -> None:
    objects = store(root)
    target = StoredObject(
        key=key,
        size_bytes=len(JPEG),
        sha256=hashlib.sha256(JPEG).hexdigest(),
        media_type=MediaType.JPEG,
        owner=UserId("ada"),
        image_id=uuid.uuid4(),
    )
    for call in (lambda: put(objects, target), lambda: objects.open(key), lambda: objects.head(key)):
        with pytest.raises(ValueError, match=r"object|surrogates"):
            call()
    assert list(root.glob("*/*")) == []


@pytest.mark.parametrize("prefix", ["", "/", "images/", "images/../", FOLDER[:-1], FOLDER + "a", FOLDER + "../", "../"])
def test_a_prefix_of_another_shape_is_refused(root: Path, prefix: str) -> None:
    objects = store(root)
    put(objects, promised())
    with pytest.raises(ValueError, match="prefix"):
        objects.delete_prefix(prefix, deadline=LATER)
    assert len(files_below(root)) == 1


def test_a_name_means_the_same_to_a_process_of_another_locale(root: Path) -> None:
    target = promised(filename="é写真.jpg")
    code = f"""
import sys
sys.path.insert(0, "."); from tests.integration.test_filesystem import *
assert sys.getfilesystemencoding() != "utf-8", sys.getfilesystemencoding()
target = promised(image_id=uuid.UUID("{target.image_id}"), filename="\\xe9\\u5199\\u771f.jpg")
put(store(Path({str(root)!r})), target)
"""
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", code], env=os.environ | locale, check=True)
    assert [info.key for info in store(root).list_prefix()] == [target.key]
    assert read(store(root), target) == JPEG


def test_the_working_directory_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    objects, target = store(Path("objects")), promised()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    put(objects, target)
    assert read(objects, target) == JPEG


def test_the_folder_and_those_above_it_may_be_links(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to("disk")
    (tmp_path / "disk" / "elsewhere").mkdir()
    (tmp_path / "disk" / "objects").symlink_to("elsewhere")
    for root in (tmp_path / "data" / "new", tmp_path / "data" / "objects"):
        objects, target = store(root), promised()
        put(objects, target)
        assert read(objects, target) == JPEG
        delete(objects, target)
        assert files_below(tmp_path) == []


def test_the_secret_may_lie_in_a_folder_that_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to("disk")
    assert load_secret(tmp_path / "data" / "secret") == load_secret(tmp_path / "disk" / "secret")


# ---- things that are no objects


def _symlink(path: Path) -> None:
    path.symlink_to("/etc/passwd")


@pytest.mark.parametrize("plant", [_symlink, Path.mkdir, os.mkfifo], ids=["symlink", "folder", "fifo"])
def test_what_is_no_file_is_no_object(root: Path, plant: Callable[[Path], None]) -> None:
    objects, target = store(root), promised()
    put(objects, target)
    path = path_of(root, target)
    path.unlink()
    plant(path)
    with pytest.raises(NotFound):
        objects.open(target.key)
    with pytest.raises(Unavailable):
        put(objects, target)
    assert list(objects.list_prefix()) == []


def test_a_deletion_does_not_follow_a_planted_link(root: Path, tmp_path: Path) -> None:
    objects, target = store(root), promised()
    put(objects, target)
    folder, precious = path_of(root, target).parent, tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    shutil.rmtree(folder)
    folder.symlink_to(precious)
    with pytest.raises(Unavailable):
        delete(objects, target)
    assert (precious / "file").exists()


def test_a_listing_passes_over_what_is_not_ours(root: Path) -> None:
    objects, target = store(root), promised()
    put(objects, target)
    folder = path_of(root, target).parent
    os.close(os.open(os.fsencode(folder) + b"/\xff.jpg", os.O_CREAT | os.O_WRONLY))
    for path in (root / ".DS_Store", root / "lost+found", folder.parent / "notes", folder.parents[1] / "partial" / "x"):
        path.touch()
    (folder.parent / "not-an-id").mkdir()
    (folder.parent / "not-an-id" / "photo.jpg").touch()
    assert [info.key for info in objects.list_prefix()] == [target.key]


# ---- bodies


def test_the_path_of_a_whole_object_is_its_name(root: Path) -> None:
    objects, target = store(root), promised()
    put(objects, target)
    with closing(objects.open(target.key)) as body:
        assert body.path == str(path_of(root, target))


@pytest.mark.parametrize("call", ["open", "head", "ended body", "refused put", "delete", "list"])
def test_no_descriptor_is_left_open(root: Path, call: str) -> None:
    objects, target = store(root), promised()
    put(objects, target)
    absent = promised()

    def refused_put() -> None:
        put(objects, promised(PIECES, image_id=target.image_id), JPEG)

    calls: dict[str, Callable[[], object]] = {
        "open": lambda: objects.open(absent.key),
        "head": lambda: objects.head(target.key),
        "ended body": lambda: read(objects, target),
        "refused put": refused_put,
        "delete": lambda: delete(objects, absent),
        "list": lambda: next(objects.list_prefix()),
    }
    before = _lowest_free_descriptor()
    for _ in range(3):
        with suppress(NotFound, Unavailable):
            calls[call]()
    assert _lowest_free_descriptor() == before


def _lowest_free_descriptor() -> int:
    descriptor = os.open("/dev/null", os.O_RDONLY)
    os.close(descriptor)
    return descriptor


# ---- ping


def test_a_ping_tells_that_the_folder_is_gone(root: Path) -> None:
    objects = store(root)
    objects.ping()
    shutil.rmtree(root)
    with pytest.raises(Unavailable):
        objects.ping()
    with pytest.raises(Unavailable):
        put(objects, promised())
    root.touch()
    with pytest.raises(Unavailable):
        objects.ping()


# ---- bytes that are not what was stored


def flip_a_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(100)
        byte = file.read(1)[0]
        file.seek(100)
        file.write(bytes([byte ^ 1]))


def the_file(root: Path, target: StoredObject) -> Path:
    return Path(os.fsdecode(place_of_key(os.fsencode(root), target.key).path))


def checked(objects: FilesystemObjects, target: StoredObject, byte_range: ByteRange | None = None) -> bytes:
    with closing(objects.open(target.key, byte_range, sha256=target.sha256)) as body:
        return body.read()


def settle() -> None:
    """Wait until the stamps of a write are old enough to be told from those of the next."""
    time.sleep(0.03)


def test_a_byte_that_changed_after_it_was_checked_is_found(root: Path) -> None:
    objects, target = store(root), promised()
    put(objects, target)
    settle()
    assert checked(objects, target) == JPEG
    flip_a_byte(the_file(root, target))
    for byte_range in (None, ByteRange(0, 5)):
        with pytest.raises(Damaged):
            checked(objects, target, byte_range)
    flip_a_byte(the_file(root, target))
    assert checked(objects, target) == JPEG


def test_a_change_is_found_even_if_the_time_of_writing_is_put_back(root: Path) -> None:
    objects, target = store(root), promised()
    put(objects, target)
    settle()
    assert checked(objects, target) == JPEG
    path = the_file(root, target)
    before = path.stat()
    flip_a_byte(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(Damaged):
        checked(objects, target)


def test_stamps_are_relied_on_only_when_the_kernel_s_clock_has_moved_since(tmp_path: Path) -> None:
    path, known = tmp_path / "file", KnownContents()
    path.write_bytes(JPEG)
    with path.open("rb") as file:
        # The same stamps each time, as a kernel gives them whose clock stands still between two writes.
        stamps = os.fstat(file.fileno())
        first = known.of(b"file", file.fileno(), stamps)
        flip_a_byte(path)
        second = known.of(b"file", file.fileno(), stamps)
        assert first != second
        settle()
        assert known.of(b"file", file.fileno(), stamps) == second
        flip_a_byte(path)
        assert known.of(b"file", file.fileno(), stamps) == second


def test_a_file_is_read_whole_once_and_not_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects, target = store(root), promised(PIECES)
    put(objects, target, PIECES)
    settle()
    pread, lengths = os.pread, list[int]()

    def counted(descriptor: int, size: int, at: int) -> bytes:
        lengths.append(len(data := pread(descriptor, size, at)))
        return data

    monkeypatch.setattr(os, "pread", counted)
    assert checked(objects, target) == PIECES
    assert sum(lengths) >= 2 * len(PIECES)
    lengths.clear()
    assert checked(objects, target) == PIECES
    assert checked(objects, target, ByteRange(7, 9)) == PIECES[7:9]
    assert sum(lengths) < len(PIECES) + 1000


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def is_at_hand(objects: FilesystemObjects, target: StoredObject) -> bool:
    """Tell, and see that nothing stays open that isn't given out."""
    open_before = open_descriptors()
    body = objects.open_at_hand(target.key, sha256=target.sha256)
    assert open_descriptors() == open_before + (body is not None)
    if body is None:
        return False
    with closing(body):
        assert body.read() == JPEG
    return True


def test_a_file_is_at_hand_when_it_was_read_and_has_not_changed_since(root: Path) -> None:
    objects, target = store(root), promised()
    put(objects, target)
    settle()
    assert not is_at_hand(objects, target)
    checked(objects, target)
    assert is_at_hand(objects, target)
    path = the_file(root, target)
    path.chmod(0o640)
    settle()
    assert not is_at_hand(objects, target), "what changed is the store's to find out, which takes reading"
    checked(objects, target)
    assert is_at_hand(objects, target)
    assert not is_at_hand(store(root), target), "another process has not read it"


def test_what_takes_no_reading_is_told_at_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects, target, other = store(root), promised(), promised(PIECES)
    put(objects, target)
    settle()
    checked(objects, target)
    monkeypatch.delattr(os, "pread")
    open_before = open_descriptors()
    with pytest.raises(Damaged):
        objects.open_at_hand(target.key, sha256=other.sha256)
    with pytest.raises(NotFound):
        objects.open_at_hand(other.key, sha256=other.sha256)
    body = objects.open_at_hand(target.key, sha256=target.sha256)
    assert body is not None
    body.close()
    assert open_descriptors() == open_before


def test_what_is_known_of_files_has_a_bound(root: Path) -> None:
    known = KnownContents()
    path = root / "file"
    root.mkdir()
    path.write_bytes(JPEG)
    settle()
    with path.open("rb") as file:
        for number in range(20_000):
            known.of(b"%d" % number, file.fileno(), os.fstat(file.fileno()))
    assert len(known._known) == 16_384


# ---- signed URLs


def _image(target: StoredObject) -> Image:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Image(
        image_id=target.image_id,
        owner=target.owner,
        filename=Filename(target.key.rpartition("/")[2]),
        title=Title("A photo"),
        description=Description(""),
        tags=(),
        media_type=target.media_type,
        size_bytes=target.size_bytes,
        width=1,
        height=1,
        sha256=target.sha256,
        created_at=at,
        updated_at=at,
    )


def _request(url: str) -> tuple[str, dict[str, str]]:
    parts = urlsplit(url)
    return unquote(parts.path.removeprefix("/objects/")), dict(parse_qsl(parts.query, strict_parsing=True))


def test_a_signed_url_is_honoured_until_it_expires(root: Path) -> None:
    clock = FixedClock(datetime(2026, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC))
    objects, target = store(root, clock=clock), promised(filename="é a?.jpg")
    signed = objects.signed_url(_image(target), disposition="attachment", ttl_s=60)
    assert signed.expires_at == datetime(2026, 1, 1, 12, 1, 1, tzinfo=UTC)
    key, parameters = _request(signed.url)
    assert key == target.key
    assert datetime.fromtimestamp(int(parameters["expires"]), UTC) == signed.expires_at
    clock.advance(timedelta(seconds=60, microseconds=749_999))
    assert objects.permitted("GET", key, parameters) == Permit(target.sha256, "attachment")
    clock.advance(timedelta(microseconds=1))
    assert objects.permitted("GET", key, parameters) is None


def test_an_image_keeps_its_url_for_a_window_and_gets_one_that_lives_as_long_as_promised(root: Path) -> None:
    clock = FixedClock(datetime(2026, 1, 1, 12, 0, 0, 1, tzinfo=UTC))
    objects = FilesystemObjects(root, clock=clock, public_url="http://x", secret=b"s" * 32, window_s=300)
    image, other = _image(promised()), _image(promised())

    def signed(which: Image = image, disposition: Disposition = "inline") -> SignedUrl:
        return objects.signed_url(which, disposition=disposition, ttl_s=60)

    first = signed()
    assert first.expires_at == datetime(2026, 1, 1, 12, 6, tzinfo=UTC)
    assert len({first.url, signed(other).url, signed(disposition="attachment").url}) == 3
    assert signed(replace(image, sha256=other.sha256[::-1])).url != first.url
    clock.advance(timedelta(seconds=299))
    assert signed() == first
    clock.advance(timedelta(seconds=1))
    assert signed().expires_at == datetime(2026, 1, 1, 12, 11, tzinfo=UTC)
    assert signed().url != first.url


def test_a_signed_url_permits_nothing_else(root: Path) -> None:
    objects, target = store(root), promised()
    key, parameters = _request(objects.signed_url(_image(target), disposition="inline", ttl_s=60).url)
    assert objects.permitted("GET", key, parameters) == Permit(target.sha256, "inline")
    assert objects.permitted("POST", key, parameters) is None
    assert objects.permitted("GET", "../../etc/passwd", parameters) is None


# ---- the secret


def test_the_secret_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "data" / "secret"
    secret = load_secret(path)
    assert len(secret) == 32
    assert load_secret(path) == secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    assert load_secret(tmp_path / "other") != secret


def test_processes_that_start_at_once_get_the_same_secret(tmp_path: Path) -> None:
    start = Barrier(8)

    def load(path: Path) -> bytes:
        start.wait()
        return load_secret(path)

    with ThreadPoolExecutor(8) as pool:
        for number in range(10):
            assert len(set(pool.map(load, [tmp_path / str(number)] * 8))) == 1


def test_a_power_cut_while_the_secret_is_made_leaves_a_whole_one_or_none(tmp_path: Path) -> None:
    for left in count():
        folder = tmp_path / str(left)
        folder.mkdir()
        disk = FragileDisk(folder)
        disk.left = left
        secret = None
        with suppress(Cut):
            secret = load_secret(folder / "secret", disk=disk)
        disk.lose_power()
        again = load_secret(folder / "secret")
        assert secret in (None, again)
        if secret is not None and disk.left:
            break


def test_a_secret_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"s" * 32)
    path.chmod(0o644)
    assert load_secret(path) == b"s" * 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"s" * 31, b"s" * 33])
def test_a_damaged_secret_is_an_error_and_stays(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    with pytest.raises(Damaged, match="32 bytes"):
        load_secret(path)
    assert path.read_bytes() == content


def test_a_secret_that_cannot_be_read_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    with pytest.raises(Unavailable):
        load_secret(tmp_path / "secret")


# ---- what is in memory

AT_ONCE_BYTES = 256 * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="no other system tells")
def test_a_body_is_at_hand_as_long_as_the_system_keeps_its_bytes(root: Path) -> None:
    target = promised(PIECES)
    objects = store(root)
    put(objects, target, PIECES)
    path = the_file(root, target)
    if not _tells_what_is_in_memory(path):
        pytest.skip("this file system does not tell")
    with closing(objects.open(target.key)) as body:
        assert at_hand(body, 1) == PIECES[:1]
        assert at_hand(body, AT_ONCE_BYTES) == PIECES[1 : 1 + AT_ONCE_BYTES]
        assert at_hand(body, len(PIECES)) == PIECES[1 + AT_ONCE_BYTES :], "all that is left"
        assert at_hand(body, 1) == b""
    with closing(objects.open(target.key)) as body:
        _let_go_of(path)
        assert at_hand(body, len(PIECES)) is None
        assert body.read() == PIECES, "nothing was read before"


@pytest.mark.parametrize("byte_range", [None, ByteRange(10, 20)])
def test_a_body_that_ends_too_early_is_not_at_hand(root: Path, byte_range: ByteRange | None) -> None:
    target = promised()
    objects = store(root)
    put(objects, target)
    with closing(objects.open(target.key, byte_range)) as body:
        os.truncate(the_file(root, target), 15)
        assert at_hand(body, len(JPEG)) is None


def test_the_format_is_told_whether_the_content_was_checked_or_is_known(root: Path) -> None:
    target = promised()
    objects = store(root)
    put(objects, target)
    settle()
    for _ in range(3):
        with closing(objects.open(target.key, sha256=target.sha256)) as body:
            assert body.info == objects.head(target.key)
            assert body.info.media_type is MediaType.JPEG


def at_hand(body: ObjectBody, size: int) -> bytes | None:
    data = body.read_at_hand(size)
    return None if data is None else bytes(data)


def _tells_what_is_in_memory(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
        except OSError as error:
            return error.errno != errno.EOPNOTSUPP
    return True


def _let_go_of(path: Path) -> None:
    def is_let_go() -> bool:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            try:
                os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
            except BlockingIOError:
                return True
            return False

    wait_until(is_let_go)
