"""Files that are asked for again and again stay in memory: which, for how long, and never with other bytes."""

import hashlib
import io
import os
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.filesystem import FilesystemObjects, contents
from adapters.filesystem.disk import Disk
from adapters.filesystem.hot import HotFile, HotFiles
from adapters.filesystem.layout import place_of_key
from adapters.memory import FixedClock
from application.ports import StoredObject
from domain.errors import Damaged, NotFound
from domain.image import object_prefix
from domain.values import MediaType, UserId

PIECE_BYTES = 512 * 1024
ROOM_BYTES = 8 * PIECE_BYTES
A_QUARTER_BYTES = 2 * PIECE_BYTES
SMALLEST_BYTES = 256 * 1024
CLOCK = FixedClock(datetime(2024, 1, 4, 10, 30, tzinfo=UTC))
LATER = CLOCK.now() + timedelta(seconds=60)


def settle() -> None:
    """Wait until the stamps of a write are old enough to be told from those of the next."""
    time.sleep(0.03)


@dataclass
class Shelf:
    """Files in a folder, and a clock that is set by hand."""

    folder: Path
    now_s: float = 1000.0
    hot: HotFiles = field(init=False)

    def __post_init__(self) -> None:
        self.hot = HotFiles(ROOM_BYTES, clock=lambda: self.now_s)

    def write(self, *names: str, size_bytes: int = A_QUARTER_BYTES) -> None:
        for name in names:
            (self.folder / name).write_bytes(os.urandom(size_bytes))
        settle()

    def ask(self, name: str) -> HotFile | None:
        """Ask for a file as a download does, in pieces."""
        path = self.folder / name
        with path.open("rb") as file:
            hot = self.hot.ask(os.fsencode(path), os.fstat(file.fileno()))
            if hot is not None:
                for at in range(0, path.stat().st_size, PIECE_BYTES):
                    data = os.pread(file.fileno(), PIECE_BYTES, at)
                    kept = hot.piece(at, len(data))
                    if kept is None:
                        hot.keep(at, data, file.fileno())
                    else:
                        assert kept == data, "other bytes than the file's"
        return hot

    def is_kept(self, name: str) -> bool:
        """Ask so late that it would not be hot for this."""
        self.now_s += 11
        return self.ask(name) is not None

    def has_bytes(self, name: str) -> bool:
        """Ask, and tell whether its first piece came from memory."""
        size = min(PIECE_BYTES, (self.folder / name).stat().st_size)
        path = self.folder / name
        hot = self.hot.ask(os.fsencode(path), path.stat())
        return hot is not None and hot.piece(0, size) is not None

    def heat(self, *names: str) -> None:
        for name in names:
            self.ask(name)
            assert self.ask(name) is not None


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


# ---- how much


def test_a_file_that_somebody_still_sends_lets_go_of_its_bytes_when_its_room_goes_to_another(shelf: Shelf) -> None:
    names = [f"file {number}" for number in range(12)]
    shelf.write(*names)
    still_sent = []
    for name in names:
        shelf.now_s += 11
        shelf.heat(name)
        still_sent.append(shelf.ask(name))
        held = sum(sum(map(len, hot._pieces.values())) for hot in still_sent if hot is not None)
        assert held == ROOM_BYTES - shelf.hot.room_bytes <= ROOM_BYTES


def test_a_file_that_is_forgotten_while_it_is_sent_keeps_nothing_more(shelf: Shelf) -> None:
    shelf.write("a")
    shelf.heat("a")
    hot = shelf.ask("a")
    assert hot is not None
    shelf.hot.forget(os.fsencode(shelf.folder))
    with (shelf.folder / "a").open("rb") as file:
        data = os.pread(file.fileno(), PIECE_BYTES, 0)
        hot.keep(0, data, file.fileno())
    assert hot.piece(0, PIECE_BYTES) is None
    assert shelf.hot.room_bytes == ROOM_BYTES


# ---- which


def test_a_file_stays_from_its_second_time_within_ten_seconds(shelf: Shelf) -> None:
    shelf.write("a")
    assert shelf.ask("a") is None
    shelf.now_s += 10.1
    assert shelf.ask("a") is None
    shelf.now_s += 9.9
    first = shelf.ask("a")
    assert first is not None
    shelf.now_s += 600
    assert shelf.ask("a") is first, "nobody needs its room"


def test_a_file_that_nobody_asks_for_goes_when_any_is_asked_for_ten_minutes_later(shelf: Shelf) -> None:
    shelf.write("a", "b", "c")
    shelf.heat("a")
    shelf.now_s += 1
    shelf.heat("b")
    shelf.now_s += 599.5
    assert shelf.ask("c") is None
    assert shelf.hot.room_bytes == ROOM_BYTES - A_QUARTER_BYTES, "b is asked for within the ten minutes"
    assert shelf.ask("b") is not None
    shelf.now_s += 600.5
    assert shelf.ask("b") is None
    assert shelf.hot.room_bytes == ROOM_BYTES


@pytest.mark.parametrize(
    ("size_bytes", "stays"),
    [
        (SMALLEST_BYTES - 1, False),
        (SMALLEST_BYTES, True),
        (PIECE_BYTES, True),
        (PIECE_BYTES + 1, True),
        (A_QUARTER_BYTES, True),
        (A_QUARTER_BYTES + 1, False),
    ],
)
def test_neither_small_files_stay_nor_those_that_take_more_than_a_quarter_of_the_room(
    shelf: Shelf, size_bytes: int, *, stays: bool
) -> None:
    shelf.write("a", size_bytes=size_bytes)
    shelf.ask("a")
    assert (shelf.ask("a") is not None) is stays
    assert shelf.has_bytes("a") is stays


def test_without_room_nothing_stays(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.hot = HotFiles(0)
    shelf.write("a")
    assert [shelf.ask("a") for _ in range(3)] == [None, None, None]


def test_what_is_hot_is_not_put_out_and_what_has_cooled_is(shelf: Shelf) -> None:
    shelf.write("a", "b", "c", "d", "new")
    shelf.heat("a", "b", "c", "d")
    shelf.now_s += 9
    shelf.ask("a")
    shelf.ask("new")
    assert shelf.ask("new") is None, "all of them are hot"
    shelf.now_s += 2
    assert shelf.ask("new") is not None
    assert [shelf.is_kept(name) for name in "abcd"] == [True, False, True, True], "no more than was needed"


def test_whoever_walks_through_many_files_over_and_over_puts_nothing_out(shelf: Shelf) -> None:
    many = [f"m{number}" for number in range(12)]
    shelf.write("a", *many)
    shelf.heat("a")
    for _ in range(3):
        for name in many:
            shelf.now_s += 0.1
            shelf.ask(name)
    kept = [name for name in ("a", *many) if shelf.is_kept(name)]
    assert kept == ["a", *many[:3]], "those that came first, for they were hot when the others came"


# ---- never other bytes


def test_what_was_altered_is_not_what_is_kept(shelf: Shelf) -> None:
    shelf.write("a")
    shelf.heat("a")
    shelf.write("a")
    assert shelf.ask("a") is not None, "it is as hot as it was, and ask() compares the bytes"


def test_what_was_written_just_now_does_not_stay_yet(shelf: Shelf) -> None:
    shelf.write("a")
    path = shelf.folder / "a"
    while True:
        path.write_bytes(os.urandom(A_QUARTER_BYTES))
        shelf.hot = HotFiles(ROOM_BYTES, clock=lambda: shelf.now_s)
        answers = [shelf.ask("a"), shelf.ask("a")]
        if time.time_ns() - path.stat().st_ctime_ns < 20_000_000:  # else the machine was too slow to tell
            break
    assert answers == [None, None]
    settle()
    assert shelf.ask("a") is not None


def test_what_is_read_of_a_file_that_was_altered_meanwhile_does_not_stay(shelf: Shelf) -> None:
    shelf.write("a")
    path = shelf.folder / "a"
    shelf.heat("a")
    shelf.hot.forget(os.fsencode(shelf.folder))
    with path.open("rb") as file:
        hot = shelf.hot.ask(os.fsencode(path), os.fstat(file.fileno()))
        assert hot is not None
        path.write_bytes(os.urandom(A_QUARTER_BYTES))
        hot.keep(0, os.pread(file.fileno(), PIECE_BYTES, 0), file.fileno())
        assert hot.piece(0, PIECE_BYTES) is None


def test_what_is_read_in_other_pieces_takes_no_more_room(shelf: Shelf) -> None:
    shelf.write("a")
    shelf.heat("a")
    hot = shelf.ask("a")
    assert hot is not None
    with (shelf.folder / "a").open("rb") as file:
        hot.keep(1, os.pread(file.fileno(), 100, 1), file.fileno())
    assert hot.piece(1, 100) is not None
    assert hot.piece(1, 99) is None, "a piece is given as it is, or not at all"
    assert hot.piece(0, PIECE_BYTES) is None, "with it there would be more than the file has"
    shelf.ask("a")
    shelf.ask("a")
    assert shelf.has_bytes("a"), "it is read as before again"


def test_a_deleted_folder_is_forgotten(shelf: Shelf) -> None:
    (shelf.folder / "one").mkdir()
    (shelf.folder / "one-more").mkdir()
    shelf.write("one/a", "one/b", "one-more/a", "c", "d")
    shelf.heat("one/a", "one/b", "one-more/a")
    shelf.hot.forget(os.fsencode(shelf.folder / "one"))
    assert [shelf.is_kept(name) for name in ("one/a", "one/b", "one-more/a")] == [False, False, True]
    shelf.heat("c", "d")


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from("abcdef"), st.sampled_from([0.0, 0.5, 6.0, 11.0])),
            st.tuples(st.sampled_from("abcdef"), st.just("written")),
            st.tuples(st.sampled_from("abcdef"), st.just("forgotten")),
        ),
        max_size=40,
    )
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_asked_for_no_more_is_kept_than_there_is_room(
    tmp_path: Path, steps: list[tuple[str, float | str]]
) -> None:
    shelf = Shelf(tmp_path)
    for number, name in enumerate("abcdef"):
        (tmp_path / name).write_bytes(os.urandom(SMALLEST_BYTES + number * 250_000))
    settle()
    for name, step in steps:
        if step == "written":
            (tmp_path / name).write_bytes(os.urandom(SMALLEST_BYTES + 1))
        elif step == "forgotten":
            shelf.hot.forget(os.fsencode(tmp_path))
        else:
            assert isinstance(step, float)
            shelf.now_s += step
            shelf.ask(name)
        assert 0 <= shelf.hot.room_bytes <= ROOM_BYTES
    shelf.hot.forget(os.fsencode(tmp_path))
    assert shelf.hot.room_bytes == ROOM_BYTES


def test_threads_that_ask_for_the_same_get_the_same(shelf: Shelf) -> None:
    names = [f"m{number}" for number in range(6)]
    shelf.write(*names)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(shelf.ask, names * 50))
    assert any(answers)
    assert shelf.hot.room_bytes == 0


# ---- in the store


def picture() -> tuple[StoredObject, bytes]:
    data = b"\xff\xd8\xff" + os.urandom(3 * PIECE_BYTES)
    image_id = uuid.uuid4()
    target = StoredObject(
        key=object_prefix(image_id) + "photo.jpg",
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        media_type=MediaType.JPEG,
        owner=UserId("ada"),
        image_id=image_id,
    )
    return target, data


def stored(
    root: Path, *pictures: tuple[StoredObject, bytes], hot_bytes: int, disk: Disk | None = None
) -> FilesystemObjects:
    objects = FilesystemObjects(
        root, clock=CLOCK, public_url="http://x", secret=bytes(32), hot_bytes=hot_bytes, disk=disk
    )
    for target, data in pictures:
        objects.put(target, io.BytesIO(data), deadline=LATER)
    settle()
    return objects


def is_kept(objects: FilesystemObjects, target: StoredObject) -> bool:
    first, again = at_hand(objects, target), at_hand(objects, target)
    return all(one is other for one, other in zip(first, again, strict=True))


def at_hand(objects: FilesystemObjects, target: StoredObject) -> list[bytes | bytearray | None]:
    with closing(objects.open(target.key, sha256=target.sha256)) as body:
        pieces = [body.read_at_hand(PIECE_BYTES) for _ in range(4)]
    if pieces[0] is None:
        pytest.skip("this file system does not tell what is in memory")
    return pieces


def test_a_hot_object_is_read_from_memory_until_it_is_deleted(tmp_path: Path) -> None:
    target, data = picture()
    objects = stored(tmp_path, (target, data), hot_bytes=16 * PIECE_BYTES)
    for _ in range(2):
        at_hand(objects, target)
    assert b"".join(piece or b"" for piece in at_hand(objects, target)) == data
    assert is_kept(objects, target), "and not copied"
    with closing(objects.open(target.key, sha256=target.sha256)) as body:
        assert body.read_at_hand(10) == data[:10]
        assert body.read(PIECE_BYTES) == data[10 : PIECE_BYTES + 10], "where no piece begins the file is read"
    objects.delete_prefix(object_prefix(target.image_id), deadline=LATER)
    with pytest.raises(NotFound):
        at_hand(objects, target)


def test_a_deleted_object_leaves_its_room(tmp_path: Path) -> None:
    pictures = [picture() for _ in range(5)]
    objects = stored(tmp_path, *pictures, hot_bytes=4 * len(pictures[0][1]))
    for target, _ in pictures:
        at_hand(objects, target)
    assert [is_kept(objects, target) for target, _ in pictures * 2][5:] == [True] * 4 + [False]
    objects.delete_prefix(object_prefix(pictures[0][0].image_id), deadline=LATER)
    at_hand(objects, pictures[4][0])
    assert is_kept(objects, pictures[4][0])


class AskedForMeanwhile(Disk):
    """A disk on which somebody asks for what is just being deleted."""

    ask: Callable[[], object] | None = None

    def unlink(self, path: bytes | str, *, dir_fd: int | None = None) -> None:
        if self.ask is not None:
            self.ask()
        super().unlink(path, dir_fd=dir_fd)


def test_an_object_that_is_asked_for_while_it_is_deleted_leaves_its_room(tmp_path: Path) -> None:
    target, data = picture()
    disk = AskedForMeanwhile()
    objects = stored(tmp_path, (target, data), hot_bytes=4 * len(data), disk=disk)
    disk.ask = lambda: [at_hand(objects, target) for _ in range(3)]
    objects.delete_prefix(object_prefix(target.image_id), deadline=LATER)
    assert objects._hot.room_bytes == 4 * len(data)


def test_a_hot_object_that_is_damaged_is_found_to_be(tmp_path: Path) -> None:
    target, data = picture()
    objects = stored(tmp_path, (target, data), hot_bytes=16 * PIECE_BYTES)
    for _ in range(3):
        at_hand(objects, target)
    path = Path(os.fsdecode(place_of_key(os.fsencode(tmp_path), target.key).path))
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(PIECE_BYTES)
        file.write(bytes([data[PIECE_BYTES] ^ 1]))
    with pytest.raises(Damaged):
        at_hand(objects, target)


def test_a_file_that_was_just_written_is_not_known_however_long_it_takes_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, reads, read = contents.KnownContents(), list[int](), contents._read

    def read_slowly(descriptor: int) -> contents.FileContent:
        reads.append(descriptor)
        settle()
        return read(descriptor)

    monkeypatch.setattr(contents, "_read", read_slowly)
    path = tmp_path / "a"
    for _ in range(20):  # of a machine that pauses between the two, as often as it likes
        reads.clear()
        path.write_bytes(os.urandom(1000))
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            known.of(b"a", file.fileno(), status)
            is_telling = time.time_ns() - status.st_ctime_ns < 50_000_000  # 30 ms of them are the reading
            known.of(b"a", file.fileno(), status)
        if is_telling:
            break
    assert len(reads) == 2
