"""Upload an image: reserve, put, commit.

The order is the protocol. The reservation comes before any byte, so that whatever a crash leaves behind has an entry
by which the sweeper finds it; the commit swaps that entry for the record in one transaction.
"""

import hashlib
import json
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from application.bus import Command, Outcome
from application.content import Content
from application.ports import Clock, Ids, ImageInspector, MetadataStore, ObjectStore, StoredObject
from domain.errors import CalotypeError, Invalid, KeyReused, TooLarge, Unavailable
from domain.image import Image
from domain.limits import Limits
from domain.reclaim import Reservation
from domain.values import Description, Filename, IdempotencyKey, ImageId, Tag, Title, UserId

# The namespace of image ids made from idempotency keys (RFC 9562, section 5.5). Changing it would break retries.
_KEY_NAMESPACE = UUID("b0f3a5c1-6a1d-5b43-9c59-0d5ad8f4c7d2")
_LEASE_MAX = timedelta(seconds=60)
_MARGIN = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadImage(Command["UploadedImage"]):
    """Store a file for its owner. Without a title it is called by its filename's stem.

    With an idempotency key the same upload may be sent again and again: it happens once, and every call answers alike.
    """

    owner: UserId
    filename: Filename
    content: Content
    title: Title | None = None
    description: Description = Description("")  # noqa: RUF009 (a value, immutable)
    tags: tuple[Tag, ...] = ()
    idempotency_key: IdempotencyKey | None = None


@dataclass(frozen=True, slots=True)
class UploadedImage:
    """The record; ``replayed`` when an earlier call with the same idempotency key had made it."""

    image: Image
    replayed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadImageHandler:
    """Validates the file, then carries it through the protocol."""

    metadata: MetadataStore
    objects: ObjectStore
    inspector: ImageInspector
    clock: Clock
    ids: Ids
    limits: Limits
    reservation_ttl: timedelta

    def __call__(self, command: UploadImage) -> Outcome[UploadedImage]:
        """Store the image.

        Raises:
            Invalid: the file is empty, or not an image that is accepted.
            TooLarge: the file is over the limit.
            KeyReused: the idempotency key belongs to another upload.
            Conflict: another attempt at the same upload runs, or its image is in the trash.
            QuotaExceeded: the file does not fit into what its owner may have stored.
        """
        content = command.content
        if content.size_bytes == 0:
            raise Invalid("file", "is empty", code="empty_file")
        if content.size_bytes > self.limits.max_upload_bytes:
            raise TooLarge(self.limits.max_upload_bytes)
        content.stream.seek(0)
        seen = self.inspector.inspect(content.stream, limits=self.limits, owner=command.owner)
        reservation = self._reservation(command)
        committed = self.metadata.reserve(reservation, at=self.clock.now(), quota=self.limits.quota)
        if committed is not None:
            return Outcome(_replayed(committed, reservation))
        created_at = self.clock.now()
        image = Image(
            image_id=reservation.image_id,
            owner=command.owner,
            filename=command.filename,
            title=command.title or Title.from_filename(command.filename),
            description=command.description,
            tags=command.tags,
            media_type=seen.media_type,
            size_bytes=content.size_bytes,
            width=seen.width,
            height=seen.height,
            sha256=content.sha256,
            created_at=created_at,
            updated_at=created_at,
            fingerprint=reservation.fingerprint,
        )
        content.stream.seek(0)
        try:
            self.objects.put(StoredObject.of(image), content.stream, deadline=reservation.lease_until)
        except CalotypeError:
            self._abandon(reservation)
            raise
        self.metadata.commit(image, holder=reservation.holder)
        return Outcome(UploadedImage(image), (image.uploaded(),))

    def _abandon(self, reservation: Reservation) -> None:
        """Let the sweeper come sooner: until then what was never stored counts against its owner's quota.

        Not at once. A put that failed may still arrive until the lease is over, or later where a store is slow or
        clocks differ, and then it needs its entry. What is due sooner anyway stays so.
        """
        due = reservation.lease_until + _MARGIN
        with suppress(Unavailable):  # then it is due when it always was
            self.metadata.abandon(reservation.image_id, holder=reservation.holder, due=due)

    @property
    def _lease(self) -> timedelta:
        # Half the reservation at most, so that an attempt has ended long before the sweeper may come.
        return min(_LEASE_MAX, self.reservation_ttl / 2)

    def _reservation(self, command: UploadImage) -> Reservation:
        now = self.clock.now()
        key = command.idempotency_key
        return Reservation(
            image_id=self.ids.new() if key is None else image_id_for(command.owner, key),
            owner=command.owner,
            holder=self.ids.new(),
            lease_until=now + self._lease,
            due=now + self.reservation_ttl,
            size_bytes=command.content.size_bytes,
            fingerprint=None if key is None else _fingerprint(command),
        )


def image_id_for(owner: UserId, key: IdempotencyKey) -> ImageId:
    """Return the image id that an owner's idempotency key stands for."""
    return uuid.uuid5(_KEY_NAMESPACE, f"{owner}#{key}")


def _fingerprint(command: UploadImage) -> str:
    parts = [command.content.sha256, command.filename, command.title, command.description, command.tags]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _replayed(committed: Image, reservation: Reservation) -> UploadedImage:
    if committed.fingerprint != reservation.fingerprint:
        raise KeyReused("the idempotency key was used for another upload")
    return UploadedImage(committed, replayed=True)
