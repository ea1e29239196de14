"""The contract of RateLimiter, over the reference model, the memory that workers share, and a real Redis."""

import asyncio
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from adapters.memory import MemoryRateLimiter
from adapters.redis import RedisRateLimiter
from adapters.shared_memory import SharedRateLimiter
from application.rate_limits import Budget, FailingOver, RateLimiter, Verdict
from domain.errors import Unavailable
from tests.redis_server import RedisServer, patient, redis_url
from tests.waiting import PATIENCE_S, until, wait_until

# A unit in half an hour: no test takes so long that one would come by itself.
BUDGET = Budget(burst=10, per_s=1 / 2000)
UNIT_S = 2000


class Buckets(Protocol):
    """A limiter, and time that passes for it when the test says so."""

    def open(self) -> RateLimiter:
        """Return the limiter as another thread or task would have it."""
        ...

    def take(self, cost: int = 1, bucket: bytes = b"ada", budget: Budget = BUDGET) -> Verdict: ...

    def pass_time(self, seconds: float) -> None: ...

    def gathered(self, takers: int, takes: int, cost: int, budget: Budget) -> int:
        """Return how many of the takes of several takers at a time were allowed."""
        ...


class Local:
    """In this process, on a clock of the test's own."""

    def __init__(self, make: Callable[[Callable[[], float]], RateLimiter]) -> None:
        self.now = 5_000.0
        self.limiter = make(lambda: self.now)

    def open(self) -> RateLimiter:
        return self.limiter

    def take(self, cost: int = 1, bucket: bytes = b"ada", budget: Budget = BUDGET) -> Verdict:
        return asyncio.run(self.limiter.take(bucket, budget, cost))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    def gathered(self, takers: int, takes: int, cost: int, budget: Budget) -> int:
        allowed: list[bool] = []

        def take() -> None:
            allowed.extend(self.take(cost, budget=budget).allowed for _ in range(takes))

        threads = [threading.Thread(target=take) for _ in range(takers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(allowed)


class OnRedis:
    """On a server, whose time can't be set: instead what it remembers is made older."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._own = uuid.uuid4().hex.encode()
        self._runner = asyncio.Runner()
        self._limiter = RedisRateLimiter.at(patient(url))
        self.raw = Redis.from_url(url)
        self._before = set(self.keys())

    def keys(self) -> list[bytes]:
        return list(self.raw.scan_iter(b"calotype:budget:*"))

    def own_keys(self) -> set[bytes]:
        return set(self.keys()) - self._before

    def open(self) -> RateLimiter:
        return self._limiter

    def take(self, cost: int = 1, bucket: bytes = b"ada", budget: Budget = BUDGET) -> Verdict:
        return self._runner.run(self._limiter.take(self._own + bucket, budget, cost))

    def pass_time(self, seconds: float) -> None:
        for key in self.own_keys():
            value = self.raw.get(key)
            if isinstance(value, bytes):
                at, missing = value.split()
                self.raw.set(key, b"%d %s" % (int(at) - round(seconds * 1e6), missing), keepttl=True)

    def gathered(self, takers: int, takes: int, cost: int, budget: Budget) -> int:
        others = [RedisRateLimiter.at(patient(self._url)) for _ in range(takers)]

        async def take(limiter: RateLimiter) -> int:
            return sum([(await limiter.take(self._own + b"ada", budget, cost)).allowed for _ in range(takes)])

        async def take_all() -> int:
            allowed = sum(await asyncio.gather(*map(take, others)))
            for other in others:
                await other.close()
            return allowed

        return self._runner.run(take_all())

    def close(self) -> None:
        for key in self.own_keys():
            self.raw.delete(key)
        self.raw.close()
        self._runner.run(self._limiter.close())
        self._runner.close()


@pytest.fixture(scope="session")
def redis_at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_url(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def on_redis(redis_at: str) -> Iterator[OnRedis]:
    opened = OnRedis(redis_at)
    yield opened
    opened.close()


@pytest.fixture
def shared_file(tmp_path: Path) -> Path:
    SharedRateLimiter.create(tmp_path / "budgets")
    return tmp_path / "budgets"


@pytest.fixture(params=["memory", "alone", "shared", "redis"])
def buckets(request: pytest.FixtureRequest) -> Iterator[Buckets]:
    match request.param:
        case "memory":
            yield Local(MemoryRateLimiter)
        case "redis":
            yield request.getfixturevalue("on_redis")
        case which:
            path: Path = request.getfixturevalue("shared_file")
            opened: list[SharedRateLimiter] = []

            def make(clock: Callable[[], float]) -> RateLimiter:
                alone = which == "alone"
                opened.append(
                    SharedRateLimiter.alone(clock=clock) if alone else SharedRateLimiter.shared(path, clock=clock)
                )
                return opened[0]

            yield Local(make)
            opened[0].close()


def missing(buckets: Buckets) -> float:
    return buckets.take(0).missing


# ---- what a bucket is


def test_a_bucket_that_nobody_has_seen_gives_its_burst_and_no_more(buckets: Buckets) -> None:
    assert [buckets.take().allowed for _ in range(12)] == [True] * 10 + [False] * 2


def test_a_refusal_takes_nothing(buckets: Buckets) -> None:
    assert buckets.take(7).allowed
    for _ in range(3):
        refused = buckets.take(4)
        assert not refused.allowed
        assert refused.missing == pytest.approx(7, abs=0.1)
    assert buckets.take(3).allowed


def test_a_verdict_says_what_is_missing_afterwards(buckets: Buckets) -> None:
    assert buckets.take(4).missing == pytest.approx(4, abs=0.1)
    assert buckets.take(6).missing == pytest.approx(10, abs=0.1)
    assert buckets.take(1).missing == pytest.approx(10, abs=0.1)


def test_units_come_back_with_time_and_never_more_than_the_bucket_holds(buckets: Buckets) -> None:
    buckets.take(10)
    buckets.pass_time(0.5 * UNIT_S)
    assert not buckets.take().allowed
    buckets.pass_time(3 * UNIT_S)
    assert [buckets.take().allowed for _ in range(4)] == [True, True, True, False]
    buckets.pass_time(1000 * UNIT_S)
    assert [buckets.take(5).allowed for _ in range(3)] == [True, True, False]


def test_what_costs_more_than_the_bucket_holds_is_allowed_when_it_is_full_and_worked_off(buckets: Buckets) -> None:
    assert buckets.take(25).allowed
    assert missing(buckets) == pytest.approx(25, abs=0.1)
    buckets.pass_time(15.5 * UNIT_S)
    assert [buckets.take(1).allowed, buckets.take(25).allowed] == [False, False]
    buckets.pass_time(UNIT_S)
    assert [buckets.take(1).allowed, buckets.take(25).allowed] == [True, False]
    buckets.pass_time(10 * UNIT_S)
    assert buckets.take(25).allowed


def test_units_can_be_given_back_but_no_more_than_are_missing(buckets: Buckets) -> None:
    buckets.take(10)
    given = buckets.take(-4)
    assert given.allowed
    assert given.missing == pytest.approx(6, abs=0.1)
    assert buckets.take(-40).missing == 0
    assert [buckets.take(5).allowed for _ in range(3)] == [True, True, False]
    buckets.take(25)
    assert buckets.take(-3, b"bob").missing == 0
    assert buckets.take(11, b"bob").missing == pytest.approx(11, abs=0.1)
    assert buckets.take(-3, b"bob").missing == pytest.approx(8, abs=0.1)


def test_looking_takes_nothing(buckets: Buckets) -> None:
    for _ in range(3):
        assert buckets.take(0) == Verdict(allowed=True, missing=0)
    buckets.take(10)
    assert buckets.take(0).allowed
    assert missing(buckets) == pytest.approx(10, abs=0.1)


def test_buckets_know_nothing_of_each_other(buckets: Buckets) -> None:
    names = [b"ada", b"Ada", b"", b"ada\0", b"x" * 10_000, bytes(range(256))]
    for name in names:
        assert [buckets.take(6, name).allowed for _ in range(2)] == [True, False]


def test_large_numbers_are_counted_to_the_last_unit(buckets: Buckets) -> None:
    tebibyte = 1024**4
    budget = Budget(tebibyte, 1e-9)
    assert buckets.take(tebibyte - 1, budget=budget).allowed
    assert [buckets.take(1, budget=budget).allowed for _ in range(2)] == [True, False]


def test_many_at_a_time_get_exactly_what_there_is(buckets: Buckets) -> None:
    assert buckets.gathered(takers=8, takes=50, cost=3, budget=Budget(1000, 1e-9)) == 333


# Whatever passes by itself on a real clock is far less than the half unit that steps differ by.
STEPS = st.lists(
    st.tuples(st.integers(0, 12), st.sampled_from([b"ada", b"bob"]), st.integers(-4, 25)), min_size=1, max_size=25
)


@given(steps=STEPS)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_any_sequence_goes_as_in_the_reference_model(buckets: Buckets, steps: list[tuple[int, bytes, int]]) -> None:
    model = Local(MemoryRateLimiter)
    run = uuid.uuid4().hex.encode()
    for halves, bucket, cost in steps:
        for each in (buckets, model):
            each.pass_time(halves * UNIT_S / 2)
        expected, got = (each.take(cost, run + bucket) for each in (model, buckets))
        assert got.allowed == expected.allowed
        assert got.missing == pytest.approx(expected.missing, abs=0.1)


# ---- the memory that workers share

_TAKE_MANY = """
import asyncio, sys, threading
from pathlib import Path
from adapters.shared_memory import SharedRateLimiter
from application.rate_limits import Budget
limiter = SharedRateLimiter.shared(Path(sys.argv[1]))
allowed = []
def take():
    for number in range(400):
        verdict = asyncio.run(limiter.take(b"bucket %d" % (number % 4), Budget(500, 1e-9), 1))
        allowed.append(verdict.allowed)
sys.stdin.readline()
threads = [threading.Thread(target=take) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sum(allowed))
"""


def test_processes_get_exactly_what_there_is_for_all_of_them(shared_file: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _TAKE_MANY, str(shared_file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert sum(int(process.communicate(timeout=120)[0]) for process in processes) == 4 * 500


_HOLD_ALL_LOCKS = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_process_that_dies_with_a_lock_keeps_nobody_out(shared_file: Path) -> None:
    command = [sys.executable, "-c", _HOLD_ALL_LOCKS, str(shared_file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        limiter = SharedRateLimiter.shared(shared_file)
        verdicts: list[Verdict] = []
        taking = threading.Thread(target=lambda: verdicts.append(asyncio.run(limiter.take(b"ada", BUDGET, 1))))
        taking.start()
        taking.join(0.2)
        assert verdicts == []
        holder.kill()
        taking.join(PATIENCE_S)
        assert [verdict.allowed for verdict in verdicts] == [True]
        limiter.close()


def test_names_that_somebody_makes_up_take_no_memory_and_help_nobody_who_owes(shared_file: Path) -> None:
    limiter = SharedRateLimiter.shared(shared_file)

    async def flood() -> list[bool]:
        for number in range(50):
            await limiter.take(b"debtor %d" % number, BUDGET, 10)
        for number in range(150_000):  # more than twice as many as there are places
            assert (await limiter.take(b"made up %d" % number, BUDGET, 1)).allowed
        return [(await limiter.take(b"debtor %d" % number, BUDGET, 1)).allowed for number in range(50)]

    assert asyncio.run(flood()) == [False] * 50
    assert shared_file.stat().st_size == SharedRateLimiter.SIZE_BYTES < 3 * 1024**2
    limiter.close()


def test_a_place_is_used_again_once_its_bucket_is_full() -> None:
    now = 0.0
    limiter = SharedRateLimiter.alone(clock=lambda: now)

    async def fill(generation: int) -> int:
        return sum([(await limiter.take(b"%d %d" % (generation, n), BUDGET, 10)).allowed for n in range(2_000)])

    for generation in range(3):
        assert asyncio.run(fill(generation)) == 2_000
        now += 11 * UNIT_S
    limiter.close()


# ---- Redis


def test_what_redis_remembers_names_nobody_and_expires(on_redis: OnRedis) -> None:
    on_redis.take(4, b"ada@example.com")
    (key,) = on_redis.own_keys()
    assert b"ada" not in key
    assert b"ada" not in (on_redis.raw.get(key) or b"")
    lives_ms = on_redis.raw.pttl(key)
    assert 3.9 * UNIT_S * 1000 < lives_ms <= 4 * UNIT_S * 1000
    on_redis.take(-4, b"ada@example.com")
    assert on_redis.own_keys() == set()
    on_redis.take(1, b"ada@example.com", Budget(10, 20.0))
    wait_until(lambda: not on_redis.own_keys())


def test_a_redis_that_is_not_there_or_says_nothing_is_told_of_soon() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        for listener in (silent, closed):
            url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"

            async def take(url: str = url) -> None:
                limiter = RedisRateLimiter.at(url)
                async with asyncio.timeout(PATIENCE_S):
                    with pytest.raises(Unavailable):
                        await limiter.take(b"ada", BUDGET, 1)
                await limiter.close()

            asyncio.run(take())


@pytest.mark.parametrize("options", ["bogus=1", "ssl_cert_reqs=perhaps"])
def test_options_that_there_are_not_are_told_of_before_the_first_request(options: str) -> None:
    with pytest.raises(ValueError, match="option"):
        RedisRateLimiter.at(f"rediss://127.0.0.1:1/0?{options}")


def test_while_redis_is_away_the_machine_keeps_the_budgets_alone(tmp_path: Path) -> None:
    told: list[Unavailable | None] = []
    with RedisServer(tmp_path) as server:

        async def go_through_an_outage() -> None:
            store = RedisRateLimiter.at(patient(server.url))
            limiter = FailingOver(
                store,
                SharedRateLimiter.alone(),
                clock=time.monotonic,
                told=told.append,
                fell_back=lambda: None,
                pause_s=0.05,
            )
            assert [(await limiter.take(b"ada", BUDGET, 6)).allowed for _ in range(2)] == [True, False]
            server.stop()
            assert [(await limiter.take(b"ada", BUDGET, 6)).allowed for _ in range(2)] == [True, False]
            assert len(told) == 1
            server.start()

            async def is_told_of() -> bool:
                await limiter.take(b"bob", BUDGET, 0)
                return len(told) > 1

            await until(is_told_of)
            assert told[1:] == [None]
            assert (await limiter.take(b"ada", BUDGET, 6)).allowed  # it has forgotten: it keeps nothing
            await store.close()

        asyncio.run(go_through_an_outage())
