"""Records and reclaim entries in two dictionaries behind one lock. Postings need no keeping: a page is a filter."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from application.ports import ByOwner, ByTags, ByTitle, Filter, Position, Slice
from domain.errors import Conflict, NotFound, PreconditionFailed
from domain.image import Image, Revision
from domain.quota import UNLIMITED, Quota, Usage
from domain.reclaim import ReclaimEntry, Reservation, TrashedImage, check_takeover
from domain.values import ImageId, UserId


@dataclass(frozen=True, slots=True)
class _Claim:
    claimant: UUID
    until: datetime


@dataclass(frozen=True, slots=True)
class _Held:
    entry: ReclaimEntry
    claim: _Claim | None = None


@dataclass(slots=True)
class MemoryMetadata:
    """MetadataStore and MetadataReader in memory."""

    records: dict[ImageId, Image] = field(default_factory=dict)
    entries: dict[ImageId, _Held] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reserve(self, reservation: Reservation, *, at: datetime, quota: Quota = UNLIMITED) -> Image | None:
        """See MetadataStore.reserve."""
        with self._lock:
            more = reservation.usage
            if (record := self.records.get(reservation.image_id)) is not None:
                return record
            if (held := self.entries.get(reservation.image_id)) is not None:
                check_takeover(held.entry, reservation, claimed=held.claim is not None, at=at)
                more -= held.entry.usage
            quota.admit(more, used=self._usage(reservation.owner))
            self.entries[reservation.image_id] = _Held(reservation)
            return None

    def abandon(self, image_id: ImageId, *, holder: UUID, due: datetime) -> None:
        """See MetadataStore.abandon."""
        with self._lock:
            held = self.entries.get(image_id)
            if held is None or held.claim is not None or not isinstance(held.entry, Reservation):
                return
            if held.entry.holder == holder and held.entry.due > due:
                self.entries[image_id] = _Held(replace(held.entry, due=due))

    def commit(self, image: Image, *, holder: UUID) -> None:
        """See MetadataStore.commit."""
        with self._lock:
            held = self.entries.get(image.image_id)
            if held is None and self.records.get(image.image_id) == image:
                return
            if (
                held is None
                or held.claim is not None
                or not isinstance(held.entry, Reservation)
                or held.entry.holder != holder
            ):
                raise Conflict("the upload lost its reservation")
            del self.entries[image.image_id]
            self.records[image.image_id] = image

    def update(
        self,
        owner: UserId,
        image_id: ImageId,
        change: Callable[[Image], Revision],
        *,
        expected_version: int | None = None,
    ) -> Revision:
        """See MetadataStore.update."""
        with self._lock:
            revision = change(self._record(owner, image_id, expected_version))
            if revision.event is not None:
                self.records[image_id] = revision.image
            return revision

    def trash(
        self, owner: UserId, image_id: ImageId, *, at: datetime, due: datetime, expected_version: int | None = None
    ) -> TrashedImage:
        """See MetadataStore.trash."""
        with self._lock:
            trashed = TrashedImage(image=self._record(owner, image_id, expected_version), deleted_at=at, due=due)
            del self.records[image_id]
            self.entries[image_id] = _Held(trashed)
            return trashed

    def restore(self, owner: UserId, image_id: ImageId, *, at: datetime) -> TrashedImage:
        """See MetadataStore.restore."""
        with self._lock:
            held = self.entries.get(image_id)
            if held is None or held.claim is not None or not isinstance(held.entry, TrashedImage):
                raise NotFound
            if held.entry.image.owner != owner or not held.entry.can_be_restored(at=at):
                raise NotFound
            del self.entries[image_id]
            self.records[image_id] = held.entry.image
            return held.entry

    def due(self, at: datetime) -> Iterator[ImageId]:
        """See MetadataStore.due."""
        with self._lock:
            ids = sorted((held.entry.due, image_id) for image_id, held in self.entries.items() if held.entry.due <= at)
        return iter([image_id for _, image_id in ids])

    def claim(self, image_id: ImageId, *, claimant: UUID, at: datetime, until: datetime) -> ReclaimEntry | None:
        """See MetadataStore.claim."""
        with self._lock:
            held = self.entries.get(image_id)
            if held is None or held.entry.due > at:
                return None
            if held.claim is not None and held.claim.until > at:
                return None
            self.entries[image_id] = replace(held, claim=_Claim(claimant, until))
            return held.entry

    def forget(self, image_id: ImageId, *, claimant: UUID) -> None:
        """See MetadataStore.forget."""
        with self._lock:
            held = self.entries.get(image_id)
            if held is not None and held.claim is not None and held.claim.claimant == claimant:
                del self.entries[image_id]

    def get(self, owner: UserId, image_id: ImageId) -> Image:
        """See MetadataReader.get."""
        with self._lock:
            return self._record(owner, image_id, None)

    def page(self, owner: UserId, which: Filter, *, limit: int, after: Position | None = None) -> Slice:
        """See MetadataReader.page."""
        with self._lock:
            matches = [image for image in self.records.values() if image.owner == owner and _matches(image, which)]
        matches.sort(key=_position, reverse=True)
        if after is not None:
            matches = [image for image in matches if _position(image) < after]
        images = tuple(matches[:limit])
        return Slice(images, _position(images[-1]) if len(matches) > limit else None)

    def count(self, owner: UserId) -> int:
        """See MetadataReader.count."""
        with self._lock:
            return sum(image.owner == owner for image in self.records.values())

    def usage(self, owner: UserId) -> Usage:
        """See MetadataReader.usage."""
        with self._lock:
            return self._usage(owner)

    def ping(self) -> None:
        """See MetadataStore.ping."""

    def _usage(self, owner: UserId) -> Usage:
        stored = [*self.records.values(), *(held.entry for held in self.entries.values())]
        return sum((each.usage for each in stored if each.owner == owner), Usage())

    def _record(self, owner: UserId, image_id: ImageId, expected_version: int | None) -> Image:
        image = self.records.get(image_id)
        if image is None or image.owner != owner:
            raise NotFound
        if expected_version is not None and image.version != expected_version:
            raise PreconditionFailed(f"the image is at version {image.version}")
        return image


def _matches(image: Image, which: Filter) -> bool:
    match which:
        case ByOwner():
            return True
        case ByTags(tags, "any"):
            return not set(tags).isdisjoint(image.tags)
        case ByTags(tags):
            return set(tags) <= set(image.tags)
        case ByTitle(title):
            return image.title.folded == title.folded


def _position(image: Image) -> Position:
    return Position(image.created_at, image.image_id)
