from dataclasses import replace

import pytest

from application.commands.revise_metadata import ReviseMetadata
from domain.errors import NotFound, PreconditionFailed, Unavailable
from domain.events import MetadataRevised
from domain.image import Image, MetadataChange, MetadataField
from domain.values import Description, Tag, Title, UserId
from tests.builders import ANN, BOB
from tests.unit.world import Failure, World

TITLE, DESCRIPTION, TAGS = Title("dog"), Description("barks"), (Tag("dogs"),)
DOG = MetadataChange(title=TITLE, description=DESCRIPTION, tags=TAGS)
ALL: frozenset[MetadataField] = frozenset({"title", "description", "tags"})


def revise(
    world: World,
    image: Image,
    change: MetadataChange = DOG,
    *,
    owner: UserId = ANN,
    expected_version: int | None = None,
) -> Image:
    return world.bus.execute(
        ReviseMetadata(
            owner=owner,
            image_id=image.image_id,
            change=change,
            expected_version=expected_version,
        )
    )


def test_a_revision_is_what_the_next_read_shows() -> None:
    world = World()
    image = world.upload().image
    world.clock.advance()
    revised = revise(world, image)
    assert revised == replace(
        image, title=TITLE, description=DESCRIPTION, tags=TAGS, version=2, updated_at=world.clock.now()
    )
    assert world.seen_by(ANN) == (revised,)
    assert world.events[1:] == [MetadataRevised(owner=ANN, image_id=image.image_id, at=world.clock.now(), version=2)]


def test_what_a_revision_does_not_name_stays() -> None:
    world = World()
    image = revise(world, world.upload().image)
    revised = revise(world, image, MetadataChange(description=Description("")))
    assert (revised.title, revised.description, revised.tags) == ("dog", "", ("dogs",))


def test_what_a_replacement_does_not_name_goes_back_to_its_default() -> None:
    world = World()
    image = revise(world, world.upload(filename="cat.jpg").image)
    assert (image.title, image.description, image.tags) == ("dog", "barks", ("dogs",))
    replaced = revise(world, image, MetadataChange(description=Description("purrs"), reset=ALL))
    assert (replaced.title, replaced.description, replaced.tags) == ("cat", "purrs", ())


@pytest.mark.parametrize("change", [MetadataChange(), MetadataChange(reset=ALL)])
def test_a_revision_that_changes_nothing_is_no_revision(change: MetadataChange) -> None:
    world = World()
    image = world.upload().image
    world.clock.advance()
    assert revise(world, image, change) == image
    assert len(world.events) == 1


def test_a_revision_of_another_version_is_refused_and_changes_nothing() -> None:
    world = World()
    image = world.upload().image
    revised = revise(world, image, expected_version=1)
    with pytest.raises(PreconditionFailed):
        revise(world, image, MetadataChange(title=Title("late")), expected_version=1)
    assert world.seen_by(ANN) == (revised,)


def test_another_owners_image_is_not_found_and_stays_as_it_is() -> None:
    world = World()
    image = world.upload().image
    with pytest.raises(NotFound):
        revise(world, image, owner=BOB)
    assert world.seen_by(ANN) == (image,)


def test_a_deleted_image_is_not_found_and_comes_back_unrevised() -> None:
    world = World()
    image = world.upload().image
    world.delete(image)
    with pytest.raises(NotFound):
        revise(world, image)
    assert world.restore(image) == image


@pytest.mark.parametrize("failure", ["before", "after"])
def test_a_revision_that_fails_happened_wholly_or_not_at_all(failure: Failure) -> None:
    world = World()
    image = world.upload().image
    world.failing["update"] = failure
    with pytest.raises(Unavailable):
        revise(world, image)
    (seen,) = world.seen_by(ANN)
    assert (seen.title, seen.tags, seen.version) == (("cat", (), 1) if failure == "before" else ("dog", ("dogs",), 2))


def test_a_clock_that_was_set_back_does_not_set_a_record_back() -> None:
    world = World()
    image = world.upload().image
    world.clock.present = world.clock.present.replace(year=2020)
    assert revise(world, image).updated_at == image.updated_at


def test_the_revision_is_the_same_however_often_a_store_tries_it() -> None:
    world = World()
    image = world.upload().image
    made = []

    def remember() -> None:
        made.append(world.clock.now())
        world.clock.advance()  # time passes while the store tries

    world.before["update"] = remember
    assert revise(world, image).updated_at == made[0]
