"""The log's line for each request: together with others, soon, and never later than a failure."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from structlog.testing import capture_logs

from adapters.http.edge import RequestObservation
from adapters.observability.requests import RequestLog, bind_request
from tests.waiting import wait_until


def ended(request_id: str, *, error: BaseException | None = None) -> RequestObservation:
    return RequestObservation(
        request_id=request_id,
        method="GET",
        path="/p",
        route="/{x}",
        status=200 if error is None else 500,
        duration_s=0.0012345,
        response_bytes=5,
        error=error,
    )


def logged(check: Callable[[RequestLog, list[Any]], Any]) -> list[Any]:
    """Run a check on a loop with a log and the lines that come of it; return these."""
    with capture_logs() as lines:

        async def run() -> None:
            outcome = check(RequestLog(), lines)
            if outcome is not None:
                await outcome

        asyncio.run(run())
    return lines


def test_a_request_is_one_line_that_says_when_it_ended() -> None:
    before = datetime.now(UTC)

    def check(log: RequestLog, _: list[Any]) -> None:
        log(ended("a"))
        log.write()

    (line,) = logged(check)
    assert before <= datetime.fromisoformat(line.pop("timestamp")) <= datetime.now(UTC)
    assert line == {
        "event": "request",
        "log_level": "info",
        "request_id": "a",
        "method": "GET",
        "path": "/p",
        "status": 200,
        "duration_ms": 1.234,
        "response_bytes": 5,
        "exc_info": None,
    }


def test_lines_come_soon_and_in_order() -> None:
    async def check(log: RequestLog, lines: list[Any]) -> None:
        for _ in range(2):  # and again after they were written
            lines.clear()
            log(ended("a"))
            log(ended("b"))
            assert lines == []
            await asyncio.to_thread(wait_until, lambda: len(lines) == 2)
            assert [line["request_id"] for line in lines] == ["a", "b"]

    logged(check)


def test_a_failure_is_logged_at_once_behind_all_that_ended_before_it() -> None:
    failure = ValueError("no")

    def check(log: RequestLog, lines: list[Any]) -> None:
        log(ended("a"))
        log(ended("b", error=failure))
        assert [(line["request_id"], line["log_level"]) for line in lines] == [("a", "info"), ("b", "error")]
        assert lines[-1]["exc_info"] is failure

    assert len(logged(check)) == 2, "and not once more at the end"


def test_no_more_than_a_few_wait() -> None:
    def check(log: RequestLog, lines: list[Any]) -> None:
        for number in range(1000):
            log(ended(str(number)))
        assert len(lines) > 900

    logged(check)


def test_a_line_has_its_own_requests_id_whoever_writes_it() -> None:
    def check(log: RequestLog, _: list[Any]) -> None:
        bind_request("a")
        log(ended("a"))
        bind_request("b")
        log.write()

    assert [line["request_id"] for line in logged(check)] == ["a"]
