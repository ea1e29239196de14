"""Query parameters, JSON fields, tags of a form, and whatever else comes over the wire besides files."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar import Request

from adapters.http.inputs import (
    JSON,
    MERGE_PATCH,
    Query,
    parse_image_id,
    parse_listing,
    parse_merge_patch,
    parse_replacement,
    read_json_object,
    split_tags,
)
from adapters.http.problems import Problem
from application.ports import ByOwner, ByTags, ByTitle
from domain.errors import Invalid, NotFound
from domain.image import MetadataChange
from domain.values import Description, Tag, Title

texts = st.text(st.characters(exclude_categories=["Cs"]))


# ---- query parameters


@given(st.dictionaries(texts, texts, max_size=8))
def test_parameters_come_out_as_they_went_in(parameters: dict[str, str]) -> None:
    query = Query(urlencode(parameters).encode())
    assert {name: query.one(name) for name in parameters} == parameters
    query.done()


@given(st.binary(max_size=60))
def test_any_query_string_is_read_or_refused(raw: bytes) -> None:
    with suppress(Problem, Invalid):
        which, limit, _ = parse_listing(Query(raw))
        assert isinstance(which, ByOwner | ByTags | ByTitle)
        assert 0 <= limit < 1000


@pytest.mark.parametrize("raw", [b"a=%ff", b"%ff=a", b"a=\xff", b"a=%ed%a0%80", b"&".join([b"a=1"] * 101)])
def test_a_query_that_is_not_utf8_or_endless_is_refused(raw: bytes) -> None:
    with pytest.raises(Problem) as refusal:
        Query(raw)
    assert refusal.value.code == "invalid_request"


def test_what_nobody_took_is_told_all_at_once() -> None:
    query = Query(b"a=1&b=2&c=3")
    query.one("b")
    with pytest.raises(Invalid) as refusal:
        query.done()
    assert [fault.field for fault in refusal.value.faults] == ["a", "c"]


def test_a_parameter_stands_once() -> None:
    with pytest.raises(Invalid):
        Query(b"a=1&a=1").one("a")
    assert Query(b"a=1&a=2").many("a") == ["1", "2"]


@pytest.mark.parametrize(
    ("raw", "on"), [(b"", False), (b"x=1", True), (b"x=true", True), (b"x=0", False), (b"x=false", False)]
)
def test_a_flag_is_on_or_off(raw: bytes, on: bool) -> None:  # noqa: FBT001
    assert Query(raw).flag("x") is on


@pytest.mark.parametrize("raw", [b"x=", b"x", b"x=yes", b"x=TRUE", b"x=2"])
def test_a_flag_is_nothing_else(raw: bytes) -> None:
    with pytest.raises(Invalid):
        Query(raw).flag("x")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", (ByOwner(), 20, None)),
        (b"filter_by=user&limit=1", (ByOwner(), 1, None)),
        (b"limit=100&cursor=x", (ByOwner(), 100, "x")),
        (b"filter_by=tags&tags=A&tags=b", (ByTags((Tag("a"), Tag("b")), "any"), 20, None)),
        (b"filter_by=tags&tags=a&match=all", (ByTags((Tag("a"),), "all"), 20, None)),
        (b"filter_by=title&title=+The+Cat+", (ByTitle(Title("The Cat")), 20, None)),
    ],
)
def test_a_listing_is_understood(raw: bytes, expected: tuple[object, ...]) -> None:
    assert parse_listing(Query(raw)) == expected


@pytest.mark.parametrize("raw", ["", "-1", "1.0", "1e1", "x", " 1", "٣", "²", "1" * 4, "1" * 5000])
def test_a_limit_is_a_number(raw: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse_listing(Query(urlencode({"limit": raw}).encode()))
    assert refusal.value.field == "limit"


# ---- ids


@given(st.uuids())
def test_an_id_has_one_spelling_but_for_its_case(image_id: UUID) -> None:
    assert parse_image_id(str(image_id)) == parse_image_id(str(image_id).upper()) == image_id
    for other in (
        image_id.hex,
        f"{{{image_id}}}",
        image_id.urn,
        f" {image_id}",
        f"{image_id}\n",
        f"{image_id}"[:-1] + "_",
    ):
        with pytest.raises(NotFound):
            parse_image_id(other)


@given(st.text())
def test_what_is_no_id_is_not_found(raw: str) -> None:
    with pytest.raises(NotFound):
        parse_image_id(raw)


def test_hyphens_stand_where_they_belong() -> None:
    bare = uuid4().hex
    with pytest.raises(NotFound):
        parse_image_id(f"{bare[:4]}-{bare[4:12]}-{bare[12:16]}-{bare[16:20]}-{bare[20:]}")


# ---- JSON bodies


def _request(body: Sequence[bytes], content_type: str = JSON, *, cut_off: bool = False) -> Request[Any, Any, Any]:
    events = [{"type": "http.request", "body": piece, "more_body": True} for piece in body]
    if cut_off:
        events.append({"type": "http.disconnect"})
    else:
        events.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Any:
        return events.pop(0)

    headers = [(b"content-type", content_type.encode())]
    return Request({"type": "http", "headers": headers, "method": "PUT", "path": "/"}, receive=receive)  # type: ignore[arg-type]


def _read(request: Request[Any, Any, Any], *media_types: str) -> object:
    return asyncio.run(read_json_object(request, *(media_types or (JSON,))))


def _code(request: Request[Any, Any, Any], *media_types: str) -> str:
    with pytest.raises(Problem) as refusal:
        _read(request, *media_types)
    return refusal.value.code


def test_a_body_may_come_in_pieces() -> None:
    assert _read(_request([b'{"ti', b"", b'tle": "', "猫".encode()[:1], "猫".encode()[1:], b'"}'])) == {"title": "猫"}


@pytest.mark.parametrize("content_type", [JSON, "Application/JSON", "application/json; charset=utf-8", MERGE_PATCH])
def test_the_content_type_may_be_spelt_in_any_way(content_type: str) -> None:
    assert _read(_request([b"{}"], content_type), MERGE_PATCH, JSON) == {}


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/jsonp", "application/json, text/plain"])
def test_another_content_type_is_refused(content_type: str) -> None:
    assert _code(_request([b"{}"], content_type)) == "unsupported_media_type"


def test_whoever_sends_another_content_type_is_told_those_that_are_read_as_a_list() -> None:
    with pytest.raises(Problem) as refusal:
        _read(_request([b"{}"], "text/plain"), MERGE_PATCH, JSON)
    assert refusal.value.headers == (("Accept", "application/merge-patch+json, application/json"),)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"1", b"{} {}", b'{"a": "\xff"}', b'{"a": "\\ud800"}', b"[" * 100_000]
)
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    assert _code(_request([body])) == "invalid_json"


def test_a_body_is_not_read_for_ever() -> None:
    assert _code(_request([b" " * 100_000] * 3)) == "request_too_large"


def test_a_body_that_was_cut_off_is_refused_even_if_it_reads_well() -> None:
    assert _code(_request([b"{}"], cut_off=True)) == "invalid_request"


@given(st.dictionaries(texts, st.recursive(st.none() | st.booleans() | texts, st.lists, max_leaves=5), max_size=4))
def test_any_object_is_a_change_or_is_refused(fields: dict[str, Any]) -> None:
    assert _read(_request([json.dumps(fields).encode()])) == fields
    for parse in (parse_replacement, parse_merge_patch):
        with suppress(Invalid):
            assert isinstance(parse(fields), MetadataChange)


# Found by hand: the last of them won, and whoever had read the first was told of a success.
@pytest.mark.parametrize(
    "body",
    [
        b'{"title": "a", "title": "b"}',
        b'{"title": "a", "title": "a"}',
        b'{"title": "a", "t\\u0069tle": "b"}',
        b'{"tags": [{"a": 1, "a": 2}]}',
    ],
)
def test_a_field_that_stands_there_twice_is_refused(body: bytes) -> None:
    assert _code(_request([body])) == "invalid_json"


def test_numbers_of_any_length_are_told_apart_from_broken_json() -> None:
    assert _read(_request([b'{"title": ' + b"1" * 300 + b"}"])) == {"title": int("1" * 300)}
    assert _code(_request([b'{"title": ' + b"1" * 5000 + b"}"])) == "invalid_json"


# ---- changes

WORDS = {"title": "A", "description": "B", "tags": ["C"]}
ALL = MetadataChange(title=Title("A"), description=Description("B"), tags=(Tag("c"),))


def test_a_replacement_resets_what_it_leaves_out() -> None:
    assert parse_replacement(WORDS) == ALL
    assert parse_replacement({}) == MetadataChange(reset=frozenset({"title", "description", "tags"}))
    assert parse_replacement({"title": "A"}) == MetadataChange(
        title=Title("A"), reset=frozenset({"description", "tags"})
    )


def test_a_merge_patch_leaves_alone_what_it_leaves_out_and_resets_what_is_null() -> None:
    assert parse_merge_patch(WORDS) == ALL
    assert parse_merge_patch({}) == MetadataChange()
    assert parse_merge_patch({"title": None, "tags": []}) == MetadataChange(tags=(), reset=frozenset({"title"}))


@pytest.mark.parametrize("fields", [{"titel": "x"}, {"titel": None}, {"version": 1}, {"Title": "x"}])
def test_an_unknown_field_is_refused_also_when_it_is_null(fields: dict[str, object]) -> None:
    for parse in (parse_replacement, parse_merge_patch):
        with pytest.raises(Invalid) as refusal:
            parse(fields)
        assert {refusal.value.field} == fields.keys()


def test_null_is_no_value_in_a_replacement() -> None:
    for field in WORDS:
        with pytest.raises(Invalid):
            parse_replacement({**WORDS, field: None})


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(Invalid) as refusal:
        parse_merge_patch({"title": 1, "description": 2, "tags": 3, "x": 4})
    assert {fault.field for fault in refusal.value.faults} == {"title", "description", "tags", "x"}


# ---- tags of a form


@given(st.lists(texts.filter(lambda text: "," not in text and text.strip()), max_size=6))
def test_tags_mean_the_same_in_one_field_and_repeated(tags: list[str]) -> None:
    assert split_tags([",".join(tags)]) == tags
    if len(tags) != 1:
        assert split_tags(tags) == tags


def test_a_comma_in_a_repeated_field_is_part_of_the_tag() -> None:
    assert split_tags(["a,b", "c"]) == ["a,b", "c"]
    assert split_tags([" , a,,"]) == [" a"]
