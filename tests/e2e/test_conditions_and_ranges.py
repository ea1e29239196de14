"""Preconditions and ranges over HTTP: RFC 9110, sections 13 and 14. Their pure rules are in the unit tests."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tests import pictures
from tests.e2e.client import IMAGES, Api, Document, document, fetch, problem

PICTURE = pictures.jpeg(seed=9)
SIZE = len(PICTURE)


@pytest.fixture
def image(api: Api) -> Document:
    """A stored JPEG."""
    return api.uploaded(PICTURE)


def _date(image: Document, *, seconds: int = 0) -> str:
    moment = datetime.fromisoformat(image["created_at"]).replace(tzinfo=UTC) + timedelta(seconds=seconds)
    return format_datetime(moment, usegmt=True)


def _tag(image: Document) -> str:
    return f'"{image["sha256"]}"'


# ---- ranges


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=100-", 100, SIZE),
        ("bytes=-1", SIZE - 1, SIZE),
        ("bytes=-100", SIZE - 100, SIZE),
        (f"bytes=-{SIZE * 2}", 0, SIZE),
        (f"bytes={SIZE - 1}-{SIZE * 2}", SIZE - 1, SIZE),
        ("bytes=0-" + "9" * 30, 0, SIZE),
        (f"bytes=0-{SIZE - 1}", 0, SIZE),
        ("BYTES=5-9", 5, 10),
    ],
)
def test_a_range_gives_just_these_bytes(api: Api, image: Document, wanted: str, start: int, stop: int) -> None:
    response = api.get(image["image_id"], Range=wanted)
    assert response.status_code == 206
    assert response.content == PICTURE[start:stop]
    assert response.headers["content-range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    assert response.headers["content-length"] == str(stop - start)
    assert response.headers["content-type"] == "image/jpeg"
    assert response.headers["etag"] == _tag(image)


@pytest.mark.parametrize("wanted", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE}", "bytes=-0", f"bytes={'9' * 30}-"])
def test_a_range_outside_is_refused_with_the_size(api: Api, image: Document, wanted: str) -> None:
    response = api.get(image["image_id"], Range=wanted)
    problem(response, 416, "range_not_satisfiable")
    assert response.headers["content-range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize(
    "wanted",
    ["bytes=0-1,4-5", "bytes=9-3", "bytes=-", "bytes=a-b", "bytes", "items=0-5", "bytes=0x1-2", "", "bytes=--1"],
)
def test_several_ranges_or_no_range_give_the_whole(api: Api, image: Document, wanted: str) -> None:
    response = api.get(image["image_id"], Range=wanted)
    assert (response.status_code, response.content) == (200, PICTURE)
    assert "content-range" not in response.headers


def test_a_range_is_not_for_head(api: Api, image: Document) -> None:
    response = api.head(image["image_id"], Range="bytes=0-9")
    assert (response.status_code, response.headers["content-length"]) == (200, str(SIZE))


@pytest.mark.parametrize(
    ("if_range", "status"),
    [
        ("{tag}", 206),
        ("{date}", 206),
        ("W/{tag}", 200),
        ('"other"', 200),
        ("{later}", 200),
        ("{earlier}", 200),
        ("x", 200),
    ],
)
def test_if_range_gives_the_part_only_of_what_the_client_has(
    api: Api, image: Document, if_range: str, status: int
) -> None:
    wanted = if_range.format(
        tag=_tag(image), date=_date(image), later=_date(image, seconds=1), earlier=_date(image, seconds=-1)
    )
    response = api.get(image["image_id"], Range="bytes=5-9", If_Range=wanted)
    assert (response.status_code, response.content) == (status, PICTURE[5:10] if status == 206 else PICTURE)


def test_if_range_of_something_else_makes_a_range_outside_harmless(api: Api, image: Document) -> None:
    response = api.get(image["image_id"], Range=f"bytes={SIZE}-", If_Range='"other"')
    assert response.status_code == 200


def test_the_ranges_of_an_image_make_up_the_whole(api: Api, image: Document) -> None:
    step = 997
    parts = [
        api.get(image["image_id"], Range=f"bytes={at}-{at + step - 1}", If_Match=_tag(image)).content
        for at in range(0, SIZE, step)
    ]
    assert b"".join(parts) == PICTURE


def test_a_presigned_url_gives_ranges_and_conditions_too(image: Document) -> None:
    whole = fetch(image["presigned_url"])
    assert whole.headers["accept-ranges"] == "bytes"
    part = fetch(image["presigned_url"], Range="bytes=5-9", If_Range=whole.headers["etag"])
    assert (part.status_code, part.content) == (206, PICTURE[5:10])
    unchanged = fetch(image["presigned_url"], If_None_Match=whole.headers["etag"])
    assert (unchanged.status_code, unchanged.content) == (304, b"")


# ---- reading under conditions


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("If-None-Match", "{tag}", 304),
        ("If-None-Match", "W/{tag}", 304),
        ("If-None-Match", '"a", {tag} ,"b"', 304),
        ("If-None-Match", "*", 304),
        ("If-None-Match", '"other"', 200),
        ("If-None-Match", "unquoted", 200),
        ("If-Modified-Since", "{date}", 304),
        ("If-Modified-Since", "{later}", 304),
        ("If-Modified-Since", "{earlier}", 200),
        ("If-Modified-Since", "not a date", 200),
        ("If-Modified-Since", "Mon, 99 Jan 9999 99:99:99 GMT", 200),
        ("If-Match", "{tag}", 200),
        ("If-Match", '"other",{tag}', 200),
        ("If-Match", "*", 200),
        ("If-Match", '"other"', 412),
        ("If-Match", "W/{tag}", 412),
        ("If-Unmodified-Since", "{date}", 200),
        ("If-Unmodified-Since", "{later}", 200),
        ("If-Unmodified-Since", "{earlier}", 412),
        ("If-Unmodified-Since", "not a date", 200),
    ],
)
def test_a_download_under_a_condition(api: Api, image: Document, header: str, value: str, status: int) -> None:
    wanted = value.format(
        tag=_tag(image), date=_date(image), later=_date(image, seconds=5), earlier=_date(image, seconds=-5)
    )
    response = api.get(image["image_id"], **{header: wanted})
    assert response.status_code == status
    assert api.head(image["image_id"], **{header: wanted}).status_code == status
    if status == 304:
        assert response.content == b""
        assert "content-length" not in response.headers
        assert response.headers["etag"] == _tag(image)
        assert "private" in response.headers["cache-control"]
    elif status == 412:
        problem(response, 412, "precondition_failed")


def test_tags_outweigh_dates(api: Api, image: Document) -> None:
    changed = api.get(image["image_id"], If_None_Match='"other"', If_Modified_Since=_date(image))
    assert changed.status_code == 200
    same = api.get(image["image_id"], If_Match=_tag(image), If_Unmodified_Since=_date(image, seconds=-5))
    assert same.status_code == 200


def test_a_condition_is_settled_before_a_range(api: Api, image: Document) -> None:
    assert api.get(image["image_id"], If_None_Match=_tag(image), Range=f"bytes={SIZE}-").status_code == 304
    problem(api.get(image["image_id"], If_Match='"x"', Range="bytes=0-1"), 412, "precondition_failed")


def test_a_list_of_tags_may_come_in_several_lines(api: Api, image: Document) -> None:
    headers = [("If-None-Match", '"a"'), ("If-None-Match", _tag(image))]
    assert api.http.get(f"{IMAGES}/{image['image_id']}", headers=headers).status_code == 304


def test_the_document_is_not_sent_again_to_who_has_this_version(api: Api, image: Document) -> None:
    image_id = image["image_id"]
    unchanged = api.metadata(image_id, If_None_Match='"1"')
    assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", '"1"')
    document(api.patch(image_id, {"title": "New"}))
    assert document(api.metadata(image_id, If_None_Match='"1"'))["title"] == "New"
    problem(api.metadata(image_id, If_Match='"1"'), 412, "precondition_failed")


def test_a_document_changed_within_the_second_is_not_taken_for_unchanged(api: Api, image: Document) -> None:
    document(api.patch(image["image_id"], {"title": "New"}))
    assert api.metadata(image["image_id"], If_Modified_Since=_date(image, seconds=5)).status_code == 200


# ---- changing under conditions


@pytest.mark.parametrize(
    ("if_match", "status", "code"),
    [
        ('"2"', 200, None),
        ("*", 200, None),
        ('"1", "2"', 200, None),
        ('"1","2","x"', 200, None),
        (', "2",', 200, None),
        ('"1"', 412, "precondition_failed"),
        ('"3"', 412, "precondition_failed"),
        ('"1", "3"', 412, "precondition_failed"),
        ('W/"2"', 412, "precondition_failed"),
        ('"02"', 412, "precondition_failed"),
        ('"two"', 412, "precondition_failed"),
        ('"' + "2" * 400 + '"', 412, "precondition_failed"),
        ("2", 400, "invalid_precondition"),
        ('"2', 400, "invalid_precondition"),
        ('"2" "3"', 400, "invalid_precondition"),
        ("", 400, "invalid_precondition"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_change_happens_only_to_the_version_that_is_named(
    api: Api, image: Document, method: str, if_match: str, status: int, code: str | None
) -> None:
    image_id = image["image_id"]
    document(api.patch(image_id, {"title": "Second"}))

    body = None if method == "DELETE" else {"title": "Third"}
    response = api.http.request(method, f"{IMAGES}/{image_id}", json=body, headers={"If-Match": if_match})

    if code is not None:
        problem(response, status, code)
        assert document(api.metadata(image_id))["title"] == "Second"
    elif method == "DELETE":
        document(response)
        assert api.ids() == []
    else:
        assert (document(response)["version"], response.headers["etag"]) == (3, '"3"')


@pytest.mark.parametrize(("if_none_match", "status"), [("*", 412), ('"1"', 412), ('W/"1"', 412), ('"7"', 200)])
def test_a_change_does_not_happen_to_a_version_that_is_excluded(
    api: Api, image: Document, if_none_match: str, status: int
) -> None:
    assert api.put(image["image_id"], {"title": "New"}, If_None_Match=if_none_match).status_code == status
    assert document(api.metadata(image["image_id"]))["version"] == (2 if status == 200 else 1)


def test_a_restored_image_honours_what_was_known_of_it(api: Api, image: Document) -> None:
    document(api.delete(image["image_id"], If_Match='"1"'))
    document(api.restore(image["image_id"]))
    document(api.put(image["image_id"], {}, If_Match='"1"'))


def test_of_many_changes_to_one_version_one_happens(api: Api, image: Document) -> None:
    def change(number: int) -> int:
        return api.patch(image["image_id"], {"title": f"Mine {number}"}, If_Match='"1"').status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(change, range(16)))

    assert sorted(statuses) == [200] + [412] * 15
    assert document(api.metadata(image["image_id"]))["version"] == 2


def test_of_many_changes_without_a_condition_all_happen(api: Api, image: Document) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: document(api.patch(image["image_id"], {"title": f"{n}"})), range(16)))
    assert sorted(answer["version"] for answer in answers) == list(range(2, 18))
