"""One renderer for our own log records and everybody else's: JSON lines, or colours on a terminal."""

import logging
import logging.config
import sys
from typing import Literal

import msgspec
import structlog
from structlog.typing import EventDict, Processor

LogFormat = Literal["auto", "json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]

_encoder = msgspec.json.Encoder(enc_hook=str)


def configure_logging(log_format: LogFormat, level: LogLevel) -> None:
    """Set up structlog and the standard library's logging to write to standard error."""
    as_json = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[Processor]
    if as_json:
        # Never with locals: they hold headers, secrets and what people upload.
        traces = structlog.processors.ExceptionRenderer(
            structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        )
        renderer = [traces, structlog.processors.JSONRenderer(serializer=_to_json)]
    else:
        renderer = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
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


def _to_json(event: EventDict, **_: object) -> str:
    return _encoder.encode(event).decode()
