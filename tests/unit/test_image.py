from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from domain.events import ImageUploaded, MetadataRevised
from domain.image import MetadataChange, MetadataField, object_prefix
from domain.values import Description, Tag, Title
from tests.builders import NOON, an_image

IMAGE = an_image(image_id=UUID(int=7), filename="cat.jpg", title="a cat", description="sleeps", tags=["cats"])
FIELDS: list[MetadataField] = ["title", "description", "tags"]

changes = st.builds(
    MetadataChange,
    title=st.none() | st.sampled_from([Title("a cat"), Title("dog")]),
    description=st.none() | st.sampled_from([Description(""), Description("sleeps"), Description("barks")]),
    tags=st.none() | st.sampled_from([(), (Tag("cats"),), (Tag("cats"), Tag("dogs")), (Tag("dogs"), Tag("cats"))]),
    reset=st.frozensets(st.sampled_from(FIELDS)),
)
moments = st.timedeltas(min_value=timedelta(days=-1), max_value=timedelta(days=1)).map(lambda step: NOON + step)


def test_the_original_lies_under_the_prefix_of_its_image() -> None:
    assert IMAGE.key == "images/00000000-0000-0000-0000-000000000007/cat.jpg"
    assert IMAGE.key.startswith(object_prefix(IMAGE.image_id))


def test_an_arrival_is_told_with_what_arrived() -> None:
    assert IMAGE.uploaded() == ImageUploaded(
        owner=IMAGE.owner, image_id=IMAGE.image_id, at=NOON, size_bytes=IMAGE.size_bytes, media_type="image/jpeg"
    )


@given(steps=st.lists(st.tuples(changes, moments)))
def test_versions_count_the_changes_and_time_never_goes_back(steps: list[tuple[MetadataChange, datetime]]) -> None:
    image = IMAGE
    for change, at in steps:
        after, event = image.revised(change, at=at)
        if event is None:
            assert after == image
        else:
            assert after.version == image.version + 1
            assert after.updated_at == max(image.updated_at, at)
            assert event == MetadataRevised(
                owner=image.owner, image_id=image.image_id, at=after.updated_at, version=after.version
            )
        image = after


@given(change=changes, at=moments)
def test_a_revision_sets_what_it_names_and_leaves_all_else(change: MetadataChange, at: datetime) -> None:
    after, _ = IMAGE.revised(change, at=at)
    defaults = {"title": "cat", "description": "", "tags": ()}
    for name in FIELDS:
        named, default = getattr(change, name), defaults[name] if name in change.reset else getattr(IMAGE, name)
        assert getattr(after, name) == (default if named is None else named)
    assert (
        replace(
            after,
            title=IMAGE.title,
            description=IMAGE.description,
            tags=IMAGE.tags,
            updated_at=IMAGE.updated_at,
            version=IMAGE.version,
        )
        == IMAGE
    )


@given(change=changes, at=moments)
def test_the_same_revision_again_is_no_change(change: MetadataChange, at: datetime) -> None:
    once, _ = IMAGE.revised(change, at=at)
    assert once.revised(change, at=at + timedelta(days=9)) == (once, None)


def test_tags_in_another_order_are_a_change() -> None:
    two = IMAGE.revised(MetadataChange(tags=(Tag("a"), Tag("b"))), at=NOON).image
    after, event = two.revised(MetadataChange(tags=(Tag("b"), Tag("a"))), at=NOON)
    assert after.tags == ("b", "a")
    assert event is not None
