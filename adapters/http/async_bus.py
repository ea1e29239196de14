"""The bus, seen from the event loop: blocking work goes to threads."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from application.bus import Bus, Command, Query
from application.ports import ByteRange, ObjectBody
from domain.errors import Overloaded

P = ParamSpec("P")
R = TypeVar("R")

_CHECKED_INLINE_MAX_BYTES = 512 * 1024  # 0.3 ms of hashing; a thread's round trip takes 0.04 ms


@dataclass(slots=True)
class _Calls:
    """How many calls have a thread or wait for one. Counted on the event loop alone."""

    under_way: int = 0


@dataclass(frozen=True, slots=True)
class AsyncBus:
    """Runs commands in the thread pool, and reads too unless the store answers faster than a thread switches.

    Args:
        bus: the bus.
        threads: where calls are made.
        reads_inline: whether the store answers that fast.
        longest_wait_s: for a thread. While a store hangs, every thread waits for it: without this bound whoever asks
            next would wait for all who asked before.
        most_calls: that may be in threads or wait for one; further ones are refused at once.
    """

    bus: Bus
    threads: Executor
    reads_inline: bool
    longest_wait_s: float = 5.0
    most_calls: int = 512
    _calls: _Calls = field(default_factory=_Calls)

    async def execute(self, command: Command[R]) -> R:
        """See Bus.execute."""
        execute: Callable[[Command[R]], R] = self.bus.execute
        return await self._in_thread(execute, command)

    async def ask(self, query: Query[R]) -> R:
        """See Bus.ask."""
        ask: Callable[[Query[R]], R] = self.bus.ask
        return await self.read(ask, query)

    async def read(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Make a call that only reads from a store."""
        if self.reads_inline:
            return call(*args, **kwargs)
        return await self._in_thread(call, *args, **kwargs)

    async def open(
        self,
        call: Callable[[ByteRange | None], ObjectBody],
        byte_range: ByteRange | None,
        *,
        at_hand: Callable[[ByteRange | None], ObjectBody | None],
        size_bytes: int,
    ) -> ObjectBody:
        """Open an object; ``at_hand`` opens it if that takes no reading.

        A store may read it all to check it: of a large one, not on the event loop.
        """
        if size_bytes <= _CHECKED_INLINE_MAX_BYTES:
            return await self.read(call, byte_range)
        body = at_hand(byte_range) if self.reads_inline else None
        return await self._in_thread(call, byte_range) if body is None else body

    async def _in_thread(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Make a call in a thread.

        Raises:
            Overloaded: too many calls wait already, or no thread was free in time; it was not made.
        """
        if self._calls.under_way >= self.most_calls:
            raise Overloaded("too many requests wait for a store")
        asked_s = time.monotonic()

        def call_in_time() -> R:
            if time.monotonic() - asked_s > self.longest_wait_s:
                raise Overloaded("no thread was free in time")
            return call(*args, **kwargs)

        self._calls.under_way += 1
        try:
            return await _called_in(self.threads, call_in_time)
        finally:
            # If the caller is cancelled, a call that waits leaves the queue with it; one that runs has its thread.
            self._calls.under_way -= 1


async def _called_in(threads: Executor, call: Callable[[], R]) -> R:
    """Make a call in a thread, in this context.

    Without chaining two futures, as run_in_executor does: that costs the event loop twice as much. What the call raised
    is in no future either, whose trace would lead back to that future: a circle, and in it what was uploaded.
    """
    loop, context = asyncio.get_running_loop(), copy_context()
    over: asyncio.Future[None] = loop.create_future()
    results: list[R] = []
    errors: list[BaseException] = []

    def make() -> None:
        try:
            results.append(context.run(call))
        except BaseException as error:  # noqa: BLE001 (it is raised where the call was asked for)
            errors.append(error)
        loop.call_soon_threadsafe(_end, over, errors)

    waiting = threads.submit(make)
    try:
        await over
    except BaseException:
        waiting.cancel()  # if its turn has not come; otherwise this does nothing
        errors.clear()
        raise
    if errors:
        raise errors.pop()
    return results.pop()


def _end(over: "asyncio.Future[None]", errors: list[BaseException]) -> None:
    if over.cancelled():
        errors.clear()  # nobody takes it: the circle that leads through its trace
    else:
        over.set_result(None)
