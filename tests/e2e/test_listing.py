"""Listings over HTTP: filters, pages, cursors, and every question that is none."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests import pictures
from tests.e2e.client import DOCUMENT_FIELDS, IMAGES, Api, Document, document, problem

SMALL = pictures.gif(1, 1)


@pytest.fixture
def library(api: Api) -> list[Document]:
    """Seven images, newest first: odd ones tagged odd, every third tagged third, all but the first called Same."""
    uploaded = []
    for number in range(1, 8):
        tags = ["odd"] * (number % 2) + ["third"] * (number % 3 == 0)
        uploaded.append(api.uploaded(SMALL, f"{number}.gif", title="First" if number == 1 else "Same", tags=tags))
    return uploaded[::-1]


def _names(page: Document) -> list[str]:
    return [item["filename"].removesuffix(".gif") for item in page["items"]]


def _all_pages(api: Api, **query: Any) -> list[str]:
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = api.page(**query, **cursor)
        found += _names(page)
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


def test_a_user_without_images_has_an_empty_page(api: Api) -> None:
    assert api.page() == {"items": [], "next_cursor": None}


def test_a_page_holds_whole_documents_newest_first(api: Api, library: list[Document]) -> None:
    page = api.page()
    assert _names(page) == ["7", "6", "5", "4", "3", "2", "1"]
    assert all(item.keys() == DOCUMENT_FIELDS for item in page["items"])
    own = {"presigned_url", "presigned_url_expires_at"}
    assert [{k: v for k, v in item.items() if k not in own} for item in page["items"]] == [
        {k: v for k, v in item.items() if k not in own} for item in library
    ]


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, "7654321"),
        ({"filter_by": "user"}, "7654321"),
        ({"filter_by": "tags", "tags": "odd"}, "7531"),
        ({"filter_by": "tags", "tags": ["odd", "third"]}, "76531"),
        ({"filter_by": "tags", "tags": ["odd", "third"], "match": "any"}, "76531"),
        ({"filter_by": "tags", "tags": ["third", "odd"], "match": "all"}, "3"),
        ({"filter_by": "tags", "tags": [" ODD ", "odd"], "match": "all"}, "7531"),
        ({"filter_by": "tags", "tags": ["odd", "nobody's"], "match": "all"}, ""),
        ({"filter_by": "tags", "tags": "odd,third"}, ""),
        ({"filter_by": "title", "title": "Same"}, "765432"),
        ({"filter_by": "title", "title": " sAME "}, "765432"),
        ({"filter_by": "title", "title": "Sam"}, ""),
    ],
)
@pytest.mark.parametrize("limit", [1, 2, 100])
def test_the_pages_of_any_filter_make_up_its_whole_list(
    api: Api, query: dict[str, Any], expected: str, limit: int
) -> None:
    assert "".join(_all_pages(api, **query, limit=limit)) == expected


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, "7654321"),
        ({"filter_by": "tags", "tags": ["odd", "third"]}, "76531"),
        ({"filter_by": "title", "title": "Same"}, "765432"),
    ],
)
def test_the_next_link_leads_through_the_same_listing(api: Api, query: dict[str, Any], expected: str) -> None:
    response = api.http.get(IMAGES, params=httpx.QueryParams({**query, "limit": 2}))
    found = _names(document(response))
    while (link := response.headers.get("link")) is not None:
        match = re.fullmatch(r'<([^>]+)>; rel="next"', link)
        assert match is not None
        response = api.http.get(match[1])
        assert len(document(response)["items"]) <= 2
        found += _names(document(response))
    assert document(response)["next_cursor"] is None
    assert "".join(found) == expected


def test_a_title_of_any_script_stands_the_way_through_a_link(api: Api) -> None:
    title = 'Ελλάδα & "猫" <1+1>; 100%'
    for _ in range(3):
        api.uploaded(SMALL, title=title)
    response = api.http.get(IMAGES, params={"filter_by": "title", "title": title, "limit": 2})
    link = response.headers["link"]
    assert link.isascii()
    assert len(document(api.http.get(link[1 : link.index(">")]))["items"]) == 1


def test_twenty_is_a_page(api: Api) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: api.uploaded(SMALL, f"{n}.gif"), range(21)))
    assert len(api.page()["items"]) == 20
    assert len(_all_pages(api)) == 21


def test_a_cursor_survives_the_deletion_of_its_own_row(api: Api, library: list[Document]) -> None:
    page = api.page(limit=3)
    for image in library[1:4]:
        document(api.delete(image["image_id"]))
    assert _names(api.page(limit=3, cursor=page["next_cursor"])) == ["3", "2", "1"]


@pytest.mark.usefixtures("library")
def test_a_page_behind_a_cursor_is_not_moved_by_new_images(api: Api) -> None:
    cursor = api.page(limit=3)["next_cursor"]
    api.uploaded(SMALL, "8.gif")
    assert _names(api.page(limit=3, cursor=cursor)) == ["4", "3", "2"]


@pytest.mark.usefixtures("library")
def test_the_page_size_may_change_on_the_way(api: Api) -> None:
    cursor = api.page(limit=2)["next_cursor"]
    assert _names(api.page(limit=5, cursor=cursor)) == ["5", "4", "3", "2", "1"]


@pytest.mark.usefixtures("library")
def test_tags_in_another_order_are_the_same_listing(api: Api) -> None:
    cursor = api.page(filter_by="tags", tags=["odd", "third"], limit=2)["next_cursor"]
    assert _names(api.page(filter_by="tags", tags=["THIRD", "odd"], cursor=cursor)) == ["5", "3", "1"]


@pytest.mark.usefixtures("library")
def test_a_cursor_that_this_listing_did_not_give_out_is_refused(api: Api, stranger: Api) -> None:
    stranger.uploaded(SMALL)
    cursor = api.page(limit=2)["next_cursor"]
    middle = len(cursor) // 2
    other_character = "A" if cursor[middle] != "A" else "B"
    wrong = [
        cursor[:-1],
        cursor[1:],
        cursor[:middle],
        cursor + "A",
        cursor + "=",
        cursor + " ",
        cursor[:middle] + other_character + cursor[middle + 1 :],
        cursor.swapcase(),
        "",
        "x",
        "猫",
        "\0",
        "A" * 10_000,
    ]
    for each in wrong:
        problem(api.http.get(IMAGES, params={"cursor": each}), 400, "invalid_cursor")
    for query in (
        {"filter_by": "tags", "tags": "odd"},
        {"filter_by": "tags", "tags": ["odd", "third"]},
        {"filter_by": "title", "title": "Same"},
    ):
        problem(api.http.get(IMAGES, params={**query, "cursor": cursor}), 400, "invalid_cursor")
    problem(stranger.http.get(IMAGES, params={"cursor": cursor}), 400, "invalid_cursor")
    any_cursor = api.page(filter_by="tags", tags=["odd", "third"], limit=1)["next_cursor"]
    query = {"filter_by": "tags", "tags": ["odd", "third"], "match": "all", "cursor": any_cursor}
    problem(api.http.get(IMAGES, params=query), 400, "invalid_cursor")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=-1", "limit"),
        ("limit=1.5", "limit"),
        ("limit=ten", "limit"),
        ("limit=", "limit"),
        ("limit=%D9%A1", "limit"),
        ("limit=1&limit=2", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("filter_by=owner", "filter_by"),
        ("filter_by=", "filter_by"),
        ("filter_by=user&filter_by=tags", "filter_by"),
        ("filter_by=tags", "tags"),
        ("filter_by=tags&tags=", "tags"),
        ("filter_by=tags&tags=" + "t" * 65, "tags"),
        ("filter_by=tags&" + "&".join(f"tags={n}" for n in range(31)), "tags"),
        ("filter_by=tags&tags=a&match=some", "match"),
        ("filter_by=title", "title"),
        ("filter_by=title&title=", "title"),
        ("filter_by=title&title=%00", "title"),
        ("filter_by=title&title=" + "t" * 201, "title"),
        ("filter_by=title&title=a&title=b", "title"),
        ("filter_by=title&title=a&match=any", "match"),
        ("tags=a", "tags"),
        ("title=a", "title"),
        ("match=any", "match"),
        ("filter_by=tags&tags=a&title=b", "title"),
        ("cursor=a&cursor=b", "cursor"),
        ("user_id=somebody", "user_id"),
        ("Limit=5", "Limit"),
        ("x", "x"),
        ("=x", ""),
    ],
)
def test_a_question_that_is_none_is_refused(api: Api, query: str, field: str) -> None:
    answer = problem(api.http.get(f"{IMAGES}?{query}"), 400, "invalid_input")
    assert [fault["field"] for fault in answer["errors"]] == [field]


def test_all_unknown_parameters_are_told_at_once(api: Api) -> None:
    answer = problem(api.http.get(f"{IMAGES}?a=1&b=2"), 400, "invalid_input")
    assert [fault["field"] for fault in answer["errors"]] == ["a", "b"]


@pytest.mark.parametrize("query", ["title=%ff", "%ff=1", "filter_by=tags&tags=%ed%a0%80", "&".join(["a=1"] * 101)])
def test_a_query_that_is_not_utf8_or_endless_is_refused(api: Api, query: str) -> None:
    problem(api.http.get(f"{IMAGES}?{query}"), 400, "invalid_request")
