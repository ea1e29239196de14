"""Read an original: its record, and its bytes when they are asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from application.bus import Query
from application.ports import ByteRange, MetadataReader, ObjectBody, ObjectStore
from domain.errors import Damaged, NotFound
from domain.image import Image
from domain.values import ImageId, UserId

Body = TypeVar("Body", bound=ObjectBody | None)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadContent(Query["ImageContent"]):
    """What are the bytes of this image of this owner?"""

    owner: UserId
    image_id: ImageId


@dataclass(frozen=True, slots=True)
class ImageContent:
    """A record whose bytes have not been asked for yet: validators and ranges are settled by the record alone."""

    image: Image
    _records: MetadataReader
    _objects: ObjectStore

    def open(self, byte_range: ByteRange | None = None) -> ObjectBody:
        """Open the original, or a range of it; close what you get.

        Raises:
            NotFound: the image was deleted for good meanwhile.
            Damaged: the record is there, and its object is not what was stored.
        """
        return self._opened(self._objects.open, byte_range)

    def open_at_hand(self, byte_range: ByteRange | None = None) -> ObjectBody | None:
        """Open it as `open` does; None if that would take reading the object, or waiting for it."""
        return self._opened(self._objects.open_at_hand, byte_range)

    def _opened(self, opening: Callable[..., Body], byte_range: ByteRange | None) -> Body:
        try:
            body = opening(self.image.key, byte_range, sha256=self.image.sha256)
        except NotFound as absence:
            self._check_still_there()
            raise Damaged(f"the object of image {self.image.image_id} is missing") from absence
        except Damaged:
            self._check_still_there()
            raise
        if body is not None and body.info.size_bytes != self.image.size_bytes:
            body.close()
            self._check_still_there()
            raise Damaged(f"the object of image {self.image.image_id} has another size than was stored")
        return body

    def _check_still_there(self) -> None:
        # Either the sweeper was faster (then the record is gone too, or a new upload under the same idempotency key
        # took its place), or bytes are lost, which must be said.
        current = self._records.get(self.image.owner, self.image.image_id)
        if current.created_at != self.image.created_at:
            raise NotFound


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadContentHandler:
    """Finds the record, and hands out the way to its object."""

    records: MetadataReader
    objects: ObjectStore

    def __call__(self, query: ReadContent) -> ImageContent:
        """Raise NotFound as MetadataReader.get does."""
        return ImageContent(self.records.get(query.owner, query.image_id), self.records, self.objects)
