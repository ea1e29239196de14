from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from application.cursor import decode_cursor, encode_cursor
from application.ports import ByOwner, ByTags, ByTitle, Filter, Position
from domain.errors import Invalid
from domain.values import Tag, Title, UserId
from tests.builders import ANN, BOB

A, B = Tag("a"), Tag("b")
FILTERS: list[Filter] = [
    ByOwner(),
    ByTags((A,)),
    ByTags((B,)),
    ByTags((A, B)),
    ByTags((A, B), "all"),
    ByTags((Tag("user"),)),
    ByTitle(Title("a")),
    ByTitle(Title("user")),
]

owners = st.sampled_from([ANN, BOB])
filters = st.sampled_from(FILTERS)
positions = st.builds(Position, st.datetimes(timezones=st.just(UTC)), st.uuids())


@given(owner=owners, which=filters, position=positions)
@example(owner=ANN, which=ByOwner(), position=Position(datetime.min.replace(tzinfo=UTC), UUID(int=0)))
@example(owner=ANN, which=ByOwner(), position=Position(datetime.max.replace(tzinfo=UTC), UUID(int=2**128 - 1)))
def test_a_cursor_comes_back_as_the_position_it_stands_for(owner: UserId, which: Filter, position: Position) -> None:
    assert decode_cursor(owner, which, encode_cursor(owner, which, position)) == position


@given(position=positions)
def test_a_cursor_needs_no_quoting_in_a_url(position: Position) -> None:
    assert encode_cursor(ANN, ByOwner(), position).replace("-", "").replace("_", "").isalnum()


@given(position=positions, at=st.integers(0, 43), other=st.characters() | st.sampled_from("+/=-_A"))
@example(position=Position(datetime(2026, 1, 1, tzinfo=UTC), UUID(int=0xFB << 120)), at=12, other="+")
def test_a_cursor_with_one_character_changed_is_refused(position: Position, at: int, other: str) -> None:
    cursor = encode_cursor(ANN, ByOwner(), position)
    changed = cursor[:at] + other + cursor[at + 1 :]
    if changed != cursor:
        _refused(changed)


def test_a_cursor_in_the_other_base64_alphabet_is_refused() -> None:
    cursors = [
        encode_cursor(ANN, ByOwner(), Position(datetime(2026, 1, 1, tzinfo=UTC), UUID(int=n))) for n in range(64)
    ]
    others = {cursor.replace("-", "+").replace("_", "/") for cursor in cursors} - set(cursors)
    assert others
    for cursor in others:
        _refused(cursor)


@given(position=positions, start=st.integers(0, 43), length=st.integers(0, 43))
def test_a_part_of_a_cursor_is_refused(position: Position, start: int, length: int) -> None:
    _refused(encode_cursor(ANN, ByOwner(), position)[start : start + length])


@given(position=positions, tail=st.text(min_size=1))
@example(position=Position(datetime(2026, 1, 1, tzinfo=UTC), UUID(int=0)), tail="\n")
@example(position=Position(datetime(2026, 1, 1, tzinfo=UTC), UUID(int=0)), tail="==")
def test_a_cursor_with_something_behind_it_is_refused(position: Position, tail: str) -> None:
    _refused(encode_cursor(ANN, ByOwner(), position) + tail)


@pytest.mark.parametrize("which", FILTERS, ids=repr)
@given(position=positions)
@settings(max_examples=10)
def test_a_cursor_fits_only_the_listing_that_gave_it_out(position: Position, which: Filter) -> None:
    cursor = encode_cursor(ANN, which, position)
    _refused(cursor, owner=BOB, which=which)
    for other in FILTERS:
        if other != which:
            _refused(cursor, which=other)


@given(position=positions)
def test_the_order_of_tags_and_the_case_of_a_title_make_no_other_listing(position: Position) -> None:
    by_tags = encode_cursor(ANN, ByTags((A, B)), position)
    assert decode_cursor(ANN, ByTags((B, A)), by_tags) == position
    by_title = encode_cursor(ANN, ByTitle(Title("Stra\u00dfe")), position)
    assert decode_cursor(ANN, ByTitle(Title("STRASSE")), by_title) == position


@given(cursor=st.text() | st.text(st.sampled_from("AZaz09-_+/="), min_size=40, max_size=48))
def test_any_other_text_is_refused(cursor: str) -> None:
    _refused(cursor)


def _refused(cursor: str, *, owner: UserId = ANN, which: Filter = FILTERS[0]) -> None:
    with pytest.raises(Invalid) as refusal:
        decode_cursor(owner, which, cursor)
    assert (refusal.value.field, refusal.value.code) == ("cursor", "invalid_cursor")
