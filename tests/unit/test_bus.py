from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier
from typing import Any

import pytest

from application.bus import Bus, CallNext, Command, Message, Middleware, Outcome, Query
from domain.errors import NotFound
from tests.waiting import PATIENCE_S


@dataclass(frozen=True, kw_only=True, slots=True)
class Double(Command[int]):
    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Half(Query[int]):
    number: int


def double(command: Double) -> Outcome[int]:
    return Outcome(command.number * 2)


def half(query: Half) -> int:
    if query.number % 2:
        raise NotFound
    return query.number // 2


def a_bus(*middleware: Middleware) -> Bus:
    return Bus(commands={Double: double}, queries={Half: half}, middleware=middleware)


def noting(notes: list[object], name: str) -> Middleware:
    def layer(message: Message, call_next: CallNext, /) -> Any:
        notes.append((name, "sees", message))
        answer = call_next(message)
        notes.append((name, "returns", answer))
        return answer

    return layer


def test_a_command_gives_its_result_and_a_query_its_answer() -> None:
    bus = a_bus()
    assert bus.execute(Double(number=4)) == 8
    assert bus.ask(Half(number=4)) == 2


def test_the_first_middleware_is_the_outermost_and_each_sees_message_and_outcome() -> None:
    notes: list[object] = []
    command = Double(number=1)
    a_bus(noting(notes, "outer"), noting(notes, "inner")).execute(command)
    assert notes == [
        ("outer", "sees", command),
        ("inner", "sees", command),
        ("inner", "returns", Outcome(2)),
        ("outer", "returns", Outcome(2)),
    ]


def test_middleware_sees_the_plain_answer_of_a_query() -> None:
    notes: list[object] = []
    query = Half(number=2)
    a_bus(noting(notes, "it")).ask(query)
    assert notes == [("it", "sees", query), ("it", "returns", 1)]


def test_an_error_passes_unchanged_through_all_middleware() -> None:
    seen: list[Exception] = []

    def watch(message: Message, call_next: CallNext, /) -> Any:
        try:
            return call_next(message)
        except NotFound as error:
            seen.append(error)
            raise

    with pytest.raises(NotFound) as caught:
        a_bus(watch, watch).ask(Half(number=1))
    assert seen == [caught.value, caught.value]


def test_a_message_without_a_handler_is_a_lookup_error() -> None:
    bus = Bus(commands={}, queries={})
    with pytest.raises(LookupError):
        bus.execute(Double(number=1))
    with pytest.raises(LookupError):
        bus.ask(Half(number=1))


def test_the_bus_is_complete_when_built() -> None:
    commands: dict[type[Command[Any]], Callable[[Any], Outcome[Any]]] = {Double: double}
    bus = Bus(commands=commands, queries={})
    commands.clear()
    assert bus.execute(Double(number=1)) == 2


def test_one_bus_serves_many_threads_at_once() -> None:
    inside = Barrier(4, timeout=PATIENCE_S)

    def meet(message: Message, call_next: CallNext, /) -> Any:
        inside.wait()  # goes on only when all four calls are inside the bus
        return call_next(message)

    bus = a_bus(meet)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda number: bus.execute(Double(number=number)), range(4)))
    assert results == [0, 2, 4, 6]
