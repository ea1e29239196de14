"""Budgets of owners and addresses, shared by workers and by machines, on a real server."""

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.client import IMAGES, Api, connection, fetch, problem, upload_head
from tests.e2e.client import answer_from as answered
from tests.pictures import big_jpeg
from tests.redis_server import RedisServer, patient
from tests.service import Service
from tests.waiting import wait_until

# By the hour: nothing that counts comes back while a test runs.
LIMITS = {
    "CALOTYPE_RATE_LIMIT": "reads=40/h, writes=6/h, bytes=2MiB/h",
    "CALOTYPE_RATE_LIMIT_ADDRESS": "reads=12/h, writes=3/h, bytes=1MiB/h",
    "CALOTYPE_TRUSTED_PROXIES": "127.0.0.0/8",
}
LIMITED = {
    "reads": ('"reads";q=40;w=3600', '"reads";r=0;t=90', 90),
    "writes": ('"writes";q=6;w=3600', '"writes";r=0;t=600', 600),
}


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two workers with budgets that are soon used up."""
    root = tmp_path_factory.mktemp("limited")
    (root / "tmp").mkdir()
    with Service(root / "data", workers=2, settings={"TMPDIR": str(root / "tmp"), **LIMITS}) as running:
        yield running


def check_limited(response: httpx.Response, budget: str) -> None:
    problem(response, 429, "rate_limited")
    policy, left, wait_s = LIMITED[budget]
    assert response.headers["ratelimit-policy"] == policy
    # What has come back since the budget was used up, if the machine is slow.
    assert (response.headers["ratelimit"] == left) or int(response.headers["retry-after"]) < wait_s
    assert 1 <= int(response.headers["retry-after"]) <= wait_s


def at_a_time(calls: int, call: Callable[[], httpx.Response]) -> list[httpx.Response]:
    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(lambda _: call(), range(calls)))


def test_all_workers_together_give_an_owner_exactly_the_budget(limited: Service) -> None:
    # A connection each: the workers share them.
    responses = at_a_time(120, lambda: fetch(f"{limited.base_url}{IMAGES}", x_user_id="crowd"))
    assert Counter(response.status_code for response in responses) == {200: 40, 429: 80}
    for response in responses:
        if response.status_code == 429:
            check_limited(response, "reads")
    told = [
        response.headers["ratelimit"]
        for response in responses
        if response.status_code == 200 and "ratelimit" in response.headers
    ]
    left = sorted(int(re.fullmatch(r'"reads";r=(\d+);t=90', value)[1]) for value in told)  # type: ignore[index]
    assert left == list(range(10))  # the last quarter
    assert fetch(f"{limited.base_url}{IMAGES}", x_user_id="somebody-else").status_code == 200


def test_reading_does_not_use_up_what_may_be_written_and_a_refusal_changes_nothing(limited: Service) -> None:
    writer = Api(limited, "writer")
    stored = [writer.uploaded()["image_id"] for _ in range(6)]
    check_limited(writer.upload(), "writes")
    check_limited(writer.delete(stored[0]), "writes")
    check_limited(writer.patch(stored[0], {"title": "Changed"}), "writes")
    assert sorted(writer.ids()) == sorted(stored)
    assert writer.metadata(stored[0]).json()["title"] != "Changed"


def test_who_is_refused_need_not_send_the_body(limited: Service) -> None:
    eager = Api(limited, "eager")
    for _ in range(6):
        eager.http.post(f"{IMAGES}/{'0' * 36}/restore")
    with connection(limited) as raw:
        raw.sendall(upload_head("eager", 20_000_000).replace(b"\n", b"\r\n") + b"\r\n")
        problem(answered(raw), 429, "rate_limited")


def test_refusals_are_counted_and_logged_as_such(limited: Service) -> None:
    for _ in range(42):
        fetch(f"{limited.base_url}{IMAGES}/limits-nothing", x_user_id="logged", x_request_id="the-logged-one")
    wait_until(lambda: len(refused_lines(limited, "the-logged-one")) >= 2)  # written a moment after their answers
    refused = refused_lines(limited, "the-logged-one")
    assert len(refused) == 2
    assert all(line["level"] == "info" and "exception" not in line for line in refused)
    counted = 'calotype_http_requests_total{method="GET",route="/api/v1/images/{image_id}",status="429"}'
    # Another worker's are counted a moment later. An address may not ask so often, so each time it is another one.
    addresses = (f"2001:db8:{number:x}::1" for number in count(1))
    wait_until(lambda: counted in fetch(f"{limited.base_url}/metrics", x_forwarded_for=next(addresses)).text)


def refused_lines(service: Service, request_id: str) -> list[dict[str, Any]]:
    lines = [line for line in service.log.read_text().splitlines() if request_id in line and line.endswith("}")]
    return [line for line in map(json.loads, lines) if line.get("status") == 429]


def test_presigned_urls_are_limited_by_address_and_no_header_of_the_owner_helps(limited: Service) -> None:
    image = Api(limited, "sharer").uploaded()
    here = {"x_forwarded_for": "198.51.100.1"}
    opened = [fetch(image["presigned_url"], **here, x_user_id="sharer").status_code for _ in range(14)]
    assert opened == [200] * 12 + [429] * 2
    problem(fetch(image["presigned_url"], **here), 429, "rate_limited")
    problem(fetch(image["presigned_url"], x_forwarded_for="192.0.2.66, 198.51.100.1"), 429, "rate_limited")
    assert fetch(image["presigned_url"], x_forwarded_for="198.51.100.1, 192.0.2.66").status_code == 200
    assert Api(limited, "sharer").get(image["image_id"], **here).status_code == 200


def test_addresses_of_one_customer_are_one(limited: Service) -> None:
    image = Api(limited, "sharer-6").uploaded()
    opened = [
        fetch(image["presigned_url"], x_forwarded_for=f"2001:db8:7:7:{number:x}::1").status_code for number in range(14)
    ]
    assert opened == [200] * 12 + [429] * 2
    assert fetch(image["presigned_url"], x_forwarded_for="2001:db8:7:8::1").status_code == 200


def test_guessing_is_limited_by_address_and_shuts_nobody_else_out(limited: Service) -> None:
    image = Api(limited, "guessed").uploaded()
    here = {"x_forwarded_for": "198.51.100.2"}
    for _ in range(12):
        problem(fetch(f"{limited.base_url}{IMAGES}", **here), 401, "unauthenticated")
    problem(fetch(f"{limited.base_url}{IMAGES}", **here), 429, "rate_limited")
    problem(fetch(f"{limited.base_url}{IMAGES}", **here, x_user_id="no spaces"), 429, "rate_limited")
    assert fetch(f"{limited.base_url}{IMAGES}", **here, x_user_id="guessed").status_code == 200
    assert fetch(image["presigned_url"], **here).status_code == 200


def test_health_is_told_to_everybody_and_the_rest_of_the_service_by_address(limited: Service) -> None:
    here = {"x_forwarded_for": "198.51.100.3"}
    paths = ["/metrics", "/openapi.json", "/docs", "/api/v1/limits"]
    told = [fetch(limited.base_url + paths[number % 4], **here).status_code for number in range(14)]
    assert told == [200] * 12 + [429] * 2
    for _ in range(20):
        assert fetch(f"{limited.base_url}/health/live", **here).status_code == 200
        # A store that takes long to answer is another thing.
        assert fetch(f"{limited.base_url}/health/ready", **here).status_code in {200, 503}


def test_bytes_that_come_and_go_are_paid_for(limited: Service) -> None:
    trader = Api(limited, "trader")
    content = big_jpeg(500_000)
    image = trader.uploaded(content)
    status = [trader.get(image["image_id"]).status_code for _ in range(4)]
    assert status == [200, 200, 200, 429]
    assert trader.get(image["image_id"], Range="bytes=0-99").status_code == 206
    assert trader.head(image["image_id"]).status_code == 200
    assert trader.get(image["image_id"], If_None_Match=f'"{image["sha256"]}"').status_code == 304
    refused = trader.get(image["image_id"])
    problem(refused, 429, "rate_limited")
    assert refused.headers["ratelimit-policy"] == '"bytes";q=2097152;qu="content-bytes";w=3600'
    with connection(limited) as raw:
        raw.sendall(upload_head("trader", 500_000).replace(b"\n", b"\r\n") + b"\r\n")
        problem(answered(raw), 429, "rate_limited")
    there = {"x_forwarded_for": "198.51.100.4"}
    assert [fetch(image["presigned_url"], **there).status_code for _ in range(3)] == [200, 200, 429]


def test_bytes_that_never_came_cost_nothing(limited: Service) -> None:
    vanishing = Api(limited, "vanishing")
    image_id = vanishing.uploaded(big_jpeg(20_000))["image_id"]
    for _ in range(2):
        with connection(limited) as raw:
            raw.sendall(upload_head("vanishing", 2_050_000).replace(b"\n", b"\r\n") + b"\r\n")
        # Until the server has seen that nobody is there, the bytes are still paid for. Asking too often costs reads.
        for number in range(10):
            time.sleep(0.1 * 2**number)
            if vanishing.get(image_id).status_code == 200:
                break
        else:
            pytest.fail("the bytes are still paid for")


def test_without_limits_nobody_is_limited(tmp_path: Path) -> None:
    with Service(tmp_path / "data", settings={"CALOTYPE_RATE_LIMIT": "off"}) as service, service.client() as client:
        for _ in range(60):
            response = client.get(IMAGES)
            assert (response.status_code, "ratelimit" in response.headers) == (200, False)


# ---- several machines


def test_machines_share_budgets_in_redis_and_go_on_alone_when_it_is_away(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    with RedisServer(tmp_path / "redis") as store:
        settings = {"CALOTYPE_RATE_LIMIT": "reads=10/h", "CALOTYPE_RATE_LIMIT_URL": patient(store.url)}
        with Service(tmp_path / "one", settings=settings) as one, Service(tmp_path / "two", settings=settings) as two:
            status = [fetch(f"{machine.base_url}{IMAGES}", x_user_id="ada").status_code for machine in (one, two) * 7]
            assert status == [200] * 10 + [429] * 4

            store.stop()
            for machine in (one, two):
                alone = [fetch(f"{machine.base_url}{IMAGES}", x_user_id="ada").status_code for _ in range(12)]
                assert alone == [200] * 10 + [429] * 2
                assert machine.log.read_text().count("rate_limit_store_away") == 1
                assert store.url not in machine.log.read_text()
                page = fetch(f"{machine.base_url}/metrics").text
                assert re.search(r"^calotype_rate_limit_fallbacks_total 1[2-9]\.0$", page, re.MULTILINE)


def test_a_store_that_is_away_at_the_start_keeps_nobody_out(tmp_path: Path) -> None:
    settings = {"CALOTYPE_RATE_LIMIT": "reads=2/h", "CALOTYPE_RATE_LIMIT_URL": "redis://127.0.0.1:1/0"}
    with Service(tmp_path / "one", settings=settings) as service:
        status = [fetch(f"{service.base_url}{IMAGES}", x_user_id="ada").status_code for _ in range(3)]
        assert status == [200, 200, 429]
