"""The contract of ObjectStore: every sentence of its docstrings, held against every adapter.

A new adapter is one more line in STORES.
"""

import errno
import hashlib
import io
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Barrier

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.filesystem import FilesystemObjects
from adapters.filesystem.disk import Disk
from adapters.memory import FixedClock, MemoryObjects
from application.content import HashedBytes
from application.ports import ByteRange, Disposition, ObjectBody, ObjectStore, StoredObject
from domain.errors import CalotypeError, Conflict, Damaged, NotFound, Unavailable
from domain.image import Image, object_prefix
from domain.values import Description, Filename, ImageId, MediaType, Title, UserId
from tests.integration.s3_on_moto import objects_on, s3_on_moto

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 4
PIECES = b"\xff\xd8\xff\xe0" + b"several pieces of a stream, and a rest; " * 20_000
OWNER = UserId("ada")


OpenStore = Callable[[Path, FixedClock], AbstractContextManager[ObjectStore]]


def _memory(_folder: Path, clock: FixedClock) -> AbstractContextManager[ObjectStore]:
    return nullcontext(MemoryObjects(clock))


class _Unsynced(Disk):
    """The contract says nothing of power cuts, and waiting for the disk is the most of a suite's time."""

    def sync(self, descriptor: int) -> None:
        """Don't wait; that all is synced in its order is checked in test_filesystem.py."""


_UNSYNCED = _Unsynced()


def _filesystem(folder: Path, clock: FixedClock, disk: Disk = _UNSYNCED) -> AbstractContextManager[ObjectStore]:
    return nullcontext(
        FilesystemObjects(folder, clock=clock, public_url="http://localhost:8000", secret=b"s" * 32, disk=disk)
    )


class _NoHardLinks(_Unsynced):
    """FAT, and some network and FUSE mounts."""

    def link(self, source: bytes, target: bytes) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", source, None, target)


@contextmanager
def _s3(_folder: Path, clock: FixedClock) -> Iterator[ObjectStore]:
    with s3_on_moto() as (client, _wire):
        yield objects_on(client, clock)


STORES: Mapping[str, OpenStore] = {
    "memory": _memory,
    "filesystem": _filesystem,
    "filesystem without hard links": partial(_filesystem, disk=_NoHardLinks()),
    "s3": _s3,
}


@dataclass(frozen=True)
class World:
    """A store, its clock, and the shortest ways to use them."""

    objects: ObjectStore
    clock: FixedClock

    @property
    def later(self) -> datetime:
        return self.clock.now() + timedelta(seconds=60)

    def put(self, target: StoredObject, data: bytes) -> None:
        self.objects.put(target, io.BytesIO(data), deadline=self.later)

    def stored(
        self, data: bytes = JPEG, *, image_id: ImageId | None = None, filename: str = "photo.jpg"
    ) -> StoredObject:
        target = promised(data, image_id=image_id, filename=filename)
        self.put(target, data)
        return target

    def read(self, key: str, byte_range: ByteRange | None = None) -> bytes:
        with closing(self.objects.open(key, byte_range)) as body:
            return body.read()

    def keys(self, prefix: str = "") -> list[str]:
        return sorted(info.key for info in self.objects.list_prefix(prefix))


@pytest.fixture(params=STORES)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    clock = FixedClock()
    with STORES[request.param](tmp_path, clock) as objects:
        yield World(objects, clock)


def promised(data: bytes, *, image_id: ImageId | None = None, filename: str = "photo.jpg") -> StoredObject:
    image_id = image_id or uuid.uuid4()
    return StoredObject(
        key=object_prefix(image_id) + Filename(filename),
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        media_type=MediaType.JPEG,
        owner=OWNER,
        image_id=image_id,
    )


def image_of(target: StoredObject) -> Image:
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


# ---- put


@pytest.mark.parametrize("data", [b"\xff", JPEG, PIECES], ids=["one byte", "small", "several pieces"])
def test_what_was_put_is_read_back(world: World, data: bytes) -> None:
    target = world.stored(data)
    assert world.read(target.key) == data


def test_put_reads_from_the_present_position(world: World) -> None:
    stream = io.BytesIO(b"skipped" + JPEG)
    stream.seek(len(b"skipped"))
    target = promised(JPEG)
    world.objects.put(target, stream, deadline=world.later)
    assert world.read(target.key) == JPEG


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(filename=st.text(max_size=300).map(Filename))
def test_a_key_may_hold_any_filename(world: World, filename: Filename) -> None:
    target = world.stored(filename=filename)
    assert world.read(target.key) == JPEG
    assert world.objects.head(target.key).key == target.key
    assert world.keys(object_prefix(target.image_id)) == [target.key]


@pytest.mark.parametrize(
    "filename", ["é.jpg", "e\u0301.jpg", "写真" * 40 + ".jpg", "a b+c%2F?&#.jpg", "-rf", "~", "👩‍👩‍👧.jpg", "x" * 255]
)
def test_a_key_may_hold_awkward_filenames(world: World, filename: str) -> None:
    target = world.stored(filename=filename)
    assert world.read(target.key) == JPEG
    assert world.keys() == [target.key]


def test_two_forms_of_one_character_are_two_objects(world: World) -> None:
    image_id = uuid.uuid4()
    composed = world.stored(JPEG, image_id=image_id, filename="\u00e9.jpg")
    decomposed = world.stored(PIECES, image_id=image_id, filename="e\u0301.jpg")
    assert (world.read(composed.key), world.read(decomposed.key)) == (JPEG, PIECES)


def test_putting_the_same_content_again_succeeds(world: World) -> None:
    target = world.stored()
    world.put(target, JPEG)
    assert world.read(target.key) == JPEG
    assert world.keys() == [target.key]


@pytest.mark.parametrize("other", [JPEG + b"longer", JPEG[:-1] + b"x"], ids=["other size", "same size"])
def test_an_object_is_never_replaced(world: World, other: bytes) -> None:
    target = world.stored()
    with pytest.raises(Conflict):
        world.put(promised(other, image_id=target.image_id), other)
    assert world.read(target.key) == JPEG


@pytest.mark.parametrize(
    "sent",
    [b"", JPEG[:-1], JPEG + b"x", JPEG[:-1] + b"x", JPEG + PIECES],
    ids=["none", "less", "more", "other", "far more"],
)
@pytest.mark.parametrize("stream", [io.BytesIO, HashedBytes])
def test_bytes_that_were_not_promised_leave_nothing(
    world: World, sent: bytes, stream: Callable[[bytes], io.BytesIO]
) -> None:
    target = promised(JPEG)
    with pytest.raises(Unavailable):
        world.objects.put(target, stream(sent), deadline=world.later)
    assert_absent(world, target)


@pytest.mark.parametrize("stream", [io.BytesIO, HashedBytes])
def test_a_stream_is_put_from_where_it_stands(world: World, stream: Callable[[bytes], io.BytesIO]) -> None:
    target, content = promised(JPEG), stream(b"before" + JPEG)
    content.seek(len(b"before"))
    world.objects.put(target, content, deadline=world.later)
    assert world.read(target.key) == JPEG


def test_bytes_that_were_hashed_before_are_put_whole(world: World) -> None:
    target = promised(PIECES)
    world.objects.put(target, HashedBytes(PIECES), deadline=world.later)
    assert world.read(target.key) == PIECES


def test_a_wrong_size_with_the_right_checksum_leaves_nothing(world: World) -> None:
    target = replace(promised(JPEG), size_bytes=len(JPEG) + 1)
    with pytest.raises(Unavailable):
        world.put(target, JPEG)
    assert_absent(world, target)


def test_bytes_that_were_not_promised_spare_what_is_there(world: World) -> None:
    target = world.stored()
    with pytest.raises(Unavailable):
        world.put(target, JPEG[:-1])
    assert world.read(target.key) == JPEG


def test_nothing_becomes_visible_from_the_deadline_on(world: World) -> None:
    target = promised(JPEG)
    with pytest.raises(Unavailable):
        world.objects.put(target, io.BytesIO(JPEG), deadline=world.clock.now())
    assert_absent(world, target)


def test_nothing_becomes_visible_when_the_deadline_passes_on_the_way(world: World) -> None:
    target = promised(PIECES)
    with pytest.raises(Unavailable):
        world.objects.put(target, _SlowStream(PIECES, world.clock), deadline=world.later)
    assert_absent(world, target)


def test_a_put_that_failed_may_be_repeated(world: World) -> None:
    target = promised(PIECES)
    with pytest.raises(Unavailable):
        world.objects.put(target, _SlowStream(PIECES, world.clock), deadline=world.later)
    world.put(target, PIECES)
    assert world.read(target.key) == PIECES


class _SlowStream(io.BytesIO):
    """A stream that takes a minute for every piece."""

    def __init__(self, data: bytes, clock: FixedClock) -> None:
        super().__init__(data)
        self._clock = clock

    def read(self, size: int | None = -1, /) -> bytes:
        self._clock.advance(timedelta(seconds=60))
        return super().read(size)


def test_a_stream_that_breaks_leaves_nothing(world: World) -> None:
    target = promised(PIECES)
    with pytest.raises(RuntimeError, match="cut"):
        world.objects.put(target, _BrokenStream(PIECES), deadline=world.later)
    assert_absent(world, target)


class _BrokenStream(io.BytesIO):
    """A stream that ends in an error."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() > 0 or size in {-1, None}:
            raise RuntimeError("cut")
        return super().read(size)


def test_threads_that_put_the_same_content_all_succeed(world: World) -> None:
    for _ in range(5):
        target = promised(JPEG)
        outcomes = _raced([partial(world.put, target, JPEG)] * 8)
        assert outcomes == [None] * 8
        assert world.read(target.key) == JPEG


def test_of_threads_that_put_other_contents_one_wins(world: World) -> None:
    for _ in range(5):
        image_id = uuid.uuid4()
        contents = [JPEG + bytes([number]) * (number % 3 + 1) for number in range(8)]
        targets = [promised(data, image_id=image_id) for data in contents]
        outcomes = _raced([partial(world.put, *each) for each in zip(targets, contents, strict=True)])
        won = [data for data, outcome in zip(contents, outcomes, strict=True) if outcome is None]
        assert won == [world.read(targets[0].key)]
        assert {type(outcome) for outcome in outcomes if outcome is not None} == {Conflict}


def _raced(calls: list[Callable[[], None]]) -> list[CalotypeError | None]:
    """Make all calls at once; return what each raised, or None."""
    start = Barrier(len(calls))

    def run(call: Callable[[], None]) -> CalotypeError | None:
        start.wait()
        try:
            call()
        except CalotypeError as error:
            return error
        return None

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


# ---- open and head


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, len(PIECES)), (5, 300_000), (len(PIECES) - 1, len(PIECES))])
def test_a_range_gives_just_its_bytes(world: World, start: int, stop: int) -> None:
    target = world.stored(PIECES)
    assert world.read(target.key, ByteRange(start, stop)) == PIECES[start:stop]


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_reading_in_steps_gives_the_range(world: World, data: st.DataObject) -> None:
    content = data.draw(st.binary(min_size=1, max_size=200))
    stop = data.draw(st.integers(1, len(content)))
    start = data.draw(st.integers(0, stop - 1))
    target = world.stored(content)
    with closing(world.objects.open(target.key, ByteRange(start, stop))) as body:
        steps = [body.read(size) for size in data.draw(st.lists(st.integers(0, 50)))]
        assert b"".join(steps) + body.read() == content[start:stop]
        assert body.read(10) == b""
        assert body.read() == b""


def test_a_body_tells_of_the_whole_object_whatever_the_range(world: World) -> None:
    target = world.stored()
    with closing(world.objects.open(target.key, ByteRange(5, 9))) as body:
        assert body.info == world.objects.head(target.key)
        assert body.info.size_bytes == len(JPEG)


def test_a_body_may_be_closed_twice(world: World) -> None:
    body = world.objects.open(world.stored().key)
    body.close()
    body.close()


def test_head_tells_key_size_type_and_time(world: World) -> None:
    target = world.stored()
    info = world.objects.head(target.key)
    assert (info.key, info.size_bytes, info.media_type) == (target.key, len(JPEG), MediaType.JPEG)
    assert info.modified_at.utcoffset() == timedelta(0)


def test_an_absent_object_is_not_found(world: World) -> None:
    target = promised(JPEG)
    assert_absent(world, target)
    world.stored(image_id=target.image_id, filename="another.jpg")
    with pytest.raises(NotFound):
        world.objects.open(target.key)


def test_an_open_body_outlives_the_object(world: World) -> None:
    target = world.stored(PIECES)
    with closing(world.objects.open(target.key)) as body:
        first = body.read(1000)
        world.objects.delete_prefix(object_prefix(target.image_id), deadline=world.later)
        assert_absent(world, target)
        assert first + body.read() == PIECES


def test_a_path_holds_just_the_bytes(world: World) -> None:
    target = world.stored(PIECES)
    with closing(world.objects.open(target.key)) as body:
        body.read(1000)
        assert body.path is None or Path(body.path).read_bytes() == PIECES


def test_a_range_has_no_path(world: World) -> None:
    target = world.stored()
    with closing(world.objects.open(target.key, ByteRange(0, 5))) as body:
        assert body.path is None


# ---- signed URLs


@pytest.mark.parametrize("disposition", ["inline", "attachment"])
def test_a_signed_url_tells_when_it_stops_working(world: World, disposition: Disposition) -> None:
    target = world.stored()
    signed = world.objects.signed_url(image_of(target), disposition=disposition, ttl_s=3600)
    lives = signed.expires_at - world.clock.now()
    assert timedelta(hours=1) <= lives <= timedelta(hours=1, seconds=1)
    assert signed.url.isascii()
    assert str(target.image_id) in signed.url


# ---- delete


def test_deleting_an_image_leaves_the_others(world: World) -> None:
    image_id = uuid.uuid4()
    gone = [world.stored(image_id=image_id, filename=name) for name in ("a.jpg", "b.jpg")]
    others = [world.stored(image_id=uuid.UUID(int=image_id.int ^ (1 << bit))) for bit in range(0, 128, 8)]
    world.objects.delete_prefix(object_prefix(image_id), deadline=world.later)
    for target in gone:
        assert_absent(world, target)
    assert world.keys() == sorted(target.key for target in others)


def test_a_deletion_may_be_repeated(world: World) -> None:
    target = world.stored()
    for _ in range(2):
        world.objects.delete_prefix(object_prefix(target.image_id), deadline=world.later)
    world.objects.delete_prefix(object_prefix(uuid.uuid4()), deadline=world.later)
    assert world.keys() == []


def test_what_was_deleted_may_be_put_again(world: World) -> None:
    target = world.stored()
    world.objects.delete_prefix(object_prefix(target.image_id), deadline=world.later)
    world.put(target, JPEG)
    assert world.read(target.key) == JPEG


def test_nothing_is_deleted_from_the_deadline_on(world: World) -> None:
    target = world.stored()
    with pytest.raises(Unavailable):
        world.objects.delete_prefix(object_prefix(target.image_id), deadline=world.clock.now())
    assert world.read(target.key) == JPEG


# ---- list and ping


def test_a_listing_tells_every_object(world: World) -> None:
    targets = [world.stored(PIECES if number % 2 else JPEG, filename=f"{number}.jpg") for number in range(5)]
    listed = {info.key: info.size_bytes for info in world.objects.list_prefix()}
    assert listed == {target.key: target.size_bytes for target in targets}
    assert all(info.modified_at.utcoffset() == timedelta(0) for info in world.objects.list_prefix())


def test_a_listing_tells_what_starts_with_the_prefix(world: World) -> None:
    ours, _ = world.stored(filename="aa.jpg"), world.stored()
    world.stored(image_id=ours.image_id, filename="b.jpg")
    folder = object_prefix(ours.image_id)
    assert world.keys(folder) == [f"{folder}aa.jpg", f"{folder}b.jpg"]
    assert world.keys(f"{folder}a") == [f"{folder}aa.jpg"]
    assert len(world.keys("images/")) == 3
    assert world.keys("others/") == []
    assert world.keys(object_prefix(uuid.uuid4())) == []


def test_objects_may_come_and_go_under_a_listing(world: World) -> None:
    targets = [world.stored() for _ in range(10)]
    listing: Iterator[str] = (info.key for info in world.objects.list_prefix())
    seen = {next(listing)}
    for target in targets:
        world.objects.delete_prefix(object_prefix(target.image_id), deadline=world.later)
    assert seen | set(listing) <= {target.key for target in targets}


def test_a_store_that_is_well_answers_a_ping(world: World) -> None:
    world.objects.ping()


def test_what_is_asked_for_by_its_digest_is_checked(world: World) -> None:
    target = world.stored(PIECES)
    with closing(world.objects.open(target.key, sha256=target.sha256)) as body:
        assert read_in_pieces(body) == PIECES
    with closing(world.objects.open(target.key, ByteRange(3, 7), sha256=target.sha256)) as body:
        assert body.read() == PIECES[3:7]


@pytest.mark.parametrize("data", [JPEG, PIECES])
def test_another_content_than_asked_for_is_never_given_whole(world: World, data: bytes) -> None:
    target = world.stored(data)
    given = bytearray()
    with (  # noqa: PT012 (which of the two raises is the store's to choose)
        pytest.raises(Damaged),
        closing(world.objects.open(target.key, sha256=hashlib.sha256(b"x").hexdigest())) as body,
    ):
        while piece := body.read(1000):
            given += piece
    assert len(given) < len(data)


def test_another_content_read_at_once_is_not_given_either(world: World) -> None:
    target = world.stored()
    with (
        pytest.raises(Damaged),
        closing(world.objects.open(target.key, sha256=hashlib.sha256(b"x").hexdigest())) as body,
    ):
        body.read()


@pytest.mark.parametrize("byte_range", [None, ByteRange(3, 7)])
def test_what_is_at_hand_is_what_would_be_opened(world: World, byte_range: ByteRange | None) -> None:
    target = world.stored(PIECES)
    for _ in range(2):  # the first opening may be what brings it to hand
        with closing(world.objects.open(target.key, byte_range, sha256=target.sha256)) as body:
            info, data = body.info, read_in_pieces(body)
        at_hand = world.objects.open_at_hand(target.key, byte_range, sha256=target.sha256)
        if at_hand is not None:
            with closing(at_hand):
                assert (at_hand.info, read_in_pieces(at_hand)) == (info, data)


def test_nothing_else_is_at_hand(world: World) -> None:
    target = world.stored()
    world.read(target.key)
    with suppress(Damaged):
        assert world.objects.open_at_hand(target.key, sha256=hashlib.sha256(b"x").hexdigest()) is None
    world.objects.delete_prefix(object_prefix(target.image_id), deadline=world.later)
    with suppress(NotFound):
        assert world.objects.open_at_hand(target.key, sha256=target.sha256) is None


def read_in_pieces(body: ObjectBody) -> bytes:
    return b"".join(iter(lambda: body.read(100_000), b""))


def assert_absent(world: World, target: StoredObject) -> None:
    with pytest.raises(NotFound):
        world.objects.open(target.key)
    with pytest.raises(NotFound):
        world.objects.head(target.key)
    assert target.key not in world.keys(object_prefix(target.image_id))
