"""What goes wrong gets a problem of the catalogue, whatever it is; and every answer has its request's id."""

import json
import re
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests import pictures
from tests.e2e.client import (
    IMAGES,
    Api,
    Document,
    check_problem,
    document,
    embedded_alone,
    exchange,
    fetch,
    problem,
    readiness,
)
from tests.service import Service
from tests.waiting import wait_until

UNKNOWN = f"{IMAGES}/00000000-0000-4000-8000-000000000000"


# ---- routes and methods


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nowhere",
        "/api",
        "/api/v1",
        "/api/v2/images",
        f"{UNKNOWN}/x",
        f"{UNKNOWN}/metadata/x",
        "/docs/x",
        "/%ff",
        "/..%2f",
    ],
)
def test_an_unknown_path_is_not_found(api: Api, path: str) -> None:
    problem(api.http.get(path), 404, "no_such_route")


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        (IMAGES, {"GET", "HEAD", "POST"}),
        (UNKNOWN, {"GET", "HEAD", "PUT", "PATCH", "DELETE"}),
        (f"{UNKNOWN}/metadata", {"GET", "HEAD"}),
        (f"{UNKNOWN}/restore", {"POST"}),
        ("/api/v1/limits", {"GET", "HEAD"}),
        ("/health/live", {"GET", "HEAD"}),
        ("/metrics", {"GET", "HEAD"}),
        ("/openapi.json", {"GET", "HEAD"}),
    ],
)
def test_a_path_refuses_other_methods_and_names_its_own(api: Api, path: str, methods: set[str]) -> None:
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PURGE", "FOO"} - methods:
        response = api.http.request(method, path)
        problem(response, 405, "method_not_allowed")
        assert set(response.headers["allow"].split(", ")) - {"OPTIONS"} == methods
    options = api.http.options(path)
    assert options.status_code == 204
    assert set(options.headers["allow"].split(", ")) == methods | {"OPTIONS"}


# ---- identity


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", IMAGES),
        ("GET", IMAGES),
        ("GET", UNKNOWN),
        ("GET", f"{UNKNOWN}/metadata"),
        ("PUT", UNKNOWN),
        ("PATCH", UNKNOWN),
        ("DELETE", UNKNOWN),
        ("POST", f"{UNKNOWN}/restore"),
    ],
)
def test_whoever_does_not_say_who_they_are_gets_nothing(nobody: Api, method: str, path: str) -> None:
    problem(nobody.http.request(method, path), 401, "unauthenticated")


@pytest.mark.parametrize("user", ["", "a b", "a/b", "ann,bob", "é", "u" * 129, "<script>", "#"])
def test_an_identity_that_is_none_is_refused(nobody: Api, user: str) -> None:
    problem(nobody.http.get(IMAGES, headers={b"X-User-ID": user.encode()}), 401, "invalid_user")


@pytest.mark.parametrize(
    "user", ["auth0|5f7c8ec7c33c6c004bbafe82", "ann@example.org", "a", "u" * 128, "arn:aws:iam-x_1.2"]
)
def test_identities_of_the_usual_kinds_are_good(nobody: Api, user: str) -> None:
    document(nobody.http.get(IMAGES, headers={"X-User-ID": user}))


def test_an_identity_beside_the_gateways_is_none(nobody: Api) -> None:
    """Whoever adds a line of their own must neither be somebody else nor hide who they are."""
    response = nobody.http.get(IMAGES, headers=[("X-User-ID", "victim"), ("X-User-ID", "attacker")])
    problem(response, 401, "invalid_user")


def test_limits_health_metrics_and_docs_are_for_everybody(nobody: Api) -> None:
    for path in ("/api/v1/limits", "/health/live", "/health/ready", "/metrics", "/openapi.json", "/docs"):
        assert nobody.http.get(path).status_code == 200


# ---- JSON


@pytest.fixture(scope="module")
def image(service: Service) -> Document:
    api = Api(service, "owner-of-a-problem")
    uploaded = api.uploaded()
    api.close()
    return uploaded


@pytest.fixture
def owner(service: Service, image: Document) -> Iterator[Api]:
    api = Api(service, image["user_id"])
    yield api
    api.close()


BAD_JSON = [
    (b"", "invalid_json", None),
    (b"{", "invalid_json", None),
    (b'{"title": "a"} x', "invalid_json", None),
    (b"[]", "invalid_json", None),
    (b"null", "invalid_json", None),
    (b'"title"', "invalid_json", None),
    (b"\xef\xbb\xbf{}", "invalid_json", None),
    (b'{"title": "\xff"}', "invalid_json", None),
    (b'{"title": "\\ud800"}', "invalid_json", None),
    (b'{"title": NaN}', "invalid_json", None),
    (b'{"title": 1e999}', "invalid_json", None),
    (b'{"tags": ' + b"[" * 100_000, "invalid_json", None),
    ('{"title": "a"}'.encode("utf-16"), "invalid_json", None),
    (b'{"titel": "a"}', "invalid_input", "titel"),
    (b'{"Title": "a"}', "invalid_input", "Title"),
    (b'{"version": 7}', "invalid_input", "version"),
    (b'{"user_id": "root"}', "invalid_input", "user_id"),
    (b'{"": null}', "invalid_input", ""),
    (b'{"nothing": null}', "invalid_input", "nothing"),
    (b'{"title": 5}', "invalid_input", "title"),
    (b'{"title": ["a"]}', "invalid_input", "title"),
    (b'{"title": ""}', "invalid_input", "title"),
    (b'{"title": "\\u0000"}', "invalid_input", "title"),
    (b'{"title": "a\\nb"}', "invalid_input", "title"),
    (json.dumps({"title": "t" * 201}).encode(), "invalid_input", "title"),
    (json.dumps({"description": "d" * 5001}).encode(), "invalid_input", "description"),
    (b'{"description": {}}', "invalid_input", "description"),
    (b'{"tags": "a,b"}', "invalid_input", "tags"),
    (b'{"tags": {"a": 1}}', "invalid_input", "tags"),
    (b'{"tags": [1]}', "invalid_input", "tags"),
    (b'{"tags": [null]}', "invalid_input", "tags"),
    (b'{"tags": [["a"]]}', "invalid_input", "tags"),
    (b'{"tags": [""]}', "invalid_input", "tags"),
    (json.dumps({"tags": ["t" * 65]}).encode(), "invalid_input", "tags"),
    (json.dumps({"tags": [f"{n}" for n in range(31)]}).encode(), "invalid_input", "tags"),
]


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize(("body", "code", "field"), BAD_JSON, ids=range(len(BAD_JSON)))
def test_a_body_that_breaks_a_rule_changes_nothing(
    owner: Api, image: Document, method: str, body: bytes, code: str, field: str | None
) -> None:
    headers = {"Content-Type": "application/json"}
    response = owner.http.request(method, f"{IMAGES}/{image['image_id']}", content=body, headers=headers)
    answer = problem(response, 400, code)
    assert field is None or [fault["field"] for fault in answer["errors"]] == [field]
    assert document(owner.metadata(image["image_id"]))["version"] == 1


def test_null_is_a_reset_in_a_patch_and_no_value_in_a_replacement(owner: Api, image: Document) -> None:
    for field in ("title", "description", "tags"):
        answer = problem(owner.put(image["image_id"], {field: None}), 400, "invalid_input")
        assert [fault["field"] for fault in answer["errors"]] == [field]


def test_all_that_is_wrong_with_a_body_is_told_at_once(owner: Api, image: Document) -> None:
    answer = problem(owner.put(image["image_id"], {"title": "", "tags": [1], "x": 1}), 400, "invalid_input")
    assert {fault["field"] for fault in answer["errors"]} == {"title", "tags", "x"}


@pytest.mark.parametrize(
    ("method", "content_type"),
    [
        ("PUT", "application/merge-patch+json"),
        ("PUT", "text/plain"),
        ("PUT", ""),
        ("PATCH", "application/json-patch+json"),
        ("PATCH", "text/json"),
        ("PATCH", "multipart/form-data; boundary=x"),
    ],
)
def test_a_body_of_another_kind_is_refused(owner: Api, image: Document, method: str, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    response = owner.http.request(method, f"{IMAGES}/{image['image_id']}", content=b"{}", headers=headers)
    problem(response, 415, "unsupported_media_type")
    assert "application/json" in response.headers["accept"]


def test_a_body_of_more_than_anybody_needs_is_too_large(owner: Api, image: Document) -> None:
    problem(owner.put(image["image_id"], {"description": "d" * 300_000}), 413, "request_too_large")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "?download=yes"),
        ("GET", "?download=1&download=1"),
        ("GET", "?x=1"),
        ("GET", "/metadata?x=1"),
        ("PUT", "?x=1"),
        ("PATCH", "?x=1"),
        ("DELETE", "?permanent=maybe"),
        ("DELETE", "?permanent="),
        ("DELETE", "?force=true"),
        ("POST", "/restore?x=1"),
    ],
)
def test_a_parameter_that_a_call_does_not_have_is_refused(owner: Api, image: Document, method: str, path: str) -> None:
    body: dict[str, str] | None = {} if method in {"PUT", "PATCH"} else None
    response = owner.http.request(method, f"{IMAGES}/{image['image_id']}{path}", json=body)
    problem(response, 400, "invalid_input")
    assert document(owner.metadata(image["image_id"]))["version"] == 1


# ---- our own failures


def _object_of(service: Service, image: Document) -> Path:
    (path,) = service.data_dir.joinpath("objects").rglob(f"{image['image_id']}/{image['filename']}")
    return path


@embedded_alone  # it damages a file; test_aws.py has the like of it
def test_an_object_that_is_lost_or_cut_is_said_to_be_damaged(api: Api, service: Service) -> None:
    for damage in (Path.unlink, lambda path: path.write_bytes(b"short")):
        image = api.uploaded()
        damage(_object_of(service, image))
        for headers in ({}, {"Range": "bytes=0-1"}):
            problem(api.get(image["image_id"], **headers), 500, "object_damaged")


@embedded_alone  # the crash is one of reading SQLite
def test_a_crash_says_nothing_of_the_inside_and_the_log_has_all_under_the_id(api: Api, service: Service) -> None:
    image_id = api.uploaded()["image_id"]
    with closing(sqlite3.connect(service.data_dir / "catalog.sqlite3")) as catalog, catalog:
        changed = catalog.execute("UPDATE images SET tags = 'no JSON' WHERE owner = ?", [api.user])
        assert changed.rowcount == 1
    response = api.metadata(image_id)
    answer = check_problem(response)
    assert response.status_code == 500
    assert not re.search(r"Error|Exception|Traceback|sqlite|\.py|no JSON", response.text)
    log = [json.loads(line) for line in service.log.read_text().splitlines() if answer["request_id"] in line]
    assert any("Traceback" in json.dumps(line) or "exception" in line for line in log)


def test_a_store_that_is_gone_makes_the_service_unready_and_comes_back(tmp_path: Path) -> None:
    with Service(tmp_path / "data") as service:
        api = Api(service, "ann")
        image = api.uploaded()
        (service.data_dir / "objects").rename(service.data_dir / "gone")

        ready = readiness(service, 503)
        assert ready.json()["status"] == "unavailable"
        assert ready.json()["checks"] == {"metadata": "ok", "objects": "unavailable"}
        assert int(ready.headers["retry-after"]) > 0
        assert api.http.get("/health/live").status_code == 200
        problem(api.upload(), 503, "unavailable")

        (service.data_dir / "gone").rename(service.data_dir / "objects")
        assert readiness(service, 200).json() == {
            "status": "ok",
            "checks": {"metadata": "ok", "objects": "ok"},
        }
        assert api.get(image["image_id"]).content == pictures.jpeg()
        assert api.ids() == [image["image_id"]]
        api.close()


# ---- request ids


@pytest.mark.parametrize("path", [IMAGES, "/nowhere", "/health/live", UNKNOWN])
def test_a_request_id_comes_back(api: Api, path: str) -> None:
    for wanted in ("abc", "A.b_c:d-9", "1" * 128, str(uuid.uuid4())):
        response = api.http.get(path, headers={"X-Request-ID": wanted})
        assert response.headers.get_list("x-request-id") == [wanted]


@pytest.mark.parametrize("bad", ["", "a b", "a" * 129, "a;b", "é", '"a"', "a,b"])
def test_a_request_id_that_is_none_is_replaced(api: Api, bad: str) -> None:
    response = api.http.get(IMAGES, headers={b"X-Request-ID": bad.encode()})
    assert str(uuid.UUID(response.headers["x-request-id"])) == response.headers["x-request-id"]


def test_each_request_has_an_id_of_its_own(api: Api) -> None:
    ids = {api.http.get(path).headers["x-request-id"] for path in (IMAGES, IMAGES, "/nowhere", "/docs", "/metrics")}
    assert len(ids) == 5


def test_a_request_leaves_one_line_in_the_log_without_its_secrets(api: Api, service: Service) -> None:
    image = api.uploaded()
    wanted = f"log-{uuid.uuid4()}"
    fetch(image["presigned_url"])
    document(api.metadata(image["image_id"], X_Request_ID=wanted))
    wait_until(lambda: wanted in service.log.read_text())  # lines that warn of nothing are written in batches
    lines = [line for line in service.log.read_text().splitlines() if wanted in line and '"request"' in line]
    assert len(lines) == 1
    assert json.loads(lines[0])["status"] == 200
    assert image["presigned_url"].rpartition("=")[2] not in service.log.read_text()


# ---- what is asked for as no client would


@pytest.mark.parametrize(
    ("head", "statuses"),
    [
        (b"GET /api/v1/images?x=\xff HTTP/1.1\nHost: x\n", {400}),
        (b"GET /\xff HTTP/1.1\nHost: x\n", {400, 404}),
        (b"GET //api/v1/images HTTP/1.1\nHost: x\n", {401, 404}),
        (b"GET /api/v1/../../etc/passwd HTTP/1.1\nHost: x\n", {404}),
        (b"GET http://elsewhere.example/nowhere HTTP/1.1\nHost: x\n", {404}),
        (b"OPTIONS * HTTP/1.1\nHost: x\n", {204, 400, 404}),
        (b"NONSENSE\n", {400}),
        (b"GET /api/v1/images HTTP/1.1\nHost: x\nX-User-ID: a\0b\n", {400}),
    ],
)
def test_a_malformed_request_is_refused_and_the_next_one_is_answered(
    service: Service, api: Api, head: bytes, statuses: set[int]
) -> None:
    assert exchange(service, head).status_code in statuses
    assert api.http.get("/health/live").status_code == 200


# ---- limits


def test_the_limits_are_those_that_hold(nobody: Api) -> None:
    limits = document(nobody.http.get("/api/v1/limits"))
    assert limits == {
        "max_upload_bytes": 25 * 1024 * 1024,
        "max_pixels": 100_000_000,
        "max_file_pixels": 400_000_000,
        "max_metadata_bytes": 16 * 1024 * 1024,
        "title_max_chars": 200,
        "description_max_chars": 5000,
        "tags_max": 30,
        "tag_max_chars": 64,
        "filename_max_bytes": 255,
        "page_max_items": 100,
        "page_default_items": 20,
        "presign_ttl_s": 3600,
        "trash_retention_s": 30 * 24 * 3600,
        "content_types": list(pictures.EVERY_FORMAT),
    }


def test_metrics_count_what_was_asked_for(api: Api) -> None:
    def counted() -> float:
        page = api.http.get("/metrics")
        assert page.headers["content-type"].startswith("text/plain")
        lines = [
            line for line in page.text.splitlines() if "requests" in line and "/metadata" in line and "404" in line
        ]
        return sum(float(line.rpartition(" ")[2]) for line in lines if "_total" in line or "_count" in line)

    before = counted()
    api.metadata("x")
    wait_until(lambda: counted() > before)  # it is counted once the answer is away
    assert str(api.user) not in api.http.get("/metrics").text
