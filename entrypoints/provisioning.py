"""Bring stores into their wanted state, or only compare: one loop over their aspects, and what it found."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, repeat

from application.provisioning import Aspect, InMotion, Refused, State, Unsupported
from domain.errors import Unavailable

_WAITS_S = (0.1, 0.2, 0.5, 1.0, 2.0)


class Outcome(StrEnum):
    """How it went with one aspect."""

    UNCHANGED = "unchanged"
    """It is as wanted, and was so, or another run made it so."""
    CREATED = "created"
    CHANGED = "changed"
    MISSING = "missing"
    """Not there; nothing was done about it."""
    DIFFERS = "differs"
    """There in another form; nothing was done about it."""
    NOT_SUPPORTED = "not supported"
    FAILED = "failed"

    @property
    def is_as_wanted(self) -> bool:
        """Whether nothing is left to do. What the server can't do is nobody's to do."""
        return self not in {Outcome.MISSING, Outcome.DIFFERS, Outcome.FAILED}


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one aspect, what is wanted, and what came of it."""

    outcome: Outcome
    what: str
    found: State = None
    wanted: State = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long to wait.

    Args:
        deadline_s: for one aspect, while somebody is changing it: an index of a large table takes hours to fill, and
            then the next run goes on.
        shows_within_s: for what the server has accepted to show in a read. S3 and DynamoDB answer such reads from
            copies that may be some seconds old.
    """

    deadline_s: float = 600
    shows_within_s: float = 10
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic


def compare(stores: Iterable[Sequence[Aspect]]) -> Iterator[Finding]:
    """Compare, and change nothing; else as `provision`."""
    return _each(stores, _compared)


def provision(stores: Iterable[Sequence[Aspect]], patience: Patience) -> Iterator[Finding]:
    """Create what is missing and make what is there match; tell of each aspect as it is done.

    Args:
        stores: the aspects of each store. The first is that the store exists: while it doesn't, or can't be told,
            there is nothing to say of the others.
        patience: how long to wait for each.
    """
    return _each(stores, lambda aspect: _provisioned(aspect, patience))


def _each(stores: Iterable[Sequence[Aspect]], settle: Callable[[Aspect], Finding]) -> Iterator[Finding]:
    for existence, *others in stores:
        finding = _reported(existence, settle)
        yield finding
        if finding.outcome.is_as_wanted:
            yield from (_reported(aspect, settle) for aspect in others)


def _reported(aspect: Aspect, settle: Callable[[Aspect], Finding]) -> Finding:
    try:
        return settle(aspect)
    except Unsupported as error:
        return Finding(Outcome.NOT_SUPPORTED, aspect.what, wanted=aspect.wanted, reason=str(error))
    except (InMotion, Refused, Unavailable) as error:
        return Finding(Outcome.FAILED, aspect.what, wanted=aspect.wanted, reason=str(error))


def _compared(aspect: Aspect) -> Finding:
    try:
        found = aspect.read()
    except InMotion as motion:
        return Finding(Outcome.DIFFERS, aspect.what, wanted=aspect.wanted, reason=str(motion))
    if found == aspect.wanted:
        return Finding(Outcome.UNCHANGED, aspect.what, found, aspect.wanted)
    return Finding(Outcome.MISSING if found is None else Outcome.DIFFERS, aspect.what, found, aspect.wanted)


def _provisioned(aspect: Aspect, patience: Patience) -> Finding:
    """Read, compare, write once, and read until it shows."""
    before: State = None
    accepted_s: float | None = None
    began_s = patience.monotonic()
    waits_s = chain(_WAITS_S, repeat(_WAITS_S[-1]))
    while True:
        try:
            found = aspect.read()
            if accepted_s is None:
                before = found
            if found == aspect.wanted:
                return Finding(_done(before, accepted_s), aspect.what, before, aspect.wanted)
            if accepted_s is None:
                _write(aspect)
                accepted_s = patience.monotonic()
                continue  # many servers show it at once
            if patience.monotonic() - accepted_s > patience.shows_within_s:
                raise Unsupported("accepted, but a read doesn't show it")
        except InMotion as motion:
            now_s = patience.monotonic()
            if now_s - began_s > patience.deadline_s:
                raise InMotion(f"{motion}, for {patience.deadline_s:.0f} s now; run this again later") from motion
            # What takes its time has to show only once it is over.
            accepted_s = None if accepted_s is None else now_s
        patience.sleep(next(waits_s))


def _write(aspect: Aspect) -> None:
    try:
        aspect.write()
    except Refused as refusal:
        # Also what another run did a moment ago is refused: "the index exists already".
        if aspect.read() != aspect.wanted:
            raise
        raise InMotion("another run was faster") from refusal


def _done(first: State, accepted_s: float | None) -> Outcome:
    if accepted_s is None:
        return Outcome.UNCHANGED
    return Outcome.CREATED if first is None else Outcome.CHANGED
