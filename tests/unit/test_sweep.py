from collections.abc import Iterator
from datetime import timedelta

import pytest

from application.commands.sweep import SweepReport
from domain.errors import NotFound, Unavailable
from domain.events import ImagePurged
from domain.image import Image
from tests.builders import ANN, BOB, INSTANT
from tests.unit.world import RESERVATION_TTL, RETENTION, Failure, World

CLAIM = timedelta(minutes=5)


def a_broken_upload(world: World) -> None:
    world.failing["commit"] = "before"
    with pytest.raises(Unavailable):
        world.upload()
    world.failing.clear()


def some_deleted(world: World, count: int) -> list[Image]:
    images = [world.upload().image for _ in range(count)]
    for image in images:
        world.delete(image, permanent=True)
    world.calls.clear()
    world.events.clear()
    return images


def test_a_sweep_collects_what_is_due_and_nothing_else() -> None:
    world = World()
    kept, trashed, purged = (world.upload().image for _ in range(3))
    world.delete(trashed)
    world.delete(purged, permanent=True)
    assert world.sweep() == SweepReport(images=1)
    assert world.keys == {kept.key, trashed.key}
    assert world.seen_by(ANN) == (kept,)
    assert world.restore(trashed) == trashed


def test_trash_is_kept_to_the_last_instant() -> None:
    world = World()
    image = world.upload().image
    world.delete(image)
    world.clock.advance(RETENTION - INSTANT)
    assert world.sweep() == SweepReport()
    world.clock.advance(INSTANT)
    assert world.sweep() == SweepReport(images=1)
    assert world.keys == set()


def test_an_upload_that_never_committed_is_collected_once_its_reservation_is_over() -> None:
    world = World()
    a_broken_upload(world)
    world.clock.advance(RESERVATION_TTL - INSTANT)
    assert world.sweep() == SweepReport()
    assert len(world.keys) == 1
    world.clock.advance(INSTANT)
    assert world.sweep() == SweepReport(uploads=1)
    assert world.keys == world.reserved == set()


def test_objects_go_after_the_claim_and_before_the_entry() -> None:
    world = World()
    some_deleted(world, 1)
    world.sweep()
    assert world.calls == ["due", "claim", "delete_prefix", "forget"]


def test_a_purge_is_told_to_its_owner_and_a_broken_upload_to_nobody() -> None:
    world = World()
    a_broken_upload(world)
    image = world.upload(owner=BOB).image
    world.delete(image, permanent=True)
    world.events.clear()
    world.clock.advance(RESERVATION_TTL)
    world.sweep()
    assert world.events == [ImagePurged(owner=BOB, image_id=image.image_id, at=world.clock.now())]


def test_a_second_sweep_finds_nothing_left() -> None:
    world = World()
    some_deleted(world, 3)
    assert world.sweep() == SweepReport(images=3)
    assert world.sweep() == SweepReport()


@pytest.mark.parametrize("call", ["claim", "delete_prefix", "forget"])
def test_two_sweepers_collect_each_entry_once(call: str) -> None:
    world = World()
    images = some_deleted(world, 3)
    reports = []
    world.before[call] = lambda: reports.append(world.sweep())
    reports.append(world.sweep())
    assert sum(report.images for report in reports) == 3
    assert [report.failed for report in reports] == [0, 0]
    assert sorted(event.image_id for event in world.events) == sorted(image.image_id for image in images)
    assert world.keys == world.reserved == set()


@pytest.mark.parametrize("call", ["claim", "delete_prefix", "forget"])
@pytest.mark.parametrize("failure", ["before", "after"])
def test_a_sweep_that_fails_halfway_is_finished_by_a_later_one(call: str, failure: Failure) -> None:
    world = World(failing={})
    some_deleted(world, 2)
    world.failing[call] = failure
    assert world.sweep() == SweepReport(failed=2)
    assert world.events == []
    world.failing.clear()
    world.clock.advance(CLAIM)
    world.sweep()
    assert world.keys == world.reserved == set()


def test_one_entry_that_fails_stays_and_does_not_stop_the_others() -> None:
    world = World()
    stuck, *others = some_deleted(world, 3)

    def fail_once() -> None:
        raise Unavailable("the disk is full")

    world.before["delete_prefix"] = fail_once
    report = world.sweep()
    assert report == SweepReport(images=2, failed=1)
    assert report.reason == f"{stuck.image_id}: the disk is full"
    assert world.reserved == {stuck.image_id}
    assert world.keys == {stuck.key}
    assert len(world.events) == len(others)


def test_a_claim_of_a_dead_sweeper_is_taken_over_when_it_ends() -> None:
    world = World()
    (image,) = some_deleted(world, 1)
    world.failing["delete_prefix"] = "before"  # it died here
    world.sweep()
    world.failing.clear()
    world.clock.advance(CLAIM - INSTANT)
    assert world.sweep() == SweepReport()
    assert world.keys == {image.key}
    world.clock.advance(INSTANT)
    assert world.sweep() == SweepReport(images=1)
    assert world.keys == set()


def test_a_sweeper_that_slept_past_its_claim_deletes_nothing_of_a_later_upload() -> None:
    world = World()
    image = world.upload(key="k").image
    world.delete(image, permanent=True)
    later: list[Image] = []

    def sleep_while_another_finishes() -> None:
        world.clock.advance(CLAIM)
        assert world.sweep() == SweepReport(images=1)
        later.append(world.upload(key="k").image)

    world.before["delete_prefix"] = sleep_while_another_finishes
    assert world.sweep() == SweepReport(failed=1)
    assert world.bytes_of(later[0]) == b"jpeg"


def test_an_entry_restored_while_the_sweeper_walks_is_left_alone() -> None:
    world = World()
    image = world.upload().image
    world.delete(image)
    due_at = world.clock.now() + RETENTION
    world.clock.present = due_at

    def restored_by_a_slower_clock() -> None:
        world.clock.present = due_at - INSTANT
        world.restore(image)
        world.clock.present = due_at

    world.before["claim"] = restored_by_a_slower_clock
    assert world.sweep() == SweepReport()
    assert world.bytes_of(image) == b"jpeg"


def test_a_claimed_image_is_neither_visible_nor_restorable_at_any_step() -> None:
    world = World()
    (image,) = some_deleted(world, 1)
    looks: Iterator[str] = iter(("delete_prefix", "forget"))
    for call in looks:
        world.before[call] = lambda: _assert_gone(world, image)
    assert world.sweep() == SweepReport(images=1)
    _assert_gone(world, image)


def _assert_gone(world: World, image: Image) -> None:
    assert world.seen_by(ANN) == ()
    with pytest.raises(NotFound):
        world.restore(image)
