"""What a request costs our own processor on AWS: Calotype's adapters against plain boto3, both given canned replies.

The replies come from a hook of botocore's in front of the network, so all that either side does is counted (making
the request, signing it, parsing the reply, making the document), and nothing that the network or a store does.
"""

import io
import itertools
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from adapters.dynamodb import DynamoMetadata, Tables
from adapters.dynamodb.items import record_item
from bench import growth
from bench.library import PAGE
from bench.sides import (
    ACCOUNT,
    OWNER,
    Clients,
    Ours,
    Plain,
    an_image,
    bootstrap,
    environment,
    new_clients,
    on_ministack,
)
from bench.table import markdown
from entrypoints.aws import RECORDS, aws_session, dynamodb_client
from entrypoints.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

_LATENCY_S, _IN_FLIGHT, _SECONDS = 0.02, 64, 4.0


class Row(NamedTuple):
    """One thing done both ways, how often a round, and the ratio that is wanted."""

    name: str
    ours: Callable[[], object]
    plain: Callable[[], object]
    times: int
    target: float | None


def measure(folder: Path, *, is_quick: bool) -> str:
    """Return tables: processor time a request, the same against a real server, as it grows, and 64 in flight."""
    rounds = 3 if is_quick else 15
    with environment(ACCOUNT):
        costs, throughput = _costs(rounds), _throughput()
    return f"{costs}\n{_end_to_end(folder, rounds)}\n{growth.measure(is_quick=is_quick)}\n{throughput}"


# ---- canned replies


def _costs(rounds: int) -> str:
    images = [an_image(number) for number in range(PAGE)]
    replies = {
        "Query": {"Items": [record_item(image) for image in images], "Count": PAGE, "ScannedCount": PAGE},
        "GetItem": {"Item": record_item(images[0])},
        "TransactWriteItems": {},
    }
    clients = new_clients()
    for client in (clients.dynamodb, clients.plain_dynamodb):
        canned = _Canned(client)
        for operation, reply in replies.items():
            canned.answer(operation, reply)
    for s3 in (clients.s3, clients.plain_s3):
        _Canned(s3).answer("PutObject", None)
    ours, plain = _sides(clients)
    first = images[0].image_id
    rows = [
        Row(f"list page of {PAGE}", ours.page, plain.page, 20, 0.35),
        Row("metadata by id", lambda: ours.metadata(first), lambda: plain.metadata(first), 100, 0.7),
        Row("upload 200 KB: its three calls", lambda: ours.upload(images[0]), lambda: plain.upload(images[0]), 40, 0.8),
    ]
    return _table("Client CPU on AWS, canned replies", rows, rounds, time.process_time)


# ---- a server that speaks AWS


def _end_to_end(folder: Path, rounds: int) -> str:
    with on_ministack(folder / "aws") as server:
        bootstrap(server)
        ours, plain = _sides(new_clients())
        numbers = itertools.count()
        for _ in range(PAGE):
            ours.upload(an_image(next(numbers)))
        first = an_image(0).image_id
        rows = [
            Row(f"list page of {PAGE}", ours.page, plain.page, 10, 0.35),
            Row("metadata by id", lambda: ours.metadata(first), lambda: plain.metadata(first), 40, 0.7),
            Row(
                "upload 200 KB: its three calls",
                lambda: ours.upload(an_image(next(numbers))),
                lambda: plain.upload(an_image(next(numbers))),
                10,
                0.8,
            ),
        ]
        cpu = _table("End to end on ministack over loopback: client CPU", rows, rounds, time.process_time)
        no_target = [row._replace(target=None) for row in rows]
        return (
            cpu + "\n" + _table("The same: elapsed time, most of it the server's", no_target, rounds, time.perf_counter)
        )


def _sides(clients: Clients) -> tuple[Ours, Plain]:
    return Ours(clients.dynamodb, clients.s3), Plain(clients.plain_dynamodb, clients.plain_s3)


def _table(title: str, rows: Sequence[Row], rounds: int, now: Callable[[], float]) -> str:
    lines = []
    for row in rows:
        row.ours()
        row.plain()
        us: dict[str, list[float]] = {"ours": [], "plain": []}
        for _ in range(rounds):
            us["ours"].append(_us_each(row.ours, row.times, now))
            us["plain"].append(_us_each(row.plain, row.times, now))
        ratios = sorted(mine / theirs for mine, theirs in zip(us["ours"], us["plain"], strict=True))
        middle = statistics.median(ratios)
        lines.append(
            [
                row.name,
                *(f"{statistics.median(us[who]):,.0f}" for who in ("ours", "plain")),
                f"{ratios[0]:.2f}, {middle:.2f}, {ratios[-1]:.2f}",
                "" if row.target is None else f"<= {row.target}: {'met' if middle <= row.target else 'not met'}",
            ]
        )
    return markdown(
        f"{title} (median of {rounds} interleaved rounds, {datetime.now(UTC):%Y-%m-%d})",
        ["request", "Calotype, us", "plain boto3, us", "ratio: min, median, max", "target"],
        lines,
    )


def _us_each(call: Callable[[], object], times: int, now: Callable[[], float]) -> float:
    begun = now()
    for _ in range(times):
        call()
    return (now() - begun) / times * 1e6


# ---- many in flight


def _throughput() -> str:
    ideal = _IN_FLIGHT / _LATENCY_S
    lines = []
    for processes in (1, 2):
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            threads = _IN_FLIGHT // processes
            # Once for the imports and the first of everything, then for the record.
            list(pool.map(_asked, [threads] * processes, [0.5] * processes))
            results = list(pool.map(_asked, [threads] * processes, [_SECONDS] * processes))
        each_s = sum(result.rate for result in results)
        cpu_us = statistics.mean(result.cpu_us for result in results)
        lines.append(
            [
                f"{processes} x {threads}",
                f"{ideal:,.0f}",
                f"{each_s:,.0f}",
                f"{cpu_us:,.0f}",
                f"{each_s / ideal:.2f}",
                f">= 0.9: {'met' if each_s / ideal >= 0.9 else 'not met'}",  # noqa: PLR2004 (the target)
            ]
        )
    return markdown(
        f"{_IN_FLIGHT} requests in flight, metadata by id, a store that takes {_LATENCY_S * 1000:.0f} ms",
        ["processes x threads", "ideal, 1/s", "reached, 1/s", "CPU us a request", "of the ideal", "target"],
        lines,
    )


class _Rate(NamedTuple):
    rate: float
    cpu_us: float


def _asked(threads: int, seconds: float) -> _Rate:
    """Ask for metadata by id from so many threads of this process."""
    with environment(ACCOUNT):
        settings = Settings(threads=threads)
        client = dynamodb_client(aws_session(settings), settings, RECORDS)
    image = an_image(0)
    _Canned(client, latency_s=_LATENCY_S).answer("GetItem", {"Item": record_item(image)})
    store = DynamoMetadata(client, Tables())
    until = time.monotonic() + seconds

    def ask(_: int) -> int:
        asked = 0
        while time.monotonic() < until:
            store.get(OWNER, image.image_id)
            asked += 1
        return asked

    cpu_s, begun = time.process_time(), time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        asked = sum(pool.map(ask, range(threads)))
    took_s = time.monotonic() - begun
    return _Rate(asked / took_s, (time.process_time() - cpu_s) / asked * 1e6)


# ---- canned replies


class _Canned:
    """Answers for the network, in front of it, after having read what would have been sent."""

    def __init__(self, client: "DynamoDBClient | S3Client", *, latency_s: float = 0) -> None:
        self._replies: dict[str, bytes] = {}
        self._latency_s = latency_s
        service = client.meta.service_model.service_name
        client.meta.events.register(f"before-send.{service}", self._reply)  # type: ignore[arg-type]  # it may answer

    def answer(self, operation: str, reply: object) -> None:
        self._replies[operation] = b"" if reply is None else json.dumps(reply).encode()

    def _reply(self, request: AWSPreparedRequest, event_name: str, **_: object) -> AWSResponse:
        body: Any = request.body
        while hasattr(body, "read") and body.read(64 * 1024):
            pass
        if self._latency_s:
            time.sleep(self._latency_s)
        reply = self._replies[event_name.rpartition(".")[2]]
        headers: Any = {
            "Content-Type": "application/x-amz-json-1.0",
            "Content-Length": str(len(reply)),
            "x-amzn-RequestId": "4KBNVRGD25RG1KEO9UT4V3FQDJVV4KQNSO5AEMVJF66Q9ASUAAJG",
            "ETag": '"d41d8cd98f00b204e9800998ecf8427e"',
        }
        return AWSResponse(request.url, 200, headers, _Raw(reply))


class _Raw(io.BytesIO):
    def stream(self, amount: int = 64 * 1024, **_: object) -> Iterator[bytes]:
        while piece := self.read(amount):
            yield piece
