"""Token buckets, by their reference model; what is asked while the store is away; and what an operator may write."""

import asyncio
import threading
import traceback
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.memory import MemoryRateLimiter
from application.rate_limits import Budget, Budgets, FailingOver, Verdict
from domain.errors import Unavailable
from entrypoints.budgets import parse_budgets, parse_networks, tenfold
from entrypoints.rate_limits import prepare_limiting
from entrypoints.settings import SettingsError, parse_settings
from tests.waiting import PATIENCE_S

BUDGET = Budget(burst=10, per_s=2.0)


@dataclass
class Time:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def take(limiter: MemoryRateLimiter | FailingOver, cost: int = 1, budget: Budget = BUDGET) -> Verdict:
    return asyncio.run(limiter.take(b"ada", budget, cost))


# ---- the bucket

STEPS = st.lists(st.tuples(st.floats(0, 8), st.integers(1, 10)), max_size=60)


@given(STEPS)
def test_in_no_stretch_of_time_is_more_taken_than_the_burst_and_what_came_in_it(steps: list[tuple[float, int]]) -> None:
    time = Time()
    limiter = MemoryRateLimiter(time)
    taken: list[tuple[float, int]] = []
    for pause, cost in steps:
        time.now += pause
        if take(limiter, cost).allowed:
            taken.append((time.now, cost))
    for first, (begin, _) in enumerate(taken):
        total = 0
        for at, cost in taken[first:]:
            total += cost
            assert total <= BUDGET.burst + BUDGET.per_s * (at - begin) + 1e-6


@given(STEPS)
def test_what_is_refused_would_have_been_too_much(steps: list[tuple[float, int]]) -> None:
    time = Time()
    limiter = MemoryRateLimiter(time)
    left = float(BUDGET.burst)
    for pause, cost in steps:
        time.now += pause
        left = min(BUDGET.burst, left + pause * BUDGET.per_s)
        verdict = take(limiter, cost)
        if verdict.allowed:
            left -= cost
        else:
            assert cost > left - 1e-6
        assert verdict.missing == pytest.approx(BUDGET.burst - left, abs=1e-6)


def test_threads_get_exactly_what_there_is() -> None:
    limiter = MemoryRateLimiter(Time())
    allowed = []

    def take_many() -> None:
        allowed.append(sum(take(limiter, 3, Budget(1000, 1.0)).allowed for _ in range(100)))

    threads = [threading.Thread(target=take_many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(allowed) == 333


# ---- a store that is away


@dataclass
class Store:
    """A limiter that may be away, and counts how often it is asked."""

    away: bool = False
    asked: int = 0

    async def take(self, bucket: bytes, budget: Budget, cost: int) -> Verdict:
        del bucket, budget, cost
        self.asked += 1
        if self.away:
            raise Unavailable("away")
        return Verdict(allowed=True, missing=0)


@dataclass
class Outage:
    """A store, what stands in for it, and what was told of both."""

    time: Time = field(default_factory=Time)
    store: Store = field(default_factory=Store)
    machine: Store = field(default_factory=Store)
    told: list[Unavailable | None] = field(default_factory=list)
    fallbacks: list[None] = field(default_factory=list)

    def limiter(self) -> FailingOver:
        return FailingOver(
            self.store,
            self.machine,
            clock=self.time,
            told=self.told.append,
            fell_back=lambda: self.fallbacks.append(None),
            pause_s=5,
        )


def test_while_the_store_is_there_it_alone_is_asked() -> None:
    outage = Outage()
    take(outage.limiter())
    assert (outage.store.asked, outage.machine.asked, outage.told, outage.fallbacks) == (1, 0, [], [])


def test_a_store_that_is_away_is_told_of_once_and_asked_now_and_then() -> None:
    outage = Outage(store=Store(away=True))
    limiter = outage.limiter()
    for _ in range(10):
        assert take(limiter).allowed
    assert (outage.store.asked, outage.machine.asked, len(outage.told)) == (1, 10, 1)
    outage.time.now += 5
    for _ in range(10):
        take(limiter)
    assert (outage.store.asked, outage.machine.asked, len(outage.told)) == (2, 20, 1)
    assert len(outage.fallbacks) == 20


def test_a_store_that_is_back_is_told_of_and_asked_again() -> None:
    outage = Outage(store=Store(away=True))
    limiter = outage.limiter()
    take(limiter)
    outage.store.away = False
    take(limiter)
    assert outage.store.asked == 1
    outage.time.now += 5
    for _ in range(3):
        take(limiter)
    assert (outage.store.asked, outage.machine.asked) == (4, 2)
    assert outage.told[1:] == [None]


def test_only_one_request_waits_for_a_store_that_may_still_be_away() -> None:
    outage = Outage(store=Store(away=True))
    limiter = outage.limiter()
    take(limiter)
    outage.time.now += 5
    over = asyncio.Event()

    async def hang(bucket: bytes, budget: Budget, cost: int) -> Verdict:
        del bucket, budget, cost
        outage.store.asked += 1
        await over.wait()
        raise Unavailable("away")

    outage.store.take = hang  # type: ignore[method-assign]

    async def ask() -> None:
        first = asyncio.create_task(limiter.take(b"ada", BUDGET, 1))
        await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE_S):
            assert (await limiter.take(b"ada", BUDGET, 1)).allowed
            over.set()
            assert (await first).allowed

    asyncio.run(ask())
    assert (outage.store.asked, outage.machine.asked) == (2, 3)


# ---- what an operator writes


@pytest.mark.parametrize(
    ("text", "budgets"),
    [
        ("reads=600/m", Budgets(reads=Budget(600, 10.0))),
        (
            "reads=600/m,writes=120/h,bytes=1GiB/s",
            Budgets(Budget(600, 10.0), Budget(120, 120 / 3600), Budget(1024**3, 1024.0**3)),
        ),
        (" writes = 10 / d burst 3 ", Budgets(writes=Budget(3, 10 / 86_400))),
        (
            "bytes=10MiB/s burst 1GiB, reads=5/s burst 50",
            Budgets(reads=Budget(50, 5.0), bytes=Budget(1024**3, 10 * 1024.0**2)),
        ),
        ("bytes=1000/s", Budgets(bytes=Budget(1000, 1000.0))),
        ("off", None),
    ],
)
def test_budgets_are_read_as_they_are_written(text: str, budgets: Budgets | None) -> None:
    assert parse_budgets(text) == budgets


@pytest.mark.parametrize(
    "text",
    [
        "",
        "reads",
        "reads=",
        "reads=600",
        "reads=0/m",
        "reads=-1/m",
        "reads=1.5/m",
        "reads=600/w",
        "reads=600/m writes=1/m",
        "reads=600/m,",
        "reads=1/m,reads=2/m",
        "uploads=5/m",
        "reads=1KiB/m",
        "reads=6/m burst 1MiB",
        "bytes=1GB/m",
        "bytes=999999TiB/s",
        "reads=600/m burst",
        "reads=600/m burst 0",
        "on",
        "Off",
        "600/m",
        "reads=\u0661/m",
    ],
)
def test_nonsense_is_refused_by_the_name_of_the_setting(text: str) -> None:
    with pytest.raises(ValueError, match=r"must|names|counts"):
        parse_budgets(text)
    if text:  # as unset
        with pytest.raises(SettingsError, match="CALOTYPE_RATE_LIMIT "):
            parse_settings({"CALOTYPE_RATE_LIMIT": text})
        with pytest.raises(SettingsError, match="CALOTYPE_RATE_LIMIT_ADDRESS "):
            parse_settings({"CALOTYPE_RATE_LIMIT_ADDRESS": text})


def test_an_address_has_ten_times_what_an_owner_has_unless_it_is_said() -> None:
    assert tenfold(Budgets(reads=Budget(5, 2.0))) == Budgets(reads=Budget(50, 20.0))
    most = 10**15 - 1  # what a header field can say
    assert tenfold(Budgets(bytes=Budget(most, 2.0))) == Budgets(bytes=Budget(most, 20.0))
    owners_alone = parse_settings({"CALOTYPE_RATE_LIMIT": "reads=5/s"})
    assert owners_alone.address_budgets == Budgets(reads=Budget(50, 50.0))
    both = parse_settings({"CALOTYPE_RATE_LIMIT": "reads=5/s", "CALOTYPE_RATE_LIMIT_ADDRESS": "bytes=7/s"})
    assert both.address_budgets == Budgets(bytes=Budget(7, 7.0))
    neither = parse_settings({"CALOTYPE_RATE_LIMIT_ADDRESS": "off"})
    assert neither.owner_budgets is not None
    assert neither.address_budgets == Budgets()


def test_limits_are_on_unless_they_are_switched_off() -> None:
    defaults = parse_settings({})
    assert defaults.owner_budgets is not None
    assert None not in defaults.owner_budgets
    assert None not in defaults.address_budgets
    assert parse_settings({"CALOTYPE_RATE_LIMIT": "off"}).owner_budgets is None


def test_proxies_are_addresses_or_networks() -> None:
    assert [str(network) for network in parse_networks("10.0.0.0/8, ::1,127.0.0.1")] == [
        "10.0.0.0/8",
        "::1/128",
        "127.0.0.1/32",
    ]
    assert parse_networks("") == ()
    for text in ("gateway", "10.0.0.1/8", "10.0.0.0/8 ::1", "*"):
        with pytest.raises(SettingsError, match="CALOTYPE_TRUSTED_PROXIES must be"):
            parse_settings({"CALOTYPE_TRUSTED_PROXIES": text})


def test_a_shared_store_has_a_url_that_nobody_is_shown() -> None:
    settings = parse_settings({"CALOTYPE_RATE_LIMIT_URL": "redis://:hunter2hunter2@store:6379/0"})
    assert "hunter2" not in str(settings.shown()) + repr(settings)
    with pytest.raises(SettingsError, match="CALOTYPE_RATE_LIMIT_URL must be a redis://") as refusal:
        parse_settings({"CALOTYPE_RATE_LIMIT_URL": "http://:hunter2@store"})
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("letter", "/?#")
@pytest.mark.parametrize("beginning", ["hunter", "1234"])
def test_a_password_that_breaks_its_url_is_not_told_in_parts(beginning: str, letter: str) -> None:
    settings = parse_settings({"CALOTYPE_RATE_LIMIT_URL": f"redis://:{beginning}{letter}secret@store:6379/0"})
    with pytest.raises(SettingsError, match=r"CALOTYPE_RATE_LIMIT_URL can't be used.*%2F") as refusal:
        prepare_limiting(settings)
    told = "".join(traceback.format_exception(refusal.value))
    assert beginning not in told
    assert "secret" not in told
