"""The API's description: it names every route and nothing else, and its page needs no other host."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from litestar.enums import HttpMethod

from adapters.http.problems import CATALOGUE
from adapters.http.routes import docs, images, system
from tests.e2e.client import DOCUMENT_FIELDS, Api, document

SIGNED = "/objects/images/{image_id}/{filename}"
METHODS = {method.value.lower() for method in HttpMethod} - {"options"}


@pytest.fixture
def described(nobody: Api) -> dict[str, Any]:
    return document(nobody.http.get("/openapi.json"))


def _operations(described: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in described["paths"].items():
        for method in sorted(METHODS & item.keys()):
            yield method, path, item[method]


def _routes() -> set[tuple[str, str]]:
    found = set()
    for router in (images.router, system.router):
        for route in router.routes:
            path = re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path)
            found |= {(method.lower(), path) for method in route.methods}
    return found


def test_presigned_urls_are_described_where_they_point_at_the_service(described: dict[str, Any], api: Api) -> None:
    address = urlsplit(api.uploaded(name="a.jpg")["presigned_url"])
    ours = address.netloc == urlsplit(api.service.base_url).netloc
    assert (SIGNED in described["paths"]) == ours
    if ours:
        template = re.escape(SIGNED).replace(r"\{image_id\}", "[0-9a-f-]{36}").replace(r"\{filename\}", "a.jpg")
        assert re.fullmatch(template, address.path)
        parameters = described["paths"][SIGNED]["get"]["parameters"]
        in_query = {parameter["name"] for parameter in parameters if parameter["in"] == "query"}
        assert in_query == dict(parse_qsl(address.query)).keys()


def test_every_route_is_described_and_nothing_else(described: dict[str, Any]) -> None:
    operations = {(method, path) for method, path, _ in _operations(described) if path != SIGNED}
    routes = {(method, path) for method, path in _routes() if method != "options"}
    # HEAD goes without saying, but for the original, where it is a way of its own to ask.
    heads = {(method, path) for method, path in routes if method == "head"}
    assert operations - heads == routes - heads
    assert operations & heads == {("head", "/api/v1/images/{image_id}")}


def test_what_is_described_is_there(described: dict[str, Any], nobody: Api) -> None:
    for method, path, _ in _operations(described):
        response = nobody.http.request(method, path.replace("{image_id}", "x").replace("{filename}", "x"))
        assert response.status_code == (403 if path == SIGNED else 401 if _asks(described, path, method) else 200)


def test_the_document_is_sound(described: dict[str, Any]) -> None:
    assert described["openapi"].startswith("3.1.")
    assert described["info"]["title"]
    assert described["info"]["version"]
    ids = [operation["operationId"] for _, _, operation in _operations(described)]
    assert len(ids) == len(set(ids))
    for _, path, operation in _operations(described):
        assert operation["summary"]
        assert all(re.fullmatch(r"[1-5]\d\d", status) for status in operation["responses"])
        assert all(answer["description"] for answer in operation["responses"].values() if "$ref" not in answer)
        parameters = [*operation.get("parameters", []), *described["paths"][path].get("parameters", [])]
        in_path = {parameter["name"] for parameter in parameters if parameter["in"] == "path"}
        assert in_path == set(re.findall(r"\{(\w+)\}", path))
        assert all(parameter["required"] for parameter in parameters if parameter["in"] == "path")
        assert len({(parameter["in"], parameter["name"]) for parameter in parameters}) == len(parameters)
        tags = {tag["name"] for tag in described["tags"]}
        assert set(operation["tags"]) <= tags
        for requirement in operation.get("security", described["security"]):
            assert requirement.keys() <= described["components"]["securitySchemes"].keys()


def _asks(described: dict[str, Any], path: str, method: str) -> bool:
    return bool(described["paths"][path][method].get("security", described["security"]))


def test_every_problem_is_described_with_its_codes_and_headers(described: dict[str, Any]) -> None:
    for _, _, operation in _operations(described):
        for status, answer in operation["responses"].items():
            schema = answer.get("content", {}).get("application/problem+json", {}).get("schema")
            if schema is None:
                continue
            assert schema["properties"]["status"] == {"const": int(status)}
            assert all(CATALOGUE[code][0] == int(status) for code in schema["properties"]["code"]["enum"])
            needed = {"401": "WWW-Authenticate", "415": "Accept", "429": "Retry-After", "503": "Retry-After"}
            assert {"X-Request-ID", needed.get(status, "X-Request-ID")} <= answer["headers"].keys()


def test_every_reference_leads_somewhere_and_everything_is_referred_to(described: dict[str, Any]) -> None:
    found = set(_references(described))
    for reference in found:
        target: Any = described
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
    for kind in ("schemas", "headers"):
        assert {f"#/components/{kind}/{name}" for name in described["components"][kind]} <= found


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)


def test_the_schema_of_a_document_is_what_is_sent(described: dict[str, Any], api: Api) -> None:
    schema = described["components"]["schemas"]["ImageDocument"]
    image = api.uploaded(tags="a")
    assert set(schema["properties"]) == set(schema["required"]) == DOCUMENT_FIELDS == image.keys()
    kinds = {"string": str, "integer": int, "array": list}
    for field, value in image.items():
        assert isinstance(value, kinds[schema["properties"][field]["type"]])


def test_every_problem_that_an_image_may_have_is_described(described: dict[str, Any]) -> None:
    text = str(described["paths"])
    # These come before any operation is found, or from URLs that may be S3's.
    elsewhere = {"no_such_route", "method_not_allowed"} | (
        set() if SIGNED in described["paths"] else {"signature_refused"}
    )
    assert {code for code in CATALOGUE if f"`{code}`" in text} == CATALOGUE.keys() - elsewhere


def test_the_page_loads_nothing_from_another_host(nobody: Api) -> None:
    page = nobody.http.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "'self'" in page.headers["content-security-policy"]
    assert not re.search(r"https?://|[\"'(]//", page.text)
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(addresses) >= 4
    for address in addresses:
        assert "//" not in address
        assert nobody.http.get(address).status_code == 200


def test_the_pages_parts_load_nothing_from_another_host_either(nobody: Api) -> None:
    style = nobody.http.get("/docs/swagger-ui.css")
    assert style.headers["content-type"] == "text/css; charset=utf-8"
    assert not re.search(r"@import|url\(\s*[\"']?(?:https?:)?//", style.text)
    start = nobody.http.get("/docs/start.js")
    assert '"openapi.json"' in start.text
    assert "validatorUrl: null" in start.text  # its default would ask validator.swagger.io


@pytest.mark.parametrize("name", ["..%2f..%2fopenapi.py", "swagger-ui.js.map", ".", "%00", "index.html"])
def test_nothing_else_lies_beside_the_page(nobody: Api, name: str) -> None:
    response: httpx.Response = nobody.http.get(f"/docs/{name}")
    assert response.status_code == (200 if name == "." else 404)


def test_the_routes_of_the_page_are_the_only_ones_that_are_not_described() -> None:
    assert {route.path for route in docs.router.routes} == {"/docs", "/docs/{name:str}", "/openapi.json"}
