"""Requests in the log: the id in every line that a request causes, and one line at its end."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol

import structlog

_log = structlog.get_logger("calotype.http")
_DELAY_S = 0.1
_WAITING_MAX = 64


class Observation(Protocol):
    """What there is to say of a request that ended."""

    @property
    def request_id(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def route(self) -> str: ...
    @property
    def status(self) -> int: ...
    @property
    def duration_s(self) -> float: ...
    @property
    def response_bytes(self) -> int: ...
    @property
    def error(self) -> BaseException | None: ...


def bind_request(request_id: str) -> None:
    """Put the request's id into every log line of this context."""
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id)


class RequestLog:
    """Logs each request by one line, with the trace when it failed on our side. Lives on the event loop.

    What failed is logged at once, with all that ended before it; the others within a tenth of a second, many at a time,
    and whatever writes the lines may keep them for another. At the end of each request the code for its line would have
    to come back into the processor's caches: that costs five times what the line does.
    """

    def __init__(self) -> None:
        """Begin with nothing to log."""
        self._waiting: list[tuple[float, Observation]] = []
        self._soon: asyncio.TimerHandle | None = None

    def __call__(self, observation: Observation) -> None:
        """Log a request that has just ended."""
        self._waiting.append((time.time(), observation))
        if observation.error is not None or len(self._waiting) >= _WAITING_MAX:
            self.write()
        elif self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(_DELAY_S, self.write)

    def write(self) -> None:
        """Log what waits. To be called at the end, too."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        waiting, self._waiting = self._waiting, []
        for ended_at, observation in waiting:
            _write(ended_at, observation)


def _write(ended_at: float, observation: Observation) -> None:
    write = _log.info if observation.error is None else _log.error
    write(
        "request",
        request_id=observation.request_id,
        method=observation.method,
        path=observation.path,
        status=observation.status,
        duration_ms=round(observation.duration_s * 1000, 3),
        response_bytes=observation.response_bytes,
        exc_info=observation.error,
        timestamp=datetime.fromtimestamp(ended_at, UTC).isoformat().replace("+00:00", "Z"),
    )
