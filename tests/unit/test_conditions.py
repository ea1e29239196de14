"""Preconditions, ranges and lists of entity tags: RFC 9110, sections 8.8.3, 13 and 14."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.http.conditions import Validators, Verdict, evaluate, expected_versions, requested_range
from adapters.http.problems import Problem
from application.ports import ByteRange
from tests.builders import NOON, SECOND

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HALF_PAST = NOON + timedelta(milliseconds=500)
IMAGE = Validators("abc", HALF_PAST)
DOCUMENT = Validators("7")


def _at(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)


moments = st.integers(0, 3_800_000_000_000).map(lambda millis: EPOCH + timedelta(milliseconds=millis))
etags = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters='"\x7f'), max_size=8)
sizes = st.integers(1, 10**12)


# ---- validators


def test_the_validators_go_out_quoted_and_in_whole_seconds() -> None:
    assert IMAGE.headers() == [("ETag", '"abc"'), ("Last-Modified", "Thu, 01 Jan 2026 12:00:00 GMT")]
    assert DOCUMENT.headers() == [("ETag", '"7"')]


@given(etags, moments)
def test_whoever_sends_the_validators_back_has_it_already(etag: str, modified_at: datetime) -> None:
    validators = Validators(etag, modified_at)
    sent = dict(validators.headers())
    assert evaluate({"if-none-match": sent["ETag"]}, validators) == "not_modified"
    assert evaluate({"if-modified-since": sent["Last-Modified"]}, validators) == "not_modified"
    assert evaluate({"if-match": sent["ETag"]}, validators) == "proceed"
    assert evaluate({"if-unmodified-since": sent["Last-Modified"]}, validators) == "proceed"
    for if_range in sent.values():
        assert requested_range({"range": "bytes=0-0", "if-range": if_range}, validators, 9) == ByteRange(0, 1)


# ---- preconditions


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        ({}, "proceed"),
        ({"if-match": '"abc"'}, "proceed"),
        ({"if-match": "*"}, "proceed"),
        ({"if-match": ' "x" , "abc" '}, "proceed"),
        ({"if-match": '"x"'}, "failed"),
        ({"if-match": 'W/"abc"'}, "failed"),
        ({"if-match": "abc"}, "failed"),
        ({"if-match": ""}, "failed"),
        ({"if-none-match": '"abc"'}, "not_modified"),
        ({"if-none-match": 'W/"abc"'}, "not_modified"),
        ({"if-none-match": "*"}, "not_modified"),
        ({"if-none-match": '"x", W/"abc"'}, "not_modified"),
        ({"if-none-match": '"x"'}, "proceed"),
        ({"if-none-match": '"ABC"'}, "proceed"),
        ({"if-none-match": "abc"}, "proceed"),
        ({"if-modified-since": _at(NOON)}, "not_modified"),
        ({"if-modified-since": _at(NOON + SECOND)}, "not_modified"),
        ({"if-modified-since": _at(NOON - SECOND)}, "proceed"),
        ({"if-modified-since": "yesterday"}, "proceed"),
        ({"if-unmodified-since": _at(NOON)}, "proceed"),
        ({"if-unmodified-since": _at(NOON - SECOND)}, "failed"),
        ({"if-unmodified-since": "yesterday"}, "proceed"),
        # Tags outweigh dates (RFC 9110, section 13.2.2).
        ({"if-match": '"abc"', "if-unmodified-since": _at(NOON - SECOND)}, "proceed"),
        ({"if-none-match": '"x"', "if-modified-since": _at(NOON)}, "proceed"),
        # If-Match comes first.
        ({"if-match": '"x"', "if-none-match": '"abc"'}, "failed"),
        ({"if-match": '"abc"', "if-none-match": '"abc"'}, "not_modified"),
        ({"if-unmodified-since": _at(NOON - SECOND), "if-none-match": '"abc"'}, "failed"),
    ],
)
def test_a_condition_is_decided_as_the_rfc_says(headers: dict[str, str], verdict: Verdict) -> None:
    assert evaluate(headers, IMAGE) == verdict


@pytest.mark.parametrize("header", ["if-modified-since", "if-unmodified-since"])
def test_a_date_says_nothing_of_what_has_none(header: str) -> None:
    assert evaluate({header: _at(NOON)}, DOCUMENT) == "proceed"
    assert requested_range({"range": "bytes=0-0", "if-range": _at(NOON)}, DOCUMENT, 9) is None


@pytest.mark.parametrize(
    "date", ["Thu, 01 Jan 2026 12:00:00 GMT", "Thursday, 01-Jan-26 12:00:00 GMT", "Thu Jan  1 12:00:00 2026"]
)
def test_a_date_may_have_any_of_the_three_forms(date: str) -> None:
    assert evaluate({"if-modified-since": date}, IMAGE) == "not_modified"


headers_of_conditions = st.sampled_from(
    ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range", "range"]
)
latin = st.text(st.characters(max_codepoint=0xFF), max_size=40)
near_misses = st.one_of(
    latin,
    st.text(st.sampled_from('"W/*, abc\\'), max_size=12),
    st.text(st.sampled_from("bytes=-0123456789, "), max_size=24),
    moments.map(_at).flatmap(lambda date: st.integers(0, len(date)).map(lambda cut: date[:cut])),
    st.builds(
        "Thu, 01 Jan {} 12:00:00 {}".format, st.integers(0, 99_999), st.sampled_from(["GMT", "+9999", "-2359", ""])
    ),
)


@given(st.dictionaries(headers_of_conditions, near_misses), sizes)
def test_no_header_is_more_than_ignored_or_refused(headers: dict[str, str], size_bytes: int) -> None:
    for validators in (IMAGE, DOCUMENT):
        assert evaluate(headers, validators) in {"proceed", "not_modified", "failed"}
        with _only_refused_as("range_not_satisfiable"):
            wanted = requested_range(headers, validators, size_bytes)
            assert wanted is None or 0 <= wanted.start < wanted.stop <= size_bytes
    with _only_refused_as("invalid_precondition"):
        expected_versions(headers)


@contextmanager
def _only_refused_as(code: str) -> Iterator[None]:
    try:
        yield
    except Problem as refusal:
        if refusal.code != code:
            raise


@given(st.lists(st.tuples(st.booleans(), etags), min_size=1, max_size=6), st.data())
def test_a_list_matches_just_what_is_in_it(tags: list[tuple[bool, str]], data: st.DataObject) -> None:
    separators = [data.draw(st.sampled_from([",", ", ", " , ", ",,", ", ,"])) for _ in tags]
    value = "".join(
        f'{"W/" if weak else ""}"{tag}"{separator}' for (weak, tag), separator in zip(tags, separators, strict=True)
    )
    wanted = data.draw(st.one_of(st.sampled_from([tag for _, tag in tags]), etags))
    validators = Validators(wanted)
    strong, any_strength = (False, wanted) in tags, wanted in {tag for _, tag in tags}
    for spelling in (value, value.rstrip(", "), f", {value}"):
        assert (evaluate({"if-match": spelling}, validators) == "proceed") == strong
        assert (evaluate({"if-none-match": spelling}, validators) == "not_modified") == any_strength


# ---- versions


@pytest.mark.parametrize(
    ("if_match", "versions"),
    [
        (None, None),
        ("*", None),
        (" * ", None),
        ('"7"', {7}),
        ('"7", "8","9"', {7, 8, 9}),
        ('W/"7", "8"', {8}),
        ('"07", "0", "-1", "1.0", "x", ""', set()),
        ('"\u00b2"', set()),
        ('"' + "9" * 30 + '"', set()),
    ],
)
def test_if_match_names_the_versions_that_are_accepted(if_match: str | None, versions: set[int] | None) -> None:
    headers = {} if if_match is None else {"if-match": if_match}
    assert expected_versions(headers) == versions


@pytest.mark.parametrize("if_match", ["", ",", "7", '"7', '7"', '"7" "8"', '"7"; "8"', '*, "7"', "w/", 'w/"7"', "'7'"])
def test_an_if_match_that_is_no_list_is_refused(if_match: str) -> None:
    with pytest.raises(Problem) as refusal:
        expected_versions({"if-match": if_match})
    assert refusal.value.code == "invalid_precondition"


# ---- ranges


@given(sizes, st.data())
def test_a_range_inside_is_taken_as_it_is(size_bytes: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, size_bytes - 1))
    last = data.draw(st.integers(first, 10**18))
    assert requested_range({"range": f"bytes={first}-{last}"}, IMAGE, size_bytes) == (first, min(last + 1, size_bytes))
    assert requested_range({"range": f"bytes={first}-"}, IMAGE, size_bytes) == (first, size_bytes)


@given(sizes, st.integers(1, 10**18))
def test_a_suffix_is_counted_from_the_end(size_bytes: int, suffix: int) -> None:
    assert requested_range({"range": f"bytes=-{suffix}"}, IMAGE, size_bytes) == (
        max(0, size_bytes - suffix),
        size_bytes,
    )


@given(sizes, st.integers(0, 10**18))
def test_a_range_that_begins_behind_the_end_is_refused_with_the_size(size_bytes: int, beyond: int) -> None:
    for wanted in (
        f"bytes={size_bytes + beyond}-",
        f"bytes={size_bytes + beyond}-{size_bytes + beyond + 5}",
        "bytes=-0",
    ):
        with pytest.raises(Problem) as refusal:
            requested_range({"range": wanted}, IMAGE, size_bytes)
        assert refusal.value.code == "range_not_satisfiable"
        assert dict(refusal.value.headers) == {"Content-Range": f"bytes */{size_bytes}"}


@pytest.mark.parametrize(
    "wanted",
    [
        "bytes=2-1",
        "bytes=-",
        "bytes=0-1,3-4",
        "bytes=0-1, ",
        "bytes",
        "bytes 0-1",
        "octets=0-1",
        "bytes=a-",
        "bytes=1",
        "",
    ],
)
def test_what_is_no_single_range_gives_the_whole(wanted: str) -> None:
    assert requested_range({"range": wanted}, IMAGE, 100) is None


@pytest.mark.parametrize(
    ("if_range", "applies"),
    [
        ('"abc"', True),
        (_at(NOON), True),
        ('W/"abc"', False),
        ('"x"', False),
        ('"abc", "abc"', False),
        ("*", False),
        (_at(NOON + SECOND), False),
        (_at(NOON - SECOND), False),
        ("yesterday", False),
        ("", False),
    ],
)
def test_if_range_takes_just_what_the_client_has_a_part_of(if_range: str, applies: bool) -> None:  # noqa: FBT001
    assert (requested_range({"range": "bytes=1-2", "if-range": if_range}, IMAGE, 9) == (1, 3)) == applies
