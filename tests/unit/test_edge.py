"""The outermost layer: combined header lines, unread bodies, and the one observation of each request."""

import asyncio
import selectors
import time
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from adapters.http.edge import Edge, RequestObservation
from adapters.http.problems import Problem
from adapters.http.replies import ANSWER_HEADERS, ObjectReply
from domain.errors import Overloaded

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
        return self.to_come.pop(0) if self.to_come else {"type": "http.disconnect"}

    async def send(self, event: Event) -> None:
        if self.unread_when_answered is None:
            self.unread_when_answered = sum(bool(event["body"]) for event in self.to_come)  # the bare end is none
        self.sent.append(event)

    def serve(
        self, answers: list[Event], *, reads: int = 0, error: Exception | None = None, turned_away: bool = False
    ) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if turned_away:
                scope["state"]["turned_away"] = True
            for _ in range(reads):
                await receive()
            for answer in answers:
                await send(dict(answer))
            if error is not None:
                raise error

        edge = Edge(app, observers=[self.seen.append], unread_max_bytes=10**8 if turned_away else 1000)
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
    # Of one whose length is known that is the last byte, and nobody asks the server for its end.
    assert len(server.to_come) == (headers == [LENGTH] and reads < 5)


def events_of(server: Server, reads: int) -> list[Event]:
    got: list[Event] = []

    async def app(_: Any, receive: Any, __: Any) -> None:
        got.extend([await receive() for _ in range(reads)])

    asyncio.run(Edge(app)(server.scope, server.receive, server.send))
    return got


def test_a_body_of_known_length_ends_with_its_last_byte_and_not_when_the_server_says_so() -> None:
    server = Server([LENGTH], BODY)
    *pieces, last = events_of(server, 4)
    assert [event["more_body"] for event in (*pieces, last)] == [True, True, True, False]
    assert len(server.to_come) == 1
    *_, gone = events_of(Server([LENGTH], BODY), 5)
    assert gone["type"] == "http.disconnect"


@pytest.mark.parametrize(
    "headers", [[CHUNKED], [CHUNKED, LENGTH], [(b"content-length", b"801")], [(b"content-length", b"5, 5")]]
)
def test_a_body_of_another_length_ends_when_the_server_says_so(headers: list[tuple[bytes, bytes]]) -> None:
    events = events_of(Server(headers, [b"", *BODY]), 7)
    assert [event.get("more_body") for event in events] == [True, True, True, True, True, False, None]


def test_a_body_that_the_server_ends_with_its_last_byte_has_no_other_end() -> None:
    server = Server([LENGTH])
    server.to_come = [{"type": "http.request", "body": b"x" * 800, "more_body": False}]
    assert [event["type"] for event in events_of(server, 2)] == ["http.request", "http.disconnect"]


def test_a_body_that_waits_for_leave_is_not_waited_for() -> None:
    server = Server([LENGTH, EXPECT], BODY)
    server.serve(OK)
    assert server.unread_when_answered == 4
    begun = Server([LENGTH, EXPECT], BODY)
    begun.serve(OK, reads=1)
    assert begun.unread_when_answered == 0


@pytest.mark.parametrize(
    "headers", [[], [(b"content-length", b"0")], [(b"content-length", b"1001")], [(b"content-length", b"5, 5")]]
)
def test_no_body_and_one_of_more_than_anybody_waits_for_are_not_read(headers: list[tuple[bytes, bytes]]) -> None:
    server = Server(headers, BODY)
    server.serve(OK)
    assert server.unread_when_answered == 4


def test_a_body_without_an_end_is_read_only_so_far() -> None:
    server = Server([CHUNKED], [b"x" * 200] * 50)
    server.serve(OK)
    assert server.unread_when_answered == 50 - 5


def test_who_is_turned_away_is_answered_before_a_long_body_and_after_a_short_one() -> None:
    long = Server([(b"content-length", b"2000000")], [b"x" * 500_000] * 4)
    long.serve(OK, turned_away=True)
    assert long.unread_when_answered == 4
    short = Server([LENGTH], BODY)
    short.serve(OK, turned_away=True)
    assert short.unread_when_answered == 0
    endless = Server([CHUNKED], [b"x" * 500_000] * 10)
    endless.serve(OK, turned_away=True)
    assert endless.unread_when_answered == 10 - 3


def test_an_answer_carries_what_the_state_of_its_request_says() -> None:
    async def app(scope: Any, _: Any, send: Any) -> None:
        scope["state"][ANSWER_HEADERS] = [(b"ratelimit", b'"reads";r=1;t=1')]
        for answer in OK:
            await send(dict(answer))

    server = Server()
    asyncio.run(Edge(app)(server.scope, server.receive, server.send))
    assert (b"ratelimit", b'"reads";r=1;t=1') in server.sent[0]["headers"]


# ---- clients that keep it waiting

STALL_S = 0.05


class Hasty(selectors.SelectSelector):
    """Waits for nothing: its time passes only while nobody has anything to do, and then at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing will ever happen"
        ready = super().select(0)
        if not ready:
            self.now += timeout
        return ready


class HastyLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock no other process on the machine can move on."""

    def __init__(self) -> None:
        self.hasty = Hasty()
        super().__init__(self.hasty)

    def time(self) -> float:
        return self.hasty.now


def read_all(wait_s: float, pieces: list[bytes], *, headers: list[tuple[bytes, bytes]], work_s: float = 0) -> list[Any]:
    """Return what an application gets of a body whose pieces take so long, and it too for each of them."""
    got: list[Any] = []

    async def receive() -> Event:
        if wait_s:
            await asyncio.sleep(wait_s)
        return {"type": "http.request", "body": pieces.pop(0) if pieces else b"", "more_body": bool(pieces)}

    async def app(_: Any, receive: Any, __: Any) -> None:
        more = True
        while more:
            event = await receive()
            got.append(event["body"])
            more = event["more_body"]
            await asyncio.sleep(work_s)

    async def send(_: Event) -> None:
        raise AssertionError

    scope = {"type": "http", "method": "PUT", "path": "/x", "headers": headers}
    with asyncio.Runner(loop_factory=HastyLoop) as runner, pytest.MonkeyPatch.context() as patch:
        clock = SimpleNamespace(monotonic=lambda: runner.get_loop().time(), perf_counter=time.perf_counter)
        patch.setattr("adapters.http.edge.time", clock)
        runner.run(Edge(app, stall_timeout_s=STALL_S)(scope, receive, send))
    return got


@pytest.mark.parametrize("headers", [[LENGTH], [CHUNKED], [(b"content-length", b"9" * 12)]])
@pytest.mark.parametrize("pieces", [[b"x"] * 100, [b""]])
def test_a_body_that_does_not_come_or_hardly_comes_is_waited_for_only_so_long(
    headers: list[tuple[bytes, bytes]], pieces: list[bytes]
) -> None:
    with pytest.raises(Problem) as refused:
        read_all(STALL_S / 4 if len(pieces) > 1 else 10, list(pieces), headers=headers)
    assert refused.value.code == "request_timeout"
    assert ("Connection", "close") in refused.value.headers


@pytest.mark.parametrize("begins", [0, 1024 * 1024])
def test_a_body_has_to_go_on_at_a_pace_however_fast_it_began(begins: int) -> None:
    steps_a_stall, paces = 10, 16 * 1024  # bytes a second, half of what is asked for
    pieces = [b"x" * begins] + [b"x" * int(paces * STALL_S / steps_a_stall)] * 100
    with pytest.raises(Problem) as refused:
        read_all(STALL_S / steps_a_stall, pieces, headers=[LENGTH])
    assert refused.value.code == "request_timeout"


def test_what_comes_slowly_but_fast_enough_is_waited_for_as_long_as_it_takes() -> None:
    pieces = [b"x" * 4096] * 20
    assert b"".join(read_all(STALL_S / 10, list(pieces), headers=[LENGTH])) == b"".join(pieces)


def test_what_the_application_does_in_between_is_not_held_against_the_client() -> None:
    assert len(read_all(0, [b"x"] * 5, headers=[LENGTH], work_s=STALL_S)) == 5


def test_whether_the_client_is_still_there_may_be_asked_for_ever() -> None:
    """A request without a body, and one whose answer has begun."""

    async def receive() -> Event:
        await asyncio.sleep(3 * STALL_S)
        return {"type": "http.disconnect"}

    async def app(_: Any, receive: Any, send: Any) -> None:
        if headers:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        assert (await receive())["type"] == "http.disconnect"

    async def send(_: Event) -> None:
        return

    for headers in ([], [(b"content-length", b"9" * 12)]):
        scope = {"type": "http", "method": "GET", "path": "/x", "headers": headers}
        asyncio.run(Edge(app, stall_timeout_s=STALL_S)(scope, receive, send))


class Source:
    """A body of an object."""

    path = None

    def __init__(self) -> None:
        self.closed = False

    def read_at_hand(self, size: int, /) -> None:
        del size

    def read(self, size: int = -1, /) -> bytes:
        return b"x" * size

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("taken", [1, 2, 3])
def test_a_client_that_takes_no_more_of_a_stream_is_given_up_and_its_object_let_go(
    taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source()
    seen: list[RequestObservation] = []
    sent: list[Event] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await ObjectReply(200, [], source, 3 * 512 * 1024)(scope, receive, send)  # type: ignore[arg-type]

    async def receive() -> Event:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(event: Event) -> None:
        if len(sent) == taken:  # the status is one of them
            await asyncio.Event().wait()
        sent.append(event)

    monkeypatch.setattr("adapters.http.edge._SLOWEST_ANSWER_BYTES_S", 10**9)
    scope = {"type": "http", "method": "GET", "path": "/x", "headers": []}
    asyncio.run(Edge(app, observers=[seen.append], stall_timeout_s=STALL_S)(scope, receive, send))
    assert source.closed
    assert seen[0].error is None  # no trace: it is nobody's fault here, and anybody could fill the log


@pytest.mark.parametrize(
    ("others", "chunk_bytes"), [(0, 512 * 1024), (15, 512 * 1024), (31, 256 * 1024), (127, 64 * 1024), (255, 32 * 1024)]
)
def test_the_more_streams_the_less_each_holds(others: int, chunk_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.http.replies._streams.open", others)
    assert len(_streamed()[1]["body"]) == chunk_bytes


def test_there_are_no_more_streams_than_there_is_memory_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.http.replies._streams.open", 256)
    with pytest.raises(Overloaded):
        _streamed()


def _streamed() -> list[Event]:
    sent: list[Event] = []

    async def receive() -> Event:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(event: Event) -> None:
        sent.append(event)

    source = Source()
    try:
        asyncio.run(ObjectReply(200, [], source, 1024 * 1024)({}, receive, send))  # type: ignore[arg-type]
    finally:
        assert source.closed
    return sent


# ---- what all answers carry


def test_an_answer_carries_what_it_does_not_say_itself() -> None:
    server = Server()
    server.serve([{**OK[0], "headers": [(b"content-security-policy", b"sandbox")]}, OK[1]])
    headers = server.sent[0]["headers"]
    assert [value for name, value in headers if name == b"content-security-policy"] == [b"sandbox"]
    assert [value for name, value in headers if name == b"cross-origin-resource-policy"] == [b"same-origin"]
    assert [value for name, value in headers if name == b"server"] == [b""]
