"""How an object's bytes go out: at once, as a file, or in pieces."""

import asyncio
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from adapters.http.replies import ObjectReply

KIB = 1024
AT_ONCE = 256 * KIB
PIECE = 512 * KIB
SMALL = 128 * KIB
IN_PIECES_MAX = 16
SCOPE = {"type": "http", "method": "GET", "extensions": {"http.response.pathsend": {}}}


@dataclass
class Body:
    """An object of so many bytes, which tells from which threads it was read."""

    size_bytes: int
    path: str | None = None
    at_hand: bool = True
    readers: set[int] = field(default_factory=set)
    closed: bool = False

    def read_at_hand(self, size: int, /) -> bytes | None:
        return self.read(size) if self.at_hand else None

    def read(self, size: int = -1, /) -> bytes:
        self.readers.add(threading.get_ident())
        taken = min(size, self.size_bytes)
        self.size_bytes -= taken
        return b"x" * taken

    def close(self) -> None:
        self.closed = True


async def never() -> dict[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


def sent(body: Body, length: int) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []

    async def send(event: dict[str, Any]) -> None:
        events.append(event)

    try:
        asyncio.run(ObjectReply(200, [], body, length)(SCOPE, never, send))  # type: ignore[arg-type]
    finally:
        assert body.closed
    return events


def shape(events: list[dict[str, Any]]) -> list[str | int]:
    assert events[0]["type"] == "http.response.start"
    return [event["path"] if "path" in event else len(event["body"]) for event in events[1:]]


@pytest.mark.parametrize("path", [None, "/an/object"])
def test_what_is_small_and_at_hand_goes_out_at_once(path: str | None) -> None:
    body = Body(AT_ONCE, path)
    events = sent(body, AT_ONCE)
    assert shape(events) == [AT_ONCE]
    assert events[-1]["more_body"] is False
    assert body.readers == {threading.get_ident()}


def test_what_has_to_come_from_the_disk_first_is_left_to_the_server() -> None:
    body = Body(AT_ONCE, "/an/object", at_hand=False)
    assert shape(sent(body, AT_ONCE)) == ["/an/object"]
    assert body.readers == set()


@pytest.mark.parametrize(
    ("length", "pieces"),
    [
        (AT_ONCE + 1, [AT_ONCE + 1]),
        (PIECE, [PIECE]),
        (PIECE + 1, [PIECE, 1]),
        (2 * PIECE, [PIECE, *[SMALL] * 4]),
        (4 * PIECE + 1, [PIECE, PIECE, PIECE, *[SMALL] * 4, 1]),
    ],
)
def test_what_is_large_and_at_hand_goes_out_in_pieces_that_are_small_in_the_end(length: int, pieces: list[int]) -> None:
    body = Body(length, "/an/object")
    events = sent(body, length)
    assert shape(events) == pieces
    assert [event["more_body"] for event in events[1:]] == [True] * (len(pieces) - 1) + [False]
    assert body.readers == {threading.get_ident()}


def test_what_is_large_and_on_the_disk_is_left_to_the_server() -> None:
    body = Body(PIECE + 1, "/an/object", at_hand=False)
    assert shape(sent(body, PIECE + 1)) == ["/an/object"]
    assert body.readers == set()


def test_while_many_go_out_in_pieces_further_large_ones_are_left_to_the_server() -> None:
    async def ways(pieces_asked_for: int) -> list[str]:
        taken, seen = asyncio.Event(), []

        async def send(event: dict[str, Any]) -> None:
            if event["type"] != "http.response.start":
                seen.append(event.get("path") or "a piece")
                if event.get("more_body"):
                    await taken.wait()

        async with asyncio.TaskGroup() as group:
            for _ in range(pieces_asked_for):
                reply = ObjectReply(200, [], Body(PIECE + 1, "/an/object"), PIECE + 1)  # type: ignore[arg-type]
                group.create_task(reply(SCOPE, never, send))
            for _ in range(100):
                await asyncio.sleep(0)
            first = list(seen)
            taken.set()
        return first

    assert asyncio.run(ways(IN_PIECES_MAX + 2)) == ["a piece"] * IN_PIECES_MAX + ["/an/object"] * 2
    assert asyncio.run(ways(1)) == ["a piece"], "the others are over"


@pytest.mark.parametrize("at_hand", [True, False])
def test_of_a_large_range_only_what_is_at_hand_is_read_on_the_event_loop(*, at_hand: bool) -> None:
    body = Body(2 * PIECE + 1, at_hand=at_hand)
    assert shape(sent(body, 2 * PIECE + 1)) == ([PIECE, *[SMALL] * 4, 1] if at_hand else [PIECE, PIECE, 1])
    assert (threading.get_ident() in body.readers) is at_hand


def test_what_ends_before_its_length_is_no_answer() -> None:
    body = Body(AT_ONCE - 1)
    with pytest.raises(EOFError):
        sent(body, AT_ONCE)
