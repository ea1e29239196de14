"""Repair one finding of an audit, if it is still so.

A stray object leaves in four steps:

    copy      to the quarantine
    hold      one transaction: a reclaim entry for its image id, claimed by us, if there is neither record nor entry
    remove    the original, by the hold's deadline
    release   the entry

The hold is what makes the removal safe. An upload reserves its id before it puts a byte, and the two entries can't
both win: an upload under way refuses the hold, and a hold refuses a new upload, which could otherwise take the stray
for its own finished put (same key, same bytes) while it is being removed. If we die after the hold, the sweeper
collects what it answers for, by the same rules as any garbage; the copy is there by then.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from application.bus import Command, Outcome
from application.findings import DamagedObject, Finding, StrayObject, WrongPosting, WrongUsage, is_unclaimed
from application.ports import Clock, FoundObject, Ids, ObjectAudit, Quarantined, RecordAudit
from domain.values import ImageId

MIN_AGE = timedelta(days=1)
"""No object and no posting that is younger is touched, whatever it looks like."""

# As long as a sweeper's claim, and for the same reason: removals end by then.
_HOLD = timedelta(minutes=5)


class Repaired(StrEnum):
    """What became of a finding."""

    REPAIRED = "repaired"
    GONE = "gone"
    """Not so any more when it was looked at again."""
    TOO_YOUNG = "too_young"
    BEYOND_REPAIR = "beyond_repair"
    """Bytes are lost, and only a backup has them. The record is kept: it says what is missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Repair(Command[Repaired]):
    """Put right what an audit has found."""

    finding: Finding


@dataclass(frozen=True, kw_only=True, slots=True)
class RepairHandler:
    """Looks again, and acts."""

    records: RecordAudit
    stored: ObjectAudit
    clock: Clock
    ids: Ids

    def __call__(self, command: Repair) -> Outcome[Repaired]:
        """Repair the finding; raise Unavailable as the stores do."""
        match command.finding:
            case DamagedObject():
                return Outcome(Repaired.BEYOND_REPAIR)
            case WrongPosting() as wrong:
                return Outcome(self._mend(wrong))
            case StrayObject(found=found):
                return Outcome(self._quarantine(found))
            case WrongUsage(miscount=miscount):
                # Of no age: the count is made anew, or stands as long as nothing was taken or given back since.
                return Outcome(Repaired.REPAIRED if self.records.recount(miscount) else Repaired.GONE)

    def _mend(self, wrong: WrongPosting) -> Repaired:
        if wrong.since > self.clock.now() - MIN_AGE:
            return Repaired.TOO_YOUNG
        return Repaired.REPAIRED if self.records.mend(wrong.posting) else Repaired.GONE

    def _quarantine(self, found: FoundObject) -> Repaired:
        now = self.clock.now()
        if found.modified_at > now - MIN_AGE:
            return Repaired.TOO_YOUNG
        if not is_unclaimed(self.records, found):
            return Repaired.GONE
        quarantined = self.stored.quarantine(found, at=now)
        if quarantined is None:
            return Repaired.GONE
        return self._remove(quarantined, deadline=now + _HOLD)

    def _remove(self, quarantined: Quarantined, *, deadline: datetime) -> Repaired:
        found = quarantined.found
        if found.image_id is None or found.key is None:
            # No upload can take it for its own: without a key it isn't read, and a put that hasn't published for a
            # day is past its deadline.
            self.stored.remove(quarantined, deadline=deadline)
            return Repaired.REPAIRED
        record, has_entry = self.records.standing(found.image_id)
        if record is None:
            return self._remove_held(quarantined, found.image_id, deadline=deadline)
        if has_entry or record.key == found.key:
            return Repaired.GONE
        # Beside a record that names another key. No upload can have the id before a sweeper has emptied its prefix,
        # and what is stored there later is not the original that was copied.
        self.stored.remove(quarantined, deadline=deadline)
        return Repaired.REPAIRED

    def _remove_held(self, quarantined: Quarantined, image_id: ImageId, *, deadline: datetime) -> Repaired:
        claimant = self.ids.new()
        if not self.records.hold(image_id, claimant=claimant, until=deadline):
            return Repaired.GONE
        self.stored.remove(quarantined, deadline=deadline)
        self.records.release(image_id, claimant=claimant)
        return Repaired.REPAIRED
