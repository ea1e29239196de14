"""The bus as the event loop sees it: calls wait for a thread, but not for ever."""

import asyncio
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from threading import Event, get_ident

import pytest

from adapters.http.async_bus import AsyncBus
from adapters.memory.objects import MemoryBody
from application.bus import Bus
from application.ports import ByteRange, ObjectBody
from domain.errors import Overloaded
from tests.waiting import PATIENCE_S

KIB = 1024


def calls_made_behind_another(*, longest_wait_s: float) -> list[str]:
    """Ask for a call while the only thread is busy; return the calls that were made."""
    pool = ThreadPoolExecutor(1)
    bus = AsyncBus(Bus(commands={}, queries={}), pool, reads_inline=False, longest_wait_s=longest_wait_s)
    made: list[str] = []

    async def ask() -> None:
        over = Event()
        pool.submit(over.wait)
        waiting = asyncio.create_task(bus.read(made.append, "call"))
        await asyncio.sleep(0)  # the call stands in the queue now
        over.set()
        if longest_wait_s:
            await waiting
        else:
            with pytest.raises(Overloaded):
                await waiting

    asyncio.run(ask())
    return made


def test_a_call_waits_for_a_thread() -> None:
    assert calls_made_behind_another(longest_wait_s=60) == ["call"]


def test_a_call_that_no_thread_was_free_for_in_time_is_not_made() -> None:
    assert calls_made_behind_another(longest_wait_s=0) == []


def test_a_call_behind_too_many_others_is_refused_at_once_and_reads_inline_are_not() -> None:
    async def ask() -> None:
        over, pool = Event(), ThreadPoolExecutor(1)
        bus = AsyncBus(Bus(commands={}, queries={}), pool, reads_inline=False, most_calls=3, longest_wait_s=PATIENCE_S)
        inline = AsyncBus(Bus(commands={}, queries={}), pool, reads_inline=True, most_calls=0)
        waiting = [asyncio.create_task(bus.read(over.wait)) for _ in range(3)]
        await asyncio.sleep(0)
        for _ in range(2):
            with pytest.raises(Overloaded):
                await bus.read(over.is_set)
        assert await inline.read(over.is_set) is False
        waiting.pop().cancel()
        await asyncio.sleep(0)
        waiting.append(asyncio.create_task(bus.read(over.wait)))  # a place is free again
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await bus.read(over.is_set)
        over.set()
        await asyncio.gather(*waiting)
        assert await bus.read(over.is_set) is True

    asyncio.run(ask())


def test_a_call_that_fails_gives_its_place_back() -> None:
    bus = AsyncBus(Bus(commands={}, queries={}), ThreadPoolExecutor(1), reads_inline=False, most_calls=1)

    async def ask() -> None:
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await bus.read(divmod, 1, 0)

    asyncio.run(ask())


def test_a_call_whose_asker_has_left_the_queue_is_not_made() -> None:
    made: list[str] = []

    async def ask() -> None:
        over, pool = Event(), ThreadPoolExecutor(1)
        bus = AsyncBus(Bus(commands={}, queries={}), pool, reads_inline=False, longest_wait_s=PATIENCE_S)
        pool.submit(over.wait)
        waiting = asyncio.create_task(bus.read(made.append, "call"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        over.set()
        assert await bus.read(made.copy) == []  # it came behind the other

    asyncio.run(ask())
    assert made == []


def test_a_call_that_ends_behind_its_asker_disturbs_nobody() -> None:
    async def ask() -> None:
        begun, over = Event(), Event()
        bus = AsyncBus(Bus(commands={}, queries={}), ThreadPoolExecutor(1), reads_inline=False)

        def call() -> None:
            begun.set()
            over.wait(PATIENCE_S)

        raised: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
        asking = asyncio.create_task(bus.read(call))
        assert await asyncio.to_thread(begun.wait, PATIENCE_S)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        over.set()
        assert await bus.read(over.is_set) is True  # so the other has told that it has ended
        assert raised == []

    asyncio.run(ask())


def test_what_a_call_raised_is_gone_when_its_asker_is_done_with_it() -> None:
    """With all that its trace leads to, which for an upload is the file."""
    left: list[weakref.ref[Exception]] = []

    def call() -> None:
        error = Overloaded("full")
        left.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    async def ask() -> None:
        bus = AsyncBus(Bus(commands={}, queries={}), ThreadPoolExecutor(1), reads_inline=False)
        with suppress(Overloaded):
            await bus.read(call)
        await bus.read(bool)  # the thread has let go of it, too
        assert [error() for error in left] == [None]

    gc.collect()
    gc.disable()  # what is part of a circle stays
    try:
        asyncio.run(ask())
    finally:
        gc.enable()


def test_what_a_call_raised_for_nobody_is_gone() -> None:
    left: list[weakref.ref[Exception]] = []
    begun, go_on = Event(), Event()

    def call() -> None:
        error = Overloaded("full")
        left.append(weakref.ref(error))
        begun.set()
        assert go_on.wait(PATIENCE_S)
        try:
            raise error
        finally:
            del error

    async def ask() -> None:
        threads = ThreadPoolExecutor(1)
        bus = AsyncBus(Bus(commands={}, queries={}), threads, reads_inline=False)
        asked = asyncio.create_task(bus.read(call))
        await asyncio.to_thread(begun.wait, PATIENCE_S)
        asked.cancel()
        with suppress(asyncio.CancelledError):
            await asked
        go_on.set()
        await bus.read(bool)  # behind it, in the same thread and in this one
        assert [error() for error in left] == [None]

    gc.collect()
    gc.disable()
    try:
        asyncio.run(ask())
    finally:
        gc.enable()


def test_a_call_that_raises_what_no_future_takes_is_answered() -> None:
    async def ask() -> None:
        bus = AsyncBus(Bus(commands={}, queries={}), ThreadPoolExecutor(1), reads_inline=False)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await asyncio.wait_for(bus.read(next, iter(())), PATIENCE_S)

    asyncio.run(ask())


def test_a_call_sees_the_context_in_which_it_was_asked_for() -> None:
    who = ContextVar("who", default="nobody")

    async def ask() -> None:
        bus = AsyncBus(Bus(commands={}, queries={}), ThreadPoolExecutor(1), reads_inline=False)
        who.set("ada")
        assert await bus.read(who.get) == "ada"

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("size_bytes", "reads_inline", "is_at_hand", "opened"),
    [
        (512 * KIB, True, True, "on the loop"),
        (512 * KIB, True, False, "on the loop"),
        (512 * KIB + 1, True, True, "at hand"),
        (512 * KIB + 1, True, False, "in a thread"),
        (512 * KIB, False, True, "in a thread"),
        (512 * KIB + 1, False, True, "in a thread"),
    ],
)
def test_a_large_object_is_opened_on_the_event_loop_only_if_that_takes_no_reading(
    size_bytes: int, opened: str, *, reads_inline: bool, is_at_hand: bool
) -> None:
    ways: list[str] = []
    loop_thread = get_ident()

    def opening(_: ByteRange | None) -> ObjectBody:
        ways.append("on the loop" if get_ident() == loop_thread else "in a thread")
        return MemoryBody.__new__(MemoryBody)

    def opening_at_hand(_: ByteRange | None) -> ObjectBody | None:
        assert get_ident() == loop_thread
        if not is_at_hand:
            return None
        ways.append("at hand")
        return MemoryBody.__new__(MemoryBody)

    async def ask() -> None:
        bus = AsyncBus(Bus(commands={}, queries={}), ThreadPoolExecutor(1), reads_inline=reads_inline)
        await bus.open(opening, None, at_hand=opening_at_hand, size_bytes=size_bytes)

    asyncio.run(ask())
    assert ways == [opened]
