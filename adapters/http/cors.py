"""Cross-origin requests (the Fetch standard, section 3.3): which other sites' scripts may use the API."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from adapters.http.replies import Receive, Reply, Scope, Send

_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
_REQUEST_HEADERS = (
    "Authorization",
    "Content-Digest",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-Modified-Since",
    "If-None-Match",
    "If-Range",
    "If-Unmodified-Since",
    "Range",
    "Signature",
    "Signature-Input",
    "X-Request-ID",
)
_USER_HEADER = "X-User-ID"
_RESPONSE_HEADERS = (
    b"Accept-Ranges, Content-Disposition, Content-Range, ETag, Idempotent-Replayed, Link, Location, RateLimit, "
    b"RateLimit-Policy, Retry-After, WWW-Authenticate, X-Request-ID"
)
_PREFLIGHT_KEPT_S = 600
_ANYBODY = "*"


class Cors:
    """ASGI middleware: tells browsers that scripts of some origins may ask, and read what they get.

    Never with credentials: there are no cookies, and whoever knows the token sends it themselves.
    """

    def __init__(self, app: Callable[[Any, Any, Any], Awaitable[None]], origins: Sequence[str]) -> None:
        """Take the origins, as browsers write them, or ``*`` for any.

        Scripts of just any site may not say who the user is: where only the network keeps strangers out, they are
        inside it, in a browser.
        """
        self._app = app
        self._anybody = _ANYBODY in origins
        self._origins = frozenset(origin.encode() for origin in origins)
        named = _REQUEST_HEADERS if self._anybody else (*_REQUEST_HEADERS, _USER_HEADER)
        self._preflight = (
            ("Access-Control-Allow-Methods", _METHODS),
            ("Access-Control-Allow-Headers", ", ".join(named)),
            ("Access-Control-Max-Age", str(_PREFLIGHT_KEPT_S)),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; answer a preflight in its place."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        more = self._response_headers(headers.get(b"origin"))

        async def send_with_more(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *more]
            await send(message)

        asked = scope["method"] == "OPTIONS" and b"access-control-request-method" in headers
        if asked and len(more) > 1:
            await Reply(204, self._preflight)(scope, receive, send_with_more)
        else:
            await self._app(scope, receive, send_with_more)

    def _response_headers(self, origin: bytes | None) -> list[tuple[bytes, bytes]]:
        """Return what goes with every answer; caches must know that it depends on the origin, also without one."""
        if self._anybody:
            return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", _RESPONSE_HEADERS)]
        if origin not in self._origins:
            return [(b"vary", b"Origin")]
        return [
            (b"vary", b"Origin"),
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _RESPONSE_HEADERS),
        ]
