"""Revise an image's title, description and tags."""

from dataclasses import dataclass

from application.bus import Command, Outcome
from application.ports import Clock, MetadataStore
from domain.image import Image, MetadataChange
from domain.values import ImageId, UserId


@dataclass(frozen=True, kw_only=True, slots=True)
class ReviseMetadata(Command[Image]):
    """Change the words around an image: those that the change names."""

    owner: UserId
    image_id: ImageId
    change: MetadataChange
    expected_version: int | None = None
    """From If-Match; None accepts any."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReviseMetadataHandler:
    """Applies the change at the version it was meant for."""

    metadata: MetadataStore
    clock: Clock

    def __call__(self, command: ReviseMetadata) -> Outcome[Image]:
        """Raise NotFound or PreconditionFailed as MetadataStore.update does."""
        now = self.clock.now()
        image, event = self.metadata.update(
            command.owner,
            command.image_id,
            lambda image: image.revised(command.change, at=now),
            expected_version=command.expected_version,
        )
        return Outcome(image, () if event is None else (event,))
