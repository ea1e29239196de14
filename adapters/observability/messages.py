"""Messages on the bus in the log."""

import time
from typing import Any

import structlog

from application.bus import CallNext, Message
from domain.errors import CalotypeError

_log = structlog.get_logger("calotype.bus")


def log_message(message: Message, call_next: CallNext, /) -> Any:
    """Be bus middleware: one line a message, with its name and result, never its content. For debugging."""
    begun = time.perf_counter()
    result = "ok"
    try:
        return call_next(message)
    except CalotypeError as error:
        result = type(error).__name__
        raise
    finally:
        duration_ms = round((time.perf_counter() - begun) * 1000, 3)
        _log.debug("message", message=type(message).__name__, result=result, duration_ms=duration_ms)
