"""The image: what is known of one picture, and how that may change."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, NamedTuple

from domain.events import ImageUploaded, MetadataRevised
from domain.quota import Usage
from domain.values import Description, Filename, ImageId, MediaType, Tag, Title, UserId

OBJECT_ROOT = "images/"
MetadataField = Literal["title", "description", "tags"]


def object_prefix(image_id: ImageId) -> str:
    """Return the prefix under which all objects of one image live, ``images/{image_id}/``."""
    return f"{OBJECT_ROOT}{image_id}/"


def image_id_of(key: str) -> ImageId | None:
    """Return the id in a key ``images/{image_id}/{filename}``, or None if the text is not of that shape."""
    root, _, rest = key.partition("/")
    text, _, filename = rest.partition("/")
    try:
        image_id = ImageId(text)
    except ValueError:
        return None
    # UUID reads more spellings than the one that keys are written in.
    return image_id if root + "/" == OBJECT_ROOT and text == str(image_id) and filename else None


@dataclass(frozen=True, kw_only=True, slots=True)
class MetadataChange:
    """New words around an image.

    A field that is None stays as it is, unless it is named in ``reset``: then it goes back to its default, which is
    the filename's stem, no description, no tags.
    """

    title: Title | None = None
    description: Description | None = None
    tags: tuple[Tag, ...] | None = None
    reset: frozenset[MetadataField] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """The record of one stored original. Times are UTC with microseconds; sizes are bytes and display pixels."""

    image_id: ImageId
    owner: UserId
    filename: Filename
    title: Title
    description: Description
    tags: tuple[Tag, ...]
    media_type: MediaType
    size_bytes: int
    width: int
    height: int
    sha256: str
    created_at: datetime
    updated_at: datetime
    version: int = 1
    fingerprint: str | None = None
    """What an upload with an idempotency key consisted of; None for an upload without one."""

    def __hash__(self) -> int:
        """Return a hash of what tells images apart: that of all fields takes five times as long."""
        return hash((self.image_id.int, self.version))

    @property
    def key(self) -> str:
        """The key of the original, the same for ever."""
        return object_prefix(self.image_id) + self.filename

    @property
    def usage(self) -> Usage:
        """What it takes of its owner's quota."""
        return Usage(images=1, size_bytes=self.size_bytes)

    def uploaded(self) -> ImageUploaded:
        """Return the event of this image's arrival."""
        return ImageUploaded(
            owner=self.owner,
            image_id=self.image_id,
            at=self.created_at,
            size_bytes=self.size_bytes,
            media_type=self.media_type,
        )

    def revised(self, change: MetadataChange, *, at: datetime) -> "Revision":
        """Return the image with the change applied, and the event; a change of nothing is no change."""
        title = change.title or (Title.from_filename(self.filename) if "title" in change.reset else self.title)
        description, tags = change.description, change.tags
        if description is None:
            description = Description("") if "description" in change.reset else self.description
        if tags is None:
            tags = () if "tags" in change.reset else self.tags
        if (title, description, tags) == (self.title, self.description, self.tags):
            return Revision(self, None)
        image = replace(
            self,
            title=title,
            description=description,
            tags=tags,
            updated_at=max(at, self.updated_at),
            version=self.version + 1,
        )
        event = MetadataRevised(owner=image.owner, image_id=image.image_id, at=image.updated_at, version=image.version)
        return Revision(image, event)


class Revision(NamedTuple):
    """An image after a change, and what happened; no event when nothing did."""

    image: Image
    event: MetadataRevised | None
