"""Waits for clients that have an end, looked at together."""

import asyncio
from types import TracebackType

_LOOK_EVERY_S = 0.25


class Patience:
    """Ends what waits too long, up to a quarter of a second late.

    One timer looks at all that wait, in one event loop at a time. asyncio.timeout makes one for each, and those of an
    upload are 2% of what it costs.
    """

    __slots__ = ("_loop", "_waits")

    def __init__(self) -> None:
        self._waits: set[_Wait] = set()
        self._loop: asyncio.AbstractEventLoop | None = None  # that looks

    def within(self, seconds: float) -> "_Wait":
        """Return a context whose block is cancelled when the time is up; then it raises TimeoutError."""
        return _Wait(self, seconds)

    def add(self, wait: "_Wait") -> None:
        """Look at this one too."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._waits.clear()  # of a loop that has ended in the midst of them
            self._loop = loop
            loop.call_later(_LOOK_EVERY_S, self._look, loop)
        wait.until_s = loop.time() + wait.seconds
        self._waits.add(wait)

    def remove(self, wait: "_Wait") -> None:
        """Look at it no more."""
        self._waits.discard(wait)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not loop:
            return
        if not self._waits:
            self._loop = None
            return
        # Before all else: should one of them raise, the next look finds the rest.
        loop.call_later(_LOOK_EVERY_S, self._look, loop)
        now_s = loop.time()
        for wait in [each for each in self._waits if each.until_s <= now_s]:
            self._waits.remove(wait)
            wait.give_up()


class _Wait:
    """What Patience.within says; as asyncio.timeout does it.

    Whoever waits often may set ``seconds`` and enter it again.
    """

    __slots__ = ("_cancelling", "_is_over", "_patience", "_task", "seconds", "until_s")

    until_s: float

    def __init__(self, patience: Patience, seconds: float) -> None:
        self._patience = patience
        self.seconds = seconds
        self._is_over = False
        self._task: asyncio.Task[object] | None = None

    def give_up(self) -> None:
        """Cancel the block. Its time is up."""
        self._is_over = True
        if self._task is not None:
            self._task.cancel()

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        if self._task is None:
            raise RuntimeError("only a task can wait")
        self._cancelling = self._task.cancelling()
        self._is_over = False
        self._patience.add(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._patience.remove(self)
        if not self._is_over or self._task is None:
            return
        # Whoever else has cancelled the task means more than the block.
        if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error
