"""What is counted, under which names."""

from adapters.http.edge import RequestObservation
from adapters.observability.metrics import Metrics


def _observed(method: str, route: str) -> RequestObservation:
    return RequestObservation(
        request_id="r", method=method, path="/p", route=route, status=405, duration_s=0.1, response_bytes=1, error=None
    )


def _series(metrics: Metrics) -> list[str]:
    page, _ = metrics.page()
    return [line for line in page.decode().splitlines() if line.startswith("calotype_http_requests_total")]


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
