"""What is measured side by side, and what Calotype is to reach there."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.library import ONE_IN_10, ONE_IN_40, UNTITLED
from bench.peers import Library
from bench.wrk import Ask

SMALL, MEDIUM, LARGE = 1_000, 20_000, 1_000_000
JPEG_BYTES, BIG_JPEG_BYTES = 200_000, 5_000_000


@dataclass(frozen=True, kw_only=True)
class Row:
    """One kind of request, put to a library of one size on some connections at once.

    ``most_cpu`` and ``least_rate`` are targets: Calotype's CPU a request and requests a second, as ratios to
    PocketBase's in the same round.
    """

    name: str
    title: str
    ask: Callable[[Library], Ask]
    size: int = SMALL
    connections: int = 8
    writes: bool = False
    quick: bool = True
    most_cpu: float | None = None
    least_rate: float | None = None


def _upload(connections: int, *, quick: bool) -> Row:
    return Row(
        name=f"upload-{connections}",
        title=f"upload, {connections} at once" if connections > 1 else "upload, one at a time",
        ask=lambda library: library.upload(JPEG_BYTES),
        connections=connections,
        writes=True,
        quick=quick,
        most_cpu=1.0,
        least_rate=1.0,
    )


def _pages(size: int) -> list[Row]:
    number = {SMALL: "1k", MEDIUM: "20k", LARGE: "1M"}[size]
    is_medium = size == MEDIUM
    rows = [
        Row(
            name=f"list-{number}",
            title=f"list 50 of {number}",
            ask=lambda library: library.page(),
            size=size,
            most_cpu=0.7,
            least_rate=1.4,
        ),
        Row(
            name=f"tag-{number}",
            title=f"one tag (1 in 10) in {number}",
            ask=lambda library: library.page(tags=(ONE_IN_10,)),
            size=size,
        ),
        Row(
            name=f"title-{number}",
            title=f"title (1 in 20) in {number}",
            ask=lambda library: library.page(title=UNTITLED),
            size=size,
        ),
    ]
    if size > SMALL:
        rows += [
            Row(
                name=f"rare-tag-{number}",
                title=f"one tag (1 in 40) in {number}",
                ask=lambda library: library.page(tags=(ONE_IN_40,)),
                size=size,
                most_cpu=0.15 if is_medium else None,
                least_rate=5 if is_medium else None,
            ),
            Row(
                name=f"two-tags-{number}",
                title=f"two tags, all (1 in 400) in {number}",
                ask=lambda library: library.page(tags=(ONE_IN_10, ONE_IN_40)),
                size=size,
            ),
        ]
    return rows


ROWS = [
    _upload(1, quick=False),
    _upload(8, quick=True),
    _upload(32, quick=False),
    *_pages(SMALL),
    *_pages(MEDIUM),
    *_pages(LARGE),
    Row(
        name="metadata",
        title="metadata by id",
        ask=lambda library: library.metadata(),
        size=MEDIUM,
        most_cpu=1.0,
        least_rate=1.0,
    ),
    Row(
        name="download-200k",
        title="download of 200 KB",
        ask=lambda library: library.download(JPEG_BYTES),
        most_cpu=0.8,
        least_rate=1.2,
    ),
    Row(
        name="download-5m",
        title="download of 5 MB",
        ask=lambda library: library.download(BIG_JPEG_BYTES),
        least_rate=1.2,
    ),
    Row(name="not-modified", title="304 of an image", ask=lambda library: library.not_modified(JPEG_BYTES)),
    Row(name="one-byte", title="1 byte of an image", ask=lambda library: library.one_byte(JPEG_BYTES)),
]

FLAT = {"list": "by owner", "tag": "by tag (1 in 10)", "title": "by title"}
"""The pages that must cost the same in a library of any size, by the beginning of their rows' names."""
FLAT_MOST = 1.5
START_MOST_S = 1.5
IDLE_MOST_BYTES = 110_000_000
