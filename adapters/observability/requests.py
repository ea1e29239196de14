"""Requests in the log: the id in every line that a request causes, and one line at its end."""

from typing import Protocol

import structlog

_log = structlog.get_logger("calotype.http")


class Observation(Protocol):
    """What there is to say of a request that ended."""

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


def log_request(observation: Observation) -> None:
    """Write the request's one line; with the trace when it failed on our side."""
    write = _log.info if observation.error is None else _log.error
    write(
        "request",
        method=observation.method,
        path=observation.path,
        status=observation.status,
        duration_ms=round(observation.duration_s * 1000, 3),
        response_bytes=observation.response_bytes,
        exc_info=observation.error,
    )
