"""The law of MetadataReader, over every adapter."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from application.ports import ByOwner, ByTags, ByTitle, Filter, Position
from domain.errors import NotFound
from domain.image import Image, MetadataChange, Revision
from domain.values import Tag, Title, UserId, parse_tags
from tests.builders import ANN, BOB, HOUR, INSTANT, NOON, Catalog, OpenCatalog, an_image, reserved_for, stored

ODD_TAGS = [
    "%",
    "_",
    "a_b",
    "a#b",
    "'",
    '"',
    "\\",
    "a,b",
    "[]",
    "a\0b",
    "a\nb",
    "\N{PILE OF POO}",
    "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}",
    "e\N{COMBINING DOT BELOW}\N{COMBINING ACUTE ACCENT}",
    "\N{ARABIC LETTER MEEM}",
    "x" * 64,
    "\N{PILE OF POO}" * 64,
]


def place(image: Image) -> Position:
    return Position(image.created_at, image.image_id)


def listed(
    catalog: Catalog, which: Filter, *, owner: UserId = ANN, limit: int = 100, after: Position | None = None
) -> list[Image]:
    return list(catalog.page(owner, which, limit=limit, after=after).images)


def by_tags(*tags: str) -> ByTags:
    return ByTags(parse_tags(tags))


def by_all_tags(*tags: str) -> ByTags:
    return ByTags(parse_tags(tags), "all")


def pages(catalog: Catalog, which: Filter, *, limit: int, after: Position | None = None) -> Iterator[tuple[Image, ...]]:
    """Walk a listing page by page; every page that is not the last is full."""
    while True:
        images, following = catalog.page(ANN, which, limit=limit, after=after)
        yield images
        if following is None:
            return
        assert len(images) == limit
        assert following == place(images[-1])
        after = following


class TestGet:
    def test_it_returns_every_field_as_it_was_stored(self, catalog: Catalog) -> None:
        image = stored(
            catalog,
            an_image(
                owner="a|b@c:d._-e",
                filename="100% _'\"; DROP TABLE \N{PILE OF POO}.jpg",
                title="Stra\N{LATIN SMALL LETTER SHARP S}e 'x' \"y\" %_#",
                description="one\0two\nthree \N{PILE OF POO} e\N{COMBINING DOT BELOW}",
                tags=ODD_TAGS,
                sha256="0f" * 32,
                size_bytes=25 * 1024 * 1024,
                width=100_000,
                height=1,
                created_at=NOON + INSTANT,
                updated_at=NOON + HOUR + INSTANT,
                version=12,
                fingerprint="f",
            ),
        )
        found = catalog.get(image.owner, image.image_id)
        assert found == image
        assert [type(value) for value in vars_of(found)] == [type(value) for value in vars_of(image)]

    def test_what_an_owner_does_not_have_is_not_found(self, catalog: Catalog) -> None:
        foreign, absent, reserved = stored(catalog, an_image(owner=BOB)), an_image(), an_image()
        catalog.reserve(reserved_for(reserved), at=NOON)
        for image in (foreign, absent, reserved):
            with pytest.raises(NotFound):
                catalog.get(ANN, image.image_id)


class TestPage:
    def test_it_is_newest_first_and_ties_are_by_descending_id(self, catalog: Catalog) -> None:
        moments = [NOON, NOON + INSTANT, NOON, NOON - HOUR, NOON, NOON + INSTANT]
        images = [stored(catalog, an_image(created_at=moment, tags=["a", "b"])) for moment in moments]
        for which in (ByOwner(), by_tags("a"), by_tags("a", "b"), by_all_tags("a", "b"), ByTitle(Title("cat"))):
            assert listed(catalog, which) == sorted(images, key=place, reverse=True)

    @pytest.mark.parametrize("which", [ByOwner(), by_tags("a"), by_tags("a", "b"), by_all_tags("a", "b")])
    def test_only_a_page_that_something_follows_has_a_next_position(self, catalog: Catalog, which: Filter) -> None:
        assert catalog.page(ANN, which, limit=3) == ((), None)
        images = [stored(catalog, an_image(created_at=NOON - n * INSTANT, tags=["a", "b"])) for n in range(3)]
        assert catalog.page(ANN, which, limit=2) == (tuple(images[:2]), place(images[1]))
        assert catalog.page(ANN, which, limit=3) == (tuple(images), None)
        assert catalog.page(ANN, which, limit=2, after=place(images[0])) == (tuple(images[1:]), None)
        assert catalog.page(ANN, which, limit=2, after=place(images[2])) == ((), None)

    @pytest.mark.parametrize("which", [ByOwner(), by_tags("a"), by_tags("a", "b"), by_all_tags("a", "b")])
    def test_a_position_survives_the_deletion_of_its_own_image(self, catalog: Catalog, which: Filter) -> None:
        images = [stored(catalog, an_image(created_at=NOON - n * INSTANT, tags=["a", "b"])) for n in range(3)]
        catalog.trash(ANN, images[1].image_id, at=NOON, due=NOON + HOUR)
        assert listed(catalog, which, after=place(images[1])) == [images[2]]

    def test_a_position_may_be_of_a_time_when_nothing_was(self, catalog: Catalog) -> None:
        image = stored(catalog, an_image())
        assert listed(catalog, ByOwner(), after=Position(NOON + HOUR, image.image_id)) == [image]
        assert listed(catalog, ByOwner(), after=Position(NOON - HOUR, image.image_id)) == []

    def test_nothing_of_another_owner_is_ever_listed(self, catalog: Catalog) -> None:
        near = [UserId(name) for name in ("an", "ann.", "ann|tag|a", "anna", "ANN")]
        for owner in near:
            stored(catalog, an_image(owner=owner, tags=["a", "b"]))
        for which in (ByOwner(), by_tags("a"), by_tags("a", "b"), by_all_tags("a", "b"), ByTitle(Title("Cat"))):
            assert listed(catalog, which) == []
            assert [len(listed(catalog, which, owner=owner)) for owner in near] == [1] * len(near)


class TestPageByTitle:
    @pytest.mark.parametrize(
        ("title", "asked"),
        [
            ("Holiday", "HOLIDAY"),
            ("Stra\N{LATIN SMALL LETTER SHARP S}e", "STRASSE"),
            ("\N{GREEK CAPITAL LETTER SIGMA}", "\N{GREEK SMALL LETTER FINAL SIGMA}"),
            ("Caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafE\N{COMBINING ACUTE ACCENT}"),
            ("100%", "100%"),
            ("a_b", "A_B"),
            ('o\'clock "#1"', 'O\'Clock "#1"'),
        ],
    )
    def test_case_does_not_count(self, catalog: Catalog, title: str, asked: str) -> None:
        image = stored(catalog, an_image(title=title))
        assert listed(catalog, ByTitle(Title(asked))) == [image]

    @pytest.mark.parametrize("asked", ["Holi", "Holiday!", "Hol_day", "%", "Holiday 2"])
    def test_only_the_whole_title_matches(self, catalog: Catalog, asked: str) -> None:
        stored(catalog, an_image(title="Holiday"))
        assert listed(catalog, ByTitle(Title(asked))) == []


class TestPageByTags:
    def test_any_finds_what_carries_one_of_them_once(self, catalog: Catalog) -> None:
        both, first, second, _ = (stored(catalog, an_image(tags=tags)) for tags in (["a", "b"], ["a"], ["b"], ["c"]))
        assert set(ids_of(listed(catalog, by_tags("a", "b")))) == set(ids_of([both, first, second]))
        assert len(listed(catalog, by_tags("a", "b"))) == 3

    def test_all_finds_only_what_carries_each_of_them(self, catalog: Catalog) -> None:
        both, _, _, more = (
            stored(catalog, an_image(tags=tags)) for tags in (["a", "b"], ["a"], ["b"], ["b", "c", "a"])
        )
        assert set(ids_of(listed(catalog, by_all_tags("a", "b")))) == set(ids_of([both, more]))
        assert listed(catalog, by_all_tags("a", "b", "c")) == [more]
        assert listed(catalog, by_all_tags("a", "d")) == []

    def test_all_skips_what_carries_only_some_of_them(self, catalog: Catalog) -> None:
        carried = ["a", "b", "ab", "b", "b", "a", "abc", "c", "ac", "bc", "ab"]
        images = [
            stored(catalog, an_image(tags=tags, created_at=NOON - age * INSTANT))
            for age, tags in enumerate(map(list, carried))
        ]
        assert listed(catalog, by_all_tags("a", "b")) == [images[2], images[6], images[10]]
        assert listed(catalog, by_all_tags("b", "a"), limit=2) == [images[2], images[6]]
        assert listed(catalog, by_all_tags("c", "b", "a")) == [images[6]]

    def test_a_tag_given_twice_counts_once(self, catalog: Catalog) -> None:
        image = stored(catalog, an_image(tags=["a"]))
        for match in ("any", "all"):
            assert listed(catalog, ByTags((Tag("a"), Tag("a")), match)) == [image]

    def test_thirty_tags_can_be_asked_for_at_once(self, catalog: Catalog) -> None:
        tags = [f"tag {number}" for number in range(30)]
        every, one = stored(catalog, an_image(tags=tags)), stored(catalog, an_image(tags=tags[-1:]))
        assert set(ids_of(listed(catalog, by_tags(*tags)))) == set(ids_of([every, one]))
        assert listed(catalog, by_all_tags(*tags)) == [every]

    @pytest.mark.parametrize("tag", ODD_TAGS)
    def test_any_character_may_be_in_a_tag(self, catalog: Catalog, tag: str) -> None:
        image = stored(catalog, an_image(tags=[tag]))
        stored(catalog, an_image(tags=["ab", "a", "b", "x"]))
        assert listed(catalog, by_tags(tag)) == [image]
        assert listed(catalog, by_tags(tag, "none")) == [image]
        assert listed(catalog, by_all_tags(tag, tag)) == [image]


class TestCount:
    def test_it_counts_the_owners_images_without_the_trash(self, catalog: Catalog) -> None:
        assert catalog.count(ANN) == 0
        images = [stored(catalog, an_image()) for _ in range(3)]
        stored(catalog, an_image(owner=BOB))
        catalog.reserve(reserved_for(an_image()), at=NOON)
        assert (catalog.count(ANN), catalog.count(BOB)) == (3, 1)
        catalog.trash(ANN, images[0].image_id, at=NOON, due=NOON + HOUR)
        assert catalog.count(ANN) == 2


# The pagination law, on random libraries. Few times, titles and tags, so that ties and matches are common.

TAGS = "abc"
libraries = st.lists(
    st.builds(
        an_image,
        image_id=st.uuids(),
        owner=st.sampled_from([ANN, ANN, ANN, BOB]),
        created_at=st.integers(0, 4).map(lambda step: NOON + step * INSTANT),
        title=st.sampled_from(["Cat", "CAT", "Dog"]),
        tags=st.lists(st.sampled_from(TAGS), unique=True),
    ),
    max_size=14,
    unique_by=lambda image: image.image_id,
)
filters = st.one_of(
    st.just(ByOwner()),
    st.builds(ByTitle, st.sampled_from([Title("cat"), Title("dog")])),
    st.builds(
        ByTags,
        st.lists(st.sampled_from([*TAGS, "d"]), min_size=1, max_size=3).map(lambda tags: tuple(map(Tag, tags))),
        st.sampled_from(["any", "all"]),
    ),
)
limits = st.integers(1, 6)


def matches(image: Image, which: Filter) -> bool:
    match which:
        case ByOwner():
            return True
        case ByTitle(title):
            return image.title.casefold() == title.casefold()
        case ByTags(tags, match):
            carried = [tag in image.tags for tag in tags]
            return any(carried) if match == "any" else all(carried)


def test_the_pages_of_a_listing_are_the_whole_of_it_newest_first(open_catalog: OpenCatalog, scale: float) -> None:
    @settings(max_examples=round(60 * scale))
    @given(library=libraries, which=filters, limit=limits)
    def law(library: list[Image], which: Filter, limit: int) -> None:
        expected = [image for image in library if image.owner == ANN and matches(image, which)]
        expected.sort(key=lambda image: (image.created_at, image.image_id), reverse=True)
        with open_catalog() as catalog:
            for image in library:
                stored(catalog, image)
            found = list(pages(catalog, which, limit=limit))
        assert [image for page in found for image in page] == expected
        assert len(found) == max(1, -(-len(expected) // limit))

    law()


def test_tags_in_any_pattern_find_just_the_images_that_carry_them(open_catalog: OpenCatalog, scale: float) -> None:
    @settings(max_examples=round(60 * scale))
    @given(
        carried=st.lists(st.lists(st.sampled_from("ab"), unique=True), max_size=40),
        tags=st.sampled_from(["ab", "ba", "aab"]),
        match=st.sampled_from(["any", "all", "all"]),
        limit=st.integers(1, 40),
    )
    def law(carried: list[list[str]], tags: str, match: Literal["any", "all"], limit: int) -> None:
        library = [an_image(tags=each, created_at=NOON - age * INSTANT) for age, each in enumerate(carried)]
        which = ByTags(tuple(map(Tag, tags)), match)
        with open_catalog() as catalog:
            for image in library:
                stored(catalog, image)
            found = [image for page in pages(catalog, which, limit=limit) for image in page]
        assert found == [image for image in library if matches(image, which)]

    law()


# What others do between two pages: the image of that number goes to the trash, or gets these tags.
happenings = st.lists(
    st.tuples(st.integers(0, 13), st.none() | st.lists(st.sampled_from(TAGS), unique=True).map(parse_tags))
)


def test_what_is_there_all_the_time_appears_once_whatever_comes_and_goes_between_pages(
    open_catalog: OpenCatalog, scale: float
) -> None:
    @settings(max_examples=round(60 * scale))
    @given(library=libraries, arrivals=libraries, events=happenings, which=filters, limit=st.integers(1, 3))
    def law(
        library: list[Image],
        arrivals: list[Image],
        events: list[tuple[int, tuple[Tag, ...] | None]],
        which: Filter,
        limit: int,
    ) -> None:
        present = [replace(image, owner=ANN) for image in library]
        coming = [replace(image, owner=ANN) for image in arrivals if image.image_id not in ids_of(library)]
        steady = {image.image_id for image in present if matches(image, which)}
        seen: list[Image] = []
        with open_catalog() as catalog:
            for image in present:
                stored(catalog, image)
            for page in pages(catalog, which, limit=limit):
                seen.extend(page)
                if coming:
                    stored(catalog, coming.pop())
                if events and present:
                    number, tags = events.pop()
                    image = present.pop(number % len(present))
                    if tags is None or not matches(replace(image, tags=tags), which):
                        steady.discard(image.image_id)
                    if tags is None:
                        catalog.trash(ANN, image.image_id, at=NOON, due=NOON + HOUR)
                    else:
                        catalog.update(ANN, image.image_id, retagged(tags))
        shown = ids_of(seen)
        assert len(shown) == len(set(shown))
        assert steady <= set(shown)

    law()


def retagged(tags: tuple[Tag, ...]) -> Callable[[Image], Revision]:
    return lambda image: image.revised(MetadataChange(tags=tags), at=NOON)


def ids_of(images: list[Image]) -> list[object]:
    return [image.image_id for image in images]


def vars_of(image: Image) -> list[object]:
    return [*(getattr(image, name) for name in Image.__slots__), *image.tags]
