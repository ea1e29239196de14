"""What browsers are told: what they may do with an answer, which sites may ask, and nothing of the server."""

import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import httpx
import pytest

from tests import pictures
from tests.e2e.client import IMAGES, Api, document, embedded_alone, fetch
from tests.service import Service

if TYPE_CHECKING:
    from tests.ministack import Account

UNKNOWN = f"{IMAGES}/5b0c2f6e-8d5e-4c57-9f1a-3f4f3c1c9a11"
APP, LOCAL = "https://app.example", "http://localhost:3000"
HOUR_S = 3600


def every_kind_of_answer(api: Api, nobody: Api) -> Iterator[httpx.Response]:
    created = api.upload(pictures.png(), "a.png")
    path = f"{IMAGES}/{document(created, 201)['image_id']}"
    yield created
    yield api.http.get(IMAGES)
    yield api.http.head(IMAGES)
    yield api.http.get(f"{path}/metadata")
    yield api.http.get(f"{path}/metadata", headers={"If-None-Match": '"1"'})
    yield api.http.patch(path, json={"title": "x"})
    yield api.http.put(path, json={}, headers={"If-Match": '"9"'})
    yield api.http.put(path, content=b"{")
    yield api.http.get(path, headers={"Range": "bytes=999999-"})
    yield nobody.http.get(IMAGES)
    yield api.http.get(UNKNOWN)
    yield api.http.get("/nowhere")
    yield api.http.delete(IMAGES)
    yield api.http.options(IMAGES)
    yield from (nobody.http.get(path) for path in ("/api/v1/limits", "/health/live", "/health/ready", "/metrics"))
    yield from (nobody.http.get(path) for path in ("/openapi.json", "/docs", "/docs/start.js", "/docs/x"))
    yield api.http.delete(path)


def every_kind_of_picture(api: Api) -> Iterator[httpx.Response]:
    image = api.uploaded(pictures.png(), "a.png")
    path = f"{IMAGES}/{image['image_id']}"
    yield api.http.get(path)
    yield api.http.get(path, params={"download": "1"})
    yield api.http.head(path)
    yield api.http.get(path, headers={"Range": "bytes=1-"})
    yield api.http.get(path, headers={"If-None-Match": f'"{image["sha256"]}"'})


# ---- on every answer


def test_no_answer_tells_what_serves_it(api: Api, nobody: Api) -> None:
    for response in [*every_kind_of_answer(api, nobody), *every_kind_of_picture(api)]:
        # The server can't be kept from naming itself but by an empty name.
        assert response.headers["server"] == ""
        assert "granian" not in str(response.headers).lower()
        assert "x-powered-by" not in response.headers


def test_no_answer_can_be_more_to_a_browser_than_it_is(api: Api, nobody: Api) -> None:
    for response in every_kind_of_answer(api, nobody):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert response.headers["cross-origin-resource-policy"] == "same-origin"
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "frame-ancestors 'none'" in policy
        assert len(response.headers.get_list("content-security-policy")) == 1


def test_a_picture_is_shown_and_nothing_in_it_is_run(api: Api) -> None:
    for response in every_kind_of_picture(api):
        assert response.headers.get_list("content-security-policy") == [
            "default-src 'none'; style-src 'unsafe-inline'; sandbox"
        ]
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cross-origin-resource-policy"] == "same-origin"
        if response.status_code != 304:
            assert response.headers["content-type"] == "image/png"


@embedded_alone
def test_a_presigned_picture_may_be_part_of_any_page(api: Api) -> None:
    url = api.uploaded(pictures.png())["presigned_url"]
    for headers in ({}, {"Range": "bytes=1-"}, {"If-None-Match": fetch(url).headers["etag"]}):
        response = fetch(url, **headers)
        assert response.status_code in {200, 206, 304}
        assert response.headers.get_list("cross-origin-resource-policy") == ["cross-origin"]
        assert "sandbox" in response.headers["content-security-policy"]
        assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("media_type", pictures.EVERY_FORMAT)
def test_only_pictures_are_shown_in_place(api: Api, media_type: str) -> None:
    """Nothing else can be stored, so the type is never one that a browser runs."""
    image = api.uploaded(pictures.EVERY_FORMAT[media_type]())
    response = api.get(image["image_id"])
    assert response.headers["content-type"] == media_type
    assert response.headers["content-type"].startswith("image/")
    assert "svg" not in response.headers["content-type"]
    assert response.headers["content-disposition"].startswith("inline; ")


@embedded_alone
def test_the_page_of_the_api_loads_from_here_alone_and_is_in_no_frame(nobody: Api) -> None:
    headers = nobody.http.get("/docs").headers
    directives = {
        name: rest for name, *rest in (each.split() for each in headers["content-security-policy"].split(";"))
    }
    assert directives["default-src"] == directives["frame-ancestors"] == directives["base-uri"] == ["'none'"]
    assert directives["script-src"] == directives["connect-src"] == ["'self'"]
    assert not any("http" in source or "*" in source for sources in directives.values() for source in sources)
    assert headers["x-frame-options"] == "DENY"


# ---- HTTPS alone


def test_https_alone_is_asked_for_by_setting(
    api: Api, nobody: Api, open_to_browsers: Service, new_user: Callable[[Service], Api]
) -> None:
    assert not any("strict-transport-security" in each.headers for each in every_kind_of_answer(api, nobody))
    mine, nobodys = new_user(open_to_browsers), Api(open_to_browsers, None)
    for response in [*every_kind_of_answer(mine, nobodys), *every_kind_of_picture(mine)]:
        assert response.headers.get_list("strict-transport-security") == [f"max-age={HOUR_S}"]
    nobodys.close()


# ---- other sites' scripts


@pytest.fixture(scope="module")
def open_to_browsers(
    new_account: Callable[[], "Account | None"], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    settings = {"CALOTYPE_CORS_ORIGINS": f"{APP}, {LOCAL}", "CALOTYPE_HSTS_S": str(HOUR_S)}
    with Service(tmp_path_factory.mktemp("open") / "data", account=new_account(), settings=settings) as running:
        yield running


@pytest.fixture
def new_user() -> Iterator[Callable[[Service], Api]]:
    users: list[Api] = []

    def opened(service: Service) -> Api:
        users.append(Api(service, f"user-{uuid.uuid4()}"))
        return users[-1]

    yield opened
    for each in users:
        each.close()


ASKED = "authorization, content-type, if-match, if-none-match, idempotency-key, range, x-request-id, x-user-id"


@pytest.mark.parametrize("origin", [APP, LOCAL])
@pytest.mark.parametrize(
    ("path", "methods"),
    [
        (IMAGES, "GET HEAD POST"),
        (UNKNOWN, "GET HEAD PUT PATCH DELETE"),
        (f"{UNKNOWN}/restore", "POST"),
        ("/objects/images/x/a.png", "GET"),
    ],
)
def test_a_site_that_was_named_may_ask_for_everything(
    open_to_browsers: Service, origin: str, path: str, methods: str
) -> None:
    for method in methods.split():
        asks = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": ASKED}
        answer = fetch(open_to_browsers.base_url + path, "OPTIONS", **asks)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["access-control-allow-origin"] == origin
        assert method in answer.headers["access-control-allow-methods"].split(", ")
        assert set(ASKED.split(", ")) <= set(answer.headers["access-control-allow-headers"].lower().split(", "))
        assert int(answer.headers["access-control-max-age"]) > 0
        assert "Origin" in answer.headers["vary"]


def test_a_site_that_was_named_reads_every_answer_refusals_included(
    open_to_browsers: Service, new_user: Callable[[Service], Api]
) -> None:
    api, nobody = new_user(open_to_browsers), Api(open_to_browsers, None)
    for client in (api, nobody):
        client.http.headers["Origin"] = APP
    for response in [*every_kind_of_answer(api, nobody), *every_kind_of_picture(api)]:
        assert response.headers.get_list("access-control-allow-origin") == [APP]
        exposed = response.headers["access-control-expose-headers"].lower().split(", ")
        assert {"etag", "location", "link", "retry-after", "x-request-id", "idempotent-replayed"} <= set(exposed)
        assert {"content-range", "content-disposition", "ratelimit", "ratelimit-policy"} <= set(exposed)
        assert "Origin" in ", ".join(response.headers.get_list("vary"))
        assert "access-control-allow-credentials" not in response.headers
    nobody.close()


@embedded_alone
def test_a_site_that_was_named_reads_presigned_pictures(
    open_to_browsers: Service, new_user: Callable[[Service], Api]
) -> None:
    url = new_user(open_to_browsers).uploaded()["presigned_url"]
    for changed in (url, url + "0"):
        assert fetch(changed, Origin=APP).headers["access-control-allow-origin"] == APP


@embedded_alone
@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.evil.example",
        "https://evil.example",
        "https://xapp.example",
        "http://app.example",
        "https://app.example:444",
        "https://app.example/",
        "HTTPS://APP.EXAMPLE",
        "null",
        "*",
        "",
        f"{APP}, https://evil.example",
        None,
    ],
)
def test_other_sites_may_not(open_to_browsers: Service, origin: str | None) -> None:
    headers = {} if origin is None else {"Origin": origin}
    for method, more in (("GET", {}), ("OPTIONS", {"Access-Control-Request-Method": "PUT"})):
        answer = fetch(f"{open_to_browsers.base_url}{IMAGES}", method, **headers, **more)
        assert not any(name.startswith("access-control") for name in answer.headers)
        assert "Origin" in answer.headers["vary"]  # or a cache would give them what a named site got


def test_without_the_setting_no_site_may(nobody: Api) -> None:
    for method in ("GET", "OPTIONS"):
        asks = {"Origin": APP, "Access-Control-Request-Method": "GET"}
        answer = nobody.http.request(method, IMAGES, headers=asks)
        assert not any(name.startswith("access-control") for name in answer.headers)
        assert "Origin" not in answer.headers.get("vary", "")


@embedded_alone
def test_any_site_may_if_that_is_set_but_not_say_who_the_user_is(open_service: Callable[..., Service]) -> None:
    """Who is named by a header alone is kept apart by the network, and a browser stands inside of it."""
    with open_service(settings={"CALOTYPE_CORS_ORIGINS": "*"}) as service:
        asks = {"Origin": "https://any.example", "Access-Control-Request-Method": "GET"}
        preflight = fetch(f"{service.base_url}{IMAGES}", "OPTIONS", **asks)
        assert preflight.headers["access-control-allow-origin"] == "*"
        assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
        assert "x-user-id" not in preflight.headers["access-control-allow-headers"].lower()
        assert fetch(f"{service.base_url}{IMAGES}", **asks).headers["access-control-allow-origin"] == "*"
