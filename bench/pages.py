"""What a page of 50 costs in a library of 1,000 images and in one of 100,000: as ratios, in interleaved rounds."""

import http.client
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode
from uuid import UUID

import calotype
from adapters.sqlite import SqliteMetadata
from bench.table import markdown
from domain.reclaim import Reservation
from tests.service import Service

_SMALL, _LARGE = 1_000, 100_000
_ROUNDS, _REQUESTS = 9, 40
_OWNER = calotype.UserId("ada")
_START = datetime(2026, 1, 1, tzinfo=UTC)

_QUESTIONS: dict[str, list[tuple[str, str]]] = {
    "by owner": [],
    "one tag (1 image in 10)": [("filter_by", "tags"), ("tags", "tenth")],
    "any of two tags": [("filter_by", "tags"), ("tags", "tenth"), ("tags", "common")],
    "all of two tags": [("filter_by", "tags"), ("tags", "tenth"), ("tags", "common"), ("match", "all")],
    "by title (1 image in 20)": [("filter_by", "title"), ("title", "untitled")],
}


def measure(folder: Path) -> str:
    """Return a table of milliseconds and ratios."""
    for size in (_SMALL, _LARGE):
        _seed(folder / str(size), size)
    with Service(folder / str(_SMALL)) as small, Service(folder / str(_LARGE)) as large:
        asks = {size: _asker(service.port) for size, service in ((_SMALL, small), (_LARGE, large))}
        rows = [_row(name, question, asks) for name, question in _QUESTIONS.items()]
    return markdown(
        f"A page of 50 over HTTP, in libraries of {_SMALL:,} and {_LARGE:,} images of one owner "
        f"(median of {_ROUNDS} interleaved rounds of {_REQUESTS} requests)",
        ["page", f"ms at {_SMALL:,}", f"ms at {_LARGE:,}", "ratio: min, median, max"],
        rows,
    )


def _row(name: str, question: list[tuple[str, str]], asks: dict[int, Callable[[str], None]]) -> list[object]:
    path = "/api/v1/images?" + urlencode([*question, ("limit", "50")])
    times: dict[int, list[float]] = {_SMALL: [], _LARGE: []}
    for _ in range(_ROUNDS):
        for size, ask in asks.items():
            begun = time.perf_counter()
            for _ in range(_REQUESTS):
                ask(path)
            times[size].append((time.perf_counter() - begun) / _REQUESTS * 1000)
    ratios = sorted(big / little for little, big in zip(times[_SMALL], times[_LARGE], strict=True))
    return [
        name,
        f"{statistics.median(times[_SMALL]):.2f}",
        f"{statistics.median(times[_LARGE]):.2f}",
        f"{ratios[0]:.2f}, {statistics.median(ratios):.2f}, {ratios[-1]:.2f}",
    ]


def _asker(port: int) -> Callable[[str], None]:
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def ask(path: str) -> None:
        connection.request("GET", path, headers={"X-User-ID": _OWNER})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200 or body.count(b'"image_id"') != 50:  # noqa: PLR2004 (a full page)
            raise RuntimeError(f"{path}: {answer.status} {body[:200]!r}")

    return ask


def _seed(data_dir: Path, count: int) -> None:
    """Fill a library through the real adapter. The images have no bytes; a page does not look at them."""
    data_dir.mkdir(parents=True)
    store = SqliteMetadata(data_dir / "catalog.sqlite3")
    holder = UUID(int=1)
    for number in range(count):
        at = _START + timedelta(seconds=number)
        image = _image(number, at)
        store.reserve(Reservation(image_id=image.image_id, owner=_OWNER, holder=holder, lease_until=at, due=at), at=at)
        store.commit(image, holder=holder)
    store.close()


def _image(number: int, at: datetime) -> calotype.Image:
    tags = ["common", *(["tenth"] if number % 10 == 0 else [])]
    return calotype.Image(
        image_id=UUID(int=(number * 2654435761) % 2**64 << 64 | number),
        owner=_OWNER,
        filename=calotype.Filename(f"photo-{number}.jpg"),
        title=calotype.Title("Untitled" if number % 20 == 0 else f"Photo {number}"),
        description=calotype.Description("A photo of a bridge in fog, taken from the west bank."),
        tags=calotype.parse_tags(tags),
        media_type=calotype.MediaType.JPEG,
        size_bytes=200_000,
        width=1600,
        height=1200,
        sha256=f"{number:064x}",
        created_at=at,
        updated_at=at,
    )
