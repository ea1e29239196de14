"""Both sides of an audit over the memory stores, and the damage that they can't have by themselves."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from uuid import UUID

from adapters.memory.metadata import MemoryMetadata, _Claim, _Held
from adapters.memory.objects import MemoryObjects, _Stored
from application.ports import Clock, Estimate, FoundObject, Miscount, Posting, Quarantined, Standing
from domain.errors import Unavailable
from domain.image import Image, image_id_of
from domain.quota import Usage
from domain.reclaim import audit_hold
from domain.values import ImageId, Tag, UserId


@dataclass(slots=True)
class MemoryRecordAudit:
    """RecordAudit in memory. Postings are what the records call for, without the ``lost``, with the ``dangling``.

    Usage is what is stored, but for the ``miscounted``.
    """

    metadata: MemoryMetadata
    lost: set[Posting] = field(default_factory=set)
    dangling: set[Posting] = field(default_factory=set)
    miscounted: dict[UserId, Usage] = field(default_factory=dict)
    """What is recorded of owners whose usage is wrong; in the store itself it is counted, and can't be."""

    def estimate(self) -> Estimate:
        """See RecordAudit.estimate."""
        return Estimate(len(self.metadata.records), len(self._postings()))

    def records(self, *, after: str | None = None) -> Iterator[tuple[str, Image]]:
        """See RecordAudit.records."""
        walk = sorted(((str(image.image_id), image) for image in self._all()), key=itemgetter(0))
        return iter([step for step in walk if after is None or step[0] > after])

    def postings(self, *, after: str | None = None) -> Iterator[tuple[str, Posting]]:
        """See RecordAudit.postings."""
        walk = sorted((repr(posting), posting) for posting in self._postings())
        return iter([step for step in walk if after is None or step[0] > after])

    def standing(self, image_id: ImageId) -> Standing:
        """See RecordAudit.standing."""
        with self._lock:
            return Standing(self.metadata.records.get(image_id), image_id in self.metadata.entries)

    def unposted(self, image: Image) -> tuple[Tag, ...]:
        """See RecordAudit.unposted."""
        if self.standing(image.image_id).record != image:
            return ()
        return tuple(posting.tag for posting in _called_for(image) if posting in self.lost)

    def is_dangling(self, posting: Posting) -> bool:
        """See RecordAudit.is_dangling."""
        return posting in self._postings() and not self._is_called_for(posting)

    def mend(self, posting: Posting) -> bool:
        """See RecordAudit.mend."""
        faults = self.lost if self._is_called_for(posting) else self.dangling
        needed = posting in faults
        faults.discard(posting)
        return needed

    def miscounts(self) -> Iterator[Miscount]:
        """See RecordAudit.miscounts."""
        found = [
            Miscount(owner, recorded, self.metadata.usage(owner), revision=0)
            for owner, recorded in sorted(self.miscounted.items())
        ]
        return iter([miscount for miscount in found if miscount.recorded != miscount.actual])

    def recount(self, miscount: Miscount) -> bool:
        """See RecordAudit.recount."""
        recorded = self.miscounted.pop(miscount.owner, None)
        return recorded not in {None, self.metadata.usage(miscount.owner)}

    def hold(self, image_id: ImageId, *, claimant: UUID, until: datetime) -> bool:
        """See RecordAudit.hold."""
        with self._lock:
            if image_id in self.metadata.records or image_id in self.metadata.entries:
                return False
            entry = audit_hold(image_id, claimant=claimant, until=until)
            self.metadata.entries[image_id] = _Held(entry, _Claim(claimant, until))
            return True

    def release(self, image_id: ImageId, *, claimant: UUID) -> None:
        """See RecordAudit.release."""
        self.metadata.forget(image_id, claimant=claimant)

    def _postings(self) -> set[Posting]:
        return {posting for image in self._all() for posting in _called_for(image)} - self.lost | self.dangling

    def _all(self) -> list[Image]:
        with self._lock:
            return list(self.metadata.records.values())

    @property
    def _lock(self) -> threading.Lock:
        return self.metadata._lock  # noqa: SLF001 (one store in two files)

    def _is_called_for(self, posting: Posting) -> bool:
        record = self.standing(posting.image_id).record
        return record is not None and posting in _called_for(record)


def _called_for(image: Image) -> list[Posting]:
    return [Posting(image.owner, tag, image.created_at, image.image_id) for tag in image.tags]


@dataclass(slots=True)
class MemoryObjectAudit:
    """ObjectAudit in memory. An object is told from another under its key by being the very same Python object."""

    store: MemoryObjects
    clock: Clock
    kept: dict[tuple[datetime, str], _Stored] = field(default_factory=dict)

    def objects(self, *, after: str | None = None) -> Iterator[FoundObject]:
        """See ObjectAudit.objects."""
        walk = sorted(self.store.list_prefix(), key=lambda info: info.key)
        for info in walk:
            if after is None or info.key > after:
                yield FoundObject(
                    place=info.key,
                    key=info.key,
                    image_id=image_id_of(info.key),
                    size_bytes=info.size_bytes,
                    modified_at=info.modified_at,
                )

    def is_there(self, found: FoundObject) -> bool:
        """See ObjectAudit.is_there."""
        return self._stored(found) is not None

    def quarantine(self, found: FoundObject, *, at: datetime) -> Quarantined | None:
        """See ObjectAudit.quarantine."""
        stored = self._stored(found)
        if stored is None:
            return None
        self.kept[at, found.place] = stored
        return Quarantined(found, str(id(stored)))

    def remove(self, quarantined: Quarantined, *, deadline: datetime) -> None:
        """See ObjectAudit.remove."""
        if self.clock.now() >= deadline:
            raise Unavailable("the removal took too long")
        stored = self._stored(quarantined.found)
        if stored is not None and str(id(stored)) == quarantined.original:
            del self.store.objects[quarantined.found.place]

    def purge(self, *, before: datetime) -> int:
        """See ObjectAudit.purge."""
        doomed = [kept for kept in self.kept if kept[0].date() < before.date()]
        for kept in doomed:
            del self.kept[kept]
        return len(doomed)

    def _stored(self, found: FoundObject) -> _Stored | None:
        stored = self.store.objects.get(found.place)
        if stored is None or stored.info.modified_at != found.modified_at or len(stored.data) != found.size_bytes:
            return None
        return stored
