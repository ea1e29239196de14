"""Rate limits: the token bucket, the port to whoever keeps buckets, and what to do while that one is away.

Operators' business, no use case: nothing here passes the bus.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

from domain.errors import Unavailable


class Budget(NamedTuple):
    """A bucket that holds ``burst`` units at most, and gets ``per_s`` new ones each second."""

    burst: int
    per_s: float


class Budgets(NamedTuple):
    """What somebody may use up; None where there is no limit."""

    reads: Budget | None = None
    writes: Budget | None = None
    bytes: Budget | None = None


class Verdict(NamedTuple):
    """Whether so much could be taken, and what the bucket lacks now to be full. A refusal takes nothing."""

    allowed: bool
    missing: float


class RateLimiter(Protocol):
    """Keeps buckets by their names. One that was never seen, or not for long, is full."""

    async def take(self, bucket: bytes, budget: Budget, cost: int) -> Verdict:
        """Take the whole cost or nothing, in one atomic step, as `spend` says. A cost below 0 gives back.

        Raises:
            Unavailable: it may have been taken, or not.
        """


def spend(missing: float, elapsed_s: float, budget: Budget, cost: int) -> Verdict:
    """Return what becomes of a bucket that lacked so much a while ago.

    In no stretch of t seconds is more taken than ``burst + per_s * t``. The one exception is a cost that is larger than
    the bucket: it is allowed when the bucket is full, which then has to work off the debt.
    """
    burst, per_s = budget
    missing -= elapsed_s * per_s
    if missing < 0:
        missing = 0.0
    if cost > 0 and missing + min(cost, burst) > burst:
        return Verdict(False, missing)
    return Verdict(True, max(0.0, missing + cost))


class FailingOver:
    """Asks one limiter; while that is away, another, and now and then again the first.

    So an outage lets through at most what the second allows, and holds nobody up: only one request in ``pause_s``
    waits for the one that is away.

    Args:
        first: who is asked.
        second: who is asked while the first is away.
        clock: seconds, of which only differences matter.
        told: called with the error when the first goes away, and with None when it is back.
        fell_back: called each time that the second is asked.
        pause_s: how long the first is left alone.
    """

    def __init__(
        self,
        first: RateLimiter,
        second: RateLimiter,
        *,
        clock: Callable[[], float],
        told: Callable[[Unavailable | None], None],
        fell_back: Callable[[], None],
        pause_s: float = 5.0,
    ) -> None:
        """Expect the first to be there."""
        self._first = first
        self._second = second
        self._clock = clock
        self._told = told
        self._fell_back = fell_back
        self._pause_s = pause_s
        self._away = False
        self._ask_again_at = -math.inf

    async def take(self, bucket: bytes, budget: Budget, cost: int) -> Verdict:
        """See RateLimiter.take."""
        if self._away:
            if self._clock() < self._ask_again_at:
                return await self._take_from_second(bucket, budget, cost)
            self._ask_again_at = self._clock() + self._pause_s
        try:
            verdict = await self._first.take(bucket, budget, cost)
        except Unavailable as error:
            self._ask_again_at = self._clock() + self._pause_s
            if not self._away:
                self._away = True
                self._told(error)
            return await self._take_from_second(bucket, budget, cost)
        if self._away:
            self._away = False
            self._told(None)
        return verdict

    async def _take_from_second(self, bucket: bytes, budget: Budget, cost: int) -> Verdict:
        self._fell_back()
        return await self._second.take(bucket, budget, cost)
