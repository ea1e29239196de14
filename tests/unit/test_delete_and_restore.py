import pytest

from application.commands.delete_image import DeleteImage
from application.commands.restore_image import RestoreImage
from application.queries.get_image import GetImage
from domain.errors import NotFound, PreconditionFailed, Unavailable
from domain.events import ImageDeleted, ImageRestored
from tests.builders import ANN, BOB, INSTANT
from tests.unit.world import RETENTION, Failure, World


def test_a_deleted_image_is_gone_from_every_read_and_restorable_until_its_time() -> None:
    world = World()
    image = world.upload().image
    trashed = world.delete(image)
    assert (trashed.image, trashed.deleted_at) == (image, world.clock.now())
    assert trashed.due == world.clock.now() + RETENTION
    assert world.seen_by(ANN) == ()
    with pytest.raises(NotFound):
        world.bus.ask(GetImage(owner=ANN, image_id=image.image_id))
    assert world.keys == {image.key}


def test_an_image_comes_back_from_the_trash_just_as_it_was() -> None:
    world = World()
    image = world.upload(title="a cat", tags=("a", "b")).image
    world.clock.advance()
    world.delete(image)
    world.clock.advance(RETENTION - INSTANT)
    assert world.restore(image) == image
    assert world.seen_by(ANN) == (image,)
    assert world.bytes_of(image) == b"jpeg"
    assert world.reserved == set()


def test_deletion_and_return_are_told() -> None:
    world = World()
    image = world.upload().image
    deleted_at = world.clock.now()
    world.delete(image)
    world.clock.advance()
    world.restore(image)
    assert world.events[1:] == [
        ImageDeleted(owner=ANN, image_id=image.image_id, at=deleted_at, restorable_until=deleted_at + RETENTION),
        ImageRestored(owner=ANN, image_id=image.image_id, at=world.clock.now()),
    ]


def test_a_permanent_deletion_is_due_at_once_and_can_not_be_undone() -> None:
    world = World()
    image = world.upload().image
    assert world.delete(image, permanent=True).due == world.clock.now()
    with pytest.raises(NotFound):
        world.restore(image)
    assert world.sweep().images == 1
    assert world.keys == set()


def test_an_image_can_not_be_restored_once_it_is_due() -> None:
    world = World()
    image = world.upload().image
    world.delete(image)
    world.clock.advance(RETENTION)
    with pytest.raises(NotFound):
        world.restore(image)
    assert world.seen_by(ANN) == ()


def test_an_image_that_the_sweeper_claimed_can_not_be_restored_even_by_a_slow_clock() -> None:
    world = World(failing={"delete_prefix": "after"})
    image = world.upload().image
    world.delete(image)
    world.clock.advance(RETENTION)
    assert world.sweep().failed == 1
    world.clock.advance(-RETENTION)
    with pytest.raises(NotFound):
        world.restore(image)


def test_a_restored_image_is_out_of_the_sweepers_reach() -> None:
    world = World()
    image = world.upload().image
    world.delete(image)
    world.restore(image)
    world.clock.advance(2 * RETENTION)
    assert world.sweep().images == 0
    assert world.bytes_of(image) == b"jpeg"


def test_what_is_gone_can_not_be_deleted_again_nor_restored_twice() -> None:
    world = World()
    image = world.upload().image
    with pytest.raises(NotFound):
        world.restore(image)
    world.delete(image)
    with pytest.raises(NotFound):
        world.delete(image)
    world.restore(image)
    with pytest.raises(NotFound):
        world.restore(image)
    assert world.seen_by(ANN) == (image,)


def test_nobody_deletes_or_restores_anothers_image() -> None:
    world = World()
    image = world.upload().image
    with pytest.raises(NotFound):
        world.bus.execute(DeleteImage(owner=BOB, image_id=image.image_id))
    assert world.seen_by(ANN) == (image,)
    world.delete(image)
    with pytest.raises(NotFound):
        world.bus.execute(RestoreImage(owner=BOB, image_id=image.image_id))
    assert world.seen_by(ANN) == world.seen_by(BOB) == ()


def test_a_deletion_of_another_version_is_refused() -> None:
    world = World()
    image = world.upload().image
    with pytest.raises(PreconditionFailed):
        world.bus.execute(DeleteImage(owner=ANN, image_id=image.image_id, expected_version=2))
    assert world.seen_by(ANN) == (image,)
    world.bus.execute(DeleteImage(owner=ANN, image_id=image.image_id, expected_version=1))
    assert world.seen_by(ANN) == ()


@pytest.mark.parametrize("failure", ["before", "after"])
def test_a_deletion_or_return_that_fails_happened_wholly_or_not_at_all(failure: Failure) -> None:
    world = World()
    image = world.upload().image
    world.failing = {"trash": failure, "restore": failure}
    with pytest.raises(Unavailable):
        world.delete(image)
    assert world.seen_by(ANN) == ((image,) if failure == "before" else ())
    world.failing.pop("trash")
    if failure == "before":
        world.delete(image)
    with pytest.raises(Unavailable):
        world.restore(image)
    assert world.seen_by(ANN) == (() if failure == "before" else (image,))


def test_a_permanent_deletion_can_not_be_undone_by_a_clock_that_is_behind() -> None:
    world = World()
    image = world.upload().image
    world.bus.execute(DeleteImage(owner=image.owner, image_id=image.image_id, permanent=True))
    world.clock.advance(-RETENTION)
    with pytest.raises(NotFound):
        world.restore(image)
