"""Revise an image's title, description and tags."""

from collections.abc import Callable
from dataclasses import dataclass

from application.bus import Command, Outcome
from application.ports import Clock, MetadataStore
from domain.image import Image, MetadataChange, Revision
from domain.values import Description, ImageId, Title, UserId


@dataclass(frozen=True, kw_only=True, slots=True)
class ReviseMetadata(Command[Image]):
    """Change the words around an image.

    Fields that the change leaves out stay as they are; with ``reset_absent`` they go back to their defaults instead:
    the filename's stem, no description, no tags.
    """

    owner: UserId
    image_id: ImageId
    change: MetadataChange
    reset_absent: bool = False
    expected_version: int | None = None
    """From If-Match; None accepts any."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReviseMetadataHandler:
    """Applies the change at the version it was meant for."""

    metadata: MetadataStore
    clock: Clock

    def __call__(self, command: ReviseMetadata) -> Outcome[Image]:
        """Raise NotFound or PreconditionFailed as MetadataStore.update does."""
        image, event = self.metadata.update(
            command.owner, command.image_id, self._change(command), expected_version=command.expected_version
        )
        return Outcome(image, () if event is None else (event,))

    def _change(self, command: ReviseMetadata) -> Callable[[Image], Revision]:
        def apply(image: Image) -> Revision:
            change = _complete(command.change, image) if command.reset_absent else command.change
            return image.revised(change, at=self.clock.now())

        return apply


def _complete(change: MetadataChange, image: Image) -> MetadataChange:
    return MetadataChange(
        title=Title.from_filename(image.filename) if change.title is None else change.title,
        description=Description("") if change.description is None else change.description,
        tags=() if change.tags is None else change.tags,
    )
