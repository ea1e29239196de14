"""Prometheus metrics of requests and of messages on the bus, over all workers of one service."""

import os
import time
from functools import cache
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


class Metrics:
    """Counts and times. One a process; with ``PROMETHEUS_MULTIPROC_DIR`` set, a scrape of any worker tells of all."""

    def __init__(self) -> None:
        """Register the metrics in a registry of their own."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # twice the lines, for a time that nobody asks for
        self._registry = CollectorRegistry()
        requests = Counter(
            "calotype_http_requests",
            "Requests by route and status.",
            ["method", "route", "status"],
            registry=self._registry,
        )
        request_seconds = Histogram(
            "calotype_http_request_duration_seconds",
            "Time from a request's head to its answer's end.",
            ["method", "route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        messages = Counter(
            "calotype_messages", "Commands and queries by result.", ["message", "result"], registry=self._registry
        )
        message_seconds = Histogram(
            "calotype_message_duration_seconds",
            "Time that a command or query took.",
            ["message"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.rate_limit_fallbacks = Counter(
            "calotype_rate_limit_fallbacks",
            "Decisions that the shared store of rate limits should have made, and could not.",
            registry=self._registry,
        )
        # Finding a label's counter takes ten times as long as counting. The counters stay for ever anyway.
        self._requests, self._request_seconds = cache(requests.labels), cache(request_seconds.labels)
        self._messages, self._message_seconds = cache(messages.labels), cache(message_seconds.labels)

    def observe_request(self, observation: Observation) -> None:
        """Count a request.

        Paths that lead nowhere share one label, and so do methods that nobody answers: each label's counts stay in
        memory for ever, so nobody may make some at will.
        """
        route = observation.route or "none"
        method = observation.method if observation.method in _METHODS else "other"
        self._requests(method, route, observation.status).inc()
        self._request_seconds(method, route).observe(observation.duration_s)

    def __call__(self, message: Message, call_next: CallNext, /) -> Any:
        """Be bus middleware: count and time each message."""
        name = type(message).__name__
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
            self._messages(name, result).inc()
            self._message_seconds(name).observe(time.perf_counter() - begun)

    def page(self) -> tuple[bytes, str]:
        """Return the exposition and its content type."""
        registry = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4
