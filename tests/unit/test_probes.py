"""Health probes: asked for by many at a time, of stores that hang."""

import asyncio
from threading import Event

from adapters.http.probes import Probes
from domain.errors import Unavailable
from tests.waiting import until


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

    async def the_other_is_told_of() -> bool:
        told = await asyncio.gather(*(probes.answers() for _ in range(20)))
        assert not any(answers["metadata"] for answers in told)
        return all(answers["objects"] for answers in told)

    async def it_is_told_of() -> bool:
        return (await probes.answers())["metadata"]

    async def ask() -> None:
        try:
            for _ in range(2):
                # On a loaded machine half a second may not be enough for a store that does answer.
                await until(the_other_is_told_of)
            assert asked == [1]
        finally:
            over.set()
        await until(it_is_told_of)  # each waits for the one question that is asked already

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
