"""What the type checker must know of the bus. mypy reads the function below: its `assert_type` lines fail when a result
is typed wrongly, and its ignores fail (`warn_unused_ignores`) when a wrong call is let through.
"""

from typing import assert_type

import pytest

from application.commands.delete_image import DeleteImage
from application.commands.restore_image import RestoreImage
from application.commands.revise_metadata import ReviseMetadata
from application.commands.sweep import Sweep, SweepReport
from application.commands.upload_image import UploadedImage, UploadImage
from application.content import Content
from application.queries.get_image import GetImage
from application.queries.list_images import ImagePage, ListImages
from application.queries.read_content import ImageContent, ReadContent
from domain.image import Image, MetadataChange
from domain.reclaim import TrashedImage
from domain.values import Filename
from tests.builders import ANN
from tests.unit.world import World


def test_every_message_is_answered_with_what_its_type_says() -> None:
    bus = World().bus
    uploaded = bus.execute(UploadImage(owner=ANN, filename=Filename("cat.jpg"), content=Content.of(b"jpeg")))
    assert_type(uploaded, UploadedImage)
    image_id = uploaded.image.image_id
    revised = bus.execute(ReviseMetadata(owner=ANN, image_id=image_id, change=MetadataChange()))
    assert_type(revised, Image)
    record = bus.ask(GetImage(owner=ANN, image_id=image_id))
    assert_type(record, Image)
    page = bus.ask(ListImages(owner=ANN))
    assert_type(page, ImagePage)
    content = bus.ask(ReadContent(owner=ANN, image_id=image_id))
    assert_type(content, ImageContent)
    trashed = bus.execute(DeleteImage(owner=ANN, image_id=image_id))
    assert_type(trashed, TrashedImage)
    restored = bus.execute(RestoreImage(owner=ANN, image_id=image_id))
    assert_type(restored, Image)
    report = bus.execute(Sweep())
    assert_type(report, SweepReport)

    assert type(uploaded) is UploadedImage
    assert {type(each) for each in (revised, record, restored)} == {Image}
    assert (type(page), type(content), type(trashed), type(report)) == (
        ImagePage, ImageContent, TrashedImage, SweepReport,
    )  # fmt: skip


def test_a_command_can_not_be_asked_nor_a_query_executed() -> None:
    bus = World().bus
    with pytest.raises(LookupError):
        bus.ask(Sweep())  # type: ignore[arg-type]
    with pytest.raises(LookupError):
        bus.execute(ListImages(owner=ANN))  # type: ignore[arg-type]
    with pytest.raises(LookupError):
        bus.ask("which images?")  # type: ignore[arg-type]
