"""Somebody else's image costs what none at all costs: so nobody learns from the time of an answer that it is there.

Times are noise; what makes them is counted instead. On SQLite every call of a function, in their order; on AWS every
request.
"""

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from uuid import UUID, uuid4

import pytest

from adapters.events import SubscribedEvents
from adapters.imaging import BoundedInspector, PillowInspector
from adapters.memory import MemoryObjects
from adapters.sqlite import SqliteMetadata
from adapters.system import RandomIds, SystemClock
from application.bus import Bus
from application.commands.delete_image import DeleteImage
from application.commands.restore_image import RestoreImage
from application.commands.revise_metadata import ReviseMetadata
from application.commands.upload_image import UploadImage
from application.content import Content
from application.ports import ObjectStore
from application.queries.get_image import GetImage
from application.queries.read_content import ReadContent
from domain.errors import NotFound
from domain.image import MetadataChange
from domain.values import Description, Filename, Title, parse_tags
from entrypoints.container import build_bus
from entrypoints.settings import Settings
from tests import pictures
from tests.builders import ANN, BOB, Catalog
from tests.integration import dynamodb_on_moto, s3_on_moto

Work = list[str]

CHANGE = MetadataChange(title=Title("Mine"), tags=parse_tags(["mine"]))
ATTEMPTS: dict[str, Callable[[Bus, UUID], object]] = {
    "get": lambda bus, image_id: bus.ask(GetImage(owner=BOB, image_id=image_id)),
    "read": lambda bus, image_id: bus.ask(ReadContent(owner=BOB, image_id=image_id)),
    "revise": lambda bus, image_id: bus.execute(ReviseMetadata(owner=BOB, image_id=image_id, change=CHANGE)),
    "revise at a version": lambda bus, image_id: bus.execute(
        ReviseMetadata(owner=BOB, image_id=image_id, change=CHANGE, expected_version=1)
    ),
    "revise at another version": lambda bus, image_id: bus.execute(
        ReviseMetadata(owner=BOB, image_id=image_id, change=CHANGE, expected_version=7)
    ),
    "delete": lambda bus, image_id: bus.execute(DeleteImage(owner=BOB, image_id=image_id)),
    "delete for good": lambda bus, image_id: bus.execute(DeleteImage(owner=BOB, image_id=image_id, permanent=True)),
    "restore": lambda bus, image_id: bus.execute(RestoreImage(owner=BOB, image_id=image_id)),
}


def new_bus(metadata: Catalog, objects: ObjectStore) -> Bus:
    return build_bus(
        settings=Settings(),
        metadata=metadata,
        records=metadata,
        objects=objects,
        inspector=BoundedInspector(PillowInspector(), most_bytes=10**9),
        clock=SystemClock(),
        ids=RandomIds(),
        publisher=SubscribedEvents([]),
    )


def anns_images(bus: Bus) -> dict[str, UUID]:
    """Store what a stranger may ask for, as large as can be: the more there is to read, the more it would show."""

    def uploaded() -> UUID:
        return bus.execute(
            UploadImage(
                owner=ANN,
                filename=Filename("cat.jpg"),
                content=Content.of(pictures.jpeg()),
                description=Description("d" * 5000),
                tags=parse_tags([f"tag {number}" for number in range(30)]),
            )
        ).image.image_id

    living, trashed, purged = uploaded(), uploaded(), uploaded()
    bus.execute(DeleteImage(owner=ANN, image_id=trashed))
    bus.execute(DeleteImage(owner=ANN, image_id=purged, permanent=True))
    return {"living": living, "trashed": trashed, "purged": purged}


@contextmanager
def calls() -> Iterator[Work]:
    """Give a list of all functions that are called meanwhile, Python's and C's, in their order."""
    made: Work = []

    def note(frame: FrameType, event: str, called: object) -> None:
        if event == "call":
            made.append(frame.f_code.co_qualname)
        elif event == "c_call":
            made.append(getattr(called, "__qualname__", ""))

    gc.disable()  # whoever asked to be told of a collection would be called in between
    sys.setprofile(note)
    try:
        yield made
    finally:
        sys.setprofile(None)
        gc.enable()


def refused(bus: Bus, attempt: Callable[[Bus, UUID], object], image_id: UUID) -> bool:
    with suppress(NotFound):
        attempt(bus, image_id)
        return False
    return True


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS)
def test_on_sqlite_the_same_functions_are_called(tmp_path: Path, attempt: Callable[[Bus, UUID], object]) -> None:
    with SqliteMetadata(tmp_path / "catalog.sqlite3") as metadata:
        bus = new_bus(metadata, MemoryObjects(SystemClock()))
        images = anns_images(bus)
        refused(bus, attempt, uuid4())  # what is done once, is done by now
        absent = uuid4()
        with calls() as expected:
            assert refused(bus, attempt, absent)
        assert any("execute" in name for name in expected)
        for image_id in images.values():
            with calls() as made:
                assert refused(bus, attempt, image_id)
            assert made == expected


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS)
def test_on_aws_the_same_requests_are_sent(attempt: Callable[[Bus, UUID], object]) -> None:
    with dynamodb_on_moto.dynamodb_on_moto() as dynamo, s3_on_moto.s3_on_moto() as (s3, wire):
        bus = new_bus(dynamo.metadata, s3_on_moto.objects_on(s3, SystemClock()))
        images = anns_images(bus)

        def sent_for(image_id: UUID) -> Work:
            dynamo.wire.sent.clear()
            wire.requests.clear()
            assert refused(bus, attempt, image_id)
            return [*dynamo.wire.sent, *(request.operation for request in wire.requests)]

        expected = sent_for(uuid4())
        assert expected == ["GetItem"]
        assert {name: sent_for(image_id) for name, image_id in images.items()} == dict.fromkeys(images, expected)
