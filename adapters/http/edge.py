"""The outermost layer of every request: its id, what all answers carry, and one observation at its end."""

import asyncio
import contextlib
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapters.http.patience import Patience
from adapters.http.problems import Problem
from adapters.http.replies import ANSWER_HEADERS, Receive, Scope, Send

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_CLIENT_GONE = 499
_PATIENCE_S = 5
# Whoever is turned away has to be answered at once: only what is there in no time is read on.
_BRIEFLY_MAX_BYTES = 1024 * 1024
_BRIEF_PATIENCE_S = 0.5
_SLOWEST_BODY_BYTES_S = 32 * 1024  # 25 MiB, the longest upload, may take 14 minutes
_SLOWEST_ANSWER_BYTES_S = 4 * 1024

# What every answer carries that does not itself say otherwise. The server would name itself if the application didn't
# give it another name: an empty one.
_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"server", b""),
)
_ALWAYS_NAMES = frozenset(name for name, _ in _ALWAYS)


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
    Of a body that the application leaves unread, up to ``unread_max_bytes`` are read before it is answered, and next to
    nothing where the request's state says ``turned_away``. The state's ``ANSWER_HEADERS`` go with the answer. Whoever
    keeps the application waiting for ``stall_timeout_s`` with a body is answered 408, and whoever takes none of an
    answer for that long is given up: sending to them raises TimeoutError. ``headers`` go with every answer.
    """

    app: Callable[[Any, Any, Any], Awaitable[None]]
    started: Sequence[RequestStarted] = ()
    observers: Sequence[RequestObserver] = ()
    unread_max_bytes: int = 0
    stall_timeout_s: float = 30
    headers: Sequence[tuple[bytes, bytes]] = ()
    _patience: Patience = field(init=False, repr=False, compare=False, default_factory=Patience)

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
        body = _Body(receive, dict(scope["headers"]), self.unread_max_bytes, self._patience, self.stall_timeout_s)
        answer = _Answer(
            send, request_id.encode(), body, self.headers, self._patience, self.stall_timeout_s, scope["state"]
        )
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
    """The way in: knows what of the request's body is still to come, and for how long to wait for it."""

    __slots__ = (
        "_begun",
        "_declared",
        "_end_is_due",
        "_expects_leave",
        "_left",
        "_most",
        "_patience",
        "_patience_s",
        "_receive",
        "_stall_timeout_s",
        "_to_come",
        "_waits",
    )

    def __init__(
        self,
        receive: Receive,
        headers: Mapping[bytes, bytes],
        most: int,
        patience: Patience,
        stall_timeout_s: float,
    ) -> None:
        self._receive = receive
        self._most = most
        self._patience = patience
        length = headers.get(b"content-length", b"0")
        self._declared = int(length) if length.isdigit() else 0
        self._to_come = b"transfer-encoding" in headers or (length.isdigit() and 0 < int(length) <= most)
        # What is too long to be read on is still waited for while the application reads it.
        self._waits = self._to_come or length != b"0"
        self._expects_leave = b"expect" in headers
        # Until the end; negative where nobody knows.
        self._left = self._declared if self._declared and b"transfer-encoding" not in headers else -1
        self._end_is_due = False
        self._begun = False
        self._stall_timeout_s = self._patience_s = stall_timeout_s

    async def __call__(self) -> Any:
        self._begun = True
        if not self._waits:
            event = await self._receive()
            if self._end_is_due and event["type"] == "http.request" and not event.get("body"):
                self._end_is_due = False  # this was it; the application has known for long
                event = await self._receive()
            return event
        began = time.monotonic()
        try:
            with self._patience.within(self._patience_s):
                event = await self._next()
        except TimeoutError:
            self._to_come = self._waits = False
            raise Problem("request_timeout", "The body came too slowly.", (("Connection", "close"),)) from None
        # Only waiting counts, not what the application did in between. What comes gives as much patience as it may take
        # to come, but a fast beginning doesn't make up for a slow end.
        earned_s = len(event.get("body", b"")) / _SLOWEST_BODY_BYTES_S
        self._patience_s = min(self._stall_timeout_s, self._patience_s - (time.monotonic() - began) + earned_s)
        return event

    async def _next(self) -> Any:
        event = await self._receive()
        if event["type"] == "http.request" and event.get("more_body"):
            self._left -= len(event.get("body", b""))
            if self._left != 0:
                return event
            # All of it is here. The server says so when it is asked again, by another way through its threads.
            self._end_is_due = True
            event = {**event, "more_body": False}
        self._to_come = self._waits = False
        return event

    async def read_on(self, *, briefly: bool = False) -> None:
        """Read what was left unread: many clients look at the answer only once they have sent everything.

        A client that asked for leave to send its body (Expect: 100-continue) and hasn't got it waits for the answer.
        """
        self._waits = False  # from here on the application asks only whether the client is still there
        if not self._to_come or (self._expects_leave and not self._begun):
            return
        left, patience_s = (_BRIEFLY_MAX_BYTES, _BRIEF_PATIENCE_S) if briefly else (self._most, _PATIENCE_S)
        if briefly and self._declared > left:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while left > 0 and self._to_come:
                    left -= len((await self._next()).get("body", b""))


class _Answer:
    """The way out: adds what every answer carries, and counts."""

    __slots__ = (
        "_body",
        "_headers",
        "_length",
        "_request_id",
        "_send",
        "_stall_timeout_s",
        "_state",
        "_wait",
        "body_bytes",
        "status",
    )

    def __init__(
        self,
        send: Send,
        request_id: bytes,
        body: _Body,
        headers: Sequence[tuple[bytes, bytes]],
        patience: Patience,
        stall_timeout_s: float,
        state: Mapping[str, Any],
    ) -> None:
        self._send = send
        self._request_id = request_id
        self._body = body
        self._headers = headers
        self._wait = patience.within(stall_timeout_s)
        self._stall_timeout_s = stall_timeout_s
        self._state = state
        self._length = 0
        self.status = _CLIENT_GONE
        self.body_bytes = 0

    async def __call__(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            await self._body.read_on(briefly="turned_away" in self._state)
            self.status = message["status"]
            own = dict(message["headers"])
            self._length = int(own.get(b"content-length", 0))
            message["headers"] = [
                *message["headers"],
                (b"x-request-id", self._request_id),
                *(_ALWAYS if _ALWAYS_NAMES.isdisjoint(own) else [each for each in _ALWAYS if each[0] not in own]),
                *self._headers,
                *self._state.get(ANSWER_HEADERS, ()),
            ]
        elif message["type"] == "http.response.body":
            piece_bytes = len(message["body"])
            self.body_bytes += piece_bytes
            if message.get("more_body") or self.body_bytes > piece_bytes:
                # Of a stream the server takes a piece when it has got rid of those before.
                self._wait.seconds = self._stall_timeout_s + piece_bytes / _SLOWEST_ANSWER_BYTES_S
                with self._wait:
                    await self._send(message)
                return
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
    # No secret. Asking the kernel for random bytes would let go of the interpreter lock, and wait for it again.
    # A UUID of version 4 (RFC 9562, section 5.4), put together by hand: its class takes longer than all the rest.
    bits = random.getrandbits(128) & ~(0xF << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62
    digits = f"{bits:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
