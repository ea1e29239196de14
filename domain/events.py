"""What happened to an image, as facts in the past. Published after the change is durable, never before."""

from dataclasses import dataclass
from datetime import datetime

from domain.values import ImageId, UserId


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """A fact about one image, at a time in UTC."""

    owner: UserId
    image_id: ImageId
    at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageUploaded(Event):
    """An original is stored and its record is visible."""

    size_bytes: int
    media_type: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MetadataRevised(Event):
    """Title, description or tags changed; ``version`` is the new one."""

    version: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageDeleted(Event):
    """An image went to the trash; it can be restored until then."""

    restorable_until: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRestored(Event):
    """An image came back from the trash."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagePurged(Event):
    """A deleted image's bytes are gone for good."""
