"""What each use case costs on AWS, in requests: they are what is paid for, and what is waited for."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from adapters.events import SubscribedEvents
from adapters.imaging import BoundedInspector, PillowInspector
from adapters.system import RandomIds, SystemClock
from application.bus import Bus
from application.commands.delete_image import DeleteImage
from application.commands.restore_image import RestoreImage
from application.commands.revise_metadata import ReviseMetadata
from application.commands.upload_image import UploadImage
from application.content import Content
from application.ports import ByOwner, ByTags, ByteRange, ByTitle, Filter
from application.queries.get_image import GetImage
from application.queries.list_images import ListImages
from application.queries.read_content import ReadContent
from domain.image import Image, MetadataChange
from domain.values import Filename, IdempotencyKey, Title, parse_tags
from entrypoints.container import build_bus
from entrypoints.settings import Settings
from tests import pictures
from tests.builders import ANN
from tests.integration import dynamodb_on_moto, s3_on_moto


@dataclass
class Metered:
    """The bus on DynamoDB and S3, and a meter in the way to them."""

    bus: Bus
    _dynamodb: dynamodb_on_moto.Wire
    _s3: s3_on_moto.Wire

    def spent(self) -> Counter[str]:
        """Return the requests since the last call."""
        requests = Counter(self._dynamodb.sent) + self._s3.counts
        self._dynamodb.sent.clear()
        self._s3.requests.clear()
        return requests

    def uploaded(self, **fields: str) -> Image:
        image = self.bus.execute(upload(**fields)).image
        self.spent()
        return image


@pytest.fixture
def metered() -> Iterator[Metered]:
    clock = SystemClock()
    with dynamodb_on_moto.dynamodb_on_moto() as dynamo, s3_on_moto.s3_on_moto() as (s3, wire):
        bus = build_bus(
            settings=Settings(),
            metadata=dynamo.metadata,
            records=dynamo.metadata,
            objects=s3_on_moto.objects_on(s3, clock),
            inspector=BoundedInspector(PillowInspector(), most_bytes=10**9),
            clock=clock,
            ids=RandomIds(),
            publisher=SubscribedEvents([]),
        )
        yield Metered(bus, dynamo.wire, wire)


def upload(*, key: str | None = None, title: str = "Cat") -> UploadImage:
    return UploadImage(
        owner=ANN,
        filename=Filename("cat.jpg"),
        content=Content.of(pictures.jpeg()),
        title=Title(title),
        tags=parse_tags(["a", "b", "c"]),
        idempotency_key=None if key is None else IdempotencyKey(key),
    )


def test_an_upload_is_two_transactions_and_one_put(metered: Metered) -> None:
    metered.bus.execute(upload())
    assert metered.spent() == {"TransactWriteItems": 2, "PutObject": 1}


def test_an_upload_that_is_sent_again_is_one_transaction(metered: Metered) -> None:
    metered.bus.execute(upload(key="k"))
    metered.spent()
    assert metered.bus.execute(upload(key="k")).replayed
    assert metered.spent() == {"TransactWriteItems": 1}


def test_metadata_is_one_read(metered: Metered) -> None:
    image = metered.uploaded()
    metered.bus.ask(GetImage(owner=ANN, image_id=image.image_id))
    assert metered.spent() == {"GetItem": 1}


@pytest.mark.parametrize("byte_range", [None, ByteRange(2, 5)])
def test_a_download_is_one_read_and_one_get(metered: Metered, byte_range: ByteRange | None) -> None:
    image = metered.uploaded()
    with closing(metered.bus.ask(ReadContent(owner=ANN, image_id=image.image_id)).open(byte_range)) as body:
        assert body.read() == pictures.jpeg()[slice(*byte_range or (None,))]
    assert metered.spent() == {"GetItem": 1, "GetObject": 1}


def test_what_a_cache_still_has_is_one_read(metered: Metered) -> None:
    image = metered.uploaded()
    metered.bus.ask(ReadContent(owner=ANN, image_id=image.image_id))
    assert metered.spent() == {"GetItem": 1}


@pytest.mark.parametrize("limit", [1, 3, 100])
@pytest.mark.parametrize("which", [ByOwner(), ByTitle(Title("cat"))])
def test_a_page_is_one_query(metered: Metered, which: Filter, limit: int) -> None:
    for _ in range(4):
        metered.uploaded()
    page = metered.bus.ask(ListImages(owner=ANN, which=which, limit=limit))
    assert len(page.images) == min(limit, 4)
    assert metered.spent() == {"Query": 1}
    if page.next_cursor is not None:
        metered.bus.ask(ListImages(owner=ANN, which=which, limit=limit, cursor=page.next_cursor))
        assert metered.spent() == {"Query": 1}


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_a_page_of_one_tag_is_one_query_and_one_batch(metered: Metered, limit: int) -> None:
    for _ in range(4):
        metered.uploaded()
    page = metered.bus.ask(ListImages(owner=ANN, which=ByTags(parse_tags(["b"])), limit=limit))
    assert len(page.images) == min(limit, 4)
    assert metered.spent() == {"Query": 1, "BatchGetItem": 1}


def test_a_page_of_nothing_is_one_query(metered: Metered) -> None:
    for which in (ByOwner(), ByTitle(Title("cat")), ByTags(parse_tags(["b"]))):
        metered.bus.ask(ListImages(owner=ANN, which=which))
        assert metered.spent() == {"Query": 1}


@pytest.mark.parametrize("version", [None, 1])
def test_a_revision_is_one_read_and_one_transaction(metered: Metered, version: int | None) -> None:
    image = metered.uploaded()
    change = MetadataChange(tags=parse_tags(["c", "d"]))
    metered.bus.execute(ReviseMetadata(owner=ANN, image_id=image.image_id, change=change, expected_version=version))
    assert metered.spent() == {"GetItem": 1, "TransactWriteItems": 1}


@pytest.mark.parametrize("permanent", [False, True])
def test_a_deletion_and_a_restore_are_one_read_and_one_transaction_each(metered: Metered, *, permanent: bool) -> None:
    image = metered.uploaded()
    metered.bus.execute(DeleteImage(owner=ANN, image_id=image.image_id, permanent=permanent))
    assert metered.spent() == {"GetItem": 1, "TransactWriteItems": 1}
    if not permanent:
        metered.bus.execute(RestoreImage(owner=ANN, image_id=image.image_id))
        assert metered.spent() == {"GetItem": 1, "TransactWriteItems": 1}
