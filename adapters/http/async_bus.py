"""The bus, seen from the event loop: blocking work goes to threads."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from litestar.concurrency import sync_to_thread

from application.bus import Bus, Command, Query
from application.ports import ByteRange, ObjectBody
from domain.errors import Unavailable

P = ParamSpec("P")
R = TypeVar("R")

_CHECKED_INLINE_MAX_BYTES = 512 * 1024  # 0.3 ms of hashing; a thread's round trip takes 0.04 ms


@dataclass(frozen=True, slots=True)
class AsyncBus:
    """Runs commands in the thread pool, and reads too unless the store answers faster than a thread switches.

    Args:
        bus: the bus.
        reads_inline: whether the store answers that fast.
        longest_wait_s: for a thread. While a store hangs, every thread waits for it: without this bound whoever asks
            next would wait for all who asked before.
    """

    bus: Bus
    reads_inline: bool
    longest_wait_s: float = 5.0

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
        self, call: Callable[[ByteRange | None], ObjectBody], byte_range: ByteRange | None, *, size_bytes: int
    ) -> ObjectBody:
        """Open an object. A store may read all of it to check it, so a large one never keeps the event loop."""
        if size_bytes > _CHECKED_INLINE_MAX_BYTES:
            return await self._in_thread(call, byte_range)
        return await self.read(call, byte_range)

    async def _in_thread(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Make a call in a thread; raise Unavailable, and don't make it, if none was free in time."""
        asked_s = time.monotonic()

        def call_in_time() -> R:
            if time.monotonic() - asked_s > self.longest_wait_s:
                raise Unavailable("no thread was free in time")
            return call(*args, **kwargs)

        return await sync_to_thread(call_in_time)
