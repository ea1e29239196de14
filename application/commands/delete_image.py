"""Delete an image: to the trash, from where it can be restored until it is due."""

from dataclasses import dataclass
from datetime import timedelta

from application.bus import Command, Outcome
from application.ports import Clock, MetadataStore
from domain.reclaim import TrashedImage
from domain.values import ImageId, UserId


@dataclass(frozen=True, kw_only=True, slots=True)
class DeleteImage(Command[TrashedImage]):
    """Take an image out of every read at once. A permanent deletion is due at once, and can't be undone."""

    owner: UserId
    image_id: ImageId
    permanent: bool = False
    expected_version: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DeleteImageHandler:
    """Moves the record to the trash."""

    metadata: MetadataStore
    clock: Clock
    retention: timedelta

    def __call__(self, command: DeleteImage) -> Outcome[TrashedImage]:
        """Raise NotFound or PreconditionFailed as MetadataStore.trash does."""
        now = self.clock.now()
        trashed = self.metadata.trash(
            command.owner,
            command.image_id,
            at=now,
            due=now if command.permanent else now + self.retention,
            expected_version=command.expected_version,
        )
        return Outcome(trashed, (trashed.deleted(),))
