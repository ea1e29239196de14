"""The machine's own clock and source of identifiers."""

import uuid
from datetime import UTC, datetime


class SystemClock:
    """The wall clock."""

    def now(self) -> datetime:
        """See Clock.now."""
        return datetime.now(UTC)


class RandomIds:
    """Random UUIDs: nobody can guess one, and no two machines have to agree."""

    def new(self) -> uuid.UUID:
        """See Ids.new."""
        return uuid.uuid4()
