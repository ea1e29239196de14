"""Get the record of one image."""

from dataclasses import dataclass

from application.bus import Query
from application.ports import MetadataReader
from domain.image import Image
from domain.values import ImageId, UserId


@dataclass(frozen=True, kw_only=True, slots=True)
class GetImage(Query[Image]):
    """What is known of this image of this owner?"""

    owner: UserId
    image_id: ImageId


@dataclass(frozen=True, kw_only=True, slots=True)
class GetImageHandler:
    """Reads the record."""

    records: MetadataReader

    def __call__(self, query: GetImage) -> Image:
        """Raise NotFound as MetadataReader.get does."""
        return self.records.get(query.owner, query.image_id)
