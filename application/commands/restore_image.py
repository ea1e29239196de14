"""Restore an image from the trash."""

from dataclasses import dataclass

from application.bus import Command, Outcome
from application.ports import Clock, MetadataStore
from domain.image import Image
from domain.values import ImageId, UserId


@dataclass(frozen=True, kw_only=True, slots=True)
class RestoreImage(Command[Image]):
    """Bring a deleted image back just as it was, version and times included."""

    owner: UserId
    image_id: ImageId


@dataclass(frozen=True, kw_only=True, slots=True)
class RestoreImageHandler:
    """Moves the record back out of the trash."""

    metadata: MetadataStore
    clock: Clock

    def __call__(self, command: RestoreImage) -> Outcome[Image]:
        """Raise NotFound as MetadataStore.restore does."""
        now = self.clock.now()
        trashed = self.metadata.restore(command.owner, command.image_id, at=now)
        return Outcome(trashed.image, (trashed.restored(at=now),))
