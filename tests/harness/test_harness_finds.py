"""The harness can fail: each of these defects, planted in the reference model's place, is found."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import BinaryIO
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from adapters.memory import MemoryMetadata, MemoryObjects
from application.ports import ByOwner, ByTags, Filter, Position, Slice, StoredObject
from domain.errors import CalotypeError, NotFound, PreconditionFailed
from domain.image import Image, Revision
from domain.quota import UNLIMITED, Quota, Usage
from domain.reclaim import ReclaimEntry, Reservation, TrashedImage
from domain.values import ImageId, UserId
from tests.harness.machine import Harness
from tests.harness.systems import BusSystem, OpenStores, memory_stores

INSTANT = timedelta(microseconds=1)


class NoOwnerCheck(MemoryMetadata):
    def get(self, owner: UserId, image_id: ImageId) -> Image:
        del owner
        if image_id not in self.records:
            raise NotFound
        return self.records[image_id]


class CursorThatStaysOnItsImage(MemoryMetadata):
    def page(self, owner: UserId, which: Filter, *, limit: int, after: Position | None = None) -> Slice:
        if after is not None:
            after = Position(after.created_at, UUID(int=after.image_id.int + 1))
        return super().page(owner, which, limit=limit, after=after)


class CursorThatSkipsTies(MemoryMetadata):
    def page(self, owner: UserId, which: Filter, *, limit: int, after: Position | None = None) -> Slice:
        if after is not None:
            after = Position(after.created_at, UUID(int=0))
        return super().page(owner, which, limit=limit, after=after)


class CursorAtTheEnd(MemoryMetadata):
    def page(self, owner: UserId, which: Filter, *, limit: int, after: Position | None = None) -> Slice:
        images, following = super().page(owner, which, limit=limit, after=after)
        if images and following is None:
            following = Position(images[-1].created_at, images[-1].image_id)
        return Slice(images, following)


class PostingsNeverRevised(MemoryMetadata):
    def page(self, owner: UserId, which: Filter, *, limit: int, after: Position | None = None) -> Slice:
        images, following = super().page(owner, which, limit=limit, after=after)
        if isinstance(which, ByTags):
            images = tuple(image for image in images if image.version == 1)
        return Slice(images, following)


class RevisionThatForgetsTheVersion(MemoryMetadata):
    def update(
        self,
        owner: UserId,
        image_id: ImageId,
        change: Callable[[Image], Revision],
        *,
        expected_version: int | None = None,
    ) -> Revision:
        del expected_version
        return super().update(owner, image_id, change)


class VersionCheckedBeforeOwner(MemoryMetadata):
    def trash(
        self, owner: UserId, image_id: ImageId, *, at: datetime, due: datetime, expected_version: int | None = None
    ) -> TrashedImage:
        record = self.records.get(image_id)
        if record is not None and expected_version not in (None, record.version):
            raise PreconditionFailed
        return super().trash(owner, image_id, at=at, due=due)


class RestoreOfWhatIsDue(MemoryMetadata):
    def restore(self, owner: UserId, image_id: ImageId, *, at: datetime) -> TrashedImage:
        return super().restore(owner, image_id, at=at - timedelta(days=365))


class RestoreForAnybody(MemoryMetadata):
    def restore(self, owner: UserId, image_id: ImageId, *, at: datetime) -> TrashedImage:
        held = self.entries.get(image_id)
        if held is not None and isinstance(held.entry, TrashedImage):
            owner = held.entry.image.owner
        return super().restore(owner, image_id, at=at)


class RestoreAsNew(MemoryMetadata):
    def restore(self, owner: UserId, image_id: ImageId, *, at: datetime) -> TrashedImage:
        trashed = super().restore(owner, image_id, at=at)
        self.records[image_id] = replace(trashed.image, created_at=at)
        return trashed


class EarlySweep(MemoryMetadata):
    def due(self, at: datetime) -> Iterator[ImageId]:
        return super().due(at + INSTANT)

    def claim(self, image_id: ImageId, *, claimant: UUID, at: datetime, until: datetime) -> ReclaimEntry | None:
        return super().claim(image_id, claimant=claimant, at=at + INSTANT, until=until)


class LateSweep(MemoryMetadata):
    def due(self, at: datetime) -> Iterator[ImageId]:
        return super().due(at - INSTANT)


class KeyForAnyBody(MemoryMetadata):
    def reserve(self, reservation: Reservation, *, at: datetime, quota: Quota = UNLIMITED) -> Image | None:
        image = super().reserve(reservation, at=at, quota=quota)
        return None if image is None else replace(image, fingerprint=reservation.fingerprint)


class NoQuota(MemoryMetadata):
    def reserve(self, reservation: Reservation, *, at: datetime, quota: Quota = UNLIMITED) -> Image | None:
        del quota
        return super().reserve(reservation, at=at)


class QuotaWithoutTheTrash(MemoryMetadata):
    def _usage(self, owner: UserId) -> Usage:
        return sum((image.usage for image in self.records.values() if image.owner == owner), Usage())


class QuotaForAll(MemoryMetadata):
    def _usage(self, owner: UserId) -> Usage:
        del owner
        return sum((image.usage for image in self.records.values()), Usage())


class NotDurable(MemoryMetadata):
    """Forgets the newest record of a library of four."""

    def commit(self, image: Image, *, holder: UUID) -> None:
        super().commit(image, holder=holder)
        if len(self.page(image.owner, ByOwner(), limit=9).images) == 4:
            del self.records[image.image_id]


class ShortObjects(MemoryObjects):
    def put(self, target: StoredObject, content: BinaryIO, *, deadline: datetime) -> None:
        super().put(target, content, deadline=deadline)
        stored = self.objects[target.key]
        self.objects[target.key] = stored._replace(data=stored.data[:-1] + b"x")


class ObjectsThatStay(MemoryObjects):
    def delete_prefix(self, prefix: str, *, deadline: datetime) -> None:
        pass


class ObjectsThatGoTogether(MemoryObjects):
    def delete_prefix(self, prefix: str, *, deadline: datetime) -> None:
        super().delete_prefix(prefix.rpartition("-")[0][:8], deadline=deadline)


class NoMoreThanOnePage(MemoryMetadata):
    def page(self, owner: UserId, which: Filter, *, limit: int, after: Position | None = None) -> Slice:
        return Slice(super().page(owner, which, limit=limit, after=after).images, None)


METADATA: list[type[MemoryMetadata]] = [
    NoOwnerCheck, CursorThatStaysOnItsImage, CursorThatSkipsTies, CursorAtTheEnd, PostingsNeverRevised,
    RevisionThatForgetsTheVersion, VersionCheckedBeforeOwner, RestoreOfWhatIsDue, RestoreForAnybody, RestoreAsNew,
    EarlySweep, LateSweep, KeyForAnyBody, NotDurable, NoMoreThanOnePage,
    NoQuota, QuotaWithoutTheTrash, QuotaForAll,
]  # fmt: skip
OBJECTS: list[type[MemoryObjects]] = [ShortObjects, ObjectsThatStay, ObjectsThatGoTogether]


def find(open_stores: Callable[[], OpenStores]) -> None:
    class Opened(Harness):
        def __init__(self) -> None:
            super().__init__(BusSystem(open_stores()))

    with pytest.raises(BaseException) as found:  # noqa: PT011 (whatever a defect leads to; looked at below)
        run_state_machine_as_test(
            Opened,
            settings=settings(
                max_examples=1000,
                stateful_step_count=50,
                deadline=None,
                database=None,
                derandomize=True,  # a proof that is the same each time
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
    errors = found.value.exceptions if isinstance(found.value, BaseExceptionGroup) else [found.value]
    assert all(isinstance(error, AssertionError | CalotypeError) for error in errors), errors


@pytest.mark.parametrize("defect", METADATA)
def test_it_finds_a_defect_of_the_metadata(defect: type[MemoryMetadata]) -> None:
    find(lambda: memory_stores(defect))


@pytest.mark.parametrize("defect", OBJECTS)
def test_it_finds_a_defect_of_the_objects(defect: type[MemoryObjects]) -> None:
    find(lambda: memory_stores(new_objects=defect))
