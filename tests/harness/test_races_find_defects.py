"""The search of races can fail: each of these defects, planted in the reference model's place, is found by it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, BinaryIO
from uuid import UUID

import pytest

from adapters.memory import MemoryMetadata, MemoryObjects
from application.ports import StoredObject
from domain.image import Image
from domain.reclaim import ReclaimEntry, Reservation, TrashedImage
from domain.values import ImageId, UserId
from tests.harness.interleavings import Explorer
from tests.harness.test_races_exhaustively import RACES

LATE = datetime(9999, 1, 1, tzinfo=UTC)


class CommitForAnyHolder(MemoryMetadata):
    def commit(self, image: Image, *, holder: UUID) -> None:
        held = self.entries.get(image.image_id)
        if held is not None and isinstance(held.entry, Reservation):
            holder = held.entry.holder
        super().commit(image, holder=holder)


class CommitOfWhatASweeperHas(MemoryMetadata):
    def commit(self, image: Image, *, holder: UUID) -> None:
        self._unclaim(image.image_id)
        super().commit(image, holder=holder)

    def _unclaim(self, image_id: ImageId) -> None:
        if image_id in self.entries:
            self.entries[image_id] = replace(self.entries[image_id], claim=None)


class RestoreOfWhatASweeperHas(CommitOfWhatASweeperHas):
    def commit(self, image: Image, *, holder: UUID) -> None:
        MemoryMetadata.commit(self, image, holder=holder)

    def restore(self, owner: UserId, image_id: ImageId, *, at: datetime) -> TrashedImage:
        self._unclaim(image_id)
        return super().restore(owner, image_id, at=at)


class ClaimWithoutOwner(MemoryMetadata):
    def claim(self, image_id: ImageId, *, claimant: UUID, at: datetime, until: datetime) -> ReclaimEntry | None:
        held = self.entries.get(image_id)
        if held is not None and held.claim is not None:
            at = max(at, held.claim.until)
        return super().claim(image_id, claimant=claimant, at=at, until=until)


class ForgetForAnyClaimant(MemoryMetadata):
    def forget(self, image_id: ImageId, *, claimant: UUID) -> None:
        del claimant
        self.entries.pop(image_id, None)


class DeletionWithoutDeadline(MemoryObjects):
    def delete_prefix(self, prefix: str, *, deadline: datetime) -> None:
        del deadline
        super().delete_prefix(prefix, deadline=LATE)


class PutWithoutDeadline(MemoryObjects):
    def put(self, target: StoredObject, content: BinaryIO, *, deadline: datetime) -> None:
        del deadline
        super().put(target, content, deadline=LATE)


PLANTED: list[tuple[str, Callable[[], MemoryMetadata], Callable[[Any], MemoryObjects]]] = [
    ("the same upload twice and sweep", CommitForAnyHolder, MemoryObjects),
    ("upload and sweep", CommitOfWhatASweeperHas, MemoryObjects),
    ("restore and sweep", RestoreOfWhatASweeperHas, MemoryObjects),
    ("sweep and sweep", ClaimWithoutOwner, MemoryObjects),
    ("sweep and sweep", ForgetForAnyClaimant, MemoryObjects),
    ("sweep and sweep", MemoryMetadata, DeletionWithoutDeadline),
    ("upload and sweep", MemoryMetadata, PutWithoutDeadline),
]


@pytest.mark.parametrize(("race", "new_metadata", "new_objects"), PLANTED)
def test_it_finds_a_defect(
    race: str, new_metadata: Callable[[], MemoryMetadata], new_objects: Callable[[Any], MemoryObjects]
) -> None:
    with pytest.raises(AssertionError) as found:
        list(Explorer(RACES[race], new_metadata, new_objects).schedules())
    assert "by this schedule" in found.value.__notes__[0]
