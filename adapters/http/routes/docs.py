"""/openapi.json, and /docs: Swagger UI from an installed package, so that the page works without the internet."""

from functools import cache
from importlib import resources
from importlib.metadata import version
from typing import Any

import msgspec
from litestar import Request, Router, route
from litestar.enums import HttpMethod
from litestar.types import ASGIApp

from adapters.http.authentication import Scheme
from adapters.http.context import Context
from adapters.http.openapi import openapi_document
from adapters.http.problems import Problem
from adapters.http.replies import Reply

_READ = [HttpMethod.GET, HttpMethod.HEAD]
_ASSETS = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "start.js": "text/javascript; charset=utf-8",
    "favicon-32x32.png": "image/png",
}
# Swagger UI styles inline, and shows a downloaded picture from a blob.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Its links are relative, so that it works behind a gateway that puts a path in front.
_PAGE = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Calotype API</title>
<link rel="icon" type="image/png" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<noscript>The API is described in <a href="openapi.json">/openapi.json</a>.</noscript>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START = b"""SwaggerUIBundle({url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null})
"""


@route("/openapi.json", http_method=_READ)
async def openapi(request: Request[Any, Any, Any], context: Context) -> ASGIApp:
    """Describe the API."""
    await context.admit_address(request.scope)
    document = _encoded_document(
        context.public_path, signs_urls=context.signed_objects is not None, identity=context.authenticator.scheme
    )
    return _reply(document, "application/json")


@route("/docs", http_method=_READ)
async def page(request: Request[Any, Any, Any], context: Context) -> ASGIApp:
    """Show the API to people."""
    await context.admit_address(request.scope)
    return _reply(_PAGE, "text/html; charset=utf-8")


@route("/docs/{name:str}", http_method=_READ)
async def asset(request: Request[Any, Any, Any], context: Context, name: str) -> ASGIApp:
    """Give a part of the page."""
    await context.admit_address(request.scope)
    if name not in _ASSETS:
        raise Problem("no_such_route", f"There is no {request.scope['path']}.")
    return _reply(_asset(name), _ASSETS[name], ("Cache-Control", "public, max-age=3600"))


router = Router("/", route_handlers=[openapi, page, asset])


@cache
def _encoded_document(public_path: str, *, signs_urls: bool, identity: Scheme) -> bytes:
    return msgspec.json.encode(
        openapi_document(version("calotype"), [public_path or "/"], signs_urls=signs_urls, identity=identity)
    )


@cache
def _asset(name: str) -> bytes:
    if name == "start.js":
        return _START
    vendor = resources.files("swagger_ui_bundle") / "vendor"
    (folder,) = (entry for entry in vendor.iterdir() if entry.name.startswith("swagger-ui-"))
    return (folder / name).read_bytes()


def _reply(body: bytes, content_type: str, *headers: tuple[str, str]) -> Reply:
    return Reply(
        200,
        [
            ("Content-Type", content_type),
            ("Content-Length", str(len(body))),
            ("Content-Security-Policy", _POLICY),
            ("X-Frame-Options", "DENY"),  # for browsers that know no frame-ancestors
            *headers,
        ],
        body,
    )
