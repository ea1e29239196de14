"""The way between items and values, and the sizes of keys."""

import unicodedata
from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from adapters.dynamodb.items import (
    entry_from,
    image_from,
    owner_title,
    position_from,
    position_text,
    posting,
    record_item,
    reservation_item,
    time_from,
    time_text,
    trashed_item,
)
from adapters.dynamodb.tables import SHARDS
from application.ports import Position
from domain.image import Image
from domain.limits import TAG_MAX_CHARS, TITLE_MAX_CHARS, USER_ID_MAX_CHARS
from domain.reclaim import Reservation, TrashedImage
from domain.values import Description, Filename, MediaType, Tag, Title, UserId, fold, parse_tags

PARTITION_KEY_MAX_BYTES = 2_048

times = st.datetimes(timezones=st.just(UTC))
owners = st.from_regex(r"[A-Za-z0-9._@:|-]{1,128}", fullmatch=True).map(UserId)
words = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=60).filter(str.strip)
images = st.builds(
    Image,
    image_id=st.uuids(),
    owner=owners,
    filename=st.text(max_size=40).map(Filename),
    title=words.map(Title),
    description=st.text(st.characters(exclude_categories=["Cs"]), max_size=40).map(Description),
    tags=st.lists(words.map(lambda word: word[:16]).filter(str.strip), max_size=5).map(parse_tags),
    media_type=st.sampled_from(MediaType),
    size_bytes=st.integers(1, 2**40),
    width=st.integers(1, 2**31),
    height=st.integers(1, 2**31),
    sha256=st.just("ab" * 32),
    created_at=times,
    updated_at=times,
    version=st.integers(1, 2**31),
    fingerprint=st.none() | st.just("cd" * 32),
)
reservations = st.builds(
    Reservation,
    image_id=st.uuids(),
    owner=owners,
    holder=st.uuids(),
    lease_until=times,
    due=times,
    fingerprint=st.none() | st.just("cd" * 32),
)


@given(images)
def test_a_record_comes_back_as_it_was(image: Image) -> None:
    assert image_from(record_item(image)) == image


@given(reservations | st.builds(TrashedImage, image=images, deleted_at=times, due=times))
def test_an_entry_comes_back_as_it_was(entry: Reservation | TrashedImage) -> None:
    item = reservation_item(entry) if isinstance(entry, Reservation) else trashed_item(entry)
    assert entry_from(item) == entry
    assert item["shard"]["S"] in SHARDS


def test_times_are_written_as_the_public_document_has_them() -> None:
    moment = datetime(2024, 1, 4, 10, 30, tzinfo=UTC)
    assert time_text(moment) == "2024-01-04T10:30:00.000000"
    assert time_from("2024-01-04T10:30:00.000000") == moment


positions = st.builds(Position, times, st.uuids())


@given(positions, positions)
def test_positions_as_text_are_in_the_order_of_positions(one: Position, other: Position) -> None:
    assert position_from(position_text(one)) == one
    assert (position_text(one) < position_text(other)) == (one < other)


def test_ties_in_time_are_in_the_order_of_ids() -> None:
    moment = datetime(2024, 1, 4, tzinfo=UTC)
    ids = [UUID(int=number) for number in (0, 1, 9, 10, 2**64, 2**127, 2**128 - 1)]
    texts = [position_text(Position(moment, image_id)) for image_id in ids]
    assert texts == sorted(texts)


# The characters that grow most when they are folded, and such as take most bytes.
GREEDY = st.sampled_from("\u1f82\u0390\u1fb7\ufb03\u0149\uac01\U0001f4a9\U0001d15e\u0344\u1e9e\u0130")


@given(st.text(GREEDY, min_size=1, max_size=200))
def test_no_title_or_tag_makes_a_key_too_large(text: str) -> None:
    owner = UserId("o" * USER_ID_MAX_CHARS)
    title = Title(unicodedata.normalize("NFC", text * TITLE_MAX_CHARS)[:TITLE_MAX_CHARS])
    tag = Tag(fold(text * TAG_MAX_CHARS)[:TAG_MAX_CHARS])
    assert len(owner_title(owner, title).encode()) <= PARTITION_KEY_MAX_BYTES
    assert len(posting(owner, tag).encode()) <= PARTITION_KEY_MAX_BYTES
