"""The rate limits, as set: who keeps the budgets, and what happens while that one is away."""

import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from litestar import Litestar

from adapters.http.throttle import Throttle
from adapters.shared_memory import SharedRateLimiter
from application.rate_limits import FailingOver, RateLimiter
from domain.errors import Unavailable
from entrypoints.budgets import SHARED_BUDGETS
from entrypoints.settings import Settings, SettingsError

if TYPE_CHECKING:
    from adapters.redis import RedisRateLimiter

_log = structlog.get_logger("calotype.rate_limits")


def prepare_limiting(settings: Settings) -> None:
    """Make what the workers are to share; raise SettingsError if the budgets can't be kept as they are set."""
    if settings.owner_budgets is None:
        return
    if (path := os.environ.get(SHARED_BUDGETS)) is not None:
        try:
            SharedRateLimiter.create(Path(path))
        except OSError as error:
            raise SettingsError(f"no room for the budgets that workers share: {error}") from error
    if settings.rate_limit_url is not None:
        try:
            from adapters.redis import RedisRateLimiter  # noqa: PLC0415 (an extra)

            RedisRateLimiter.at(settings.rate_limit_url)
        except ImportError as error:
            raise SettingsError("CALOTYPE_RATE_LIMIT_URL needs an extra: pip install 'calotype[redis]'") from error
        except ValueError as error:
            raise SettingsError(f"CALOTYPE_RATE_LIMIT_URL can't be used: {error}") from error


@dataclass(frozen=True, slots=True)
class Limiting:
    """What keeps clients within their budgets, and what it stands on."""

    throttle: Throttle
    machine: SharedRateLimiter
    store: "RedisRateLimiter | None"

    @contextlib.asynccontextmanager
    async def closing(self, _: Litestar) -> AsyncIterator[None]:
        """Close it all when the server ends."""
        with contextlib.closing(self.machine):
            try:
                yield
            finally:
                if self.store is not None:
                    await self.store.close()


def open_limiting(settings: Settings, *, fell_back: Callable[[], None]) -> Limiting | None:
    """Make what the settings ask for; None without rate limits.

    Args:
        settings: the settings.
        fell_back: called for each decision that the store should have made, and could not.
    """
    if (owners := settings.owner_budgets) is None:
        return None
    path = os.environ.get(SHARED_BUDGETS)
    machine = SharedRateLimiter.alone() if path is None else SharedRateLimiter.shared(Path(path))
    limiter: RateLimiter = machine
    store = None
    if settings.rate_limit_url is not None:
        from adapters.redis import RedisRateLimiter  # noqa: PLC0415 (as above)

        store = RedisRateLimiter.at(settings.rate_limit_url)
        limiter = FailingOver(store, machine, clock=time.monotonic, told=_tell, fell_back=fell_back)
    throttle = Throttle(
        limiter,
        owners=owners,
        addresses=settings.address_budgets,
        trusted_proxies=settings.proxy_networks,
    )
    return Limiting(throttle, machine, store)


def _tell(error: Unavailable | None) -> None:
    if error is None:
        _log.warning("rate_limit_store_is_back")
    else:
        _log.error("rate_limit_store_away", reason=str(error), until_it_is_back="each machine keeps budgets of its own")
