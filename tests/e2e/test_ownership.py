"""What is one owner's is nobody else's: not a byte of it, not a count, nor that it is there.

Every operation of the document is tried by a stranger, with every id, word, cursor, key and URL of another owner, and
answered as if those had never been. A new operation without a probe here fails.
"""

import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import pictures
from tests.e2e.client import IMAGES, Api, Document, document, embedded_alone, fetch, problem
from tests.service import Service

Probe = Callable[[Api, str], Iterator[httpx.Response]]
"""Asks in several ways for an image, as a stranger."""

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
CONDITIONS: tuple[dict[str, str], ...] = (
    {},
    {"If-Match": "*"},
    {"If-Match": '"1"'},
    {"If-Match": '"1", "2"'},
    {"If-Match": '"7"'},
    {"If-None-Match": "*"},
    {"If-None-Match": '"1"'},
    {"If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
)
READING: tuple[dict[str, str], ...] = (
    *CONDITIONS,
    {"Range": "bytes=0-0"},
    {"Range": "bytes=999999999-"},
    {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
)


# ---- probes by id: one for each operation on an image


def _read_content(api: Api, image_id: str) -> Iterator[httpx.Response]:
    for headers in READING:
        yield api.http.get(f"{IMAGES}/{image_id}", headers=headers)
    yield api.http.get(f"{IMAGES}/{image_id}?download=1")
    yield api.http.get(f"{IMAGES}/{image_id}?user=somebody")


def _head_content(api: Api, image_id: str) -> Iterator[httpx.Response]:
    for headers in READING:
        yield api.http.head(f"{IMAGES}/{image_id}", headers=headers)


def _read_metadata(api: Api, image_id: str) -> Iterator[httpx.Response]:
    for headers in CONDITIONS:
        yield api.http.get(f"{IMAGES}/{image_id}/metadata", headers=headers)
        yield api.http.head(f"{IMAGES}/{image_id}/metadata", headers=headers)


def _replace(api: Api, image_id: str) -> Iterator[httpx.Response]:
    for headers in CONDITIONS:
        yield api.http.put(f"{IMAGES}/{image_id}", json={"title": "Mine"}, headers=headers)
    yield api.http.put(f"{IMAGES}/{image_id}", json={"title": ""})
    yield api.http.put(f"{IMAGES}/{image_id}", content=b"{", headers={"Content-Type": JSON})


def _patch(api: Api, image_id: str) -> Iterator[httpx.Response]:
    for headers in CONDITIONS:
        yield api.http.patch(f"{IMAGES}/{image_id}", json={}, headers=headers)
        yield api.http.patch(f"{IMAGES}/{image_id}", json={"tags": ["mine"]}, headers=headers)
    yield api.http.patch(f"{IMAGES}/{image_id}", json={"user_id": api.user})


def _delete(api: Api, image_id: str) -> Iterator[httpx.Response]:
    for headers in CONDITIONS:
        yield api.http.delete(f"{IMAGES}/{image_id}", headers=headers)
        yield api.http.delete(f"{IMAGES}/{image_id}?permanent=true", headers=headers)


def _restore(api: Api, image_id: str) -> Iterator[httpx.Response]:
    for _ in range(2):
        yield api.http.post(f"{IMAGES}/{image_id}/restore")


BY_ID: dict[str, Probe] = {
    "readContent": _read_content,
    "headContent": _head_content,
    "readMetadata": _read_metadata,
    "replaceMetadata": _replace,
    "patchMetadata": _patch,
    "deleteImage": _delete,
    "restoreImage": _restore,
}
# Tried by tests of their own, further down.
BY_WORDS = {"uploadImage", "listImages", "readSigned"}
FOR_ALL = {"getLimits": "/api/v1/limits", "getLiveness": "/health/live", "getReadiness": "/health/ready"}
WITHOUT_OWNER = {"getMetrics": "/metrics"}


@embedded_alone
def test_every_operation_has_its_probe(nobody: Api) -> None:
    described = document(nobody.http.get("/openapi.json"))
    operations = {
        operation["operationId"]: bool(operation.get("security", described["security"]))
        for item in described["paths"].values()
        for name, operation in item.items()
        if name != "parameters"
    }
    assert operations.keys() == BY_ID.keys() | BY_WORDS | FOR_ALL.keys() | WITHOUT_OWNER.keys()
    # What asks nobody who they are is either the same for all, or opened by a URL that somebody was given.
    assert {name for name, asks in operations.items() if not asks} == FOR_ALL.keys() | WITHOUT_OWNER.keys() | {
        "readSigned"
    }


# ---- owners who are easily taken for one another


LIKE_EACH_OTHER = (
    "{name}b",
    "{name}",
    "{NAME}B",
    "{name}b|b",
    "{name}b:b",
    "{name}b@b",
    "{name}b.",
    "{name}|tag|x",
    "b{name}",
)
two_owners = st.lists(st.sampled_from(LIKE_EACH_OTHER), min_size=2, max_size=2, unique=True)
# {owner} stands for the other's name: a word must not lead to anybody's keys, however they are put together.
words = st.sampled_from(
    ["x", "#", "#x", "b#tag#x", "|b#tag#x", "{owner}#tag#x", "#tag#{owner}", "%", "_", "*", "' OR 1=1 --", "ß", "猫"]
) | st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=8).filter(
    lambda text: bool(text.strip()) and "{" not in text and "}" not in text
)


class Pair:
    """An owner, what is theirs, and a stranger who knows all of it."""

    def __init__(self, service: Service, alike: list[str]) -> None:
        name = f"o{uuid.uuid4().hex}"
        self.owner, self.stranger = (Api(service, each.format(name=name, NAME=name.upper())) for each in alike)

    def close(self) -> None:
        self.owner.close()
        self.stranger.close()

    def everything(self) -> list[Any]:
        """Return all that the owner can see, but for URLs, which are new each time."""
        page = self.owner.page(limit=100)
        return [(_lasting(item), self.owner.get(item["image_id"]).content) for item in page["items"]]


@pytest.fixture
def run(service: Service) -> Callable[[Callable[..., None]], None]:
    """Run a property: fewer examples where each takes longer."""
    on_aws = service.account is not None

    def run_property(test: Callable[..., None]) -> None:
        settings(
            max_examples=2 if on_aws else 6,
            deadline=None,
            database=None,
            suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        )(test)()

    return run_property


def test_somebody_elses_image_is_answered_as_one_that_never_was(
    service: Service, run: Callable[[Callable[..., None]], None]
) -> None:
    @given(alike=two_owners, tag=words, title=words, seed=st.integers(0, 99))
    def holds(alike: list[str], tag: str, title: str, seed: int) -> None:
        pair = Pair(service, alike)
        tag, title = (word.replace("{owner}", str(pair.stranger.user)) for word in (tag, title))
        form: dict[str, Any] = {"title": title, "tags": [tag, "both"]}
        living = pair.owner.uploaded(pictures.jpeg(seed=seed), **form)["image_id"]
        revised = pair.owner.uploaded(pictures.png(seed=seed), **form)["image_id"]
        document(pair.owner.patch(revised, {"description": "at version 2"}))
        trashed = pair.owner.uploaded(pictures.gif(seed=seed), **form)["image_id"]
        document(pair.owner.delete(trashed))
        purged = pair.owner.uploaded(pictures.gif(seed=seed), **form)["image_id"]
        document(pair.owner.delete(purged, permanent=True))
        before = pair.everything()

        for operation, probe in BY_ID.items():
            expected = [_essence(response) for response in probe(pair.stranger, str(uuid.uuid4()))]
            assert {answer["status"] for answer in expected} <= {400, 404}, operation
            for image_id in (living, revised, trashed, purged, living.upper()):
                answers = [_essence(response) for response in probe(pair.stranger, image_id)]
                assert answers == expected, operation

        assert pair.everything() == before
        assert pair.stranger.ids() == []
        assert document(pair.owner.restore(trashed))["image_id"] == trashed
        pair.close()

    run(holds)


def test_a_listing_finds_none_of_anothers_words(service: Service, run: Callable[[Callable[..., None]], None]) -> None:
    @given(alike=two_owners, tag=words, title=words)
    def holds(alike: list[str], tag: str, title: str) -> None:
        pair = Pair(service, alike)
        tag, title = (word.replace("{owner}", str(pair.stranger.user)) for word in (tag, title))
        for number in range(3):
            pair.owner.uploaded(pictures.gif(4, 4, seed=number), title=title, tags=[tag, "both", "theirs"])
        own = pair.stranger.uploaded(pictures.gif(4, 4), title="Own", tags=["both", "own"])["image_id"]
        questions: list[tuple[dict[str, Any], list[str]]] = [
            ({}, [own]),
            ({"limit": 1}, [own]),
            ({"filter_by": "tags", "tags": tag}, []),
            ({"filter_by": "tags", "tags": ["both"]}, [own]),
            ({"filter_by": "tags", "tags": [tag, "both"], "match": "any", "limit": 1}, [own]),
            ({"filter_by": "tags", "tags": ["theirs", "own"], "match": "any"}, [own]),
            ({"filter_by": "tags", "tags": ["both", "theirs"], "match": "all"}, []),
            ({"filter_by": "tags", "tags": ["both", "own"], "match": "all"}, [own]),
            ({"filter_by": "title", "title": title}, []),
            ({"filter_by": "title", "title": "own"}, [own]),
        ]
        for question, found in questions:
            response = pair.stranger.http.get(IMAGES, params=question)
            page = document(response)
            assert [item["image_id"] for item in page["items"]] == found, question
            # Nor is it to be seen that the index goes on behind one's own.
            assert page["next_cursor"] is None, question
            assert "link" not in response.headers, question

            turned = {**question, "limit": 1}
            theirs = document(pair.owner.http.get(IMAGES, params=turned))["next_cursor"]
            if theirs is not None:
                refused = pair.stranger.http.get(IMAGES, params={**turned, "cursor": theirs})
                made_up = pair.stranger.http.get(IMAGES, params={**turned, "cursor": theirs[::-1]})
                problem(refused, 400, "invalid_cursor")
                assert _essence(refused) == _essence(made_up)
        pair.close()

    run(holds)


def test_an_idempotency_key_is_its_owners_own(service: Service, run: Callable[[Callable[..., None]], None]) -> None:
    key = st.sampled_from(["1", "#", "b#1", "|b#1", ":b", "{owner}#1"]) | st.text("!#|:ab", min_size=1, max_size=12)

    @given(alike=two_owners, key=key, trashed=st.booleans())
    def holds(alike: list[str], key: str, *, trashed: bool) -> None:
        pair = Pair(service, alike)
        headers = {"Idempotency-Key": key.replace("{owner}", str(pair.stranger.user))}
        theirs = document(pair.owner.upload(headers=headers, title="Theirs"), 201)
        if trashed:
            document(pair.owner.delete(theirs["image_id"]))
        before = pair.everything()

        # The same upload is no replay, and another one is no misuse of the key.
        first = pair.stranger.upload(headers=headers, title="Theirs")
        own = document(first, 201)
        assert "idempotent-replayed" not in first.headers
        assert own["image_id"] != theirs["image_id"]
        assert own["user_id"] == pair.stranger.user
        problem(pair.stranger.upload(pictures.png(), headers=headers), 422, "idempotency_key_reused")
        again = pair.stranger.upload(headers=headers, title="Theirs")
        assert (again.headers["idempotent-replayed"], again.json()["image_id"]) == ("true", own["image_id"])

        assert pair.everything() == before
        assert pair.stranger.ids() == [own["image_id"]]
        pair.close()

    run(holds)


def test_a_presigned_url_opens_its_own_object_alone(
    service: Service, run: Callable[[Callable[..., None]], None]
) -> None:
    @given(alike=two_owners, seed=st.integers(0, 99))
    def holds(alike: list[str], seed: int) -> None:
        pair = Pair(service, alike)
        theirs = pair.owner.uploaded(pictures.png(seed=seed), "same.png")
        own = pair.stranger.uploaded(pictures.gif(seed=seed), "same.png")
        url = own["presigned_url"]
        assert fetch(url).content == pictures.gif(seed=seed)

        def with_key(key: str) -> str:
            assert quote(own["s3_key"]) in url
            return str(url).replace(quote(own["s3_key"]), quote(key))

        never = f"images/{uuid.uuid4()}/same.png"
        missing = fetch(with_key(never))
        for forged in (
            with_key(theirs["s3_key"]),
            with_key(f"{own['s3_key']}/../../{theirs['s3_key'].removeprefix('images/')}"),
            _with_query_of(theirs["presigned_url"], url),
        ):
            refused = fetch(forged)
            assert refused.status_code == missing.status_code == 403
            assert pictures.png(seed=seed) not in refused.content
        if service.account is None:
            assert _essence(fetch(with_key(theirs["s3_key"]))) == _essence(missing)
        # Whoever was given the URL may use it, whoever they are: that is what it is for.
        assert fetch(theirs["presigned_url"], X_User_ID=str(pair.stranger.user)).content == pictures.png(seed=seed)
        pair.close()

    run(holds)


def test_what_is_for_everybody_says_nothing_of_anybody(api: Api, stranger: Api, nobody: Api) -> None:
    before = {path: _essence(nobody.http.get(path)) for path in FOR_ALL.values()}
    image = api.uploaded(name="secret-name.jpg", title="Secret title", tags=["secret-tag"])
    api.page(filter_by="title", title="Secret title")
    api.page(filter_by="tags", tags="secret-tag")
    api.get(image["image_id"])
    api.http.get(f"{IMAGES}/{image['image_id']}/secret-path")

    for asking in (nobody, stranger, api):
        assert {path: _essence(asking.http.get(path)) for path in FOR_ALL.values()} == before
    metrics = nobody.http.get(WITHOUT_OWNER["getMetrics"]).text
    for word in (str(api.user), image["image_id"], "ecret"):
        assert word not in metrics


# ---- what of an answer counts


def _essence(response: httpx.Response) -> Document:
    """Return all of an answer that could tell something: everything but its own id, its time, and one's own budget."""
    beside = {"date", "x-request-id", "ratelimit", "ratelimit-policy"}
    body: Any = response.content
    if body and response.headers["content-type"].endswith("json"):
        body = response.json()
        body.pop("request_id", None)
    headers = {name: value for name, value in response.headers.items() if name not in beside}
    return {"status": response.status_code, "headers": headers, "body": body}


def _lasting(item: Document) -> Document:
    return {name: value for name, value in item.items() if not name.startswith("presigned_url")}


def _with_query_of(url: str, other: str) -> str:
    return urlsplit(url)._replace(query=urlencode(parse_qsl(urlsplit(other).query))).geturl()
