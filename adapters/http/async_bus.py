"""The bus, seen from the event loop: blocking work goes to threads."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from litestar.concurrency import sync_to_thread

from application.bus import Bus, Command, Query
from application.ports import ByteRange, ObjectBody

P = ParamSpec("P")
R = TypeVar("R")

_CHECKED_INLINE_MAX_BYTES = 512 * 1024  # 0.3 ms of hashing; a thread's round trip takes 0.04 ms


@dataclass(frozen=True, slots=True)
class AsyncBus:
    """Runs commands in the thread pool, and reads too unless the store answers faster than a thread switches."""

    bus: Bus
    reads_inline: bool

    async def execute(self, command: Command[R]) -> R:
        """See Bus.execute."""
        execute: Callable[[Command[R]], R] = self.bus.execute
        return await sync_to_thread(execute, command)

    async def ask(self, query: Query[R]) -> R:
        """See Bus.ask."""
        ask: Callable[[Query[R]], R] = self.bus.ask
        return await self.read(ask, query)

    async def read(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Make a call that only reads from a store."""
        if self.reads_inline:
            return call(*args, **kwargs)
        return await sync_to_thread(call, *args, **kwargs)

    async def open(
        self, call: Callable[[ByteRange | None], ObjectBody], byte_range: ByteRange | None, *, size_bytes: int
    ) -> ObjectBody:
        """Open an object. A store may read all of it to check it, so a large one never keeps the event loop."""
        if size_bytes > _CHECKED_INLINE_MAX_BYTES:
            return await sync_to_thread(call, byte_range)
        return await self.read(call, byte_range)
