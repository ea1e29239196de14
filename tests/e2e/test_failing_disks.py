"""Full disks, folders that can't be written, and objects that rotted: said plainly, and over when the cause is."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests import pictures
from tests.e2e.client import Api, Document, document, fetch, footprint, problem, readiness
from tests.service import Service
from tests.waiting import eventually

DISK_BYTES = 8 * 1024 * 1024
PAGE_BYTES = 4096
SPOOLED = pictures.big_jpeg(700_000)
"""Large enough to be spooled to the disk before it is stored there."""
SMALL = pictures.jpeg()
# What an attempt leaves behind is due soon, so that a test can see it go; not before a slow one has ended.
SWEPT_SOON = {"CALOTYPE_RESERVATION_TTL_S": "10", "CALOTYPE_SWEEP_INTERVAL_S": "1"}


class SmallDisk:
    """A file system of a few megabytes, and a file on it that takes the room of everything else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def leave(self, free_bytes: int) -> None:
        """Let so many bytes be free, in whole pages."""
        self.empty()
        status = os.statvfs(self.folder)
        with self._ballast.open("wb") as ballast:
            if (length := (status.f_bavail * status.f_frsize) - free_bytes) > 0:
                os.posix_fallocate(ballast.fileno(), 0, length)

    def empty(self) -> None:
        self._ballast.unlink(missing_ok=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "data"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "tmpfs", str(folder)]
    if shutil.which("mount") is None or (done := subprocess.run(mount, capture_output=True, check=False)).returncode:
        reason = "there is no mount" if shutil.which("mount") is None else done.stderr.decode().strip()
        pytest.skip(f"a small file system can't be mounted here: {reason}")
    yield SmallDisk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def served(data_dir: Path, *, settings: Mapping[str, str] | None = None, run_by: Sequence[str] = ()) -> Iterator[Api]:
    with Service(data_dir, settings=settings, run_by=run_by) as service, closing(Api(service, "ada")) as api:
        yield api


def stored_objects(api: Api) -> set[str]:
    return {name for name in footprint(api.service).files if "/objects/" in name}


def assert_reads_go_on(api: Api, image: Document, content: bytes) -> None:
    assert api.get(image["image_id"]).content == content
    assert api.get(image["image_id"], Range="bytes=0-9").content == content[:10]
    assert document(api.metadata(image["image_id"]))["sha256"] == image["sha256"]
    assert fetch(image["presigned_url"]).content == content


@pytest.mark.parametrize(
    ("content", "step_bytes"),
    [pytest.param(SPOOLED, 9 * PAGE_BYTES, id="spooled"), pytest.param(SMALL, PAGE_BYTES, id="kept in memory")],
)
def test_a_disk_that_gets_full_at_any_point_of_an_upload_fails_it_and_nothing_else(
    small_disk: SmallDisk, content: bytes, step_bytes: int
) -> None:
    with served(small_disk.folder, settings=SWEPT_SOON) as api:
        kept = api.uploaded(SMALL, "kept.jpg")
        free_bytes, statuses = 0, [0]
        # Room for the spool, then for the object too, then for the catalog: until it is enough for all of them.
        while statuses[-3:] != [201, 201, 201]:
            before = footprint(api.service)
            small_disk.leave(free_bytes)
            answer = api.upload(content, f"{free_bytes}.jpg")
            statuses.append(answer.status_code)
            if answer.status_code == 201:
                small_disk.empty()
                document(api.delete(answer.json()["image_id"], permanent=True))
            else:
                problem(answer, 503, "unavailable")
                assert_reads_go_on(api, kept, SMALL)
                small_disk.empty()
                after = footprint(api.service)
                # An object whose commit failed waits for the sweeper, under its own name; nothing else may be there.
                assert all("/partial/" not in name for name in after.files)
                assert after.unnamed <= before.unnamed
            assert api.ids() == [kept["image_id"]]
            free_bytes += step_bytes
        assert statuses.count(503) >= 2
        assert api.uploaded(content, "at last.jpg")["size_bytes"] == len(content)
        assert eventually(lambda: len(stored_objects(api)) == 2), stored_objects(api)


def test_a_full_disk_says_so_to_every_change_and_lets_every_read_pass(small_disk: SmallDisk) -> None:
    with served(small_disk.folder) as api:
        kept = api.uploaded(SPOOLED, "kept.jpg")
        small_disk.leave(0)
        # The log of changes keeps the room it once took, so some changes still fit into it.
        while (answer := api.patch(kept["image_id"], {"description": "x" * 5000})).status_code == 200:
            kept = answer.json()
        problem(answer, 503, "unavailable")
        problem(api.upload(SPOOLED), 503, "unavailable")
        assert document(api.metadata(kept["image_id"]))["version"] == kept["version"]
        assert_reads_go_on(api, kept, SPOOLED)
        assert api.ids() == [kept["image_id"]]
        assert api.http.get("/health/live").status_code == 200
        small_disk.empty()
        assert document(api.patch(kept["image_id"], {"title": "again"}))["version"] == kept["version"] + 1
        api.uploaded(SPOOLED)


def test_a_service_that_was_full_when_it_died_starts_and_reads(small_disk: SmallDisk) -> None:
    with served(small_disk.folder) as api:
        kept = api.uploaded(SMALL, "kept.jpg")
        small_disk.leave(0)
        problem(api.upload(SPOOLED), 503, "unavailable")
        api.service.kill()
        # Room for what SQLite needs to open the file; a disk without any is the operator's to clear.
        small_disk.leave(32 * PAGE_BYTES)
        api.service.start()
        assert_reads_go_on(api, kept, SMALL)
        problem(api.upload(SPOOLED), 503, "unavailable")
        small_disk.empty()
        api.uploaded(SPOOLED)


# ---- folders that can't be written


def _bound_by_modes() -> tuple[str, ...]:
    """Return what starts a program so that file modes hold for it, which they don't for the superuser."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("file modes bind the superuser only without capabilities, and there is no setpriv to drop them")
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


@contextmanager
def unwritable(folder: Path) -> Iterator[None]:
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for each in folders:
        each.chmod(0o500)
    try:
        yield
    finally:
        for each in folders:
            each.chmod(0o700)


@pytest.mark.parametrize("content", [SMALL, SPOOLED], ids=["kept in memory", "spooled"])
@pytest.mark.parametrize("part", ["objects", "."])
def test_a_folder_that_cannot_be_written_fails_uploads_and_nothing_else(
    tmp_path: Path, part: str, content: bytes
) -> None:
    with served(tmp_path / "data", run_by=_bound_by_modes()) as api:
        kept = api.uploaded(SMALL, "kept.jpg")
        before = footprint(api.service)
        with unwritable(tmp_path / "data" / part):
            problem(api.upload(content), 503, "unavailable")
            assert_reads_go_on(api, kept, SMALL)
            assert api.ids() == [kept["image_id"]]
            readiness(api.service, 503)
        # A file that nobody waits for is closed a moment after the answer.
        assert eventually(lambda: footprint(api.service) == before), footprint(api.service)
        assert api.uploaded(content)["size_bytes"] == len(content)
        readiness(api.service, 200)


def test_a_folder_that_can_not_be_written_at_the_start_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    with unwritable(folder), pytest.raises(RuntimeError, match=r"Error: .*can't be"):
        Service(folder, run_by=_bound_by_modes()).start()


# ---- objects that are not what was stored


@pytest.fixture(scope="module")
def on_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A user of the embedded default, whose objects a test can lay hands on."""
    with served(tmp_path_factory.mktemp("files") / "data") as api:
        yield api


def the_object(api: Api, image: Document) -> Path:
    [path] = api.service.data_dir.rglob(f"images/{image['image_id']}/*")
    return path


def flip_a_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(200)
        byte = file.read(1)[0]
        file.seek(200)
        file.write(bytes([byte ^ 0x40]))


@pytest.mark.parametrize("content", [SMALL, SPOOLED], ids=["small", "large"])
@pytest.mark.parametrize("read_before", [False, True], ids=["never read", "read before"])
def test_a_byte_that_changed_on_the_disk_is_never_given_out(
    on_files: Api, content: bytes, *, read_before: bool
) -> None:
    image, other = on_files.uploaded(content), on_files.uploaded(SMALL)
    if read_before:
        assert_reads_go_on(on_files, image, content)
    flip_a_byte(the_object(on_files, image))
    for _ in range(2):
        problem(on_files.get(image["image_id"]), 500, "object_damaged")
        problem(on_files.get(image["image_id"], Range="bytes=0-9"), 500, "object_damaged")
        problem(fetch(image["presigned_url"]), 500, "object_damaged")
    assert on_files.head(image["image_id"]).status_code == 200
    assert document(on_files.metadata(image["image_id"]))["sha256"] == image["sha256"]
    assert_reads_go_on(on_files, other, SMALL)
    flip_a_byte(the_object(on_files, image))
    assert_reads_go_on(on_files, image, content)


@pytest.mark.parametrize("damage", ["cut", "longer", "gone", "a folder"])
def test_an_object_that_is_not_there_as_it_was_is_never_given_out(on_files: Api, damage: str) -> None:
    image = on_files.uploaded(SMALL)
    path = the_object(on_files, image)
    match damage:
        case "cut":
            path.write_bytes(SMALL[:-1])
        case "longer":
            path.write_bytes(SMALL + b"\0")
        case "gone":
            path.unlink()
        case _:
            path.unlink()
            path.mkdir()
    problem(on_files.get(image["image_id"]), 500, "object_damaged")
    answer = fetch(image["presigned_url"])
    assert answer.status_code == (500 if damage in {"cut", "longer"} else 404)
    assert on_files.get(image["image_id"]).status_code == 500
