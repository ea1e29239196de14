"""The outermost layer of every request: its id, what all answers carry, and one observation at its end."""

import re
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.http.replies import Receive, Scope, Send

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_CLIENT_GONE = 499


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
    """

    app: Callable[[Any, Any, Any], Awaitable[None]]
    started: Sequence[RequestStarted] = ()
    observers: Sequence[RequestObserver] = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        for start in self.started:
            start(request_id)
        answer = _Answer(send, request_id.encode())
        begun = time.perf_counter()
        try:
            await self.app(scope, receive, answer)
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


class _Answer:
    """The way out: adds the request id, and counts."""

    __slots__ = ("_length", "_request_id", "_send", "body_bytes", "status")

    def __init__(self, send: Send, request_id: bytes) -> None:
        self._send = send
        self._request_id = request_id
        self._length = 0
        self.status = _CLIENT_GONE
        self.body_bytes = 0

    async def __call__(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
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


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return bytes(value).decode("ascii")
    return str(uuid.uuid4())
