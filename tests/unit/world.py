"""A whole Calotype in memory: the handlers behind a bus, a clock that stands still, and ports that can fail."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, BinaryIO, Literal, TypeVar, cast

from adapters.memory import FixedClock, MemoryMetadata, MemoryObjects, SequentialIds
from application.bus import Bus
from application.commands.delete_image import DeleteImage, DeleteImageHandler
from application.commands.restore_image import RestoreImage, RestoreImageHandler
from application.commands.revise_metadata import ReviseMetadata, ReviseMetadataHandler
from application.commands.sweep import Sweep, SweepHandler, SweepReport
from application.commands.upload_image import UploadedImage, UploadImage, UploadImageHandler
from application.content import Content
from application.ports import Inspection
from application.publishing import PublishEvents
from application.queries.get_image import GetImage, GetImageHandler
from application.queries.get_usage import GetUsage, GetUsageHandler
from application.queries.list_images import ListImages, ListImagesHandler
from application.queries.read_content import ReadContent, ReadContentHandler
from domain.errors import Invalid, Unavailable
from domain.events import Event
from domain.image import Image
from domain.limits import Limits
from domain.quota import UNLIMITED, Quota
from domain.reclaim import TrashedImage
from domain.values import Filename, IdempotencyKey, ImageId, MediaType, Title, UserId, parse_tags
from tests.builders import ANN

LEASE = timedelta(seconds=60)
MARGIN = timedelta(minutes=5)
"""From the end of a failed put's lease to the sweeper."""
RESERVATION_TTL = timedelta(hours=1)
RETENTION = timedelta(days=30)
MAX_UPLOAD_BYTES = 1_000

Port = TypeVar("Port")
Failure = Literal["before", "after"]
"""Whether a call fails before it had its effect, or only its answer is lost."""


class SmallJpegs:
    """An ImageInspector that takes everything for a JPEG of 4 x 3 pixels, unless it begins with ``bad``."""

    def inspect(self, content: BinaryIO, *, limits: Limits, owner: UserId) -> Inspection:
        del limits, owner
        if content.read().startswith(b"bad"):
            raise Invalid("file", "is not an image", code="not_an_image")
        return Inspection(media_type=MediaType.JPEG, width=4, height=3, frames=1, orientation=1)


@dataclass
class World:
    """``calls`` are the port calls in their order; ``failing`` says which of them fail, and how."""

    clock: FixedClock = field(default_factory=FixedClock)
    ids: SequentialIds = field(default_factory=SequentialIds)
    records: MemoryMetadata = field(default_factory=MemoryMetadata)
    events: list[Event] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    failing: dict[str, Failure] = field(default_factory=dict)
    before: dict[str, Callable[[], object]] = field(default_factory=dict)
    """What somebody else does just before a port call; happens once."""
    reservation_ttl: timedelta = RESERVATION_TTL
    quota: Quota = UNLIMITED

    def __post_init__(self) -> None:
        self.objects = MemoryObjects(self.clock)
        records, objects, clock, ids = self._watched(self.records), self._watched(self.objects), self.clock, self.ids
        self.bus = Bus(
            commands={
                UploadImage: UploadImageHandler(
                    metadata=records,
                    objects=objects,
                    inspector=SmallJpegs(),
                    clock=clock,
                    ids=ids,
                    limits=Limits(max_upload_bytes=MAX_UPLOAD_BYTES, quota=self.quota),
                    reservation_ttl=self.reservation_ttl,
                ),
                ReviseMetadata: ReviseMetadataHandler(metadata=records, clock=clock),
                DeleteImage: DeleteImageHandler(metadata=records, clock=clock, retention=RETENTION),
                RestoreImage: RestoreImageHandler(metadata=records, clock=clock),
                Sweep: SweepHandler(metadata=records, objects=objects, clock=clock, ids=ids),
            },
            queries={
                GetImage: GetImageHandler(records=records),
                GetUsage: GetUsageHandler(records=records),
                ListImages: ListImagesHandler(records=records),
                ReadContent: ReadContentHandler(records=records, objects=objects),
            },
            middleware=(PublishEvents(self),),
        )

    def publish(self, event: Event) -> None:
        """Keep the event: the world is its own EventPublisher."""
        self.events.append(event)

    def upload(
        self,
        data: bytes = b"jpeg",
        *,
        owner: UserId = ANN,
        filename: str = "cat.jpg",
        title: str | None = None,
        tags: tuple[str, ...] = (),
        key: str | None = None,
    ) -> UploadedImage:
        return self.bus.execute(
            UploadImage(
                owner=owner,
                filename=Filename(filename),
                content=Content.of(data),
                title=None if title is None else Title(title),
                tags=parse_tags(tags),
                idempotency_key=None if key is None else IdempotencyKey(key),
            )
        )

    def delete(self, image: Image, *, permanent: bool = False) -> TrashedImage:
        return self.bus.execute(DeleteImage(owner=image.owner, image_id=image.image_id, permanent=permanent))

    def restore(self, image: Image) -> Image:
        return self.bus.execute(RestoreImage(owner=image.owner, image_id=image.image_id))

    def sweep(self) -> SweepReport:
        return self.bus.execute(Sweep())

    def seen_by(self, owner: UserId) -> tuple[Image, ...]:
        """All that a reader of this owner sees, newest first."""
        return self.records.page(owner, ListImages(owner=owner).which, limit=100).images

    def bytes_of(self, image: Image) -> bytes:
        body = self.bus.ask(ReadContent(owner=image.owner, image_id=image.image_id)).open()
        try:
            return body.read()
        finally:
            body.close()

    @property
    def keys(self) -> set[str]:
        """The keys of all stored objects."""
        return set(self.objects.objects)

    @property
    def reserved(self) -> set[ImageId]:
        """The ids of all reclaim entries."""
        return set(self.records.entries)

    def _watched(self, port: Port) -> Port:
        return cast("Port", _Watched(port, self))


class _Watched:
    """Stands before a port: notes each call, and lets it fail as the world says."""

    def __init__(self, port: object, world: World) -> None:
        self._port = port
        self._world = world

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method, world = getattr(self._port, name), self._world

        def call(*args: object, **kwargs: object) -> object:
            world.calls.append(name)
            if (interference := world.before.pop(name, None)) is not None:
                interference()
            if world.failing.get(name) == "before":
                raise Unavailable(f"{name} did not happen")
            answer: object = method(*args, **kwargs)
            if world.failing.get(name) == "after":
                raise Unavailable(f"the answer of {name} was lost")
            return answer

        return call
