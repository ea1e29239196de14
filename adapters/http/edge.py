"""The outermost layer of every request: its id, what all answers carry, and one observation at its end."""

import asyncio
import contextlib
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.http.replies import Receive, Scope, Send

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_CLIENT_GONE = 499
_PATIENCE_S = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestObservation:
    """What is worth knowing of a request that ended. No query, no header, no body: those may hold secrets."""

    request_id: str
    method: str
    path: str
    route: str
    """The path's template; empty when nothing is there."""
    status: int
    """499 when the client was gone before the answer began."""
    duration_s: float
    response_bytes: int
    error: BaseException | None
    """What was answered with a 5xx, or broke the answer off."""


RequestStarted = Callable[[str], None]
RequestObserver = Callable[[RequestObservation], None]


@dataclass(frozen=True, slots=True)
class Edge:
    """ASGI middleware around the whole application.

    ``started`` is called with the request's id in the request's own context; each observer when the request is over.
    Of a body that the application leaves unread, up to ``unread_max_bytes`` are read before it is answered.
    """

    app: Callable[[Any, Any, Any], Awaitable[None]]
    started: Sequence[RequestStarted] = ()
    observers: Sequence[RequestObserver] = ()
    unread_max_bytes: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        for start in self.started:
            start(request_id)
        scope["headers"] = _combined(scope["headers"])
        body = _Body(receive, dict(scope["headers"]), self.unread_max_bytes)
        answer = _Answer(send, request_id.encode(), body)
        begun = time.perf_counter()
        try:
            await self.app(scope, body, answer)
        except Exception as error:
            # The answer has begun, so breaking the connection is all that is left; the server does that.
            scope["state"]["error"] = error
            raise
        finally:
            observation = RequestObservation(
                request_id=request_id,
                method=scope["method"],
                path=scope["path"],
                route=str(scope.get("path_template", "")),
                status=answer.status,
                duration_s=time.perf_counter() - begun,
                response_bytes=answer.body_bytes,
                error=scope["state"].get("error"),
            )
            for observe in self.observers:
                observe(observation)


class _Body:
    """The way in: knows what of the request's body is still to come."""

    __slots__ = ("_begun", "_expects_leave", "_most", "_receive", "_to_come")

    def __init__(self, receive: Receive, headers: Mapping[bytes, bytes], most: int) -> None:
        self._receive = receive
        self._most = most
        length = headers.get(b"content-length", b"0")
        self._to_come = b"transfer-encoding" in headers or (length.isdigit() and 0 < int(length) <= most)
        self._expects_leave = b"expect" in headers
        self._begun = False

    async def __call__(self) -> Any:
        self._begun = True
        event = await self._receive()
        if event["type"] != "http.request" or not event.get("more_body"):
            self._to_come = False
        return event

    async def read_on(self) -> None:
        """Read what was left unread: many clients look at the answer only once they have sent everything.

        A client that asked for leave to send its body (Expect: 100-continue) and hasn't got it waits for the answer.
        """
        if not self._to_come or (self._expects_leave and not self._begun):
            return
        left = self._most
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                while left > 0 and self._to_come:
                    left -= len((await self()).get("body", b""))


class _Answer:
    """The way out: adds the request id, and counts."""

    __slots__ = ("_body", "_length", "_request_id", "_send", "body_bytes", "status")

    def __init__(self, send: Send, request_id: bytes, body: _Body) -> None:
        self._send = send
        self._request_id = request_id
        self._body = body
        self._length = 0
        self.status = _CLIENT_GONE
        self.body_bytes = 0

    async def __call__(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            await self._body.read_on()
            self.status = message["status"]
            self._length = next((int(value) for name, value in message["headers"] if name == b"content-length"), 0)
            message["headers"] = [
                *message["headers"],
                (b"x-request-id", self._request_id),
                (b"x-content-type-options", b"nosniff"),
            ]
        elif message["type"] == "http.response.body":
            self.body_bytes += len(message["body"])
        elif message["type"] == "http.response.pathsend":
            self.body_bytes = self._length
        await self._send(message)


def _combined(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the fields with those of several lines in one (RFC 9110, section 5.3), so that nobody sees only some.

    So a list may be sent in any way, and an identity in front of, or behind, that of the gateway is none.
    """
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        fields[name] = fields[name] + b", " + value if name in fields else value
    return list(fields.items())


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return bytes(value).decode("ascii")
    return str(uuid.uuid4())
