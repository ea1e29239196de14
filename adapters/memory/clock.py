"""Time and identifiers that tests control."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

_START = datetime(2026, 1, 1, 12, tzinfo=UTC)


@dataclass(slots=True)
class FixedClock:
    """A clock that stands still until it is moved."""

    present: datetime = _START

    def now(self) -> datetime:
        """Return the time it was set to."""
        return self.present

    def advance(self, step: timedelta = timedelta(seconds=1)) -> None:
        """Move the time on."""
        self.present += step


@dataclass(slots=True)
class SequentialIds:
    """Identifiers that count up from one."""

    last: int = field(default=0)

    def new(self) -> UUID:
        """Return the next."""
        self.last += 1
        return UUID(int=self.last)
