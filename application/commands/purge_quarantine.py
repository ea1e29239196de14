"""Purge the quarantine: delete for good what repairs have taken out of the way long enough ago."""

from dataclasses import dataclass
from datetime import timedelta

from application.bus import Command, Outcome
from application.ports import Clock, ObjectAudit


@dataclass(frozen=True, kw_only=True, slots=True)
class PurgeQuarantine(Command[int]):
    """Delete what was quarantined on days that ended ``older_than`` ago; the answer is how many objects."""

    older_than: timedelta


@dataclass(frozen=True, kw_only=True, slots=True)
class PurgeQuarantineHandler:
    """Deletes by age."""

    stored: ObjectAudit
    clock: Clock

    def __call__(self, command: PurgeQuarantine) -> Outcome[int]:
        """Purge; raise Unavailable as the store does."""
        return Outcome(self.stored.purge(before=self.clock.now() - command.older_than))
