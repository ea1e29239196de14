"""Waits that end: one timer for all of them, and otherwise what asyncio.timeout does."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from adapters.http.patience import Patience

NO_TIME_S = 0.01
LONG_S = 60
LOOK_EVERY_S = 0.25
PATIENCE_S = 10


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await test()

    asyncio.run(bounded())


async def wait_for_ever(patience: Patience, seconds: float) -> None:
    with patience.within(seconds):
        await asyncio.Event().wait()


def test_a_wait_ends_when_its_time_is_up_and_the_task_goes_on() -> None:
    async def test() -> None:
        with pytest.raises(TimeoutError):
            await wait_for_ever(Patience(), NO_TIME_S)
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run(test)


def test_what_ends_in_time_is_left_alone_and_so_is_what_waits_beside_it() -> None:
    async def test() -> None:
        patience = Patience()
        other = asyncio.create_task(wait_for_ever(patience, LONG_S))
        with patience.within(NO_TIME_S):
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await wait_for_ever(patience, NO_TIME_S)  # by now the first one's time would have been up
        assert not other.done()
        other.cancel()

    run(test)


def test_a_wait_may_be_entered_again_with_another_time() -> None:
    async def test() -> None:
        patience = Patience()
        wait = patience.within(NO_TIME_S)
        with wait:
            await asyncio.sleep(0)
        wait.seconds = LONG_S
        with wait:
            await asyncio.sleep(3 * LOOK_EVERY_S / 2)  # somebody has looked
        wait.seconds = NO_TIME_S
        with pytest.raises(TimeoutError), wait:
            await asyncio.Event().wait()
        wait.seconds = LONG_S
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with pytest.raises(asyncio.CancelledError), wait:
            await asyncio.Event().wait()
        task.uncancel()

    run(test)


def test_those_whose_time_is_up_end_together_and_later_ones_after_them() -> None:
    async def test() -> None:
        patience = Patience()
        for _ in range(2):  # nobody looks in between
            waits = [wait_for_ever(patience, NO_TIME_S) for _ in range(100)]
            ended = await asyncio.gather(*waits, return_exceptions=True)
            assert {type(each) for each in ended} == {TimeoutError}

    run(test)


def test_it_looks_in_each_event_loop() -> None:
    patience = Patience()

    async def leave_while_somebody_looks() -> None:
        with patience.within(LONG_S):
            await asyncio.sleep(0)

    async def test() -> None:
        with pytest.raises(TimeoutError):
            await wait_for_ever(patience, NO_TIME_S)

    run(leave_while_somebody_looks)
    run(test)


def test_what_the_block_raises_and_who_cancels_it_come_through() -> None:
    async def test() -> None:
        patience = Patience()
        with pytest.raises(ZeroDivisionError), patience.within(LONG_S):
            raise ZeroDivisionError
        cancelled = asyncio.create_task(wait_for_ever(patience, LONG_S))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled

    run(test)


def test_a_task_that_is_cancelled_in_the_moment_its_time_is_up_is_cancelled() -> None:
    async def test() -> None:
        patience = Patience()

        async def wait() -> None:
            with patience.within(NO_TIME_S):
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    waiting.cancel()
                    raise

        waiting = asyncio.create_task(wait())
        with pytest.raises(asyncio.CancelledError):
            await waiting

    run(test)


def test_a_wait_ends_in_a_task_that_was_cancelled_before_and_went_on() -> None:
    async def test() -> None:
        async def wait_once_more() -> None:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            with pytest.raises(TimeoutError):
                await wait_for_ever(Patience(), NO_TIME_S)

        task = asyncio.create_task(wait_once_more())
        await asyncio.sleep(0)
        task.cancel()
        await task

    run(test)


def test_who_waited_in_a_loop_that_ended_in_the_midst_of_it_disturbs_nobody() -> None:
    patience = Patience()
    loop = asyncio.new_event_loop()
    left = [loop.create_task(wait_for_ever(patience, NO_TIME_S)) for _ in range(50)]
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()

    async def test() -> None:
        with pytest.raises(TimeoutError):
            await wait_for_ever(patience, NO_TIME_S)

    run(test)
    for each in left:
        assert not each.done()
        each._log_destroy_pending = False  # type: ignore[attr-defined]


def test_one_that_cannot_be_ended_leaves_the_others_their_end() -> None:
    class Stubborn(asyncio.Future[None]):
        def cancel(self, msg: object = None) -> bool:  # noqa: ARG002 (as asyncio calls it)
            raise ZeroDivisionError

    async def test() -> None:
        patience, never = Patience(), Stubborn()

        async def wait_for_the_stubborn() -> None:
            with patience.within(NO_TIME_S):
                await never

        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        stubborn = asyncio.create_task(wait_for_the_stubborn())
        waits = [wait_for_ever(patience, NO_TIME_S) for _ in range(50)]
        ended = await asyncio.gather(*waits, return_exceptions=True)
        assert {type(each) for each in ended} == {TimeoutError}
        never.set_result(None)
        with suppress(TimeoutError, asyncio.CancelledError):
            await stubborn

    run(test)


def test_only_a_task_can_wait() -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        refused = loop.create_future()

        def wait() -> None:
            try:
                with Patience().within(LONG_S):
                    refused.set_result(None)
            except RuntimeError as error:
                refused.set_result(str(error))

        loop.call_soon(wait)
        assert await refused == "only a task can wait"

    run(test)
