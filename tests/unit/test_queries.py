from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from application.ports import ByOwner, ByTags, ByteRange, ByTitle, Filter, ObjectBody
from application.queries.get_image import GetImage
from application.queries.list_images import ImagePage, ListImages
from application.queries.read_content import ImageContent, ReadContent
from domain.errors import Damaged, Invalid, NotFound, Unavailable
from domain.image import Image
from domain.limits import TAGS_MAX
from domain.values import Tag, Title, UserId, parse_tags
from tests.builders import ANN, BOB
from tests.unit.world import World

A, B = Tag("a"), Tag("b")

# ---- one record


def test_a_record_is_found_by_its_owner_only() -> None:
    world = World()
    image = world.upload().image
    assert world.bus.ask(GetImage(owner=ANN, image_id=image.image_id)) == image
    with pytest.raises(NotFound):
        world.bus.ask(GetImage(owner=BOB, image_id=image.image_id))
    with pytest.raises(NotFound):
        world.bus.ask(GetImage(owner=ANN, image_id=UUID(int=999)))


# ---- listings


def pages(world: World, which: Filter, limits: list[int]) -> list[ImagePage]:
    """Read to the end, with a page size of its own for each page, the last size for the rest."""
    found: list[ImagePage] = []
    cursor: str | None = None
    while not found or cursor is not None:
        limit = limits[min(len(found), len(limits) - 1)]
        found.append(world.bus.ask(ListImages(owner=ANN, which=which, limit=limit, cursor=cursor)))
        cursor = found[-1].next_cursor
    return found


@settings(max_examples=50)
@given(
    uploads=st.lists(st.tuples(st.sets(st.sampled_from("abc")), st.sampled_from(["cat", "CAT", "dog"]), st.booleans())),
    limits=st.lists(st.integers(1, 7), min_size=1),
    which=st.sampled_from([ByOwner(), ByTags((A,)), ByTags((A, B)), ByTags((A, B), "all"), ByTitle(Title("Cat"))]),
)
def test_pages_of_any_sizes_are_the_whole_listing_newest_first(
    uploads: list[tuple[set[str], str, bool]], limits: list[int], which: Filter
) -> None:
    world = World()
    for tags, title, later in uploads:
        world.upload(tags=tuple(sorted(tags)), title=title)
        world.upload(owner=BOB, tags=tuple(tags), title=title)
        world.clock.advance(timedelta(seconds=later))
    listed = [image for page in pages(world, which, limits) for image in page.images]
    assert listed == [image for image in world.seen_by(ANN) if _fits(image, which)]
    order = [(image.created_at, image.image_id) for image in listed]
    assert order == sorted(order, reverse=True)


def _fits(image: Image, which: Filter) -> bool:
    match which:
        case ByOwner():
            return True
        case ByTags(tags, how):
            return (any if how == "any" else all)(tag in image.tags for tag in tags)
        case ByTitle():
            return image.title.lower() == "cat"


def test_a_full_last_page_has_no_next() -> None:
    world = World()
    for _ in range(4):
        world.upload()
    assert [len(page.images) for page in pages(world, ByOwner(), [2])] == [2, 2]


def test_a_library_without_matches_is_one_empty_page() -> None:
    assert World().bus.ask(ListImages(owner=ANN)) == ImagePage((), None)


def test_a_page_has_20_images_unless_told_otherwise() -> None:
    world = World()
    for _ in range(21):
        world.upload()
    assert len(world.bus.ask(ListImages(owner=ANN)).images) == 20


def test_a_cursor_survives_the_deletion_of_its_own_row() -> None:
    world = World()
    oldest, middle, newest = (world.upload().image for _ in range(3))
    cursor = world.bus.ask(ListImages(owner=ANN, limit=2)).next_cursor
    world.delete(middle)
    world.delete(newest)
    assert world.bus.ask(ListImages(owner=ANN, cursor=cursor)) == ImagePage((oldest,), None)


def test_what_comes_after_a_cursor_was_given_does_not_move_it() -> None:
    world = World()
    oldest, _, _ = (world.upload().image for _ in range(3))
    cursor = world.bus.ask(ListImages(owner=ANN, limit=2)).next_cursor
    world.clock.advance()
    world.upload()
    assert world.bus.ask(ListImages(owner=ANN, cursor=cursor)).images == (oldest,)


@pytest.mark.parametrize(
    ("owner", "which"),
    [(BOB, ByOwner()), (ANN, ByTags((Tag("a"),))), (ANN, ByTitle(Title("cat")))],
    ids=["another owner", "tags", "title"],
)
def test_a_cursor_of_another_listing_is_refused(owner: UserId, which: Filter) -> None:
    world = World()
    for _ in range(2):
        world.upload(tags=("a",))
    cursor = world.bus.ask(ListImages(owner=ANN, limit=1)).next_cursor
    with pytest.raises(Invalid) as refusal:
        world.bus.ask(ListImages(owner=owner, which=which, cursor=cursor))
    assert refusal.value.code == "invalid_cursor"


@pytest.mark.parametrize("cursor", ["", "nonsense"])
def test_a_cursor_that_nobody_gave_out_is_refused(cursor: str) -> None:
    with pytest.raises(Invalid):
        World().bus.ask(ListImages(owner=ANN, cursor=cursor))


@pytest.mark.parametrize("limit", [0, -1, 101])
def test_a_limit_out_of_range_is_refused(limit: int) -> None:
    with pytest.raises(Invalid, match="limit must be 1-100"):
        World().bus.ask(ListImages(owner=ANN, limit=limit))


@pytest.mark.parametrize("limit", [1, 100])
def test_a_limit_at_the_border_is_taken(limit: int) -> None:
    assert World().bus.ask(ListImages(owner=ANN, limit=limit)).images == ()


def test_a_search_by_tags_needs_at_least_one_and_takes_at_most_30() -> None:
    world = World()
    thirty = parse_tags(f"tag{number}" for number in range(TAGS_MAX))
    assert world.bus.ask(ListImages(owner=ANN, which=ByTags(thirty))).images == ()
    for tags in ((), (*thirty, Tag("another"))):
        with pytest.raises(Invalid, match="tags must be 1-30"):
            world.bus.ask(ListImages(owner=ANN, which=ByTags(tags)))


# ---- content


Opening = Callable[..., ObjectBody | None]
OPENING = pytest.mark.parametrize("opening", [ImageContent.open, ImageContent.open_at_hand])


def content_of(world: World, image: Image) -> ImageContent:
    return world.bus.ask(ReadContent(owner=image.owner, image_id=image.image_id))


@OPENING
def test_an_original_is_read_whole_or_in_part(opening: Opening) -> None:
    world = World()
    content = content_of(world, world.upload(b"0123456789").image)
    whole, part = opening(content), opening(content, ByteRange(2, 5))
    assert whole is not None
    assert whole.read() == b"0123456789"
    assert part is not None
    assert part.read() == b"234"
    assert part.info.size_bytes == 10


def test_nothing_is_opened_until_the_bytes_are_asked_for() -> None:
    world = World()
    image = world.upload().image
    world.calls.clear()
    assert content_of(world, image).image == image
    assert world.calls == ["get"]


def test_anothers_original_is_not_found() -> None:
    world = World()
    image = world.upload().image
    with pytest.raises(NotFound):
        world.bus.ask(ReadContent(owner=BOB, image_id=image.image_id))


@OPENING
def test_a_record_without_its_object_is_damaged(opening: Opening) -> None:
    world = World()
    image = world.upload().image
    del world.objects.objects[image.key]
    with pytest.raises(Damaged, match=str(image.image_id)):
        opening(content_of(world, image))


@OPENING
@pytest.mark.parametrize("data", [b"jpeg!", b"jpeG"])
@pytest.mark.parametrize("byte_range", [None, ByteRange(0, 2)])
def test_an_object_of_other_bytes_is_damaged(opening: Opening, data: bytes, byte_range: ByteRange | None) -> None:
    world = World()
    image = world.upload(b"jpeg").image
    stored = world.objects.objects[image.key]
    world.objects.objects[image.key] = stored._replace(info=replace(stored.info, size_bytes=len(data)), data=data)
    with pytest.raises(Damaged, match=str(image.image_id)):
        opening(content_of(world, image), byte_range)


@OPENING
def test_an_image_purged_between_its_record_and_its_bytes_is_not_found(opening: Opening) -> None:
    world = World()
    image = world.upload().image
    content = content_of(world, image)
    world.delete(image, permanent=True)
    world.sweep()
    with pytest.raises(NotFound):
        opening(content)


@pytest.mark.parametrize("data", [b"jpeg", b"JPEG", b"another length"])
@pytest.mark.parametrize("filename", ["cat.jpg", "dog.jpg"])
def test_an_image_whose_id_went_to_a_later_upload_is_not_damaged(data: bytes, filename: str) -> None:
    world = World()
    image = world.upload(b"jpeg", key="k").image
    content = content_of(world, image)
    world.delete(image, permanent=True)
    world.sweep()
    world.clock.advance()
    later = world.upload(data, filename=filename, key="k").image
    if later.key == image.key and data == b"jpeg":
        assert content.open().read() == b"jpeg"
    else:
        with pytest.raises(NotFound):
            content.open()


def test_a_store_that_does_not_answer_is_unavailable_and_not_damaged() -> None:
    world = World(failing={"open": "before"})
    image = world.upload().image
    with pytest.raises(Unavailable):
        content_of(world, image).open()
