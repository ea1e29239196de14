"""The outermost layer: combined header lines, unread bodies, and the one observation of each request."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from adapters.http.edge import Edge, RequestObservation

Event = dict[str, Any]
OK: list[Event] = [
    {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]},
    {"type": "http.response.body", "body": b"ok"},
]


class Server:
    """Gives an application one request, and keeps what comes of it."""

    def __init__(self, headers: Iterable[tuple[bytes, bytes]] = (), body: Iterable[bytes] = ()) -> None:
        self.scope: Event = {"type": "http", "method": "PUT", "path": "/x", "headers": list(headers)}
        self.to_come = [{"type": "http.request", "body": piece, "more_body": True} for piece in body]
        self.to_come.append({"type": "http.request", "body": b"", "more_body": False})
        self.sent: list[Event] = []
        self.unread_when_answered: int | None = None
        self.seen: list[RequestObservation] = []

    async def receive(self) -> Event:
        return self.to_come.pop(0)

    async def send(self, event: Event) -> None:
        if self.unread_when_answered is None:
            self.unread_when_answered = len(self.to_come)
        self.sent.append(event)

    def serve(self, answers: list[Event], *, reads: int = 0, error: Exception | None = None) -> None:
        async def app(_: Any, receive: Any, send: Any) -> None:
            for _ in range(reads):
                await receive()
            for answer in answers:
                await send(dict(answer))
            if error is not None:
                raise error

        edge = Edge(app, observers=[self.seen.append], unread_max_bytes=1000)
        asyncio.run(edge(self.scope, self.receive, self.send))


def test_a_request_is_observed_once_with_what_was_answered() -> None:
    server = Server([(b"x-request-id", b"abc")])
    server.serve(OK)
    (seen,) = server.seen
    assert (seen.request_id, seen.method, seen.path, seen.status, seen.response_bytes) == ("abc", "PUT", "/x", 200, 2)
    assert seen.error is None
    assert dict(server.sent[0]["headers"])[b"x-request-id"] == b"abc"


def test_a_client_that_is_gone_before_the_answer_is_seen_as_such() -> None:
    server = Server()
    server.serve([])
    assert server.seen[0].status == 499


def test_what_breaks_an_answer_off_is_observed_and_goes_on_to_the_server() -> None:
    server, broken = Server(), EOFError("the object ended")
    with pytest.raises(EOFError):
        server.serve(OK[:1], error=broken)
    assert (server.seen[0].status, server.seen[0].error) == (200, broken)


def test_a_file_that_the_server_sends_counts_with_its_length() -> None:
    server = Server()
    server.serve([OK[0], {"type": "http.response.pathsend", "path": "/x"}])
    assert server.seen[0].response_bytes == 2


def test_lines_of_one_field_are_one_list() -> None:
    server = Server([(b"if-match", b'"a"'), (b"accept", b"*/*"), (b"if-match", b'"b"')])
    server.serve(OK)
    assert server.scope["headers"] == [(b"if-match", b'"a", "b"'), (b"accept", b"*/*")]


LENGTH, CHUNKED, EXPECT = (b"content-length", b"800"), (b"transfer-encoding", b"chunked"), (b"expect", b"100-continue")
BODY = [b"x" * 200] * 4


@pytest.mark.parametrize("headers", [[LENGTH], [CHUNKED]])
@pytest.mark.parametrize("reads", [0, 1, 5])
def test_a_body_is_read_to_its_end_before_the_answer(headers: list[tuple[bytes, bytes]], reads: int) -> None:
    server = Server(headers, BODY)
    server.serve(OK, reads=reads)
    assert server.unread_when_answered == 0


def test_a_body_that_waits_for_leave_is_not_waited_for() -> None:
    server = Server([LENGTH, EXPECT], BODY)
    server.serve(OK)
    assert server.unread_when_answered == 5
    begun = Server([LENGTH, EXPECT], BODY)
    begun.serve(OK, reads=1)
    assert begun.unread_when_answered == 0


@pytest.mark.parametrize(
    "headers", [[], [(b"content-length", b"0")], [(b"content-length", b"1001")], [(b"content-length", b"5, 5")]]
)
def test_no_body_and_one_of_more_than_anybody_waits_for_are_not_read(headers: list[tuple[bytes, bytes]]) -> None:
    server = Server(headers, BODY)
    server.serve(OK)
    assert server.unread_when_answered == 5


def test_a_body_without_an_end_is_read_only_so_far() -> None:
    server = Server([CHUNKED], [b"x" * 200] * 50)
    server.serve(OK)
    assert server.unread_when_answered == 51 - 5
