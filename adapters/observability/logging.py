"""One renderer for our own log records and everybody else's: JSON lines, or colours on a terminal."""

import contextlib
import logging
import logging.config
import sys
import threading
from typing import Literal, Self, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor

LogFormat = Literal["auto", "json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]

_encoder = msgspec.json.Encoder(enc_hook=str)
_DELAY_S = 0.1
_BATCH_BYTES = 4096  # a pipe takes that much from one process before it takes anything from another (POSIX: PIPE_BUF)


def configure_logging(log_format: LogFormat, level: LogLevel) -> None:
    """Set up structlog and the standard library's logging to write to standard error."""
    as_json = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.MaybeTimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[Processor]
    if as_json:
        # Never with locals: they hold headers, secrets and what people upload.
        traces = structlog.processors.ExceptionRenderer(
            structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        )
        renderer = [traces, structlog.processors.JSONRenderer(serializer=_to_json)]
    else:
        renderer = [_escape, structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_Lines(sys.stderr).logger,
        cache_logger_on_first_use=True,
    )
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "foreign_pre_chain": [*shared, structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder()],
        "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
    }
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"shared": formatter},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "shared"}},
            "root": {"handlers": ["stderr"], "level": level.upper()},
            "loggers": {
                # It tells for each client where it found an endpoint and credentials.
                "botocore": {"level": "WARNING"},
                # It warns of each connection above the pool's size, and a slow download may hold one for long.
                "urllib3.connectionpool": {"level": "ERROR"},
            },
        }
    )


def _escape(_: object, __: str, event: EventDict) -> EventDict:
    """Write out what a terminal would obey: paths, for one, may hold any character that somebody sends."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[name] = ascii(value)
    return event


class _Lines:
    """Lines on their way to a file: most are written in batches, within a tenth of a second.

    Every write lets go of the interpreter lock, and with a server's threads waiting for that, getting it back takes
    longer than all else in a small request. What warns of something is written at once, with all before it.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._lines: list[str] = []
        self._bytes = 0
        self._timer: threading.Timer | None = None

    def logger(self, *_: object) -> Self:
        """Be structlog's logger factory."""
        return self

    def info(self, line: str) -> None:
        """Write a line soon."""
        with self._lock:
            self._add(line)
            if self._timer is None:
                self._write_soon()

    def error(self, line: str) -> None:
        """Write a line now."""
        with self._lock:
            self._add(line)
            self._write()

    debug = msg = info
    warning = warn = critical = fatal = exception = log = error

    def _add(self, line: str) -> None:
        size_bytes = len(line.encode(errors="backslashreplace")) + 1
        if self._bytes + size_bytes > _BATCH_BYTES:
            self._write()
        self._lines.append(line)
        self._bytes += size_bytes

    def _write_soon(self) -> None:
        # No daemon, so that a process that ends waits for it.
        timer = threading.Timer(_DELAY_S, self._write_rest)
        try:
            timer.start()
        except RuntimeError:  # the system gives no more threads
            self._write()
        else:
            self._timer = timer

    def _write_rest(self) -> None:
        with self._lock:
            self._timer = None
            self._write()

    def _write(self) -> None:
        if self._lines:
            text = "\n".join([*self._lines, ""])
            # Before it is written: what a full disk refuses would pile up.
            self._lines.clear()
            self._bytes = 0
            # As with the standard library's handlers: whoever logs has more to do, and nowhere else to say it.
            with contextlib.suppress(OSError):
                self._file.write(text)
                self._file.flush()


def _to_json(event: EventDict, **_: object) -> str:
    return _encoder.encode(event).decode()
