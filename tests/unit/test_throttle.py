"""What requests cost and to whom, and room for uploads: all that the edge decides before it reads a body."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.http.authentication import HeaderAuthenticator
from adapters.http.intake import Arrival, Intake
from adapters.http.problems import Problem
from adapters.http.replies import ANSWER_HEADERS
from adapters.http.throttle import Throttle, ThrottledAuthenticator, client_address
from adapters.memory import MemoryRateLimiter
from application.rate_limits import Budget, Budgets
from domain.errors import Overloaded
from domain.values import UserId

ADA, BOB = UserId("ada"), UserId("bob")
MiB = 1024**2
OWNERS = Budgets(reads=Budget(8, 1.0), writes=Budget(2, 0.1), bytes=Budget(100 * MiB, 10.0 * MiB))
ADDRESSES = Budgets(reads=Budget(3, 1.0), writes=Budget(1, 1.0))


def request(method: str = "GET", client: str | None = "203.0.113.7", **headers: str) -> Any:
    return {
        "type": "http",
        "method": method,
        "client": client and (client, 40_000),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        "state": {},
    }


@dataclass
class Gate:
    """A throttle on a clock that stands still."""

    owners: Budgets = OWNERS
    addresses: Budgets = ADDRESSES
    trusted: str | None = None
    now: float = 0.0
    throttle: Throttle = field(init=False)

    def __post_init__(self) -> None:
        self.throttle = Throttle(
            MemoryRateLimiter(lambda: self.now),
            owners=self.owners,
            addresses=self.addresses,
            trusted_proxies=[ip_network(self.trusted)] if self.trusted else [],
        )

    def admitted(self, scope: Any) -> Any:
        """Let a request in as its user, and return what it carries then."""
        authenticator = ThrottledAuthenticator(HeaderAuthenticator(), self.throttle)
        asyncio.run(authenticator.authenticate(scope))
        return scope

    def refused(self, scope: Any) -> dict[str, str]:
        """Return the fields that come with the refusal, which must be for want of a budget."""
        with pytest.raises(Problem) as refusal:
            self.admitted(scope)
        assert refusal.value.code == "rate_limited"
        return dict(refusal.value.headers)


# ---- who pays for what


def test_reads_and_writes_have_budgets_of_their_own_and_so_have_owners() -> None:
    gate = Gate()
    for _ in range(2):
        gate.admitted(request("POST", x_user_id="ada"))
    gate.refused(request("DELETE", x_user_id="ada"))
    gate.refused(request("PATCH", x_user_id="ada"))
    for method in ("GET", "HEAD", "GET"):
        gate.admitted(request(method, x_user_id="ada"))
    gate.admitted(request("PUT", x_user_id="bob"))


def test_a_refusal_says_when_to_come_back_and_what_the_budget_is() -> None:
    gate = Gate()
    for _ in range(2):
        gate.admitted(request("POST", x_user_id="ada"))
    assert gate.refused(request("POST", x_user_id="ada")) == {
        "Retry-After": "10",
        "RateLimit-Policy": '"writes";q=2;w=20',
        "RateLimit": '"writes";r=0;t=10',
    }
    gate.now += 9.9
    assert gate.refused(request("POST", x_user_id="ada"))["Retry-After"] == "1"
    gate.now += 0.2
    gate.admitted(request("POST", x_user_id="ada"))


def test_answers_say_what_is_left_once_it_is_little() -> None:
    gate = Gate()
    carried = [gate.admitted(request(x_user_id="ada"))["state"].get(ANSWER_HEADERS) for _ in range(8)]
    assert carried[:6] == [None] * 6
    assert carried[6:] == [
        [(b"ratelimit-policy", b'"reads";q=8;w=8'), (b"ratelimit", b'"reads";r=%d;t=1' % left)] for left in (1, 0)
    ]


def test_a_budget_is_spoken_of_once_however_often_a_request_pays() -> None:
    gate = Gate()
    gate.admitted(request("POST", x_user_id="ada"))
    scope = gate.admitted(request("POST", x_user_id="ada"))
    for _ in range(8):
        asyncio.run(gate.throttle.pay(scope, 12 * MiB))
    assert [value for name, value in scope["state"][ANSWER_HEADERS] if name == b"ratelimit"] == [
        b'"writes";r=0;t=10',
        b'"bytes";r=%d;t=1' % (4 * MiB),
    ]


def test_bytes_are_named_as_such() -> None:
    gate = Gate()
    scope = gate.admitted(request("POST", x_user_id="ada"))
    asyncio.run(gate.throttle.pay(scope, 90 * MiB))
    with pytest.raises(Problem) as refusal:
        asyncio.run(gate.throttle.pay(scope, 15 * MiB))
    assert dict(refusal.value.headers) == {
        "Retry-After": "1",
        "RateLimit-Policy": '"bytes";q=104857600;qu="content-bytes";w=10',
        "RateLimit": '"bytes";r=10485760;t=1',
    }


def test_an_integer_of_a_field_has_no_more_than_15_digits() -> None:
    gate = Gate(owners=Budgets(bytes=Budget(10**15 - 1, 1 / 86_400)))
    scope = gate.admitted(request("POST", x_user_id="ada"))
    for _ in range(2):
        with suppress(Problem):
            asyncio.run(gate.throttle.pay(scope, 10**15 - 2))
            fields = b"".join(value for _, value in scope["state"][ANSWER_HEADERS])
            assert max(len(number) for number in re.findall(rb"\d+", fields)) == 15


def test_without_a_budget_there_is_no_limit() -> None:
    gate = Gate(owners=Budgets(), addresses=Budgets())
    for _ in range(50):
        scope = gate.admitted(request("POST", x_user_id="ada"))
        asyncio.run(gate.throttle.pay(scope, 10**12))
        asyncio.run(gate.throttle.admit_address(request()))


def test_who_asks_in_vain_is_counted_by_address_and_then_not_even_told_why() -> None:
    gate = Gate()
    for _ in range(3):
        with pytest.raises(Problem, match="unauthenticated"):
            gate.admitted(request())
    gate.refused(request())
    gate.admitted(request(x_user_id="ada"))  # the same address, but nobody's guess
    asyncio.run(gate.throttle.admit_address(request()))  # and a link opens from there too
    with pytest.raises(Problem, match="unauthenticated"):
        gate.admitted(request(client="203.0.113.8"))


def test_what_needs_no_owner_is_taken_from_the_address() -> None:
    gate = Gate()
    for _ in range(3):
        asyncio.run(gate.throttle.admit_address(request()))
    with pytest.raises(Problem, match="rate_limited"):
        asyncio.run(gate.throttle.admit_address(request()))
    asyncio.run(gate.throttle.admit_address(request(client="203.0.113.8")))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("203.0.113.7", "::ffff:203.0.113.7", True),
        ("203.0.113.7", "203.0.113.8", False),
        ("fe80::1%eth0", "fe80::1%eth1", True),
        (None, "not an address", True),
        (None, "203.0.113.7", False),
    ],
)
def test_an_address_is_what_one_customer_has(one: str | None, other: str, same: bool) -> None:  # noqa: FBT001
    assert (client_address(request(client=one)) == client_address(request(client=other))) is same


@pytest.mark.parametrize(
    ("peer", "forwarded", "seen"),
    [
        ("10.0.0.1", "198.51.100.9", "198.51.100.9"),
        ("10.0.0.1", "1.2.3.4, 198.51.100.9", "198.51.100.9"),
        ("10.0.0.1", "1.2.3.4, 198.51.100.9, 10.0.0.2", "198.51.100.9"),
        ("10.0.0.1", "198.51.100.9:5123", "198.51.100.9"),
        ("10.0.0.1", "[2001:db8::1]:5123", "2001:db8::1"),
        ("10.0.0.1", "2001:db8::1", "2001:db8::1"),
        ("10.0.0.1", "10.0.0.3", "10.0.0.3"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4, nonsense", "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4, nonsense, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("203.0.113.7", "198.51.100.9", "203.0.113.7"),
    ],
)
def test_only_a_trusted_proxy_says_where_a_request_comes_from(peer: str, forwarded: str | None, seen: str) -> None:
    headers = {} if forwarded is None else {"x_forwarded_for": forwarded}
    trusted = [ip_network("10.0.0.0/8")]
    assert client_address(request(client=peer, **headers), trusted) == client_address(request(client=seen))
    assert client_address(request(client=peer, **headers)) == client_address(request(client=peer))


PAYMENTS = st.lists(st.tuples(st.floats(0, 5), st.integers(1, 10), st.integers(0, 10), st.floats(0, 10)), max_size=12)


# Paid and never sent; meanwhile the bucket has got full again, and is emptied by what does come.
@example([(0, 10, 0, 10.5), (10, 10, 10, 0.1), (0.6, 10, 10, 0.1)])
@given(PAYMENTS)
def test_paying_for_bytes_that_never_come_gives_nobody_more(payments: list[tuple[float, int, int, float]]) -> None:
    """However payments and what is given back of them follow each other, the bytes that came are within the budget."""
    budget = Budget(burst=10, per_s=1.0)
    gate = Gate(owners=Budgets(bytes=budget))
    scope = gate.admitted(request("POST", x_user_id="ada"))
    events: list[tuple[float, int, int, int]] = []
    begin = 0.0
    for number, (pause, paid, arrived, lasts) in enumerate(payments):
        begin += pause
        events.append((begin, 1, number, paid))
        events.append((begin + lasts, 0, number, min(paid, arrived)))
    paid_at: dict[int, tuple[float, int]] = {}
    came: list[tuple[float, int]] = []
    for at, begins, number, size in sorted(events):
        gate.now = at
        if begins:
            try:
                asyncio.run(gate.throttle.pay(scope, size))
            except Problem:
                continue
            paid_at[number] = (at, size)
        elif number in paid_at:
            since, paid = paid_at[number]
            asyncio.run(gate.throttle.give_back(scope, paid - size, paid_s_ago=at - since))
            came.append((since, size))
    came.sort()
    for first, (start, _) in enumerate(came):
        total = 0
        for at, size in came[first:]:
            total += size
            assert total <= budget.burst + budget.per_s * (at - start) + 1e-6


# ---- room for uploads


def intake(most_uploads: int = 4, most_bytes: int = 100 * MiB) -> Intake:
    return Intake(most_uploads=most_uploads, most_bytes=most_bytes, throttle=None, clock=lambda: 0.0)


def upload_of(size_bytes: int | None) -> Any:
    return request("POST", **({} if size_bytes is None else {"content_length": str(size_bytes)}))


@asynccontextmanager
async def under_way(room: Intake, *uploads: tuple[UserId, int | None]) -> AsyncIterator[list[Arrival]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(room.upload(upload_of(size), owner, body_max_bytes=30 * MiB))
            for owner, size in uploads
        ]


def test_more_uploads_than_there_is_room_for_are_refused_and_leave_no_trace() -> None:
    room = intake()

    async def fill() -> None:
        async with under_way(room, (ADA, 5), (BOB, 5), (ADA, 5), (BOB, 5)):
            assert room.under_way == (4, 20)
            with pytest.raises(Overloaded, match="too many uploads"):
                async with under_way(room, (UserId("eve"), 5)):
                    pytest.fail("there is no room")
            assert room.under_way == (4, 20)
        assert room.under_way == (0, 0)
        async with under_way(room, (UserId("eve"), 5)):
            assert room.under_way == (1, 5)

    asyncio.run(fill())
    assert room._of_owner == {}


def test_one_owner_gets_half_of_the_room() -> None:
    room = intake()

    async def fill() -> None:
        async with under_way(room, (ADA, 5), (ADA, 5)):
            with pytest.raises(Overloaded):
                async with under_way(room, (ADA, 5)):
                    pytest.fail("there is no room")
            async with under_way(room, (BOB, 5)):
                pass

    asyncio.run(fill())


def test_bytes_are_reserved_before_they_come() -> None:
    room = intake(most_uploads=100)

    async def fill() -> None:
        async with under_way(room, (ADA, 25 * MiB), (ADA, 25 * MiB), (BOB, 25 * MiB)):
            with pytest.raises(Overloaded, match="too much"):
                async with under_way(room, (ADA, 1)):
                    pytest.fail("it is more than half of the room")
            with pytest.raises(Overloaded, match="too much"):
                async with under_way(room, (UserId("eve"), 26 * MiB)):
                    pytest.fail("there is no room")
            assert room.under_way == (3, 75 * MiB)

    asyncio.run(fill())


def test_a_length_that_no_upload_may_have_takes_no_more_room_than_the_largest() -> None:
    room = intake()

    async def fill() -> None:
        async with under_way(room, (ADA, 10**17)):
            assert room.under_way == (1, 30 * MiB)

    asyncio.run(fill())


def test_an_upload_that_is_larger_than_all_the_room_is_taken_alone() -> None:
    room = intake(most_bytes=10 * MiB)

    async def fill() -> None:
        async with under_way(room, (ADA, 25 * MiB)):
            with pytest.raises(Overloaded):
                async with under_way(room, (BOB, 1)):
                    pytest.fail("there is no room")
        async with under_way(room, (ADA, None)) as (arrival,):
            await arrival.took(25 * MiB)
        async with under_way(room, (ADA, 1)):
            with pytest.raises(Overloaded):
                async with under_way(room, (BOB, 25 * MiB)):
                    pytest.fail("it is not alone")

    asyncio.run(fill())


def test_a_body_without_a_length_takes_room_as_it_comes() -> None:
    room = intake(most_bytes=20 * MiB)

    async def fill() -> None:
        async with under_way(room, (ADA, 15 * MiB), (BOB, None)) as (_, arrival):
            await arrival.took(MiB)
            assert room.under_way == (2, 16 * MiB)
            await arrival.took(3 * MiB + 1)
            assert room.under_way == (2, 20 * MiB)
            with pytest.raises(Overloaded):
                await arrival.took(MiB)
        assert room.under_way == (0, 0)

    asyncio.run(fill())


@pytest.mark.parametrize("ends", [ValueError, asyncio.CancelledError])
def test_room_comes_back_however_an_upload_ends(ends: type[BaseException]) -> None:
    room = intake()

    async def fail() -> None:
        async with under_way(room, (ADA, 5)):
            raise ends

    with pytest.raises(ends):
        asyncio.run(fail())
    assert room.under_way == (0, 0)


def test_room_comes_back_when_whoever_waits_for_a_body_is_cancelled() -> None:
    room = intake()

    async def wait() -> None:
        async with under_way(room, (ADA, 5)):
            await asyncio.Event().wait()

    async def cancel() -> None:
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        assert room.under_way == (1, 5)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(cancel())
    assert room.under_way == (0, 0)


def paid_upload(gate: Gate, size_bytes: int | None, *, arrives: int) -> None:
    """Send an upload of so many bytes, of which so many arrive."""
    room = Intake(most_uploads=9, most_bytes=1024 * MiB, throttle=gate.throttle, clock=lambda: gate.now)

    async def send() -> None:
        scope = upload_of(size_bytes)
        await gate.throttle.admit_owner(scope, ADA)
        async with room.upload(scope, ADA, body_max_bytes=200 * MiB) as arrival:
            await arrival.took(arrives)

    asyncio.run(send())


def bytes_left(gate: Gate) -> int:
    """Return how many MiB of ADA's budget are left, by taking them."""
    scope = request()
    asyncio.run(gate.throttle.admit_owner(scope, ADA))
    for left in range(100):
        try:
            asyncio.run(gate.throttle.pay(scope, MiB))
        except Problem:
            return left
    return 100


MANY_WRITES = Budgets(writes=Budget(10**6, 1.0), bytes=Budget(100 * MiB, 1.0 * MiB))


@pytest.mark.parametrize(
    ("declared", "arrives", "left"),
    [
        (30 * MiB, 30 * MiB, 70),
        (30 * MiB, 10 * MiB, 90),
        (30 * MiB, 0, 100),
        (None, 0, 100),
        (None, 10 * MiB, 90),
        (None, MiB // 2, 99),
        (200 * MiB, 20 * MiB, 80),
    ],
)
def test_an_upload_costs_the_bytes_that_came(declared: int | None, arrives: int, left: int) -> None:
    gate = Gate(owners=MANY_WRITES)
    paid_upload(gate, declared, arrives=arrives)
    assert bytes_left(gate) == left


def test_an_upload_that_its_owner_cannot_pay_is_refused_before_and_in_the_middle() -> None:
    gate = Gate(owners=MANY_WRITES)
    paid_upload(gate, 60 * MiB, arrives=60 * MiB)
    with pytest.raises(Problem, match="rate_limited"):
        paid_upload(gate, 41 * MiB, arrives=0)
    with pytest.raises(Problem, match="rate_limited"):
        paid_upload(gate, None, arrives=41 * MiB)
    assert bytes_left(gate) == 0
