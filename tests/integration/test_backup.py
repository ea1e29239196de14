"""Snapshots and the way back: nothing more than can be read, nothing less, and nothing of a broken archive."""

import hashlib
import io
import json
import sqlite3
import stat
import tarfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.system import SystemClock
from application.commands.delete_image import DeleteImage
from application.commands.restore_image import RestoreImage
from application.commands.sweep import Sweep
from application.commands.upload_image import UploadImage
from application.content import Content
from application.queries.audit import Audit
from application.queries.get_usage import GetUsage
from application.queries.list_images import ListImages
from application.queries.read_content import ReadContent
from domain.errors import CalotypeError, Damaged, Unavailable
from domain.image import Image
from domain.quota import Usage
from domain.values import Filename, IdempotencyKey, parse_tags
from entrypoints.audit import open_audit
from entrypoints.backup import BadArchive, NotEmpty, Summary, restore, snapshot
from entrypoints.backup.archive import ArchiveReader, ArchiveWriter, Manifest
from entrypoints.cli.app import cli
from entrypoints.embedded import OpenBus, open_bus
from entrypoints.settings import Settings
from tests import pictures
from tests.builders import ANN, NOON, a_reservation

FIRST_ID = uuid.UUID(int=0)
LONG_TAGS = " ".join(f"{number:060}" for number in range(29))
"""Enough of them to fill pages of a catalog."""
CLOCK = SystemClock()


def no_progress(_done: int, _total: int) -> None:
    pass


@dataclass
class Library:
    """A data folder in use."""

    folder: Path
    bus: OpenBus

    def upload(self, *, seed: int = 0, filename: str = "cat.jpg", key: str | None = None, tags: str = "a") -> Image:
        upload = UploadImage(
            owner=ANN,
            filename=Filename(filename),
            content=Content.of(pictures.jpeg(seed=seed)),
            tags=parse_tags(tags.split()),
            idempotency_key=None if key is None else IdempotencyKey(key),
        )
        return self.bus.execute(upload).image

    def delete(self, image: Image, *, permanent: bool = False) -> None:
        self.bus.execute(DeleteImage(owner=ANN, image_id=image.image_id, permanent=permanent))

    def purge(self, image: Image) -> None:
        self.delete(image, permanent=True)
        assert self.bus.execute(Sweep()).images == 1

    def contents(self) -> dict[Image, bytes]:
        images = self.bus.ask(ListImages(owner=ANN, limit=100)).images
        return {image: self.read(image) for image in images}

    def read(self, image: Image) -> bytes:
        with closing(self.bus.ask(ReadContent(owner=ANN, image_id=image.image_id)).open()) as body:
            return body.read()

    def object_of(self, image: Image) -> Path:
        [path] = self.folder.rglob(f"images/{image.image_id}/*")
        return path

    def snapshot(self, progress: Callable[[int, int], object] = no_progress) -> bytes:
        return taken(self.folder, progress)[0]


def taken(folder: Path, progress: Callable[[int, int], object] = no_progress) -> tuple[bytes, Summary]:
    archive = io.BytesIO()
    summary = snapshot(folder, archive.write, clock=CLOCK, scratch=None, progress=progress)
    return archive.getvalue(), summary


def unpacked(archive: bytes, folder: Path) -> Summary:
    return restore(io.BytesIO(archive), folder, clock=CLOCK, progress=no_progress)


def opened(folder: Path) -> OpenBus:
    return open_bus(Settings(data_dir=str(folder)))


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with opened(tmp_path / "data") as bus:
        yield Library(tmp_path / "data", bus)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "restored"


def restored(archive: bytes, folder: Path) -> dict[Image, bytes]:
    unpacked(archive, folder)
    assert findings(folder) == 0
    with opened(folder) as bus:
        return Library(folder, bus).contents()


def findings(folder: Path) -> int:
    """Audit the folder in both directions, every byte."""
    found = 0
    with open_audit(Settings(data_dir=str(folder))) as (bus, _):
        for examined in bus.ask(Audit(deep=True)):
            found += len(examined.findings)
    return found


def names_in(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return tar.getnames()


# ---- what a snapshot holds


def test_a_snapshot_brings_everything_back(library: Library, target: Path) -> None:
    for number in range(5):
        library.upload(seed=number, filename=f"größe {number}.jpg", tags="rome sun")
    contents = library.contents()
    assert len(contents) == 5
    assert restored(library.snapshot(), target) == contents
    assert (target / "secret").read_bytes() == (library.folder / "secret").read_bytes()
    kept = {path.name for path in target.iterdir() if path.is_dir() or path.stat().st_size > 0}
    assert kept == {"catalog.sqlite3", "objects", "secret"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in target.rglob("*") if path.is_file()} == {0o600}


def test_a_snapshot_of_nothing_is_an_empty_library(library: Library, target: Path) -> None:
    assert restored(library.snapshot(), target) == {}


def test_what_is_in_the_trash_can_be_restored_from_the_copy_too(library: Library, target: Path) -> None:
    image = library.upload(seed=1)
    library.delete(image)
    archive, summary = taken(library.folder)
    assert (summary.records, summary.trashed, summary.objects) == (0, 1, 1)
    assert restored(archive, target) == {}
    with opened(target) as bus:
        assert bus.execute(RestoreImage(owner=ANN, image_id=image.image_id)) == image
        assert Library(target, bus).contents() == {image: pictures.jpeg(seed=1)}


def test_what_was_deleted_for_good_is_in_no_byte_of_a_snapshot(library: Library, target: Path) -> None:
    secret_tag = "x7q-deleted-words"
    due, *purged = [library.upload(seed=seed, tags=f"{secret_tag} {LONG_TAGS}") for seed in range(10, 20)]
    for image in purged:
        library.purge(image)
    library.delete(due, permanent=True)
    kept = library.upload(seed=3)
    archive = library.snapshot()
    assert secret_tag.encode() not in archive
    assert not any(str(image.image_id) in name for name in names_in(archive) for image in (due, *purged))
    assert restored(archive, target) == {kept: pictures.jpeg(seed=3)}
    with closing(sqlite3.connect(target / "catalog.sqlite3")) as db:
        # Not every build of SQLite wipes what it deletes; none keeps anything in pages that are not there.
        assert db.execute("PRAGMA freelist_count").fetchone() == (0,)


def test_an_upload_under_way_is_not_in_a_snapshot_and_can_begin_anew_in_the_copy(
    library: Library, target: Path
) -> None:
    stores = library.bus._stores
    stores.metadata.reserve(a_reservation(due=CLOCK.now() + timedelta(hours=1)), at=CLOCK.now())
    unpacked(library.snapshot(), target)
    with sqlite3.connect(target / "catalog.sqlite3") as db:
        assert db.execute("SELECT count(*) FROM reclaim").fetchone() == (0,)
    db.close()


def test_usage_in_the_copy_is_what_is_in_the_copy(library: Library, target: Path) -> None:
    images = [library.upload(seed=number) for number in range(4)]
    library.delete(images[0])
    library.delete(images[1], permanent=True)
    due = CLOCK.now() + timedelta(hours=1)
    library.bus._stores.metadata.reserve(a_reservation(owner=ANN, size_bytes=10**9, due=due), at=CLOCK.now())

    def purge(_done: int, _total: int) -> None:
        if len(images) == 4:
            library.delete(images.pop(), permanent=True)
            library.bus.execute(Sweep())

    archive = library.snapshot(purge)
    (target.parent / "taken").mkdir()
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extract("catalog.sqlite3", target.parent / "taken", filter="data")
    with closing(sqlite3.connect(target.parent / "taken" / "catalog.sqlite3")) as db:
        assert db.execute("SELECT owner, images FROM usage").fetchall() == [(ANN, 3)]
    contents = restored(archive, target)
    with opened(target) as bus:
        kept = [images[0], *contents]
        assert bus.ask(GetUsage(owner=ANN)) == Usage(
            images=len(kept), size_bytes=sum(image.size_bytes for image in kept)
        )


def test_changes_during_a_snapshot_are_not_in_it(library: Library, target: Path) -> None:
    images = [library.upload(seed=number) for number in range(4)]
    before = library.contents()

    def change(done: int, _total: int) -> None:
        library.upload(seed=100 + done)
        if (image := images.pop()) in before:
            library.delete(image)

    archive = library.snapshot(change)
    assert restored(archive, target) == before


def test_an_image_that_is_purged_before_it_was_copied_is_left_out(library: Library, target: Path) -> None:
    images = sorted((library.upload(seed=number) for number in range(4)), key=lambda image: image.image_id.bytes)
    trashed = library.upload(seed=9)
    library.delete(trashed)
    before = library.contents()

    def purge(_done: int, _total: int) -> None:
        while doomed:
            library.purge(doomed.pop())

    last = max([*images, trashed], key=lambda image: image.image_id.bytes)
    doomed = [image for image in images[1:] if image != last][:2]
    gone = set(doomed)
    archive, summary = taken(library.folder, purge)
    assert (summary.records, summary.trashed, summary.purged) == (4, 1, 2)
    assert restored(archive, target) == {image: data for image, data in before.items() if image not in gone}


@pytest.mark.parametrize("filename", ["cat.jpg", "dog.jpg"])
def test_an_upload_that_took_the_id_of_a_purged_image_is_not_taken_for_it(
    library: Library, target: Path, filename: str
) -> None:
    reused = library.upload(seed=1, key="k")
    first = library.upload(seed=2)
    while first.image_id > reused.image_id:
        first = library.upload(seed=2)
    before = library.contents()

    def reuse(done: int, _total: int) -> None:
        if done == first.size_bytes:
            library.purge(reused)
            assert library.upload(seed=3, filename=filename, key="k").image_id == reused.image_id

    for image in before:
        if image.image_id < first.image_id:
            library.purge(image)
    archive = library.snapshot(reuse)
    contents = restored(archive, target)
    assert reused not in contents
    assert first in contents


@pytest.mark.parametrize("trashed", [False, True])
@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_an_object_that_is_lost_fails_the_snapshot_and_is_named(
    library: Library, damage: str, *, trashed: bool
) -> None:
    image = library.upload()
    if trashed:
        library.delete(image)
    path = library.object_of(image)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(Damaged, match=f"{image.image_id} of ann"):
        library.snapshot()


def test_a_folder_without_a_catalog_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no data folder"):
        taken(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_is_a_plain_tar_that_checks_itself(library: Library, tmp_path: Path) -> None:
    image = library.upload(filename="größe.jpg")
    archive = library.snapshot()
    assert names_in(archive) == ["catalog.sqlite3", "secret", image.key, "SHA256SUMS", "manifest.json"]
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(tmp_path / "by hand", filter="data")
    sums = (tmp_path / "by hand" / "SHA256SUMS").read_text().splitlines()
    for line in sums:
        digest, _, name = line.partition("  ")
        assert hashlib.sha256((tmp_path / "by hand" / name).read_bytes()).hexdigest() == digest
    assert len(sums) == 3
    with closing(sqlite3.connect(f"file:{tmp_path}/by hand/catalog.sqlite3?mode=ro", uri=True)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert db.execute("SELECT filename FROM images").fetchall() == [("größe.jpg",)]


# ---- archives that are not whole


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small archive with two images, one of them in the trash."""
    folder = tmp_path_factory.mktemp("sound") / "data"
    with opened(folder) as bus:
        library = Library(folder, bus)
        library.upload(seed=1)
        library.delete(library.upload(seed=2))
        return library.snapshot()


def assert_refused(archive: bytes, folder: Path, message: str | None = None) -> None:
    with pytest.raises((BadArchive, CalotypeError), match=message):
        unpacked(archive, folder)
    assert not folder.exists()
    folder.mkdir()
    with pytest.raises((BadArchive, CalotypeError)):
        unpacked(archive, folder)
    assert list(folder.iterdir()) == []
    folder.rmdir()


def test_an_archive_that_is_cut_short_is_refused_wherever_it_is_cut(sound: bytes, target: Path) -> None:
    end = len(sound) - 1024  # the blocks of zeros at the end hold nothing
    for length in [*range(0, end, 5 * 512), *range(512 + 7, end, 7919), end - 512, end - 1000]:
        assert_refused(sound[:length], target)
    unpacked(sound[:end], target)


@settings(deadline=None, max_examples=150)
@given(at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_an_archive_with_any_bit_changed_is_refused_or_means_the_same(
    sound: bytes, tmp_path_factory: pytest.TempPathFactory, at: int, bit: int
) -> None:
    target = tmp_path_factory.mktemp("changed") / "data"
    changed = bytearray(sound)
    changed[at % len(sound)] ^= 1 << bit
    try:
        unpacked(bytes(changed), target)
    except (BadArchive, CalotypeError):
        assert not target.exists()
    else:  # between members, where nothing is, or the time in the manifest
        assert members_of(bytes(changed))[:-1] == members_of(sound)[:-1]


class Part(NamedTuple):
    name: str
    data: bytes
    type: bytes = tarfile.REGTYPE


def members_of(archive: bytes) -> list[Part]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return [Part(info.name, file.read()) for info in tar if (file := tar.extractfile(info)) is not None]


def packed(parts: Sequence[Part]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for part in parts:
            info = tarfile.TarInfo(part.name)
            info.size, info.type, info.linkname = len(part.data), part.type, "/etc/passwd"
            tar.addfile(info, io.BytesIO(part.data))
    return archive.getvalue()


def forged(parts: Sequence[Part]) -> bytes:
    """Pack members with sums and a manifest that fit them: somebody meant it."""
    *members, _sums, manifest = parts
    sums = "".join(f"{hashlib.sha256(part.data).hexdigest()}  {part.name}\n" for part in members).encode()
    document = {**json.loads(manifest.data), "sums_sha256": hashlib.sha256(sums).hexdigest()}
    return packed([*members, Part("SHA256SUMS", sums), Part("manifest.json", json.dumps(document).encode())])


def with_catalog(parts: Sequence[Part], tmp_path: Path, *statements: str) -> list[Part]:
    path = tmp_path / "forged.sqlite3"
    path.write_bytes(parts[0].data)
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()
    return [Part("catalog.sqlite3", path.read_bytes()), *parts[1:]]


def test_the_forger_of_these_tests_can_make_an_archive_that_is_taken(sound: bytes, target: Path) -> None:
    unpacked(forged(members_of(sound)), target)


CHANGES: dict[str, tuple[Callable[[list[Part]], list[Part]], str]] = {
    "an object is missing": (lambda parts: [*parts[:2], *parts[3:]], "missing"),
    "an object is there twice": (lambda parts: [*parts[:3], parts[2], *parts[3:]], "does not know it"),
    "objects are in another order": (lambda parts: [*parts[:2], parts[3], parts[2], *parts[4:]], "does not know it"),
    "an object has another name": (lambda parts: [*parts[:2], parts[2]._replace(name="images/x"), *parts[3:]], "know"),
    "an object has other bytes": (
        lambda parts: [*parts[:2], parts[2]._replace(data=parts[2].data[:-1] + b"x"), *parts[3:]],
        "not what its record says",
    ),
    "an object is longer": (
        lambda parts: [*parts[:2], parts[2]._replace(data=parts[2].data + b"x"), *parts[3:]],
        "another length",
    ),
    "an object is a link": (
        lambda parts: [*parts[:2], parts[2]._replace(data=b"", type=tarfile.SYMTYPE), *parts[3:]],
        "is not a file",
    ),
    "a file leads out of the folder": (lambda parts: [*parts[:2], Part("../../evil", b"x"), *parts[2:]], "evil is in"),
    "a file has an absolute path": (lambda parts: [*parts[:2], Part("/tmp/evil", b"x"), *parts[2:]], "evil is in"),  # noqa: S108
    "the catalog is not first": (lambda parts: [parts[1], parts[0], *parts[2:]], "should be"),
    "the catalog is none": (lambda parts: [parts[0]._replace(data=b"SQLite format 3\0."), *parts[1:]], "catalog"),
    "the secret is short": (lambda parts: [parts[0], Part("secret", b"x"), *parts[2:]], "32 bytes"),
    "the manifest is none": (lambda parts: [*parts[:-1], Part("manifest.json", b"{}")], "manifest"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_an_archive_that_somebody_changed_with_care_is_refused(sound: bytes, target: Path, change: str) -> None:
    make, message = CHANGES[change]
    parts = make(members_of(sound))
    assert_refused(packed(parts) if change == "the manifest is none" else forged(parts), target, message)
    assert not (target.parent.parent / "evil").exists()


@pytest.mark.parametrize("filename", ["../../evil.jpg", "..", "a/b", ""])
def test_a_catalog_whose_names_lead_elsewhere_is_refused(
    sound: bytes, target: Path, tmp_path: Path, filename: str
) -> None:
    parts = with_catalog(members_of(sound), tmp_path, f"UPDATE images SET filename = '{filename}'")  # noqa: S608
    record = next(n for n, part in enumerate(parts) if part.data == pictures.jpeg(seed=1))
    folder = parts[record].name.rpartition("/")[0]
    parts[record] = parts[record]._replace(name=f"{folder}/{filename}")
    assert_refused(forged(parts), target)
    assert list(tmp_path.rglob("evil*")) == []


def test_a_catalog_with_a_row_that_is_none_of_ours_is_refused(sound: bytes, target: Path, tmp_path: Path) -> None:
    for change in ("media_type = 'image/evil'", "image_id = x'00'", "tags = '{'"):
        parts = with_catalog(members_of(sound), tmp_path, f"UPDATE images SET {change}")  # noqa: S608
        assert_refused(forged(parts), target, "did not write")


def test_a_catalog_of_a_later_version_is_refused(sound: bytes, target: Path, tmp_path: Path) -> None:
    assert_refused(forged(with_catalog(members_of(sound), tmp_path, "PRAGMA user_version = 99")), target, "newer")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("format", 2, "format 2"),
        ("sums_sha256", "0" * 64, "not that of its manifest"),
        ("purged", [str(FIRST_ID)], "missing"),
        *((field, 7, "counts other things") for field in ("records", "trashed", "objects", "object_bytes")),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    sound: bytes, target: Path, field: str, value: object, message: str
) -> None:
    parts = members_of(sound)
    manifest = json.loads(parts[-1].data) | {field: value}
    assert_refused(packed([*parts[:-1], Part("manifest.json", json.dumps(manifest).encode())]), target, message)


def test_anything_else_than_an_archive_is_refused(target: Path) -> None:
    for data in (b"", b"x", bytes(10_240), pictures.jpeg(), b"\x1f\x8b" + bytes(600)):
        assert_refused(data, target)


# ---- folders to restore into


@pytest.mark.parametrize("name", ["anything", ".hidden", ".calotype-restore"])
def test_a_folder_that_holds_anything_is_refused_and_stays_as_it_is(target: Path, name: str) -> None:
    target.mkdir()
    (target / name).write_text("mine")
    with pytest.raises(NotEmpty, match=r"not empty|another restore"):
        unpacked(b"not even looked at", target)
    assert [(path.name, path.read_text()) for path in target.iterdir()] == [(name, "mine")]


def test_a_folder_that_is_not_there_is_made_with_those_above_it_or_not_at_all(sound: bytes, tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b" / "c"
    with pytest.raises(BadArchive):
        unpacked(sound[:-5000], deep)
    assert not (tmp_path / "a").exists()
    unpacked(sound, deep)
    assert stat.S_IMODE(deep.stat().st_mode) == 0o700


def test_whoever_comes_into_the_folder_during_a_restore_keeps_it(sound: bytes, target: Path) -> None:
    def intrude(_done: int, _total: int) -> None:
        (target / "catalog.sqlite3").write_text("mine")

    with pytest.raises(NotEmpty):
        restore(io.BytesIO(sound), target, clock=CLOCK, progress=intrude)
    assert [path.name for path in target.iterdir()] == ["catalog.sqlite3"]


# ---- the archive by itself


@settings(deadline=None, max_examples=50)
@given(
    members=st.lists(st.tuples(st.text(min_size=1, max_size=300).map(Filename), st.binary(max_size=2000)), max_size=5)
)
def test_what_is_written_is_read(members: list[tuple[str, bytes]]) -> None:
    file = io.BytesIO()
    writer = ArchiveWriter(file.write, io.BytesIO(), NOON)
    for name, data in members:
        writer.add_bytes(name, data)
    manifest = Manifest(
        format=1, created_at=NOON, records=1, trashed=2, objects=3, object_bytes=4, purged=[FIRST_ID], sums_sha256=""
    )
    writer.finish(lambda _: manifest)
    file.seek(0)
    reader = ArchiveReader(file)
    for name, data in members:
        assert reader.required(name).read() == data
    reader.required("SHA256SUMS")
    assert reader.manifest() == manifest


def test_neither_side_keeps_what_has_passed() -> None:
    file = io.BytesIO()
    writer = ArchiveWriter(file.write, io.BytesIO(), NOON)
    for number in range(100):
        writer.add_bytes(f"member {number}", b"x")
    file.seek(0)
    reader = ArchiveReader(file)
    for _ in range(100):
        reader.next()
        assert reader._tar.members == []  # type: ignore[attr-defined]  # typeshed forgot them


# ---- the commands


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == code, result.output
    return result.output


def test_the_commands_make_an_archive_and_a_folder_of_it(library: Library, target: Path, tmp_path: Path) -> None:
    library.upload()
    archive = tmp_path / "a.tar"
    assert "holds 1 images, 0 of them in the trash" in run("snapshot", str(archive), "--data-dir", str(library.folder))
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    expected = {"records": 1, "trashed": 0, "objects": 1, "object_bytes": len(pictures.jpeg()), "purged": 0}
    assert json.loads(run("restore", str(archive), "--data-dir", str(target), "--json")) == expected
    assert "is not empty" in run("restore", str(archive), "--data-dir", str(target), code=1)
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar", "data", "restored"}


def test_an_archive_is_replaced_only_when_told_to_and_only_by_a_whole_one(library: Library, tmp_path: Path) -> None:
    image = library.upload()
    archive = tmp_path / "a.tar"
    archive.write_text("precious")
    command = ("snapshot", str(archive), "--data-dir", str(library.folder))
    assert "--force" in run(*command, code=1)
    path = library.object_of(image)
    data = path.read_bytes()
    path.unlink()
    assert f"{image.image_id} of ann" in run(*command, "--force", code=1)
    assert archive.read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar", "data"}
    path.write_bytes(data)
    run(*command, "--force")
    assert len(names_in(archive.read_bytes())) == 5


def test_snapshots_of_aws_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALOTYPE_STORAGE", "aws")
    assert "point-in-time" in run("snapshot", str(tmp_path / "a.tar"), code=1)
    assert "point-in-time" in run("restore", str(tmp_path / "a.tar"), code=1)
