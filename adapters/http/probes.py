"""Health probes of the stores, on threads of their own: they answer while every other thread waits for a store."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from domain.errors import CalotypeError

_TIMEOUT_S = 1.5


class Probes:
    """Asks each store whether it is there, one question at a time: whoever asks meanwhile waits for the same answer.

    So they need one thread a store, and a store that hangs, however often somebody asks for it, keeps just that one.
    """

    def __init__(self, pings: Mapping[str, Callable[[], None]], *, timeout_s: float = _TIMEOUT_S) -> None:
        """Take what asks each store, by its name."""
        self._pings = pings
        self._timeout_s = timeout_s
        self._threads = ThreadPoolExecutor(max(1, len(pings)), thread_name_prefix="calotype-probe")
        self._asking: dict[str, asyncio.Future[bool]] = {}

    async def answers(self) -> dict[str, bool]:
        """Return which stores answer, and in time."""
        return dict(zip(self._pings, await asyncio.gather(*map(self._answers, self._pings)), strict=True))

    async def _answers(self, name: str) -> bool:
        asking = self._asking.get(name)
        if asking is None or asking.done():
            loop = asyncio.get_running_loop()
            asking = self._asking[name] = loop.run_in_executor(self._threads, _answers, self._pings[name])
        try:
            return await asyncio.wait_for(asyncio.shield(asking), self._timeout_s)
        except TimeoutError:
            return False


def _answers(ping: Callable[[], None]) -> bool:
    try:
        ping()
    except CalotypeError:
        return False
    return True
