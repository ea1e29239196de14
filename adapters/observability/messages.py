"""Messages on the bus in the log."""

import logging
import time
from typing import Any

from application.bus import CallNext, Message
from domain.errors import CalotypeError

# The standard library's: inside another program it is that program's to say where the log goes.
_log = logging.getLogger("calotype.bus")


def log_message(message: Message, call_next: CallNext, /) -> Any:
    """Be bus middleware: one line a message, with its name and result, never its content. For debugging."""
    if not _log.isEnabledFor(logging.DEBUG):
        return call_next(message)
    begun = time.perf_counter()
    result = "ok"
    try:
        return call_next(message)
    except CalotypeError as error:
        result = type(error).__name__
        raise
    finally:
        duration_ms = round((time.perf_counter() - begun) * 1000, 3)
        said = {"kind": type(message).__name__, "result": result, "duration_ms": duration_ms}
        _log.debug("message", extra=said)
