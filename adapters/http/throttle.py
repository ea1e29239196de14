"""How much a client may ask for: budgets of owners, and of addresses as long as nobody knows who is asking."""

import math
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from adapters.http.authentication import Authenticator, Scheme, header
from adapters.http.problems import CATALOGUE, Problem
from adapters.http.replies import ANSWER_HEADERS, Scope
from application.rate_limits import Budget, Budgets, RateLimiter, Verdict
from domain.values import UserId

Network = IPv4Network | IPv6Network

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_UNAUTHORIZED = 401
_LOW = 0.75  # of a bucket used up
_BUCKETS = {name: f"{name}:".encode() for name in Budgets._fields}
_LARGEST_INTEGER = 10**15 - 1  # of a structured field (RFC 9651, section 3.3.1)
_HOPS = 16
_PAYER = "payer"
"""Where in a request's state it stands who pays for its bytes, and from what."""


class Throttle:
    """Takes what requests cost from the budgets of those who ask, and refuses what they don't allow.

    Args:
        limiter: keeps the buckets.
        owners: what each owner may use up.
        addresses: what each address may, without saying who asks. What asks in vain has buckets of its own, so that it
            can't keep others behind the same address from what they may have.
        trusted_proxies: whose word is taken for where a request comes from.
    """

    def __init__(
        self, limiter: RateLimiter, *, owners: Budgets, addresses: Budgets, trusted_proxies: Sequence[Network] = ()
    ) -> None:
        """Take the budgets."""
        self._limiter = limiter
        self._owners = owners
        self._addresses = addresses
        self._trusted = tuple(trusted_proxies)

    async def admit_owner(self, scope: Scope, owner: UserId) -> None:
        """Take a request from its owner's budget; raise Problem (429) if there is nothing left."""
        await self._admit(scope, b"owner:" + owner.encode(), self._owners)

    async def admit_address(self, scope: Scope) -> None:
        """Take a request that needs no owner from the budget of its address; raise Problem as admit_owner does."""
        await self._admit(scope, b"address:" + client_address(scope, self._trusted), self._addresses)

    async def count_failure(self, scope: Scope) -> None:
        """Take a request that named no owner from what its address may fail; raise Problem as admit_owner does."""
        await self._admit(scope, b"failure:" + client_address(scope, self._trusted), self._addresses)

    async def pay(self, scope: Scope, size_bytes: int) -> None:
        """Take bytes from the budget of whoever was let in; raise Problem as admit_owner does."""
        who, budget = scope["state"][_PAYER]
        if budget is not None and size_bytes > 0:
            await self._take(scope, "bytes", who, budget, size_bytes)

    async def give_back(self, scope: Scope, size_bytes: int, *, paid_s_ago: float) -> None:
        """Give back bytes that were paid for and never came, but for what the bucket has got since then anyway.

        Without that exception somebody could have more than the budget: by paying for bytes that they don't send.
        """
        who, budget = scope["state"][_PAYER]
        if budget is not None and (unused := math.floor(size_bytes - paid_s_ago * budget.per_s)) > 0:
            await self._limiter.take(_BUCKETS["bytes"] + who, budget, -unused)

    async def _admit(self, scope: Scope, who: bytes, budgets: Budgets) -> None:
        reads, writes, bytes_ = budgets
        scope["state"][_PAYER] = (who, bytes_)
        name, budget = ("reads", reads) if scope["method"] in _SAFE else ("writes", writes)
        if budget is not None:
            await self._take(scope, name, who, budget, 1)

    async def _take(self, scope: Scope, name: str, who: bytes, budget: Budget, cost: int) -> None:
        verdict = await self._limiter.take(_BUCKETS[name] + who, budget, cost)
        if not verdict.allowed:
            wait_s = _wait_s(verdict, budget, cost)
            scope["state"].pop(ANSWER_HEADERS, None)
            raise Problem(
                "rate_limited",
                f"The budget of {name} is used up; try again in {wait_s} s.",
                (("Retry-After", str(wait_s)), *_fields(name, budget, verdict, wait_s)),
            )
        # Fields that most answers don't need cost more than the decision: they come when there is something to heed.
        if verdict.missing > _LOW * budget.burst:
            fields = _fields(name, budget, verdict, max(1, math.ceil(1 / budget.per_s)))
            # What comes in chunks is paid for piece by piece: only the last word counts.
            said = scope["state"].get(ANSWER_HEADERS, ())
            others = [each for each in said if not each[1].startswith(f'"{name}"'.encode())]
            scope["state"][ANSWER_HEADERS] = others + [
                (field.lower().encode(), value.encode()) for field, value in fields
            ]


class ThrottledAuthenticator:
    """Authenticator that lets in only those whose budget allows one more request."""

    def __init__(self, authenticator: Authenticator, throttle: Throttle) -> None:
        """Take who tells the owner, and who keeps the budgets."""
        self._authenticator = authenticator
        self._throttle = throttle

    @property
    def scheme(self) -> Scheme:
        """See Authenticator.scheme."""
        return self._authenticator.scheme

    async def authenticate(self, scope: Scope) -> UserId:
        """See Authenticator.authenticate; raises Problem (429) too."""
        try:
            owner = await self._authenticator.authenticate(scope)
        except Problem as problem:
            # Behind the check, not in front of it: whoever can prove who they are is none of the address's business.
            await self._count(scope, problem)
            raise
        await self._throttle.admit_owner(scope, owner)
        return owner

    async def spend(self, scope: Scope) -> None:
        """See Authenticator.spend; raises Problem (429) too."""
        try:
            await self._authenticator.spend(scope)
        except Problem as problem:
            await self._count(scope, problem)
            raise

    async def _count(self, scope: Scope, problem: Problem) -> None:
        if CATALOGUE[problem.code][0] == _UNAUTHORIZED:
            await self._throttle.count_failure(scope)


def client_address(scope: Scope, trusted_proxies: Sequence[Network] = ()) -> bytes:
    """Return where a request comes from: an IPv4 address, or the /64 of an IPv6 address, which is one customer's.

    That is the peer of the connection. Of a trusted proxy it is the address that this one has put last into
    X-Forwarded-For; what stands further in front anybody may have written.
    """
    client = scope.get("client")
    address = _parsed(client[0]) if client else None
    if address is None:
        return b"unknown"
    hops = (header(scope, b"x-forwarded-for") or "").rsplit(",", _HOPS)[-_HOPS:] if trusted_proxies else []
    while hops and any(address in network for network in trusted_proxies):
        if (nearer := _parsed(hops.pop())) is None:
            break
        address = nearer
    return address.packed if isinstance(address, IPv4Address) else address.packed[:8]


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:  # some proxies add the port
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _wait_s(verdict: Verdict, budget: Budget, cost: int) -> int:
    """Return in how many whole seconds the bucket will have what was asked for."""
    return max(1, math.ceil((verdict.missing + min(cost, budget.burst) - budget.burst) / budget.per_s))


def _fields(name: str, budget: Budget, verdict: Verdict, window_s: int) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return the fields of draft-ietf-httpapi-ratelimit-headers-11: what there is in all, and what is left of it.

    ``t`` is the time within which there is no more than ``r``; it never ends behind Retry-After.
    """
    unit = ';qu="content-bytes"' if name == "bytes" else ""
    all_in_s = min(_LARGEST_INTEGER, math.ceil(budget.burst / budget.per_s))
    left = max(0, math.floor(budget.burst - verdict.missing))
    return (
        ("RateLimit-Policy", f'"{name}";q={budget.burst}{unit};w={all_in_s}'),
        ("RateLimit", f'"{name}";r={left};t={min(_LARGEST_INTEGER, window_s)}'),
    )
