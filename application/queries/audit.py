"""Audit: walk both stores in both directions, and tell what doesn't fit together. Changes nothing.

Nothing stands still for an audit. So each fault is looked at in an order in which no step of the protocol can look
like one: what makes a thing legitimate is read before, or again after, the thing itself.
"""

import hashlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum

from application.bus import Query
from application.findings import (
    Damage,
    DamagedObject,
    Finding,
    StrayObject,
    WrongPosting,
    WrongUsage,
    is_unclaimed,
)
from application.ports import FoundObject, ObjectAudit, ObjectStore, Posting, RecordAudit
from domain.errors import NotFound, Unavailable
from domain.image import Image

_PIECE_BYTES = 256 * 1024


class Phase(StrEnum):
    """The walks, in their order."""

    RECORDS = "records"
    OBJECTS = "objects"
    POSTINGS = "postings"
    USAGE = "usage"


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """How far an audit has come: another one may go on behind it, days later and in another process."""

    phase: Phase
    position: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Examined:
    """One record, object or posting that was looked at, or owner whose usage is wrong, and what was found."""

    checkpoint: Checkpoint
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit(Query[Iterator[Examined]]):
    """What is wrong in the stores? With ``deep`` every original is read and its SHA-256 compared."""

    deep: bool = False
    after: Checkpoint | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditHandler:
    """Walks records, then objects, then postings, one item at a time; then counts what each owner has stored."""

    records: RecordAudit
    stored: ObjectAudit
    objects: ObjectStore

    def __call__(self, query: Audit) -> Iterator[Examined]:
        """Return a walk in bounded memory that works as it is asked for more; it raises Unavailable."""
        phases = list(Phase)
        after = None
        if query.after is not None:
            phases = phases[phases.index(query.after.phase) :]
            after = query.after.position
        for phase in phases:
            for position, findings in self._walk(phase, after, deep=query.deep):
                yield Examined(checkpoint=Checkpoint(phase=phase, position=position), findings=tuple(findings))
            after = None

    def _walk(self, phase: Phase, after: str | None, *, deep: bool) -> Iterator[tuple[str, list[Finding]]]:
        match phase:
            case Phase.RECORDS:
                return self._walk_records(after, deep=deep)
            case Phase.OBJECTS:
                return self._walk_objects(after)
            case Phase.POSTINGS:
                return self._walk_postings(after)
            case Phase.USAGE:
                return self._walk_usage(after)

    def _walk_records(self, after: str | None, *, deep: bool) -> Iterator[tuple[str, list[Finding]]]:
        for position, image in self.records.records(after=after):
            yield position, [*self._damage(image, deep=deep), *self._lacking(image)]

    def _walk_objects(self, after: str | None) -> Iterator[tuple[str, list[Finding]]]:
        for found in self.stored.objects(after=after):
            yield found.place, [StrayObject(found=found)] if self._is_stray(found) else []

    def _walk_postings(self, after: str | None) -> Iterator[tuple[str, list[Finding]]]:
        for position, posting in self.records.postings(after=after):
            if self.records.is_dangling(posting):
                yield position, [WrongPosting(posting=posting, dangling=True, since=posting.created_at)]
            else:
                yield position, []

    def _walk_usage(self, after: str | None) -> Iterator[tuple[str, list[Finding]]]:
        for miscount in self.records.miscounts():
            if after is None or miscount.owner > after:
                yield miscount.owner, [WrongUsage(miscount=miscount)]

    def _damage(self, image: Image, *, deep: bool) -> Iterator[Finding]:
        fault = self._fault(image, deep=deep)
        # The record is read again after its object: the sweeper may have taken both meanwhile, and an upload with the
        # same idempotency key may have taken their place.
        if fault is not None and self._is_still_there(image):
            yield fault

    def _fault(self, image: Image, *, deep: bool) -> DamagedObject | None:
        try:
            size_bytes = self.objects.head(image.key).size_bytes
            if size_bytes != image.size_bytes:
                return DamagedObject(image=image, damage=Damage.WRONG_SIZE, found=str(size_bytes))
            if deep and (sha256 := self._sha256(image.key)) != image.sha256:
                return DamagedObject(image=image, damage=Damage.WRONG_CHECKSUM, found=sha256)
        except NotFound:
            return DamagedObject(image=image, damage=Damage.MISSING)
        except Unavailable:
            # One object in a store that works is a finding (a bad sector, wrong rights); a store that doesn't ends
            # the audit here.
            self.objects.ping()
            return DamagedObject(image=image, damage=Damage.UNREADABLE)
        return None

    def _sha256(self, key: str) -> str:
        digest = hashlib.sha256()
        with closing(self.objects.open(key)) as body:
            while piece := body.read(_PIECE_BYTES):
                digest.update(piece)
        return digest.hexdigest()

    def _is_still_there(self, image: Image) -> bool:
        current = self.records.standing(image.image_id).record
        return current is not None and (current.owner, current.created_at) == (image.owner, image.created_at)

    def _lacking(self, image: Image) -> Iterator[Finding]:
        for tag in self.records.unposted(image):
            posting = Posting(image.owner, tag, image.created_at, image.image_id)
            yield WrongPosting(posting=posting, dangling=False, since=image.updated_at)

    def _is_stray(self, found: FoundObject) -> bool:
        # The object is looked at last. A sweeper deletes objects before their entry is forgotten: what is still the
        # same after nothing was known of it is nobody's.
        return is_unclaimed(self.records, found) and self.stored.is_there(found)
