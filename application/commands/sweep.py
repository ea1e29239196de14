"""Sweep: collect what reservations and trashed records leave once they are due."""

from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice

from application.bus import Command, Outcome
from application.ports import Clock, Ids, MetadataStore, ObjectStore
from domain.errors import Unavailable
from domain.events import Event, ImagePurged
from domain.reclaim import TrashedImage
from domain.values import ImageId

# How long a sweeper may hold one entry. Its deletions end by then, so that no late one meets a new upload.
_CLAIM = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepReport:
    """How many entries were collected: trashed images, and uploads that never committed; and how many failed."""

    images: int = 0
    uploads: int = 0
    failed: int = 0
    reason: str | None = field(default=None, compare=False)
    """Why the last of those failed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep(Command[SweepReport]):
    """Collect what is due, at most ``limit`` entries. Any number of sweepers may run, and each may die at any point."""

    limit: int = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepHandler:
    """Claims each due entry, deletes its objects, forgets it."""

    metadata: MetadataStore
    objects: ObjectStore
    clock: Clock
    ids: Ids

    def __call__(self, command: Sweep) -> Outcome[SweepReport]:
        """Collect; an entry that can't be collected now is counted as failed and left for the next sweep."""
        tally = _Tally()
        for image_id in islice(self.metadata.due(self.clock.now()), command.limit):
            try:
                self._collect(image_id, tally)
            except Unavailable as error:
                tally.failed += 1
                tally.reason = f"{image_id}: {error}"
        report = SweepReport(images=len(tally.purged), uploads=tally.uploads, failed=tally.failed, reason=tally.reason)
        return Outcome(report, tuple(tally.purged))

    def _collect(self, image_id: ImageId, tally: "_Tally") -> None:
        claimant, now = self.ids.new(), self.clock.now()
        entry = self.metadata.claim(image_id, claimant=claimant, at=now, until=now + _CLAIM)
        if entry is None:
            return
        self.objects.delete_prefix(entry.prefix, deadline=now + _CLAIM)
        self.metadata.forget(image_id, claimant=claimant)
        if isinstance(entry, TrashedImage):
            tally.purged.append(ImagePurged(owner=entry.image.owner, image_id=image_id, at=self.clock.now()))
        else:
            tally.uploads += 1


@dataclass(slots=True)
class _Tally:
    purged: list[Event] = field(default_factory=list)
    uploads: int = 0
    failed: int = 0
    reason: str | None = None
