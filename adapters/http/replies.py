"""Answers as plain ASGI: JSON documents, and objects streamed or handed to the server as files."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec
from litestar.concurrency import sync_to_thread

from adapters.http.conditions import Validators, evaluate, requested_range
from adapters.http.documents import to_json
from application.ports import ByteRange, ObjectBody
from domain.disposition import content_disposition
from domain.errors import Overloaded, PreconditionFailed

Headers = Sequence[tuple[str, str]]
Scope = Any  # a mapping; Litestar and the servers each have a type of their own for it
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
ANSWER_HEADERS = "answer_headers"
"""Where in a request's state the raw fields are that its answer is to carry besides its own."""
# A streamed answer takes about ten times its chunk while its client reads slowly: the more of them, the smaller the
# chunks, and there are no more than so many of them in one process.
_CHUNK_BYTES, _SMALLEST_CHUNK_BYTES = 512 * 1024, 32 * 1024
_CHUNKS_BYTES = 8 * 1024 * 1024
_STREAMS_MAX = 256
# What the server still has when the last chunk is sent is counted no more: at the end they are as small as its own.
_LAST_BYTES, _LAST_CHUNK_BYTES = 1024 * 1024, 128 * 1024
# The server reads files in threads of its own, 128 KiB at a time, and the way there and back costs more than to read
# what is in memory here: all of what is small, and the pieces of what is large while they may be whole ones.
_AT_ONCE_BYTES = 256 * 1024
_PIECEWISE_MAX = _CHUNKS_BYTES // _CHUNK_BYTES
_ENDED = "the object ended before its length"
# What a browser may do with bytes that a stranger uploaded: show them, and nothing else.
_CONTENT_HEADERS = (("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox"),)


@dataclass(frozen=True, slots=True)
class Reply:
    """A status, headers and a body that is in memory. HEAD gets all of it but the body."""

    status: int
    headers: Headers = ()
    body: bytes | bytearray = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        del receive
        await _start(send, self.status, self.headers)
        await send(
            {
                "type": "http.response.body",
                "body": b"" if scope["method"] == "HEAD" else self.body,
                "more_body": False,
            }
        )


def json_reply(document: msgspec.Struct | msgspec.Raw, *, status: int = 200, headers: Headers = ()) -> Reply:
    """Return a reply that carries a document, not to be kept without asking again."""
    body = to_json(document)
    base = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "private, no-cache"),
    ]
    return Reply(status, [*base, *headers], body)


@dataclass(slots=True)
class _Streams:
    """How many answers this process streams. Counted on the event loop alone."""

    open: int = 0


_streams = _Streams()


@dataclass(frozen=True, slots=True)
class ObjectReply:
    """An object's bytes. The body is closed whatever happens; ``length`` bytes are sent, or the connection breaks."""

    status: int
    headers: Headers
    body: ObjectBody
    length: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it: what is at hand at once, or in pieces; else as a file where the server offers that."""
        try:
            path = self.body.path if "http.response.pathsend" in (scope.get("extensions") or {}) else None
            piece = self._at_hand() if _streams.open < _PIECEWISE_MAX or self.length <= _AT_ONCE_BYTES else None
            if piece is not None and len(piece) == self.length:
                await Reply(self.status, self.headers, piece)(scope, receive, send)
            elif piece is None and path is not None:
                await _start(send, self.status, self.headers)
                await send({"type": "http.response.pathsend", "path": path})
            else:
                await self._stream(piece, receive, send)
        finally:
            self.body.close()

    def _at_hand(self) -> bytes | bytearray | None:
        size = min(self.length, _CHUNK_BYTES)
        piece = self.body.read_at_hand(size)
        if piece is not None and len(piece) < size:
            raise EOFError(_ENDED)
        return piece

    async def _stream(self, first: bytes | bytearray | None, receive: Receive, send: Send) -> None:
        if _streams.open >= _STREAMS_MAX:
            raise Overloaded("too many images are being sent")
        _streams.open += 1
        try:
            if first is not None and self.length <= _CHUNKS_BYTES:
                await self._stream_pieces(first, send)
                return
            # Before the status: what fails until then still gets its problem.
            piece = first or await self._piece(self.length)
            # A server may let an application send on and on to a client that is gone.
            gone = asyncio.create_task(_wait_until_gone(receive))
            try:
                await self._stream_pieces(piece, send, gone)
            finally:
                gone.cancel()
        finally:
            _streams.open -= 1

    async def _stream_pieces(
        self, piece: bytes | bytearray, send: Send, gone: "asyncio.Task[None] | None" = None
    ) -> None:
        await _start(send, self.status, self.headers)
        left = self.length - len(piece)
        while await _taken(send, piece, left) and left > 0 and not (gone and gone.done()):
            piece = await self._piece(left)
            left -= len(piece)

    async def _piece(self, left: int) -> bytes | bytearray:
        size = min(left, max(_SMALLEST_CHUNK_BYTES, min(_CHUNK_BYTES, _CHUNKS_BYTES // _streams.open)))
        piece = self.body.read_at_hand(size if left > _LAST_BYTES else min(size, _LAST_CHUNK_BYTES))
        if piece is None:
            piece = await sync_to_thread(self.body.read, size)
        if not piece:
            raise EOFError(_ENDED)
        return piece


async def _taken(send: Send, piece: bytes | bytearray, left: int) -> bool:
    """Send a piece, and return whether there is still somebody who takes it."""
    try:
        await send({"type": "http.response.body", "body": piece, "more_body": left > 0})
    except OSError:  # as ASGI 2.4 has it for a connection that is gone; TimeoutError is one too
        return False
    return True


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def request_fields(scope: Scope) -> dict[str, str]:
    """Return a request's header fields by their names in lower case. Litestar's own mapping takes longer to make."""
    return {str(name, "latin-1"): str(value, "latin-1") for name, value in scope["headers"]}


async def content_reply(  # noqa: PLR0913 (what HTTP wants to know of a content)
    request_headers: Mapping[str, str],
    method: str,
    *,
    validators: Validators,
    size_bytes: int,
    media_type: str,
    filename: str,
    download: bool,
    open_body: Callable[[ByteRange | None], Awaitable[ObjectBody]],
    pay: Callable[[int], Awaitable[None]] | None = None,
    headers: Headers,
) -> Reply | ObjectReply:
    """Answer a GET or HEAD for stored bytes: preconditions, then the range, then the bytes themselves.

    The object is opened only when bytes are to be sent, and have been paid for.

    Raises:
        PreconditionFailed: a precondition does not hold.
        Problem: 416, for a range outside; 429, when the bytes can't be paid for.
    """
    headers = [*validators.headers(), *_CONTENT_HEADERS, *headers]  # with a 304 too: it replaces what a cache has kept
    match evaluate(request_headers, validators):
        case "not_modified":
            return Reply(304, headers)
        case "failed":
            raise PreconditionFailed("the content is not the one that the precondition names")
        case "proceed":
            pass
    # Ranges are for GET alone (RFC 9110, section 14.2).
    byte_range = None if method == "HEAD" else requested_range(request_headers, validators, size_bytes)
    start, stop = byte_range or (0, size_bytes)
    headers += [
        ("Content-Type", media_type),
        ("Content-Length", str(stop - start)),
        ("Content-Disposition", content_disposition("attachment" if download else "inline", filename)),
        ("Accept-Ranges", "bytes"),
    ]
    if byte_range is not None:
        headers.append(("Content-Range", f"bytes {start}-{stop - 1}/{size_bytes}"))
    status = 200 if byte_range is None else 206
    if method == "HEAD":
        return Reply(status, headers)
    if pay is not None:
        await pay(stop - start)
    return ObjectReply(status, headers, await open_body(byte_range), stop - start)


@cache
def _raw_name(name: str) -> bytes:
    return name.lower().encode("latin-1")  # they stand in the code, so there are not many


async def _start(send: Send, status: int, headers: Headers) -> None:
    raw = [(_raw_name(name), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": raw})
