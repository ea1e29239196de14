"""One image on some stores, small enough to try everything with it: operations, what is seen, what must always hold."""

import itertools
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self, TypeVar
from uuid import UUID

from adapters.events import SubscribedEvents
from adapters.memory import FixedClock
from application.bus import Bus, Command
from application.commands.delete_image import DeleteImage
from application.commands.restore_image import RestoreImage
from application.commands.revise_metadata import ReviseMetadata
from application.commands.sweep import Sweep
from application.commands.upload_image import UploadImage, image_id_for
from application.content import Content
from application.ports import ByOwner, Ids
from application.queries.get_image import GetImage
from application.queries.read_content import ReadContent
from domain.image import MetadataChange, image_id_of
from domain.values import Filename, IdempotencyKey, ImageId, Title, UserId, parse_tags
from entrypoints.container import build_bus
from entrypoints.settings import Settings
from tests.harness.faults import Port
from tests.harness.systems import OpenStores, Stores
from tests.unit.world import SmallJpegs

R = TypeVar("R")

INSTANT = timedelta(microseconds=1)
SETTINGS = Settings()
LEASE = timedelta(seconds=60)
CLAIM = timedelta(minutes=5)
RESERVATION = timedelta(seconds=SETTINGS.reservation_ttl_s)
RETENTION = timedelta(seconds=SETTINGS.trash_retention_s)
FOR_GOOD = RETENTION + RESERVATION + CLAIM
"""After so long all that was due anywhere is due, and every claim is over."""

KEY = IdempotencyKey("key")
ONE, OTHER = b"one picture", b"another picture"

Op = Callable[[UserId], Command[Any]]
"""An operation on the image, or one of the images, of an owner."""


def upload(data: bytes = ONE, *, key: IdempotencyKey | None = KEY, title: str = "Sea") -> Op:
    return lambda owner: UploadImage(
        owner=owner,
        filename=Filename("sea.jpg"),
        content=Content.of(data),
        title=Title(title),
        tags=parse_tags(["sea"]),
        idempotency_key=key,
    )


def revise(title: str, *, version: int | None = None) -> Op:
    change = MetadataChange(title=Title(title), tags=parse_tags([title]))
    return lambda owner: ReviseMetadata(owner=owner, image_id=the_image(owner), change=change, expected_version=version)


def delete(*, permanent: bool = False, version: int | None = None) -> Op:
    return lambda owner: DeleteImage(
        owner=owner, image_id=the_image(owner), permanent=permanent, expected_version=version
    )


def restore() -> Op:
    return lambda owner: RestoreImage(owner=owner, image_id=the_image(owner))


def sweep() -> Op:
    return lambda _owner: Sweep()


@dataclass(frozen=True)
class Look(Command[str]):
    """A reader, in the place of a command: the record, then the bytes."""

    owner: UserId


def look() -> Op:
    return Look


def perform(bus: Bus, command: Command[R]) -> R | bytes:
    if isinstance(command, Look):
        content = bus.ask(ReadContent(owner=command.owner, image_id=the_image(command.owner)))
        with closing(content.open()) as body:
            return body.read()
    return bus.execute(command)


def the_image(owner: UserId) -> ImageId:
    return image_id_for(owner, KEY)


@dataclass
class CountedIds:
    """Ids that are the same in every run, and no other row's."""

    row: str
    given: int = 0

    def new(self) -> UUID:
        self.given += 1
        return uuid.uuid5(uuid.NAMESPACE_OID, f"{self.row} {self.given}")


Seen = Sequence[tuple[str, tuple[str, ...], int, bytes]]
"""What an owner sees: title, tags, version and bytes of each image."""


def unwrapped(port: Port) -> Port:
    return port


@dataclass
class Stage:
    """One owner on some stores. Processes are buses: they come and go, the stores and the clock stay."""

    stores: Stores
    clock: FixedClock
    owner: UserId
    rows: Iterator[int] = field(default_factory=itertools.count)
    settings: Settings = SETTINGS

    def bus(self, wrap: Callable[[Any], Any] = unwrapped, *, ids: Ids | None = None, clock: Any = None) -> Bus:
        metadata = wrap(self.stores.metadata)
        return build_bus(
            settings=self.settings,
            metadata=metadata,
            records=metadata,
            objects=wrap(self.stores.objects),
            inspector=SmallJpegs(),
            clock=clock or self.clock,
            ids=ids or CountedIds(f"{self.owner} {next(self.rows)}"),
            publisher=SubscribedEvents([]),
        )

    def do(self, *ops: Op) -> None:
        """Carry operations out, each in a process of its own, and nothing may fail."""
        for op in ops:
            perform(self.bus(), op(self.owner))

    def sweep(self) -> None:
        self.do(sweep())

    def seen(self) -> Seen:
        """What the owner sees, by way of the queries."""
        bus = self.bus()
        images = self.stores.metadata.page(self.owner, ByOwner(), limit=100).images
        seen = []
        for image in images:
            assert bus.ask(GetImage(owner=self.owner, image_id=image.image_id)) == image
            with closing(bus.ask(ReadContent(owner=self.owner, image_id=image.image_id)).open()) as body:
                seen.append((str(image.title), tuple(map(str, image.tags)), image.version, body.read()))
        return sorted(seen)

    def check(self) -> None:
        """P2: no record without its object. P3: no object without a record or a reclaim entry. And usage is right."""
        records = self.stores.metadata.page(self.owner, ByOwner(), limit=100).images
        keys = {info.key for info in self.stores.objects.list_prefix()}
        entries = self.stores.reclaimable()
        dangling = {image.key for image in records} - keys
        assert not dangling, f"P2: records without an object: {dangling}"
        both = {image.image_id for image in records} & entries
        assert not both, f"records with a reclaim entry: {both}"
        stray = {key for key in keys if image_id_of(key) not in entries | {image.image_id for image in records}}
        assert not stray, f"P3: objects that belong to nobody: {stray}"
        miscounts = list(self.stores.miscounts())
        assert not miscounts, f"usage is not what is stored: {miscounts}"

    def check_nothing_is_left_over(self) -> None:
        records = self.stores.metadata.page(self.owner, ByOwner(), limit=100).images
        assert self.stores.stored() == {image.key for image in records}, "P3: garbage is left after the last sweep"
        assert not self.stores.reclaimable(), "a reclaim entry is left after the last sweep"

    def settle(self) -> None:
        """Sweep until everything that was ever due is collected: what is seen may not change by that."""
        seen = self.seen()
        for time in (timedelta(0), LEASE + INSTANT, CLAIM, RESERVATION, FOR_GOOD):
            self.clock.advance(time)
            self.sweep()
            self.check()
            assert self.seen() == seen, f"a sweep changed what is seen from {seen} to {self.seen()}"
        self.check_nothing_is_left_over()

    def clear(self) -> None:
        """Leave the stores as empty as they were."""
        bus = self.bus()
        for image in self.stores.metadata.page(self.owner, ByOwner(), limit=100).images:
            bus.execute(DeleteImage(owner=self.owner, image_id=image.image_id, permanent=True))
        self.clock.advance(FOR_GOOD)
        self.sweep()
        assert (self.stores.stored(), self.stores.reclaimable()) == (set(), set())


class Stages:
    """Makes stages on the same stores, with a new owner each: another adapter is another `OpenStores`."""

    def __init__(self, open_stores: OpenStores) -> None:
        self.clock = FixedClock()
        self._opened = ExitStack()
        self.stores = self._opened.enter_context(open_stores(self.clock))
        self._numbers = itertools.count()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def new(self) -> Stage:
        return Stage(self.stores, self.clock, UserId(f"ann-{next(self._numbers)}"))
