"""What is counted, under which names."""

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from adapters.http.edge import RequestObservation
from adapters.observability.metrics import _SECONDS, Metrics
from domain.errors import NotFound

ROOT = Path(__file__).parents[2]


def _observed(method: str, route: str, duration_s: float = 0.1) -> RequestObservation:
    return RequestObservation(
        request_id="r",
        method=method,
        path="/p",
        route=route,
        status=405,
        duration_s=duration_s,
        response_bytes=1,
        error=None,
    )


def _lines(page: bytes, name: str) -> list[str]:
    return [line for line in page.decode().splitlines() if line.startswith(name)]


def _series(metrics: Metrics) -> list[str]:
    return _lines(metrics.page()[0], "calotype_http_requests_total")


def test_a_request_is_counted_by_method_route_and_status() -> None:
    metrics = Metrics()
    metrics.observe_request(_observed("GET", "/api/v1/images"))
    metrics.observe_request(_observed("GET", "/api/v1/images"))
    assert _series(metrics) == ['calotype_http_requests_total{method="GET",route="/api/v1/images",status="405"} 2.0']


def test_nobody_makes_names_at_will() -> None:
    metrics = Metrics()
    for number in range(100):
        metrics.observe_request(_observed(f"METHOD{number}", ""))
    assert _series(metrics) == ['calotype_http_requests_total{method="other",route="none",status="405"} 100.0']


@given(st.lists(st.sampled_from([0.0, 0.0009, 0.001, 0.0011, 0.25, 9.9, 10.0, 10.1, 3600.0])))
def test_what_waited_is_counted_as_if_it_had_come_one_by_one(durations: list[float]) -> None:
    metrics = Metrics()
    registry = CollectorRegistry()
    reference = Histogram(
        "calotype_http_request_duration_seconds",
        "Time from a request's head to its answer's end.",
        ["method", "route"],
        buckets=_SECONDS,
        registry=registry,
    )
    for number, duration_s in enumerate(durations):
        metrics.observe_request(_observed("GET", "/r", duration_s))
        reference.labels("GET", "/r").observe(duration_s)
        if number % 3 == 0:
            metrics.count()
    ours, theirs = metrics.page()[0], generate_latest(registry)
    for counted in ("bucket", "count"):
        name = f"calotype_http_request_duration_seconds_{counted}"
        assert _lines(ours, name) == _lines(theirs, name)
    (sum_s,) = _lines(ours, "calotype_http_request_duration_seconds_sum") or [" 0"]
    assert float(sum_s.rpartition(" ")[2]) == pytest.approx(sum(durations))


def test_messages_are_counted_by_their_result() -> None:
    metrics = Metrics()

    def handler(message: object) -> None:
        if message == "bad":
            raise NotFound

    metrics("good", handler)  # type: ignore[arg-type]
    metrics.count()
    metrics("good", handler)  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        metrics("bad", handler)  # type: ignore[arg-type]
    assert _lines(metrics.page()[0], "calotype_messages_total") == [
        'calotype_messages_total{message="str",result="ok"} 2.0',
        'calotype_messages_total{message="str",result="NotFound"} 1.0',
    ]


def test_nothing_is_lost_between_threads() -> None:
    metrics = Metrics()

    def observe() -> None:
        for number in range(2000):
            metrics.observe_request(_observed("GET", "/r"))
            if number % 100 == 0:
                metrics.count()

    threads = [threading.Thread(target=observe) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _series(metrics) == ['calotype_http_requests_total{method="GET",route="/r",status="405"} 8000.0']
