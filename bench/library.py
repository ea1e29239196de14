"""What the measured libraries hold: the same pictures under the same words, whoever keeps them. Pure.

Photo n of a library has the tags ``trip`` (all have it), ``place-0`` to ``place-9`` (1 in 10 has a given one) and
``event-0`` to ``event-39`` (1 in 40); a place and an event meet in 1 of 400. One in 20 is called ``Untitled``.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import NamedTuple

from tests.pictures import big_jpeg, png

READER = "ada"
"""Whose library it is."""
UPLOADER = "grace"
"""Who uploads into it, and downloads: nothing of hers comes between the pages of the other's."""
PAGE = 50
UNTITLED = "Untitled"
DESCRIPTION = "A photo of a bridge in fog, taken from the west bank."
ONE_IN_10, ONE_IN_40 = "place-3", "event-7"

_START = datetime(2026, 1, 1, tzinfo=UTC)

TOKEN_CHARS = 32
_SAMPLE = 200
_MARK = b"?" * TOKEN_CHARS


class Photo(NamedTuple):
    """What is said of one picture."""

    number: int
    title: str
    tags: tuple[str, ...]
    created_at: datetime


class Words(NamedTuple):
    """What a page must tell of each picture on it."""

    title: str
    tags: tuple[str, ...]


def photo(number: int) -> Photo:
    """Return the picture of this number."""
    title = UNTITLED if number % 20 == 0 else f"Photo {number}"
    tags = ("trip", f"place-{number % 10}", f"event-{number // 10 % 40}")
    return Photo(number, title, tags, _START + timedelta(seconds=number))


def newest(size: int, *, tags: tuple[str, ...] = (), title: str | None = None) -> list[Words]:
    """Return the page that a library of this size must give."""

    def found() -> Iterator[Words]:
        for each in map(photo, reversed(range(size))):
            if set(tags) <= set(each.tags) and title in {None, each.title}:
                yield Words(each.title, each.tags)

    return list(islice(found(), PAGE))


def sampled(size: int) -> list[Photo]:
    """Return pictures from all over a library."""
    return [photo(number) for number in range(0, size, max(1, size // _SAMPLE))][:_SAMPLE]


def small_picture() -> bytes:
    """Return what stands for every picture of a library; only those that are downloaded have bytes of their own."""
    return png(8, 8)


class Template(NamedTuple):
    """A JPEG but for a comment of 32 characters: filled in, each is another file, and a valid one."""

    head: bytes
    tail: bytes

    def filled(self, token: str) -> bytes:
        """Return the file."""
        if len(token) != TOKEN_CHARS:
            raise ValueError("the comment has another length")
        return self.head + token.encode() + self.tail


def jpeg_template(size_bytes: int) -> Template:
    """Return a JPEG of this size."""
    comment = b"\xff\xfe" + (2 + TOKEN_CHARS).to_bytes(2, "big") + _MARK
    data = big_jpeg(size_bytes - len(comment))
    head, tail = (data[:2] + comment + data[2:]).split(_MARK, 1)
    return Template(head, tail)
