"""What the use cases need of the world.

Each docstring is the law for every adapter, and the contract suites hold them to it. Every method may also raise
`Unavailable`, from the cause, when the store behind it fails. The outcome of a change that ended so is unknown to the
caller: it happened wholly, or not at all.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Literal, NamedTuple, Protocol, Self
from uuid import UUID

from domain.events import Event
from domain.image import Image, Revision
from domain.limits import Limits
from domain.quota import UNLIMITED, Quota, Usage
from domain.reclaim import ReclaimEntry, Reservation, TrashedImage
from domain.values import ImageId, MediaType, Tag, Title, UserId


class Clock(Protocol):
    """The time."""

    def now(self) -> datetime:
        """Return the present in UTC, aware, with microseconds."""


class Ids(Protocol):
    """Where new identifiers come from."""

    def new(self) -> UUID:
        """Return an identifier that was never returned before, to anyone."""


class EventPublisher(Protocol):
    """Where facts are told."""

    def publish(self, event: Event) -> None:
        """Tell subscribers. A subscriber's failure is its own: it is reported, and never raised here."""


# ---- images' bytes: inspection and storage


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """What an image's header says. Width and height as displayed, in pixels, after EXIF orientation."""

    media_type: MediaType
    width: int
    height: int
    frames: int
    orientation: int


class ImageInspector(Protocol):
    """Tells what a file is by its bytes."""

    def inspect(self, content: BinaryIO, *, limits: Limits, owner: UserId) -> Inspection:
        """Read the headers of a whole, seekable file; decode no pixels; leave the position anywhere.

        What the file is does not depend on its owner, only whether there is room to look at it.

        Raises:
            Invalid: not an image of a known format, cut short, unreadable, or over the limits of pixels and metadata.
        """


class ByteRange(NamedTuple):
    """Bytes ``start`` to ``stop`` (exclusive) of an object, ``0 <= start < stop <= size``."""

    start: int
    stop: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectInfo:
    """What a store knows of an object without its bytes."""

    key: str
    size_bytes: int
    modified_at: datetime
    media_type: MediaType | None = None


class ObjectBody(Protocol):
    """The bytes of one object, or of a range of it, open for reading. Close it."""

    @property
    def info(self) -> ObjectInfo:
        """The whole object's properties, whatever the range."""

    @property
    def path(self) -> str | None:
        """A local path of a file that holds just these bytes, if there is one. A deletion takes the name away."""

    def read_at_hand(self, size: int, /) -> bytes | bytearray | None:
        """Return ``size`` bytes, or all the rest if that is less; None, with nothing read, unless all are in memory.

        It waits for nothing, neither disk nor network. What can't tell without waiting says None.
        """

    def read(self, size: int = -1, /) -> bytes:
        """Return at most ``size`` bytes, or all the rest; empty at the end."""

    def close(self) -> None:
        """Let go of it. May be repeated."""

    def __enter__(self) -> Self:
        """Return itself; the block's end closes it."""

    def __exit__(self, *_: object) -> None:
        """Close."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredObject:
    """What to put: the object's key, what its bytes are known to be, and whose they are."""

    key: str
    size_bytes: int
    sha256: str
    media_type: MediaType
    owner: UserId
    image_id: ImageId

    @classmethod
    def of(cls, image: Image) -> Self:
        """Return the original that the image's record promises."""
        return cls(
            key=image.key,
            size_bytes=image.size_bytes,
            sha256=image.sha256,
            media_type=image.media_type,
            owner=image.owner,
            image_id=image.image_id,
        )


class SignedUrl(NamedTuple):
    """A URL that needs no credentials, and when it stops working."""

    url: str
    expires_at: datetime


Disposition = Literal["inline", "attachment"]


class ObjectStore(Protocol):
    """Holds originals under keys ``images/{image_id}/{filename}``: immutable, created once, then deleted."""

    def put(self, target: StoredObject, content: BinaryIO, *, deadline: datetime) -> None:
        """Store the bytes durably, reading ``content``, which is seekable, from its present position.

        Atomic: the object is there whole or not at all. Create-only: an object under the key is never replaced; when
        it has the very same content the call succeeds, so that a retry may be repeated. The store itself checks size
        and SHA-256. Nothing becomes visible after ``deadline``.

        Raises:
            Conflict: another content is stored under the key.
            Unavailable: also when the deadline passed, or the bytes were not those promised.
        """

    def open(self, key: str, byte_range: ByteRange | None = None, *, sha256: str | None = None) -> ObjectBody:
        """Open the object, or a range of it; the bytes stay readable until closed, whatever is deleted meanwhile.

        With ``sha256``, the digest of the whole object in hex, other bytes are never passed off as the object: the
        call raises Damaged, or the read does that would return the last of them. A store that checks its bytes by
        itself may leave ranges to that.

        Raises:
            NotFound: no such object.
            Damaged: the object is there, and its bytes are not those of ``sha256``.
        """

    def open_at_hand(self, key: str, byte_range: ByteRange | None = None, *, sha256: str) -> ObjectBody | None:
        """Open it, or raise, as `open` does; None if that would take reading the object, or waiting for it."""

    def head(self, key: str) -> ObjectInfo:
        """Return the object's properties.

        Raises:
            NotFound: no such object.
        """

    def signed_url(self, image: Image, *, disposition: Disposition, ttl_s: int) -> SignedUrl:
        """Return a URL that gives the original to whoever holds it for ``ttl_s`` seconds. Makes no request."""

    def delete_prefix(self, prefix: str, *, deadline: datetime) -> None:
        """Delete every object of one image, given as ``images/{image_id}/``, with all that puts left behind.

        May be repeated. Nothing is deleted after ``deadline``: the call ends as Unavailable then.
        """

    def list_prefix(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Walk the objects whose key starts with the prefix, in no promised order.

        No request needs it: it shows whether a store keeps what it promises. Audits walk `ObjectAudit.objects`.
        """

    def ping(self) -> None:
        """Return soon if the store answers; raise Unavailable otherwise."""


class Permit(NamedTuple):
    """What a signed URL grants: bytes with this digest, shown in this way."""

    sha256: str
    disposition: Disposition


class SignedObjects(Protocol):
    """The server side of signed URLs, for an ObjectStore whose URLs point at this service."""

    def permitted(self, method: str, key: str, parameters: Mapping[str, str]) -> Permit | None:
        """Return what is granted, if the parameters were signed for just this and still hold."""

    def head(self, key: str) -> ObjectInfo:
        """See ObjectStore.head."""

    def open(self, key: str, byte_range: ByteRange | None = None, *, sha256: str | None = None) -> ObjectBody:
        """See ObjectStore.open."""

    def open_at_hand(self, key: str, byte_range: ByteRange | None = None, *, sha256: str) -> ObjectBody | None:
        """See ObjectStore.open_at_hand."""


# ---- records


class MetadataStore(Protocol):
    """The command side: records, postings, reclaim entries and owners' usage. Each call is one transaction.

    An image id only ever belongs to one owner. An owner's usage is at every moment the sum over their records and
    reclaim entries: `reserve` takes from the quota, `forget` gives back, and nothing else changes it.
    """

    def reserve(self, reservation: Reservation, *, at: datetime, quota: Quota = UNLIMITED) -> Image | None:
        """Write the reservation and return None; or return the record, when this id is committed already.

        Create-only, with one exception: an unclaimed reservation of the same owner and fingerprint (not None) whose
        lease is over at ``at`` is replaced, which gives the upload to the new holder.

        What the reservation adds must fit into the quota on top of the owner's usage; what replaces another adds only
        the difference.

        Raises:
            KeyReused: a reservation or a trashed record with another fingerprint is there.
            InTrash: the record is in the trash.
            Conflict: the lease of another holder runs, or the sweeper claimed the entry.
            QuotaExceeded: none of these, but it does not fit.
        """

    def abandon(self, image_id: ImageId, *, holder: UUID, due: datetime) -> None:
        """Make the holder's reservation due at ``due``, if it is there, unclaimed, and due later. May be repeated."""

    def commit(self, image: Image, *, holder: UUID) -> None:
        """Make the record visible: record and postings in, reservation out. Both are of the same size.

        The condition is that the reservation is there, held by ``holder`` and unclaimed. A commit that succeeded may
        be repeated as long as the record is as it made it.

        Raises:
            Conflict: the condition does not hold.
        """

    def update(
        self,
        owner: UserId,
        image_id: ImageId,
        change: Callable[[Image], Revision],
        *,
        expected_version: int | None = None,
    ) -> Revision:
        """Read the record, apply ``change``, and write the result if nobody else wrote between.

        Another's write in between is answered by doing it again, so ``change`` may be called several times and must
        be pure; it may be called in a thread that works for several callers. A revision without an event writes
        nothing.

        Raises:
            NotFound: the owner has no such record.
            PreconditionFailed: the record is not at ``expected_version``.
        """

    def trash(
        self, owner: UserId, image_id: ImageId, *, at: datetime, due: datetime, expected_version: int | None = None
    ) -> TrashedImage:
        """Take the record and its postings out of every read, and put a trashed record in their place.

        Raises:
            NotFound: the owner has no such record.
            PreconditionFailed: the record is not at ``expected_version``.
        """

    def restore(self, owner: UserId, image_id: ImageId, *, at: datetime) -> TrashedImage:
        """Put a trashed record and its postings back as they were; return what was in the trash.

        Raises:
            NotFound: the owner has no such record in the trash, it is due at ``at``, or the sweeper claimed it.
        """

    def due(self, at: datetime) -> Iterator[ImageId]:
        """Walk the ids of entries due at ``at``, in bounded memory. Entries that come or go meanwhile may be missed."""

    def claim(self, image_id: ImageId, *, claimant: UUID, at: datetime, until: datetime) -> ReclaimEntry | None:
        """Claim the entry for a sweeper, and return it; None if it is not due at ``at``, or another's claim runs.

        A claim lets nobody else act on the entry until ``until``, and nobody but sweepers ever after.
        """

    def forget(self, image_id: ImageId, *, claimant: UUID) -> None:
        """Remove the entry if this claimant has it. May be repeated."""

    def ping(self) -> None:
        """Return soon if the store answers; raise Unavailable otherwise."""


class Position(NamedTuple):
    """A place in a listing, newest first: after the image with this time and id."""

    created_at: datetime
    image_id: ImageId


@dataclass(frozen=True, slots=True)
class ByOwner:
    """All images of an owner."""


@dataclass(frozen=True, slots=True)
class ByTags:
    """Images that carry any, or all, of the tags (at least one)."""

    tags: tuple[Tag, ...]
    match: Literal["any", "all"] = "any"


@dataclass(frozen=True, slots=True)
class ByTitle:
    """Images with just this title; case does not count."""

    title: Title


Filter = ByOwner | ByTags | ByTitle


class Slice(NamedTuple):
    """A run of a listing, and the position to go on from; None when nothing follows."""

    images: tuple[Image, ...]
    next: Position | None


class MetadataReader(Protocol):
    """The query side.

    What a command has acknowledged, the next `get` and the next page by tags show. Other pages and counts may follow
    a moment later, on stores whose indexes do.
    """

    def get(self, owner: UserId, image_id: ImageId) -> Image:
        """Return the record.

        Raises:
            NotFound: the owner has no such record.
        """

    def page(self, owner: UserId, which: Filter, *, limit: int, after: Position | None = None) -> Slice:
        """Return the next ``limit`` images behind ``after``, newest first, ties by descending id.

        Fewer only at the end, and then ``next`` is None. The position may be of an image that is gone. Cost grows
        with the matches read, never with the library.
        """

    def count(self, owner: UserId) -> int:
        """Return how many images the owner has, trash not counted. No request asks: it shows what a store holds."""

    def usage(self, owner: UserId) -> Usage:
        """Return what counts against the owner's quota, as the last command that was acknowledged left it."""


# ---- audits: both stores as they are, protocol or not. For `calotype audit`, never for requests


class Posting(NamedTuple):
    """One row of the inverted index: it makes an owner's image be found by a tag."""

    owner: UserId
    tag: Tag
    created_at: datetime
    image_id: ImageId


class Standing(NamedTuple):
    """What the record store knows of an image id, whoever owns it: its record, and whether it has a reclaim entry."""

    record: Image | None
    has_entry: bool


class Miscount(NamedTuple):
    """An owner whose recorded usage is not what they have stored."""

    owner: UserId
    recorded: Usage
    actual: Usage
    revision: int
    """Which state of the record was looked at, for stores that can't look at everything at one moment."""


class Estimate(NamedTuple):
    """About how much there is to walk. For a progress bar."""

    records: int
    postings: int


class RecordAudit(Protocol):
    """Records and postings of all owners.

    The walks take bounded memory, give each item beside its position, and go on behind a position that any earlier
    walk gave, also when its item is gone. What comes or goes meanwhile may be missed; what stays is given.
    """

    def estimate(self) -> Estimate:
        """Return soon; the numbers may be hours old."""

    def records(self, *, after: str | None = None) -> Iterator[tuple[str, Image]]:
        """Walk all records."""

    def postings(self, *, after: str | None = None) -> Iterator[tuple[str, Posting]]:
        """Walk all postings."""

    def standing(self, image_id: ImageId) -> Standing:
        """Return what is known of the id, all at one moment."""

    def unposted(self, image: Image) -> tuple[Tag, ...]:
        """Return the record's tags without a posting, all at one moment; none if the record is another by now."""

    def is_dangling(self, posting: Posting) -> bool:
        """Tell, of one moment, whether the posting is there and no record with its owner, time and tag."""

    def mend(self, posting: Posting) -> bool:
        """Add the posting if a record calls for it, else remove it, in one transaction; tell if that was needed."""

    def miscounts(self) -> Iterator[Miscount]:
        """Walk the owners whose usage is wrong, in the order of their ids. Memory grows with the number of owners.

        Of an owner who reserves or is swept meanwhile nothing need be told.
        """

    def recount(self, miscount: Miscount) -> bool:
        """Set the owner's usage right, in one transaction; tell if that was needed.

        False also if it changed since it was looked at, on stores that can't look at everything at one moment.
        """

    def hold(self, image_id: ImageId, *, claimant: UUID, until: datetime) -> bool:
        """Write an `audit_hold` for an id that has neither entry nor record; return False for any other.

        One transaction. Until it is released, or collected by a sweeper after ``until``, nobody can upload under the
        id.
        """

    def release(self, image_id: ImageId, *, claimant: UUID) -> None:
        """Remove the entry if this claimant has it. May be repeated."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundObject:
    """Something that the object store holds where objects are kept."""

    place: str
    """Its name in the store, and its position in the walk."""
    key: str | None
    """The key it is read by; None for what can't be read, such as the rest of a put that never published."""
    image_id: ImageId | None
    """Whose it is by its name; None if no upload could have made it."""
    size_bytes: int
    modified_at: datetime


class Quarantined(NamedTuple):
    """A copy in quarantine, and which original it was made of, in the store's own words."""

    found: FoundObject
    original: str


class ObjectAudit(Protocol):
    """All that is stored, and a quarantine: what lies there is never read, listed or swept, and can be put back."""

    def objects(self, *, after: str | None = None) -> Iterator[FoundObject]:
        """Walk everything but the quarantine in the order of places, behind ``after``, in bounded memory."""

    def is_there(self, found: FoundObject) -> bool:
        """Tell whether it is still there as it was found."""

    def quarantine(self, found: FoundObject, *, at: datetime) -> Quarantined | None:
        """Copy it to the quarantine, durably, as of the day ``at``; None if it isn't there as found any more."""

    def remove(self, quarantined: Quarantined, *, deadline: datetime) -> None:
        """Remove the original that the copy was made of, and nothing that took its place. May be repeated.

        Nothing is removed after ``deadline``: the call ends as Unavailable then.
        """

    def purge(self, *, before: datetime) -> int:
        """Delete for good what was quarantined on days that had ended by ``before``; return how many objects."""
