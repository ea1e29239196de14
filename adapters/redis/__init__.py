"""RateLimiter in Redis, for several machines."""

import hashlib
from typing import Self
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from application.rate_limits import Budget, Verdict
from domain.errors import Unavailable

_PREFIX = b"calotype:budget:"
_TIMEOUT_S = 0.5
_CONNECTIONS = 16

# A value is when the bucket was last looked at, in microseconds by the server's clock, and what it lacked then. It
# expires when the bucket is full (or in ten years), as a bucket without a value is. The arithmetic is that of `spend`.
_TAKE = """
local burst, per_s, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local missing = 0
local value = redis.call('GET', KEYS[1])
if value then
  local at, lacked = string.match(value, '^(%d+) (.+)$')
  missing = math.max(0, tonumber(lacked) - math.max(0, now - at) / 1000000 * per_s)
end
if cost > 0 and missing + math.min(cost, burst) > burst then
  return {0, string.format('%.17g', missing)}
end
missing = math.max(0, missing + cost)
if missing > 0 then
  local lives_ms = string.format('%.0f', math.min(3e11, math.ceil(missing / per_s * 1000)))
  redis.call('SET', KEYS[1], string.format('%.0f %.17g', now, missing), 'PX', lives_ms)
else
  redis.call('DEL', KEYS[1])
end
return {1, string.format('%.17g', missing)}
"""


class RedisRateLimiter:
    """One script a decision, so that decisions about a bucket are made one after the other; the time is the server's.

    Whoever does not get an answer at once is told so: there are few connections, and each step has a time-out.
    """

    def __init__(self, pool: BlockingConnectionPool) -> None:
        """Take the connections, none of which need be open."""
        self._redis = Redis.from_pool(pool)
        self._script = self._redis.register_script(_TAKE)

    @classmethod
    def at(cls, url: str) -> Self:
        """Return the limiter in the database that ``redis://``, ``rediss://`` or ``unix://`` names.

        Raises:
            ValueError: it is no such URL, or has options that there are not.
        """
        try:
            pool = _pool(url)
        except ValueError:
            # Its message may quote what was taken for a port: half of a password.
            raise ValueError("it is no such URL; in a password write %2F for /, %3F for ? and %23 for #") from None
        try:
            # Opens nothing; without it the first request would find out about the options.
            pool.make_connection()  # type: ignore[no-untyped-call]
        except (TypeError, RedisError) as error:
            raise ValueError("an option behind its question mark is unknown, or has no such value") from error
        return cls(pool)

    async def take(self, bucket: bytes, budget: Budget, cost: int) -> Verdict:
        """See RateLimiter.take."""
        # No names of people in a store that others may read, and no name that could be too long for it.
        key = _PREFIX + hashlib.blake2b(bucket, digest_size=16).hexdigest().encode()
        try:
            allowed, missing = await self._script(keys=[key], args=[budget.burst, repr(budget.per_s), cost])
            return Verdict(allowed=allowed == 1, missing=float(missing))
        except (RedisError, OSError, TimeoutError) as error:
            raise Unavailable(f"Redis keeps no budgets: {error}") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def _pool(url: str) -> BlockingConnectionPool:
    parts = urlsplit(url)
    if parts.scheme != "unix" and "@" in parts.path + parts.query + parts.fragment:
        raise ValueError("the password ended early: what it begins with would be host and port")
    return BlockingConnectionPool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=_TIMEOUT_S,
        socket_timeout=_TIMEOUT_S,
        socket_connect_timeout=_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )
