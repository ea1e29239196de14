"""RateLimiter on a dictionary."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from application.rate_limits import Budget, Verdict, spend


@dataclass(slots=True)
class MemoryRateLimiter:
    """Remembers for ever what each bucket lacked, and when."""

    clock: Callable[[], float]
    _buckets: dict[bytes, tuple[float, float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    async def take(self, bucket: bytes, budget: Budget, cost: int) -> Verdict:
        """See RateLimiter.take."""
        with self._lock:
            now = self.clock()
            at, missing = self._buckets.get(bucket, (now, 0.0))
            verdict = spend(missing, now - at, budget, cost)
            if verdict.allowed:
                self._buckets[bucket] = (now, verdict.missing)
        return verdict
