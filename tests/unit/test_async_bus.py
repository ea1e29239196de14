"""The bus as the event loop sees it: calls wait for a thread, but not for ever."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from adapters.http.async_bus import AsyncBus
from application.bus import Bus
from domain.errors import Overloaded
from tests.waiting import PATIENCE_S


def calls_made_behind_another(*, longest_wait_s: float) -> list[str]:
    """Ask for a call while the only thread is busy; return the calls that were made."""
    bus = AsyncBus(Bus(commands={}, queries={}), reads_inline=False, longest_wait_s=longest_wait_s)
    made: list[str] = []

    async def ask() -> None:
        over = Event()
        pool = ThreadPoolExecutor(1)
        asyncio.get_running_loop().set_default_executor(pool)
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
        over = Event()
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        bus = AsyncBus(Bus(commands={}, queries={}), reads_inline=False, most_calls=3, longest_wait_s=PATIENCE_S)
        inline = AsyncBus(Bus(commands={}, queries={}), reads_inline=True, most_calls=0)
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
    bus = AsyncBus(Bus(commands={}, queries={}), reads_inline=False, most_calls=1)

    async def ask() -> None:
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await bus.read(divmod, 1, 0)

    asyncio.run(ask())
