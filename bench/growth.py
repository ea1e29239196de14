"""What a page costs on AWS as the library grows tenfold: on ministack, seeded through the real adapters.

ministack is one Python process that sorts a whole partition for every Query, so the time that it takes grows. What a
page on AWS is paid by and waits for must not: its requests, the bytes of their replies, and our own processor's work.
"""

import hashlib
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from adapters.dynamodb.items import record_item
from application.ports import ByOwner, ByTags, ByTitle
from bench.compare import seeded
from bench.library import ONE_IN_10, PAGE, UNTITLED, Words, newest, photo
from bench.rows import FLAT_MOST
from bench.seed import image, image_id, seed_aws
from bench.sides import Clients, Ours, bootstrap, new_clients, on_ministack
from bench.table import markdown
from bench.wrk import Wrong
from domain.values import Tag, Title

if TYPE_CHECKING:
    from botocore.awsrequest import AWSResponse
    from botocore.model import OperationModel

# With fewer no page of a title, which one in twenty has, were full.
_QUICK, _SIZES = (1_000, 2_000), (1_000, 10_000)
_ROUNDS, _TIMES = 15, 3


class OnMinistack:
    """A library on ministack, in a folder with its state. See Seedable."""

    def schema(self) -> str:
        """See Seedable."""
        item = json.dumps(record_item(image(photo(0))), sort_keys=True)
        return hashlib.sha256(item.encode()).hexdigest()[:8]

    def seed(self, folder: Path, size: int) -> None:
        """See Seedable."""
        with on_ministack(folder) as server:
            bootstrap(server)
            seed_aws(size)
            server.stop()  # only now does it write its state


class Library(NamedTuple):
    """One that was seeded, under its clients, and what it is asked."""

    size: int
    clients: Clients
    asks: dict[str, Callable[[], bytes]]


@contextmanager
def opened(folder: Path, size: int) -> Iterator[Library]:
    """Serve a seeded folder, and change nothing in it.

    Raises:
        Wrong: a page of it is not what it must be.
    """
    with on_ministack(folder):
        clients = new_clients()
        ours = Ours(clients.dynamodb, clients.s3)
        pages: dict[str, tuple[Callable[[], bytes], list[Words]]] = {
            f"list page of {PAGE}": (lambda: ours.page(ByOwner()), newest(size)),
            "one tag (1 in 10)": (lambda: ours.page(ByTags((Tag(ONE_IN_10),))), newest(size, tags=(ONE_IN_10,))),
            "title (1 in 20)": (lambda: ours.page(ByTitle(Title(UNTITLED))), newest(size, title=UNTITLED)),
        }
        for name, (ask, foretold) in pages.items():
            if [Words(each["title"], tuple(each["tags"])) for each in json.loads(ask())["items"]] != foretold:
                raise Wrong(f"{name} of {size}: not the page that it must be")
        asks = {name: ask for name, (ask, _) in pages.items()}
        yield Library(size, clients, {**asks, "metadata by id": lambda: ours.metadata(image_id(size // 2))})


def measure(*, is_quick: bool) -> str:
    """Return the table. A library that was not seeded before is seeded now, which takes two minutes for the larger."""
    with ExitStack() as stack:
        folders = {size: seeded("ministack", OnMinistack(), size) for size in (_QUICK if is_quick else _SIZES)}
        return table([stack.enter_context(opened(folder, size)) for size, folder in folders.items()])


def table(libraries: Sequence[Library]) -> str:
    """Return what each ask costs in a library and in a larger one, in interleaved rounds."""
    small, large = libraries
    lines = []
    for name in small.asks:
        spent = [metered(each.clients, each.asks[name]) for each in libraries]
        taken = _taken([each.asks[name] for each in libraries])
        grown = sorted(more.cpu_us / less.cpu_us for less, more in zip(*taken, strict=True))
        reads_alike = spent[0].requests == spent[1].requests and (
            spent[1].read_bytes <= FLAT_MOST * spent[0].read_bytes
        )
        is_flat = reads_alike and statistics.median(grown) <= FLAT_MOST
        lines.append(
            [
                name,
                " / ".join(dict.fromkeys(_listed(each.requests) for each in spent)),
                " / ".join(f"{each.read_bytes:,}" for each in spent),
                " / ".join(f"{statistics.median(one.cpu_us for one in each):,.0f}" for each in taken),
                f"{grown[0]:.2f}, {statistics.median(grown):.2f}, {grown[-1]:.2f}",
                f"<= {FLAT_MOST}, and the same requests: {'met' if is_flat else 'not met'}",
                " / ".join(f"{statistics.median(one.elapsed_ms for one in each):,.1f}" for each in taken),
            ]
        )
    return markdown(
        f"On ministack, a library of {small.size:,} / {large.size:,} (median of {_ROUNDS} interleaved rounds)",
        [
            "request",
            "requests to AWS",
            "bytes read",
            "our CPU, us",
            "CPU, ratio: min, median, max",
            "target",
            "elapsed, ms: ministack's",
        ],
        lines,
    )


def _listed(requests: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in requests.items())


class Spent(NamedTuple):
    """What one call asked of AWS, and how much it was told."""

    requests: Counter[str]
    read_bytes: int


def metered(clients: Clients, ask: Callable[[], object]) -> Spent:
    """Ask once, and return what that took."""
    requests: Counter[str] = Counter()
    read_bytes = 0

    def count(http_response: "AWSResponse", model: "OperationModel", **_: Any) -> None:
        nonlocal read_bytes
        requests[model.name] += 1
        read_bytes += len(http_response.content)

    hooks = [(clients.dynamodb.meta.events, "after-call.dynamodb"), (clients.s3.meta.events, "after-call.s3")]
    for events, name in hooks:
        events.register(name, count)
    ask()
    for events, name in hooks:
        events.unregister(name, count)
    return Spent(requests, read_bytes)


class _Taken(NamedTuple):
    cpu_us: float
    elapsed_ms: float


def _taken(asks: Sequence[Callable[[], object]]) -> list[list[_Taken]]:
    """Return each round of each."""
    rounds = [[_timed(ask) for ask in asks] for _ in range(_ROUNDS)]
    return [list(each) for each in zip(*rounds, strict=True)]


def _timed(ask: Callable[[], object]) -> _Taken:
    begun, cpu_s = time.perf_counter(), time.process_time()
    for _ in range(_TIMES):
        ask()
    return _Taken((time.process_time() - cpu_s) / _TIMES * 1e6, (time.perf_counter() - begun) / _TIMES * 1e3)
