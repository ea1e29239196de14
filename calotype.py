"""Calotype for other Python modules: open a bus, send commands and queries, handle errors. Nothing else lives here.

import calotype

with calotype.open(data_dir="photos") as bus:
    uploaded = bus.execute(
        calotype.UploadImage(
            owner=calotype.UserId("ada"),
            filename=calotype.Filename("bridge.jpg"),
            content=calotype.Content.of(open("bridge.jpg", "rb").read()),
        )
    )
    bus.ask(calotype.GetImage(owner=calotype.UserId("ada"), image_id=uploaded.image.image_id))
"""

from adapters.events import Subscription, on
from application.commands.delete_image import DeleteImage
from application.commands.restore_image import RestoreImage
from application.commands.revise_metadata import ReviseMetadata
from application.commands.sweep import Sweep, SweepReport
from application.commands.upload_image import UploadedImage, UploadImage
from application.content import Content
from application.ports import ByOwner, ByTags, ByteRange, ByTitle
from application.queries.get_image import GetImage
from application.queries.get_usage import GetUsage
from application.queries.list_images import ImagePage, ListImages
from application.queries.read_content import ImageContent, ReadContent
from domain.errors import (
    CalotypeError,
    Conflict,
    Damaged,
    InTrash,
    Invalid,
    KeyReused,
    NotFound,
    PreconditionFailed,
    QuotaExceeded,
    TooLarge,
    Unavailable,
)
from domain.events import Event, ImageDeleted, ImagePurged, ImageRestored, ImageUploaded, MetadataRevised
from domain.image import Image, MetadataChange
from domain.quota import Usage
from domain.reclaim import TrashedImage
from domain.values import (
    Description,
    Filename,
    IdempotencyKey,
    ImageId,
    MediaType,
    Tag,
    Title,
    UserId,
    parse_tags,
)
from entrypoints.embedded import OpenBus, open  # noqa: A004 (calotype.open, as in gzip.open)
from entrypoints.settings import Settings, SettingsError

__all__ = [
    "open", "on", "OpenBus", "Settings", "Subscription",
    "UploadImage", "ReviseMetadata", "DeleteImage", "RestoreImage", "Sweep",
    "GetImage", "GetUsage", "ReadContent", "ListImages", "ByOwner", "ByTags", "ByTitle",
    "UploadedImage", "ImagePage", "ImageContent", "TrashedImage", "SweepReport", "Usage",
    "Image", "MetadataChange", "Content", "ByteRange", "MediaType",
    "UserId", "ImageId", "Title", "Description", "Tag", "parse_tags", "Filename", "IdempotencyKey",
    "Event", "ImageUploaded", "MetadataRevised", "ImageDeleted", "ImageRestored", "ImagePurged",
    "CalotypeError", "Invalid", "TooLarge", "QuotaExceeded", "NotFound", "Conflict", "KeyReused", "InTrash",
    "PreconditionFailed", "Unavailable", "Damaged", "SettingsError",
]  # fmt: skip
