"""Reclaim entries: what the sweeper may collect once it is due.

An image has at most one, keyed by its id. Every transition of an image's life is a condition on that one entry or
on the record, so no two of them can both win.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from domain.errors import Conflict, InTrash, KeyReused
from domain.events import ImageDeleted, ImageRestored
from domain.image import Image, object_prefix
from domain.quota import Usage
from domain.values import ImageId, UserId


@dataclass(frozen=True, kw_only=True, slots=True)
class Reservation:
    """The note, written before any byte, that objects under a prefix are garbage unless the upload commits.

    One attempt (``holder``) owns it until ``lease_until``, and has ended by then. Later another attempt of the same
    upload (equal ``fingerprint``) may take it over, and once ``due`` is past the sweeper may collect it.
    """

    image_id: ImageId
    owner: UserId
    holder: UUID
    lease_until: datetime
    due: datetime
    size_bytes: int | None
    """How long the upload's file is; None for what counts against nobody's quota."""
    fingerprint: str | None = None

    @property
    def prefix(self) -> str:
        """The prefix of the objects it answers for."""
        return object_prefix(self.image_id)

    @property
    def usage(self) -> Usage:
        """What it takes of its owner's quota."""
        return Usage() if self.size_bytes is None else Usage(images=1, size_bytes=self.size_bytes)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrashedImage:
    """A deleted record. It can be restored until ``due``; not at all if it was due when it was deleted."""

    image: Image
    deleted_at: datetime
    due: datetime

    @property
    def prefix(self) -> str:
        """The prefix of the objects it answers for."""
        return object_prefix(self.image.image_id)

    @property
    def owner(self) -> UserId:
        """Whose image it was, and may be again."""
        return self.image.owner

    @property
    def usage(self) -> Usage:
        """What it takes of its owner's quota."""
        return self.image.usage

    def can_be_restored(self, *, at: datetime) -> bool:
        """Say whether the time to restore it is still running."""
        # A permanent deletion stays one, also where another machine's clock is behind.
        return self.deleted_at < self.due and at < self.due

    def deleted(self) -> ImageDeleted:
        """Return the event of the deletion."""
        return ImageDeleted(
            owner=self.image.owner, image_id=self.image.image_id, at=self.deleted_at, restorable_until=self.due
        )

    def restored(self, *, at: datetime) -> ImageRestored:
        """Return the event of the image's return."""
        return ImageRestored(owner=self.image.owner, image_id=self.image.image_id, at=at)


ReclaimEntry = Reservation | TrashedImage

AUDITOR = UserId("calotype-audit")


def audit_hold(image_id: ImageId, *, claimant: UUID, until: datetime) -> Reservation:
    """Return the entry, to be written as claimed, under which a repair removes objects that belong to nobody.

    It has the form of a reservation, so that a sweeper ends what a repair that died has begun.
    """
    return Reservation(image_id=image_id, owner=AUDITOR, holder=claimant, lease_until=until, due=until, size_bytes=None)


def check_takeover(entry: ReclaimEntry, reservation: Reservation, *, claimed: bool, at: datetime) -> None:
    """Let a reservation replace the entry that its image has, or raise why it may not.

    Raises:
        KeyReused: the entry is of another upload.
        InTrash: the upload's image was deleted.
        Conflict: a sweeper or a repair claimed the entry, or the lease of the attempt that holds it runs.
    """
    if claimed and isinstance(entry, Reservation) and entry.owner == AUDITOR:
        # No upload's, so it can't tell anything of the idempotency key.
        raise Conflict("what was left here is being removed", retry_after_s=1)
    fingerprint = entry.fingerprint if isinstance(entry, Reservation) else entry.image.fingerprint
    if fingerprint != reservation.fingerprint:
        raise KeyReused("the idempotency key was used for another upload")
    if claimed:
        raise Conflict("what an earlier upload left is being removed", retry_after_s=1)
    if isinstance(entry, TrashedImage):
        raise InTrash(f"the image of this upload, {reservation.image_id}, is in the trash")
    if entry.fingerprint is None or entry.owner != reservation.owner or entry.lease_until > at:
        wait_s = max(1, math.ceil((entry.lease_until - at).total_seconds()))
        raise Conflict("another attempt at this upload runs", retry_after_s=wait_s)
