"""What an operator writes about rate limits: budgets, and the proxies whose word is taken for an address."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network

from application.rate_limits import Budget, Budgets

SHARED_BUDGETS = "CALOTYPE_SHARED_BUDGETS"
"""The variable by which a server tells its workers the file that holds their budgets. Nobody else sets it."""

OFF = "off"
WORDS = 'off, or budgets such as "reads=600/m, writes=120/m, bytes=1GiB/m burst 2GiB"'

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_UNITS = {"": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_MOST = 10**15 - 1  # what the header fields can say (RFC 9651, section 3.3.1)
_AMOUNT = r"([1-9][0-9]{0,15})([KMGT]iB)?"
_BUDGET = re.compile(rf"(reads|writes|bytes)\s*=\s*{_AMOUNT}\s*/\s*([smhd])(?:\s+burst\s+{_AMOUNT})?")


def parse_budgets(text: str) -> Budgets | None:
    """Return the budgets that a text describes, None for ``off``.

    ``reads=600/m`` is 600 each minute (s, m, h, d), all of them at once if need be; ``burst`` says how many at once
    instead. What is not named is not limited.

    Raises:
        ValueError: it describes none; the message is the end of a sentence that starts with the setting.
    """
    if text.strip() == OFF:
        return None
    budgets: dict[str, Budget] = {}
    for item in text.split(","):
        match = _BUDGET.fullmatch(item.strip())
        if match is None:
            raise ValueError(f"must be {WORDS}, not {item.strip()!r}")
        name, count, unit, period, burst_count, burst_unit = match.groups()
        if name in budgets:
            raise ValueError(f"names {name} more than once")
        if name != "bytes" and (unit or burst_unit):
            raise ValueError(f"counts {name}, so they have no unit: {item.strip()!r}")
        quota = int(count) * _UNITS[unit or ""]
        burst = int(burst_count) * _UNITS[burst_unit or ""] if burst_count else quota
        if max(quota, burst) > _MOST:
            raise ValueError(f"must have budgets of at most {_MOST}, not {item.strip()!r}")
        budgets[name] = Budget(burst, quota / _SECONDS[period])
    return Budgets(**budgets)


def tenfold(budgets: Budgets) -> Budgets:
    """Return the budgets of an address, behind which there may be many owners, where nothing else is said of them."""
    return Budgets(*(budget and Budget(min(_MOST, 10 * budget.burst), 10 * budget.per_s) for budget in budgets))


def parse_networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Return the networks in a list with commas; raise ValueError as parse_budgets does."""
    networks = []
    for item in filter(None, map(str.strip, text.split(","))):
        try:
            networks.append(ip_network(item))
        except ValueError as error:
            raise ValueError(
                f"must be addresses or networks such as 10.0.0.0/8 with commas between: {error}"
            ) from error
    return tuple(networks)
