"""What runs beside the requests: it outlives a log that takes nothing, and its end leaves nothing undone."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
import structlog
from litestar import Litestar

from adapters.http.edge import Edge
from adapters.http.jwks import ALGORITHMS, FetchFailed, KeySet
from adapters.observability.logging import _Lines
from adapters.observability.metrics import Metrics
from adapters.observability.requests import RequestLog
from application.bus import Bus, CallNext, Message, Outcome
from application.commands.sweep import Sweep, SweepReport
from application.rate_limits import Budget
from domain.errors import Unavailable
from entrypoints.asgi import _sweep_forever, create_application
from entrypoints.container import Container
from entrypoints.rate_limits import open_limiting
from entrypoints.settings import parse_settings
from tests.waiting import PATIENCE_S, until

ROOT = Path(__file__).parents[2]
FULL = Path("/dev/full")


class Died(BaseException):
    """What nobody expects."""


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await test()

    asyncio.run(bounded())


@pytest.fixture
def full_log() -> Iterator[None]:
    """All loggers write to a disk that is full."""
    if not FULL.exists():
        pytest.skip("there is no /dev/full here")
    with FULL.open("wb", buffering=0) as raw, TextIOWrapper(raw, write_through=True) as file:
        lines = _Lines(file)
        structlog.configure(processors=[structlog.processors.JSONRenderer(default=str)], logger_factory=lines.logger)
        yield
        structlog.reset_defaults()
        lines.error("so that none waits for a file that is closed")


# ---- a log on a full disk


@pytest.mark.usefixtures("full_log")
@pytest.mark.parametrize("failure", [Unavailable("no disk"), ZeroDivisionError()])
def test_sweeping_goes_on_while_the_log_takes_nothing(failure: Exception) -> None:
    sweeps = 0

    def sweep(_: Sweep) -> Outcome[SweepReport]:
        nonlocal sweeps
        sweeps += 1
        if sweeps % 2:
            raise failure
        return Outcome(SweepReport(images=1, reason="x" * 5000))

    async def test() -> None:
        task = asyncio.create_task(_sweep_forever(Bus(commands={Sweep: sweep}, queries={}), interval_s=0))

        async def has_swept_often() -> bool:
            assert not task.done()
            return sweeps > 5

        await until(has_swept_often)
        task.cancel()

    run(test)


@pytest.mark.usefixtures("full_log")
def test_a_failure_is_answered_and_counted_while_the_log_takes_nothing() -> None:
    metrics, sent = Metrics(), list[Any]()

    async def app(scope: Any, _: Any, send: Any) -> None:
        scope["state"]["error"] = Unavailable("no disk")
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": b"no"})

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(event: Any) -> None:
        sent.append(event)

    async def test() -> None:
        edge = Edge(app, observers=[RequestLog(), metrics.observe_request])
        await edge({"type": "http", "method": "GET", "path": "/x", "headers": []}, receive, send)

    run(test)
    assert [event["type"] for event in sent] == ["http.response.start", "http.response.body"]
    assert b'calotype_http_requests_total{method="GET",route="none",status="503"} 1.0' in metrics.page()[0]


@pytest.mark.usefixtures("full_log")
def test_an_issuer_is_asked_again_while_the_log_takes_nothing() -> None:
    asked = 0

    async def fetch() -> bytes:
        nonlocal asked
        asked += 1
        raise FetchFailed("away")

    async def test() -> None:
        async def was_asked_often() -> bool:
            return asked > 3

        async with KeySet(fetch, algorithms=ALGORITHMS, max_age_s=0, min_age_s=0).kept_fresh():
            await until(was_asked_often)

    run(test)


# ---- the end


def lifespan(edge: Edge) -> AbstractAsyncContextManager[None]:
    assert isinstance(edge.app, Litestar)
    return edge.app.lifespan()


@pytest.mark.filterwarnings("ignore::litestar.exceptions.LitestarDeprecationWarning")
def test_a_sweeper_that_died_leaves_no_store_open_and_no_line_unwritten(tmp_path: Path) -> None:
    def die(message: Message, call_next: CallNext, /) -> Any:
        if isinstance(message, Sweep):
            raise Died
        return call_next(message)

    settings = parse_settings({"CALOTYPE_DATA_DIR": str(tmp_path), "CALOTYPE_SWEEP_INTERVAL_S": "1"})
    container = Container(settings=settings)
    container.middleware.add_args(die)
    edge = create_application(container, settings)
    stores = container.stores()

    async def has_died() -> bool:
        sweeping = _sweep_forever.__code__
        return all(getattr(task.get_coro(), "cr_code", None) is not sweeping for task in asyncio.all_tasks())

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Any) -> None:
        pass

    async def serve() -> None:
        async with lifespan(edge):
            await until(has_died)
            scope = {"type": "http", "method": "GET", "path": "/x", "raw_path": b"/x", "query_string": b""}
            await edge({**scope, "root_path": "", "headers": [], "app": edge.app}, receive, send)

    async def test() -> None:
        with structlog.testing.capture_logs() as lines:
            with pytest.raises(BaseExceptionGroup):  # litestar makes a group of one
                await serve()
            assert [line["path"] for line in lines if line["event"] == "request"] == ["/x"]

    run(test)
    with pytest.raises(Unavailable):
        stores.metadata.ping()


@pytest.mark.filterwarnings("ignore::litestar.exceptions.LitestarDeprecationWarning")
def test_the_stores_stay_open_until_the_last_sweep_has_ended(tmp_path: Path) -> None:
    begun, go_on, reports = threading.Event(), threading.Event(), list[Any]()

    def wait(message: Message, call_next: CallNext, /) -> Any:
        if isinstance(message, Sweep):
            begun.set()
            go_on.wait(PATIENCE_S)
            reports.append(call_next(message))
            return reports[-1]
        return call_next(message)

    settings = parse_settings({"CALOTYPE_DATA_DIR": str(tmp_path), "CALOTYPE_SWEEP_INTERVAL_S": "1"})
    container = Container(settings=settings)
    container.middleware.add_args(wait)
    edge = create_application(container, settings)

    async def has_begun() -> bool:
        return begun.is_set()

    async def test() -> None:
        async with lifespan(edge):
            await until(has_begun)
            asyncio.get_running_loop().call_later(0.1, go_on.set)
        assert len(reports) == 1

    try:
        run(test)
    finally:
        go_on.set()


def test_what_keeps_budgets_and_keys_ends_with_a_server_that_fails() -> None:
    async def fetch() -> bytes:
        raise FetchFailed("away")

    limiting = open_limiting(parse_settings({"CALOTYPE_RATE_LIMIT": "reads=10/h"}), fell_back=lambda: None)
    assert limiting is not None

    keys = KeySet(fetch, algorithms=ALGORITHMS, max_age_s=PATIENCE_S, min_age_s=PATIENCE_S)

    async def serve() -> None:
        async with limiting.closing(Litestar()), keys.kept_fresh():
            await asyncio.sleep(0)
            raise Died

    async def test() -> None:
        with pytest.raises(Died):
            await serve()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(test)
    with pytest.raises(ValueError, match="closed"):
        asyncio.run(limiting.machine.take(b"ada", Budget(burst=1, per_s=1), 1))


def test_a_process_that_ends_has_written_all_its_lines() -> None:
    program = """
from adapters.observability.logging import configure_logging
import structlog
configure_logging("json", "info")
structlog.get_logger("x").info("last words")
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "last words" in done.stderr
