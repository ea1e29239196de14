from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from application.commands.sweep import SweepReport
from application.commands.upload_image import UploadImage, image_id_for
from application.content import Content
from application.queries.get_usage import GetUsage
from domain.errors import Conflict, InTrash, Invalid, KeyReused, QuotaExceeded, TooLarge, Unavailable
from domain.events import ImageUploaded
from domain.image import Image, MetadataChange
from domain.quota import Quota, Usage
from domain.values import Description, Filename, IdempotencyKey, MediaType, Title
from tests.builders import ANN, BOB, INSTANT
from tests.unit.world import LEASE, MARGIN, MAX_UPLOAD_BYTES, RESERVATION_TTL, Failure, World

UPLOAD_STEPS = ["reserve", "put", "commit"]


def test_an_upload_is_a_record_with_its_bytes() -> None:
    world = World()
    now = world.clock.now()
    image = world.bus.execute(
        UploadImage(
            owner=ANN, filename=Filename("cat.jpg"), content=Content.of(b"jpeg"), description=Description("asleep")
        )
    ).image
    assert world.seen_by(ANN) == (image,)
    assert image == Image(
        image_id=image.image_id,
        owner=ANN,
        filename=Filename("cat.jpg"),
        title=Title("cat"),
        description=Description("asleep"),
        tags=(),
        media_type=MediaType.JPEG,
        size_bytes=4,
        width=4,
        height=3,
        sha256=Content.of(b"jpeg").sha256,
        created_at=now,
        updated_at=now,
    )
    assert world.bytes_of(image) == b"jpeg"
    assert world.keys == {image.key}
    assert world.reserved == set()


def test_the_reservation_comes_before_any_byte_and_the_record_after_the_last() -> None:
    world = World()
    world.upload()
    assert world.calls == UPLOAD_STEPS


def test_the_stream_is_stored_whole_wherever_it_stood() -> None:
    world = World()
    content = Content.of(b"jpeg")
    content.stream.seek(2)
    image = world.bus.execute(UploadImage(owner=ANN, filename=Filename("a"), content=content)).image
    assert world.bytes_of(image) == b"jpeg"


def test_an_upload_is_told_once_it_is_stored() -> None:
    world = World()
    image = world.upload(b"jpeg").image
    assert world.events == [
        ImageUploaded(owner=ANN, image_id=image.image_id, at=image.created_at, size_bytes=4, media_type=MediaType.JPEG)
    ]


@pytest.mark.parametrize(
    ("data", "error"),
    [(b"", Invalid), (b"bad", Invalid), (b"x" * (MAX_UPLOAD_BYTES + 1), TooLarge)],
    ids=["empty", "no image", "too large"],
)
def test_nothing_is_reserved_for_a_file_that_is_refused(data: bytes, error: type[Exception]) -> None:
    world = World()
    with pytest.raises(error):
        world.upload(data)
    assert world.calls == []


def test_a_file_of_just_the_largest_size_is_taken() -> None:
    world = World()
    assert world.upload(b"x" * MAX_UPLOAD_BYTES).image.size_bytes == MAX_UPLOAD_BYTES


@pytest.mark.parametrize("step", UPLOAD_STEPS)
@pytest.mark.parametrize("failure", ["before", "after"])
def test_an_upload_that_fails_shows_nothing_or_all_and_the_sweeper_finds_what_it_left(
    step: str, failure: Failure
) -> None:
    world = World(failing={step: failure})
    with pytest.raises(Unavailable):
        world.upload()
    assert world.calls == [*UPLOAD_STEPS[: UPLOAD_STEPS.index(step) + 1], *(["abandon"] if step == "put" else [])]
    assert world.events == []
    committed = (step, failure) == ("commit", "after")
    assert len(world.seen_by(ANN)) == committed

    world.failing.clear()
    world.clock.advance(RESERVATION_TTL)
    world.sweep()
    assert world.reserved == set()
    assert world.keys == {image.key for image in world.seen_by(ANN)}


@pytest.mark.parametrize("step", UPLOAD_STEPS)
@pytest.mark.parametrize("failure", ["before", "after"])
def test_a_retry_after_the_lease_finishes_what_a_failure_broke_off(step: str, failure: Failure) -> None:
    world = World(failing={step: failure})
    with pytest.raises(Unavailable):
        world.upload(key="k")
    world.failing.clear()
    world.clock.advance(LEASE)
    image = world.upload(key="k").image
    assert world.seen_by(ANN) == (image,)
    assert world.bytes_of(image) == b"jpeg"
    assert world.reserved == set()


@pytest.mark.parametrize(
    ("reservation_ttl", "lease"),
    [(RESERVATION_TTL, LEASE), (timedelta(seconds=10), timedelta(seconds=5))],
    ids=["an hour", "seconds"],
)
def test_bytes_that_come_after_the_lease_are_refused_and_it_ends_long_before_the_sweeper_may_come(
    reservation_ttl: timedelta, lease: timedelta
) -> None:
    world = World(reservation_ttl=reservation_ttl)
    world.before["put"] = lambda: world.clock.advance(lease)
    with pytest.raises(Unavailable):
        world.upload()
    assert world.keys == set()


def test_an_upload_whose_reservation_the_sweeper_took_fails_and_leaves_nothing() -> None:
    world = World()

    def sweep_an_hour_later() -> None:
        world.clock.advance(RESERVATION_TTL)
        assert world.sweep().uploads == 1

    world.before["commit"] = sweep_an_hour_later
    with pytest.raises(Conflict):
        world.upload()
    assert world.seen_by(ANN) == ()
    assert world.keys == set()


@pytest.mark.parametrize("failure", ["before", "after"])
def test_what_a_failed_put_left_is_collected_soon_and_never_before_a_late_one_is_out_of_the_way(
    failure: Failure,
) -> None:
    world = World(failing={"put": failure})
    with pytest.raises(Unavailable):
        world.upload()
    world.failing.clear()
    world.clock.advance(LEASE + MARGIN - INSTANT)
    assert world.sweep() == SweepReport()
    world.clock.advance(INSTANT)
    assert world.sweep() == SweepReport(uploads=1)
    assert world.keys == world.reserved == set()


def test_what_is_due_before_that_is_not_put_off_by_a_failed_put() -> None:
    ttl = timedelta(minutes=2)
    world = World(failing={"put": "before"}, reservation_ttl=ttl)
    with pytest.raises(Unavailable):
        world.upload()
    world.clock.advance(ttl - INSTANT)
    assert world.sweep() == SweepReport()
    world.clock.advance(INSTANT)
    assert world.sweep() == SweepReport(uploads=1)


def test_a_put_and_its_abandonment_that_both_fail_are_told_as_the_first_and_collected_when_it_is_due() -> None:
    world = World(failing={"put": "before", "abandon": "before"})
    with pytest.raises(Unavailable, match="put did not happen"):
        world.upload()
    world.failing.clear()
    world.clock.advance(RESERVATION_TTL - INSTANT)
    assert world.sweep() == SweepReport()
    world.clock.advance(INSTANT)
    assert world.sweep() == SweepReport(uploads=1)


# ---- quotas


def test_uploads_are_taken_up_to_the_quota_and_no_further() -> None:
    world = World(quota=Quota(images=2))
    world.upload()
    world.upload()
    world.calls.clear()
    with pytest.raises(QuotaExceeded) as refusal:
        world.upload()
    assert (refusal.value.unit, refusal.value.limit, refusal.value.used) == ("images", 2, 2)
    assert world.calls == ["reserve"]
    assert len(world.keys) == len(world.seen_by(ANN)) == 2
    assert world.reserved == set()


def test_a_file_fits_that_fills_the_quota_to_the_last_byte() -> None:
    world = World(quota=Quota(size_bytes=10))
    world.upload(b"1234")
    with pytest.raises(QuotaExceeded) as refusal:
        world.upload(b"1234567")
    assert (refusal.value.unit, refusal.value.limit, refusal.value.used) == ("bytes", 10, 4)
    world.upload(b"123456")
    assert world.bus.ask(GetUsage(owner=ANN)) == Usage(images=2, size_bytes=10)


def test_owners_have_a_quota_each() -> None:
    world = World(quota=Quota(images=1))
    world.upload(owner=ANN)
    world.upload(owner=BOB)
    assert world.bus.ask(GetUsage(owner=ANN)) == Usage(images=1, size_bytes=4)


def test_what_is_deleted_counts_until_it_is_swept_and_can_always_be_restored() -> None:
    world = World(quota=Quota(images=1))
    image = world.upload().image
    world.delete(image)
    with pytest.raises(QuotaExceeded):
        world.upload()
    world.restore(image)
    world.delete(image, permanent=True)
    with pytest.raises(QuotaExceeded):
        world.upload()
    world.sweep()
    assert world.bus.ask(GetUsage(owner=ANN)) == Usage()
    world.upload()


def test_a_failed_upload_counts_until_it_is_swept() -> None:
    world = World(quota=Quota(images=1), failing={"put": "before"})
    with pytest.raises(Unavailable):
        world.upload()
    world.failing.clear()
    with pytest.raises(QuotaExceeded):
        world.upload()
    world.clock.advance(LEASE + MARGIN)
    world.sweep()
    world.upload()


def test_a_retry_counts_once_and_is_answered_however_full_the_quota_is() -> None:
    world = World(quota=Quota(images=1), failing={"put": "before"})
    with pytest.raises(Unavailable):
        world.upload(key="k")
    world.failing.clear()
    world.clock.advance(LEASE)
    image = world.upload(key="k").image
    assert world.upload(key="k").image == image
    assert world.bus.ask(GetUsage(owner=ANN)) == Usage(images=1, size_bytes=4)
    world.delete(image)
    with pytest.raises(InTrash):
        world.upload(key="k")
    with pytest.raises(KeyReused):
        world.upload(b"other", key="k")


# ---- idempotency


def test_the_same_upload_with_its_key_happens_once_and_is_answered_alike() -> None:
    world = World()
    first = world.upload(key="k", tags=("a", "b"))
    world.clock.advance()
    again = world.upload(key="k", tags=("a", "b"))
    assert (first.replayed, again.replayed) == (False, True)
    assert again.image == first.image
    assert world.seen_by(ANN) == (first.image,)
    assert len(world.events) == 1


def test_a_replay_answers_with_the_record_as_it_is_now() -> None:
    world = World()
    image = world.upload(key="k").image
    revised = world.records.update(
        ANN, image.image_id, lambda it: it.revised(MetadataChange(title=Title("dog")), at=world.clock.now())
    ).image
    assert world.upload(key="k").image == revised


def test_uploads_without_a_key_are_as_many_as_were_sent() -> None:
    world = World()
    assert world.upload().image.image_id != world.upload().image.image_id
    assert len(world.seen_by(ANN)) == 2


@pytest.mark.parametrize(
    "other",
    [
        lambda world: world.upload(b"other", key="k"),
        lambda world: world.upload(filename="dog.jpg", key="k"),
        lambda world: world.upload(title="dog", key="k"),
        lambda world: world.upload(tags=("dog",), key="k"),
    ],
    ids=["content", "filename", "title", "tags"],
)
@pytest.mark.parametrize("state", ["stored", "reserved", "deleted"])
def test_a_key_that_comes_back_with_another_upload_is_refused(state: str, other: Callable[[World], object]) -> None:
    world = World()
    if state == "reserved":
        world.failing["put"] = "before"
        with pytest.raises(Unavailable):
            world.upload(key="k")
        world.clock.advance(LEASE)
    else:
        image = world.upload(key="k").image
        if state == "deleted":
            world.delete(image)
    world.failing.clear()
    keys = world.keys
    with pytest.raises(KeyReused):
        other(world)
    assert world.keys == keys


def test_two_owners_may_use_the_same_key() -> None:
    world = World()
    anns, bobs = world.upload(key="k"), world.upload(b"other", owner=BOB, key="k")
    assert anns.image.image_id != bobs.image.image_id
    assert world.seen_by(ANN) == (anns.image,)
    assert world.seen_by(BOB) == (bobs.image,)


@given(key=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255))
def test_an_image_id_is_made_of_owner_and_key(key: str) -> None:
    ids = {image_id_for(owner, IdempotencyKey(text)) for owner in (ANN, BOB) for text in (key, "another")}
    assert len(ids) == (2 if key == "another" else 4)
    assert image_id_for(ANN, IdempotencyKey(key)) == image_id_for(ANN, IdempotencyKey(key))


def test_image_ids_of_keys_stay_the_same_for_ever() -> None:
    # Clients retry across releases: a change of this value breaks them.
    assert str(image_id_for(ANN, IdempotencyKey("k"))) == "29798aec-b34f-5087-b673-6b2b7f309545"


def test_a_second_attempt_waits_as_long_as_the_first_may_run() -> None:
    world = World(failing={"put": "before"})
    with pytest.raises(Unavailable):
        world.upload(key="k")
    world.failing.clear()
    world.clock.advance(timedelta(seconds=20))
    with pytest.raises(Conflict) as refusal:
        world.upload(key="k")
    assert refusal.value.retry_after_s == 40
    world.clock.advance(timedelta(seconds=40))
    assert world.upload(key="k").replayed is False


def test_the_last_instant_of_a_lease_is_still_its_holders() -> None:
    world = World(failing={"put": "before"})
    with pytest.raises(Unavailable):
        world.upload(key="k")
    world.failing.clear()
    world.clock.advance(LEASE - INSTANT)
    with pytest.raises(Conflict) as refusal:
        world.upload(key="k")
    assert refusal.value.retry_after_s == 1


def test_an_attempt_that_was_taken_over_can_not_commit() -> None:
    world = World()

    def another_takes_over() -> None:
        world.clock.advance(LEASE)
        world.failing["commit"] = "before"
        with pytest.raises(Unavailable):
            world.upload(key="k")
        world.failing.clear()

    world.before["commit"] = another_takes_over
    with pytest.raises(Conflict):
        world.upload(key="k")
    assert world.seen_by(ANN) == ()

    world.clock.advance(LEASE)
    image = world.upload(key="k").image
    assert world.bytes_of(image) == b"jpeg"


def test_an_attempt_that_finds_its_work_done_by_another_can_not_do_it_twice() -> None:
    world = World()

    def another_finishes() -> None:
        world.clock.advance(LEASE)
        world.upload(key="k")

    world.before["commit"] = another_finishes
    with pytest.raises(Conflict):
        world.upload(key="k")
    assert len(world.seen_by(ANN)) == 1
    assert world.upload(key="k").replayed is True


def test_the_upload_of_an_image_in_the_trash_is_a_conflict() -> None:
    world = World()
    image = world.upload(key="k").image
    world.delete(image)
    with pytest.raises(Conflict) as refusal:
        world.upload(key="k")
    assert not isinstance(refusal.value, KeyReused)
    assert refusal.value.retry_after_s is None
    assert world.restore(image) == image


def test_once_an_image_is_purged_its_key_is_free_for_anything() -> None:
    world = World()
    first = world.upload(key="k").image
    world.delete(first, permanent=True)
    world.sweep()
    second = world.upload(b"other", filename="dog.jpg", key="k")
    assert second.replayed is False
    assert second.image.image_id == first.image_id
    assert world.bytes_of(second.image) == b"other"


def test_an_upload_waits_while_the_sweeper_removes_what_an_earlier_one_left() -> None:
    world = World(failing={"put": "after"})
    with pytest.raises(Unavailable):
        world.upload(key="k")
    world.clock.advance(RESERVATION_TTL)
    world.failing = {"delete_prefix": "before"}
    assert world.sweep().failed == 1
    world.failing.clear()
    with pytest.raises(Conflict) as refusal:
        world.upload(key="k")
    assert refusal.value.retry_after_s is not None
