"""Documents of images, and what is kept of them."""

from dataclasses import replace
from datetime import datetime

import msgspec
import pytest

from adapters.http import documents
from adapters.http.documents import Documents, ImageDocument, PageDocument, image_document, to_json
from application.ports import Disposition, SignedUrl
from application.queries.list_images import ImagePage
from domain.image import Image
from domain.values import Title, UserId
from tests.builders import HOUR, INSTANT, NOON, an_image


class Signer:
    """Signs with whatever expiry and credentials there are now."""

    def __init__(self) -> None:
        self.expires_at: datetime = NOON + HOUR
        self.credentials = "first"

    def __call__(self, image: Image, disposition: Disposition) -> SignedUrl:
        return SignedUrl(f"https://here/{image.key}?{disposition}&by={self.credentials}", self.expires_at)


@pytest.fixture
def signer() -> Signer:
    return Signer()


@pytest.fixture
def made(signer: Signer) -> Documents:
    return Documents(signer)


def decoded(made: Documents, image: Image) -> ImageDocument:
    return msgspec.json.decode(made.image(image), type=ImageDocument, strict=True)


def test_a_page_is_the_documents_of_its_images(made: Documents, signer: Signer) -> None:
    images = (an_image(title='"Cat" \\ \N{CAT}', tags=["a", "b"]), an_image())
    for _ in range(2):
        page = msgspec.json.decode(to_json(made.page(ImagePage(images, "more"))), type=PageDocument)
        assert page.items == [image_document(image, signer(image, "inline")) for image in images]
        assert page.next_cursor == "more"
    assert to_json(made.page(ImagePage((), None))) == b'{"items":[],"next_cursor":null}'


def test_the_same_image_and_url_are_encoded_once(made: Documents) -> None:
    image = an_image()
    assert made.image(image) is made.image(replace(image))


@pytest.mark.parametrize(
    "change",
    [
        {"title": Title("Dog"), "version": 2},
        {"title": Title("Dog")},  # as no store does it, without a version
        {"owner": UserId("bob")},
        {"created_at": NOON + INSTANT},
    ],
    ids=["a revision", "a change without a version", "another owner", "another upload under the same id"],
)
def test_no_other_image_gets_its_document(made: Documents, signer: Signer, change: dict[str, object]) -> None:
    image = an_image()
    other = replace(image, **change)  # type: ignore[arg-type]
    assert decoded(made, image) == image_document(image, signer(image, "inline"))
    assert decoded(made, other) == image_document(other, signer(other, "inline"))
    assert decoded(made, other) != decoded(made, image)


def test_a_url_that_changed_is_in_the_next_document(made: Documents, signer: Signer) -> None:
    image = an_image()
    first = decoded(made, image)
    signer.credentials = "second"  # in the middle of a window
    second = decoded(made, image)
    assert "by=first" in first.presigned_url
    assert "by=second" in second.presigned_url
    signer.expires_at += HOUR
    assert decoded(made, image).presigned_url_expires_at > second.presigned_url_expires_at


def test_only_so_many_documents_are_kept(signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_DOCUMENTS_KEPT", 3)
    made = Documents(signer)
    images = [an_image() for _ in range(4)]
    first = made.image(images[0])
    last = [made.image(image) for image in images[1:]]
    assert [made.image(image) is kept for image, kept in zip(images[1:], last, strict=True)] == [True] * 3
    assert made.image(images[0]) is not first
