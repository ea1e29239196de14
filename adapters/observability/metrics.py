"""Prometheus metrics of requests and of messages on the bus, over all workers of one service."""

import os
import threading
import time
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from adapters.observability.requests import Observation
from application.bus import CallNext, Message
from domain.errors import CalotypeError

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SHARED = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """Counts and times. One a process; with ``PROMETHEUS_MULTIPROC_DIR`` set, a scrape of any worker tells of all.

    What was observed waits in batches: to count one request at a time in files that workers share takes a tenth of
    what a small request costs. A scrape counts what waits in its own worker; whoever runs a worker calls `count` now
    and then, and at its end, for the scrapes of others.
    """

    def __init__(self) -> None:
        """Register the metrics in a registry of their own."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # twice the lines, for a time that nobody asks for
        self._registry = CollectorRegistry()
        self._requests = _Series(
            Counter(
                "calotype_http_requests",
                "Requests by route and status.",
                ["method", "route", "status"],
                registry=self._registry,
            ),
            _Histogram(
                "calotype_http_request_duration_seconds",
                "Time from a request's head to its answer's end.",
                ["method", "route"],
                buckets=_SECONDS,
                registry=self._registry,
            ),
        )
        self._messages = _Series(
            Counter(
                "calotype_messages", "Commands and queries by result.", ["message", "result"], registry=self._registry
            ),
            _Histogram(
                "calotype_message_duration_seconds",
                "Time that a command or query took.",
                ["message"],
                buckets=_SECONDS,
                registry=self._registry,
            ),
        )
        self.rate_limit_fallbacks = Counter(
            "calotype_rate_limit_fallbacks",
            "Decisions that the shared store of rate limits should have made, and could not.",
            registry=self._registry,
        )
        self.is_shared = _SHARED in os.environ
        """Whether scrapes of other workers tell of this one, too."""
        self._lock = threading.Lock()

    def observe_request(self, observation: Observation) -> None:
        """Count a request.

        Paths that lead nowhere share one label, and so do methods that nobody answers: each label's counts stay in
        memory for ever, so nobody may make some at will.
        """
        route = observation.route or "none"
        method = observation.method if observation.method in _METHODS else "other"
        self._observe(self._requests, (method, route, observation.status), observation.duration_s)

    def __call__(self, message: Message, call_next: CallNext, /) -> Any:
        """Be bus middleware: count and time each message."""
        begun = time.perf_counter()
        result = "ok"
        try:
            return call_next(message)
        except CalotypeError as error:
            result = type(error).__name__
            raise
        except BaseException:
            result = "crash"
            raise
        finally:
            self._observe(self._messages, (type(message).__name__, result), time.perf_counter() - begun)

    def page(self) -> tuple[bytes, str]:
        """Return the exposition and its content type."""
        self.count()
        registry = self._registry
        if self.is_shared:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4

    def _observe(self, series: "_Series", labels: "_Labels", duration_s: float) -> None:
        with self._lock:
            series.observe(labels, duration_s)

    def count(self) -> None:
        """Count what waits."""
        with self._lock:
            self._requests.count()
            self._messages.count()


_Labels = tuple[str | int, ...]


@dataclass(slots=True)
class _Times:
    """How often something took how long: a count for each of _SECONDS, the upper bounds, and for what took longer."""

    by_bucket: list[int] = field(default_factory=lambda: [0] * (len(_SECONDS) + 1))
    sum_s: float = 0.0


class _Histogram(Histogram):
    """A histogram that takes many observations at once."""

    def add(self, times: _Times) -> None:
        """Count what ``observe`` would have counted one by one."""
        self._sum.inc(times.sum_s)
        for bucket, count in zip(self._buckets, times.by_bucket, strict=True):
            if count:
                bucket.inc(count)


@dataclass(slots=True)
class _Series:
    """A counter by several labels, a histogram by all of them but the last, and what neither has counted yet."""

    counter: Counter
    histogram: _Histogram
    waiting: dict[_Labels, _Times] = field(default_factory=dict)

    def observe(self, labels: _Labels, duration_s: float) -> None:
        times = self.waiting.get(labels)
        if times is None:
            times = self.waiting[labels] = _Times()
        times.by_bucket[bisect_left(_SECONDS, duration_s)] += 1
        times.sum_s += duration_s

    def count(self) -> None:
        while self.waiting:
            # Taken out first: what fails in the middle is not counted twice.
            labels, times = self.waiting.popitem()
            self.counter.labels(*labels).inc(sum(times.by_bucket))
            self.histogram.labels(*labels[:-1]).add(times)
