"""Health probes of the stores, on threads of their own: they answer while every other thread waits for a store."""

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from domain.errors import CalotypeError

_TIMEOUT_S = 1.5
_KEPT_S = 1


class Probes:
    """Asks each store whether it is there, one question at a time: whoever asks meanwhile waits for the same answer.

    So they need one thread a store, and a store that hangs, however often somebody asks for it, keeps just that one. A
    store is asked once a second at most, since anybody may ask, and on AWS each question is a request.
    """

    def __init__(
        self,
        pings: Mapping[str, Callable[[], None]],
        *,
        timeout_s: float = _TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what asks each store, by its name."""
        self._pings = pings
        self._timeout_s = timeout_s
        self._clock = clock
        self._threads = ThreadPoolExecutor(max(1, len(pings)), thread_name_prefix="calotype-probe")
        self._asking: dict[str, asyncio.Future[bool]] = {}
        self._asked_at: dict[str, float] = {}

    async def answers(self) -> dict[str, bool]:
        """Return which stores answer, and in time."""
        return dict(zip(self._pings, await asyncio.gather(*map(self._answers, self._pings)), strict=True))

    async def _answers(self, name: str) -> bool:
        asking = self._asking.get(name)
        if asking is None or (asking.done() and self._clock() - self._asked_at[name] >= _KEPT_S):
            self._asked_at[name] = self._clock()
            loop = asyncio.get_running_loop()
            asking = self._asking[name] = loop.run_in_executor(self._threads, _succeeds, self._pings[name])
        try:
            return await asyncio.wait_for(asyncio.shield(asking), self._timeout_s)
        except TimeoutError:
            return False


def _succeeds(ping: Callable[[], None]) -> bool:
    try:
        ping()
    except CalotypeError:
        return False
    return True
