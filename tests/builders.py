"""Builders of what tests are made of. A test names only what it is about; everything else is some plain value."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID, uuid4

from application.ports import MetadataReader, MetadataStore
from domain.image import Image
from domain.reclaim import Reservation
from domain.values import Description, Filename, ImageId, MediaType, Title, UserId, parse_tags

ANN, BOB = UserId("ann"), UserId("bob")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
INSTANT = timedelta(microseconds=1)
"""The smallest step of time that anything here tells apart."""


class Catalog(MetadataStore, MetadataReader, Protocol):
    """Both sides of the metadata, as every adapter offers them."""


OpenCatalog = Callable[[], AbstractContextManager[Catalog]]
"""What the fixture ``open_catalog`` is: each call makes another empty catalog."""


def an_image(  # noqa: PLR0913 (one for each field of an image)
    *,
    image_id: ImageId | None = None,
    owner: str = ANN,
    filename: str = "cat.jpg",
    title: str = "Cat",
    description: str = "",
    tags: Iterable[str] = (),
    media_type: MediaType = MediaType.JPEG,
    size_bytes: int = 1_234,
    width: int = 4,
    height: int = 3,
    sha256: str = "ab" * 32,
    created_at: datetime = NOON,
    updated_at: datetime | None = None,
    version: int = 1,
    fingerprint: str | None = None,
) -> Image:
    """Return an image with an id of its own, created at noon and never revised."""
    return Image(
        image_id=uuid4() if image_id is None else image_id,
        owner=UserId(owner),
        filename=Filename(filename),
        title=Title(title),
        description=Description(description),
        tags=parse_tags(tags),
        media_type=media_type,
        size_bytes=size_bytes,
        width=width,
        height=height,
        sha256=sha256,
        created_at=created_at,
        updated_at=created_at if updated_at is None else updated_at,
        version=version,
        fingerprint=fingerprint,
    )


def a_reservation(
    *,
    image_id: ImageId | None = None,
    owner: str = ANN,
    holder: UUID | None = None,
    lease_until: datetime = NOON + MINUTE,
    due: datetime = NOON + HOUR,
    size_bytes: int | None = 1_234,
    fingerprint: str | None = None,
) -> Reservation:
    """Return a reservation with an id and a holder of its own, leased for a minute and due after an hour."""
    return Reservation(
        image_id=uuid4() if image_id is None else image_id,
        owner=UserId(owner),
        holder=uuid4() if holder is None else holder,
        lease_until=lease_until,
        due=due,
        size_bytes=size_bytes,
        fingerprint=fingerprint,
    )


def reserved_for(image: Image) -> Reservation:
    """Return a reservation that the image's upload may have begun with."""
    return a_reservation(
        image_id=image.image_id, owner=image.owner, size_bytes=image.size_bytes, fingerprint=image.fingerprint
    )


def stored(metadata: MetadataStore, image: Image) -> Image:
    """Take the image's record through the protocol, and return it."""
    reservation = reserved_for(image)
    assert metadata.reserve(reservation, at=NOON) is None
    metadata.commit(image, holder=reservation.holder)
    return image
