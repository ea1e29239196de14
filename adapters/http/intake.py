"""Room for uploads: how many a process takes at a time, and how many bytes of them. Whoever finds none is sent away."""

import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from adapters.http.authentication import header
from adapters.http.replies import Scope
from adapters.http.throttle import Throttle
from domain.errors import Overloaded
from domain.values import UserId

_STEP_BYTES = 1024 * 1024


@dataclass(slots=True)
class _Load:
    """What is under way, or may be."""

    uploads: int = 0
    size_bytes: int = 0


class Intake:
    """Counts the uploads of one process and the bytes that they take up, on disk or in memory.

    A single owner gets half of the room at most, so that one who sends slowly, or much, doesn't shut the others out. An
    upload that is larger than all of it is taken while there is no other.

    All of it happens on the event loop, so there is nothing to lock.

    Args:
        most_uploads: that may be under way.
        most_bytes: of request bodies that may be.
        throttle: where bytes are paid for; None if they are free.
        clock: seconds.
    """

    def __init__(
        self,
        *,
        most_uploads: int,
        most_bytes: int,
        throttle: Throttle | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin empty."""
        self._all = _Load()
        self._most = _Load(most_uploads, most_bytes)
        self._of_owner: dict[UserId, _Load] = {}
        self._most_of_one = _Load(max(1, most_uploads // 2), most_bytes // 2)
        self._throttle = throttle
        self._clock = clock

    @property
    def under_way(self) -> tuple[int, int]:
        """How many uploads there are, and for how many bytes."""
        return self._all.uploads, self._all.size_bytes

    @asynccontextmanager
    async def upload(self, scope: Scope, owner: UserId, *, body_max_bytes: int) -> AsyncIterator["Arrival"]:
        """Take an upload in for as long as the context lasts, before any of its body is read.

        Raises:
            Overloaded: there is no room.
            Problem: 429, the owner's budget does not allow that many bytes.
        """
        mine = self._of_owner.get(owner) or _Load()
        shares = ((self._all, self._most), (mine, self._most_of_one))
        if any(load.uploads >= most.uploads for load, most in shares):
            raise Overloaded("too many uploads are under way")
        self._of_owner[owner] = mine
        arrival = Arrival(scope, shares, self._throttle, self._clock)
        for load, _ in shares:
            load.uploads += 1
        try:
            length = header(scope, b"content-length") or ""
            await arrival.expect(min(int(length), body_max_bytes) if _is_length(length) else _STEP_BYTES)
            yield arrival
        finally:
            for load, _ in shares:
                load.uploads -= 1
                load.size_bytes -= arrival.expected_bytes
            if not mine.uploads:
                del self._of_owner[owner]
            await arrival.settle()


class Arrival:
    """One upload on its way in. What its length says is reserved and paid at once; without one, a step at a time."""

    def __init__(
        self,
        scope: Scope,
        shares: Sequence[tuple[_Load, _Load]],
        throttle: Throttle | None,
        clock: Callable[[], float],
    ) -> None:
        """Take what it counts in, and how much each may be."""
        self.expected_bytes = 0
        self._arrived_bytes = 0
        self._paid_bytes = 0
        self._paid_at = math.inf
        self._scope = scope
        self._shares = shares
        self._throttle = throttle
        self._clock = clock

    async def expect(self, size_bytes: int) -> None:
        """Reserve and pay for so many more bytes; raise what Intake.upload does."""
        for load, most in self._shares:
            if load.size_bytes > self.expected_bytes and load.size_bytes + size_bytes > most.size_bytes:
                raise Overloaded("too much is being uploaded")
        for load, _ in self._shares:
            load.size_bytes += size_bytes
        self.expected_bytes += size_bytes
        if self._throttle is not None:
            await self._throttle.pay(self._scope, size_bytes)
            self._paid_bytes += size_bytes
            self._paid_at = min(self._paid_at, self._clock())

    async def took(self, size_bytes: int) -> None:
        """Note that so many bytes have come; raise what Intake.upload does if more come than were expected."""
        self._arrived_bytes += size_bytes
        while self._arrived_bytes > self.expected_bytes:
            await self.expect(_STEP_BYTES)

    async def settle(self) -> None:
        """Give back what was paid for bytes that never came."""
        unused = self._paid_bytes - self._arrived_bytes
        if self._throttle is not None and unused > 0:
            await self._throttle.give_back(self._scope, unused, paid_s_ago=self._clock() - self._paid_at)


def _is_length(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18  # noqa: PLR2004 (more than any disk holds)
