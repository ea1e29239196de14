"""Deadlines that hold for every attempt botocore makes, those it repeats by itself included."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from application.ports import Clock
from domain.errors import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment after which nothing more may be sent."""

    clock: Clock
    moment: datetime

    def check(self) -> None:
        """Raise Unavailable once the moment is here."""
        if self.clock.now() >= self.moment:
            raise Unavailable("the deadline has passed")


_running: ContextVar[Deadline | None] = ContextVar("s3_deadline", default=None)


@contextmanager
def running(deadline: Deadline) -> Iterator[Deadline]:
    """Hold the requests of this thread, made through a guarded client, to the deadline."""
    token = _running.set(deadline)
    try:
        yield deadline
    finally:
        _running.reset(token)


def guard(client: "S3Client") -> None:
    """Make the client check the running deadline at each attempt, just before it signs it. May be repeated."""
    # botocore builds, and signs, a new request for each attempt; a handler that raises ends them all.
    client.meta.events.register("request-created.s3", _check, unique_id="calotype-deadline")


def _check(**_event: object) -> None:
    if (deadline := _running.get()) is not None:
        deadline.check()
