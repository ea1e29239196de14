"""Health probes: asked for by many at a time, of stores that hang."""

import asyncio
from threading import Event

import pytest

from adapters.http.probes import Probes
from domain.errors import Unavailable


def fail() -> None:
    raise Unavailable("away")


def test_each_store_is_told_of() -> None:
    assert asyncio.run(Probes({"metadata": lambda: None, "objects": fail}).answers()) == {
        "metadata": True,
        "objects": False,
    }
    assert asyncio.run(Probes({}).answers()) == {}


def test_a_store_that_hangs_keeps_one_thread_however_many_ask_and_hides_no_other() -> None:
    over, asked = Event(), []

    def hang() -> None:
        asked.append(1)
        over.wait()

    probes = Probes({"metadata": hang, "objects": lambda: None}, timeout_s=0.5)

    async def ask() -> None:
        for _ in range(2):
            for answers in await asyncio.gather(*(probes.answers() for _ in range(20))):
                assert answers == {"metadata": False, "objects": True}
        assert asked == [1]
        over.set()
        for _ in range(100):  # each waits for the one question that is asked already
            if (await probes.answers())["metadata"]:
                return
        pytest.fail("the store answers again")

    asyncio.run(ask())


def test_a_store_is_asked_once_a_second_at_most() -> None:
    now = 1000.0
    asked: list[int] = []

    def fail_at_first() -> None:
        asked.append(1)
        if len(asked) == 1:
            fail()

    probes = Probes({"metadata": fail_at_first}, clock=lambda: now)

    async def ask() -> None:
        nonlocal now
        for _ in range(100):
            assert await probes.answers() == {"metadata": False}
        now += 0.99
        assert await probes.answers() == {"metadata": False}
        assert len(asked) == 1
        now += 0.01
        assert await probes.answers() == {"metadata": True}
        assert len(asked) == 2

    asyncio.run(ask())
