"""Every operation, every call it makes, every fault there; then a restart, sweeps past every due time, and a retry.

A line in STORES aims it at another adapter. See docs/testing.md.
"""

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from adapters.memory import MemoryMetadata
from domain.errors import CalotypeError, NotFound, QuotaExceeded, Unavailable
from domain.quota import Usage
from tests.harness.faults import (
    PLAIN,
    STREAMS,
    Fault,
    Faults,
    Hang,
    ProcessDied,
    StreamBroke,
    die_after,
    die_before,
    fail_after,
    fail_before,
)
from tests.harness.stage import (
    CLAIM,
    INSTANT,
    LEASE,
    ONE,
    OTHER,
    RESERVATION,
    RETENTION,
    SETTINGS,
    Op,
    Seen,
    Stage,
    Stages,
    delete,
    look,
    perform,
    restore,
    revise,
    sweep,
    upload,
)
from tests.harness.systems import OpenStores, embedded_stores, memory_stores

STORES: Mapping[str, Callable[[Path], OpenStores]] = {
    "memory": lambda _: memory_stores(),
    "embedded": partial(embedded_stores, synced=False),
}
THOROUGH = float(os.environ.get("HARNESS_SCALE", "1")) > 1
"""Whether there is time for all faults on all stores."""

Arrange = Callable[[Stage], object]


def done(*ops: Op) -> Arrange:
    return lambda stage: stage.do(*ops)


def wait(time: timedelta) -> Arrange:
    return lambda stage: stage.clock.advance(time)


def died(op: Op, *, at_call: int) -> Arrange:
    """The operation ended with its process, before that call."""

    def arrange(stage: Stage) -> None:
        with pytest.raises(ProcessDied):
            perform(stage.bus(Faults({at_call: die_before}).wrap), op(stage.owner))

    return arrange


@dataclass(frozen=True)
class Case:
    arranged: tuple[Arrange, ...]
    op: Op
    may_be_repeated: bool = True
    """Whether doing it again changes nothing more."""


CASES: Mapping[str, Case] = {
    "upload": Case((), upload(key=None), may_be_repeated=False),
    "upload with a key": Case((), upload()),
    "upload with a key whose image was purged": Case((done(upload(), delete(permanent=True), sweep()),), upload(OTHER)),
    "upload taken over from one that died before its put": Case((died(upload(), at_call=1), wait(LEASE)), upload()),
    "upload taken over from one that died before its commit": Case((died(upload(), at_call=2), wait(LEASE)), upload()),
    "upload replayed": Case((done(upload()),), upload()),
    "revise": Case((done(upload()),), revise("Hill")),
    "delete": Case((done(upload()),), delete()),
    "delete permanently": Case((done(upload()),), delete(permanent=True)),
    "restore": Case((done(upload(), delete()),), restore()),
    "read": Case((done(upload()),), look()),
    "sweep of trash": Case((done(upload(), delete()), wait(RETENTION)), sweep()),
    "sweep of an image deleted permanently": Case((done(upload(), delete(permanent=True)),), sweep()),
    "sweep of an upload that died": Case((died(upload(), at_call=2), wait(RESERVATION)), sweep()),
    "sweep after a sweeper that died before it deleted": Case(
        (done(upload(), delete(permanent=True)), died(sweep(), at_call=3), wait(CLAIM)), sweep()
    ),
    "sweep after a sweeper that died before it forgot": Case(
        (done(upload(), delete(permanent=True)), died(sweep(), at_call=4), wait(CLAIM)), sweep()
    ),
}

_MOMENTS: Sequence[Literal["before", "after"]] = ("before", "after")


def faults_for(stage: Stage) -> Sequence[Fault]:
    hangs = [
        Hang(stage.clock, time, when, meanwhile)
        for time in (LEASE, CLAIM, RESERVATION)
        for when in _MOMENTS
        for meanwhile in (None, stage.sweep)
    ]
    return [*PLAIN, *STREAMS, *hangs, Hang(stage.clock, INSTANT, "before", stage.sweep)]


HARD: Sequence[Fault] = (fail_before, fail_after, die_before, die_after)


@dataclass(frozen=True)
class Normal:
    """What comes of the operation when nothing fails."""

    before: Seen
    after: Seen
    calls: int

    @classmethod
    def of(cls, stages: Stages, case: Case) -> "Normal":
        stage, faults = arranged(stages, case), Faults()
        before = stage.seen()
        perform(stage.bus(faults.wrap), case.op(stage.owner))
        after = stage.seen()
        stage.clear()
        return cls(before, after, len(faults.calls))


def arranged(stages: Stages, case: Case) -> Stage:
    stage = stages.new()
    for arrange in case.arranged:
        arrange(stage)
    return stage


def seen_after(stage: Stage, case: Case, faults: Faults, normal: Normal) -> Seen:
    """Do it, and hold what is seen against how it ended: done, refused, or nobody knows."""
    possible = [normal.before, normal.after]
    try:
        answer = perform(stage.bus(faults.wrap), case.op(stage.owner))
        assert not isinstance(answer, bytes) or answer == ONE
        possible.remove(normal.before)
    except (Unavailable, ProcessDied, StreamBroke):
        pass
    except CalotypeError:
        possible.remove(normal.after)
    seen = stage.seen()
    assert seen in possible, f"seen is {seen}, and should be {possible}"
    return seen


def some_faults_for(stage: Stage) -> Sequence[Fault]:
    """What there is time for on a disk."""
    return [*PLAIN, *STREAMS, Hang(stage.clock, CLAIM, "before", stage.sweep), Hang(stage.clock, RESERVATION, "after")]


def runs(stages: Stages, case: Case, faults_of: Callable[[Stage], Sequence[Fault]]) -> Iterator[tuple[Stage, Faults]]:
    """A stage of its own for each call of the operation and each fault."""
    calls = Normal.of(stages, case).calls
    for number in range(calls):
        for which in range(len(faults_of(stages.new()))):
            stage = arranged(stages, case)
            yield stage, Faults({number: faults_of(stage)[which]}, watch=stage.check)


@contextmanager
def explained(*faults: Faults) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        for each in faults:
            error.add_note(f"met {each.met} among the calls {each.calls}")
        raise


@pytest.fixture(params=STORES)
def stages(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stages]:
    with Stages(STORES[request.param](tmp_path / "data")) as opened:
        yield opened


in_memory_if_in_a_hurry = pytest.mark.parametrize("stages", STORES if THOROUGH else ["memory"], indirect=True)
each_case = pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))


@each_case
def test_what_is_seen_fits_the_answer_and_stays_so(stages: Stages, case: Case) -> None:
    normal = Normal.of(stages, case)
    in_memory = isinstance(stages.stores.metadata, MemoryMetadata)
    for stage, faults in runs(stages, case, faults_for if in_memory or THOROUGH else some_faults_for):
        with explained(faults):
            seen_after(stage, case, faults, normal)
            stage.settle()
            stage.clear()


@in_memory_if_in_a_hurry
@each_case
def test_trying_again_succeeds(stages: Stages, case: Case) -> None:
    normal = Normal.of(stages, case)
    for stage, faults in runs(stages, case, faults_for):
        with explained(faults):
            seen = seen_after(stage, case, faults, normal)
            stage.clock.advance(max(LEASE, CLAIM))  # of the attempt that failed
            try:
                perform(stage.bus(), case.op(stage.owner))
            except NotFound:
                assert seen == normal.after  # it had happened: nothing is left to delete, or to restore
            once = case.may_be_repeated or seen == normal.before
            assert stage.seen() == (normal.after if once else sorted([*normal.after, *normal.after]))
            stage.settle()
            stage.clear()


def test_what_was_deleted_can_be_restored_whatever_failed(stages: Stages) -> None:
    case = CASES["delete"]
    normal = Normal.of(stages, case)
    for stage, faults in runs(stages, case, faults_for):
        with explained(faults):
            if seen_after(stage, case, faults, normal) == normal.after:
                stage.sweep()
                stage.do(restore())
            assert stage.seen() == normal.before
            stage.clear()


@in_memory_if_in_a_hurry
@each_case
def test_a_fault_then_another_in_the_sweep_that_follows(stages: Stages, case: Case) -> None:
    """The sweeper that cleans up after a fault fails, too, or dies; the next one ends its work."""
    normal = Normal.of(stages, case)
    for second in HARD if THOROUGH else (die_before, fail_after):
        for number in range(6):
            for stage, faults in runs(stages, case, lambda _: HARD):
                sweeping = Faults({number: second}, watch=stage.check)
                with explained(faults, sweeping):
                    seen = seen_after(stage, case, faults, normal)
                    stage.clock.advance(RESERVATION)
                    with suppress(Unavailable, ProcessDied):
                        perform(stage.bus(sweeping.wrap), sweep()(stage.owner))
                    assert stage.seen() == seen
                    stage.settle()
                    stage.clear()


QUOTA_OF_ONE = msgspec.structs.replace(SETTINGS, quota_images=1, quota_bytes=len(ONE))
UPLOADS = [case for name, case in CASES.items() if name.startswith("upload") and name != "upload replayed"]


def failed_puts(stages: Stages, case: Case) -> Iterator[tuple[Stage, Faults]]:
    """A put that fails, and then what is done about it fails, too."""
    for first in (fail_before, fail_after):
        for second in (*PLAIN, None):
            stage = arranged(stages, case)
            meanwhile = second or Hang(stage.clock, RESERVATION, "before", stage.sweep)
            yield stage, Faults({1: first, 2: meanwhile}, watch=stage.check)


@pytest.mark.parametrize("case", UPLOADS)
def test_an_upload_that_just_fits_counts_once_or_not_at_all_whatever_failed(stages: Stages, case: Case) -> None:
    normal = Normal.of(stages, case)
    in_memory = isinstance(stages.stores.metadata, MemoryMetadata)
    some = runs(stages, case, faults_for if in_memory or THOROUGH else some_faults_for)
    for stage, faults in itertools.chain(some, failed_puts(stages, case)):
        stage.settings = QUOTA_OF_ONE
        with explained(faults):
            seen = seen_after(stage, case, faults, normal)
            stage.clock.advance(RESERVATION)
            stage.sweep()
            used = stage.stores.metadata.usage(stage.owner)
            if seen == normal.before:
                assert used == Usage()
                stage.do(upload(key=None))
            else:
                assert used == Usage(images=1, size_bytes=len(seen[0][-1]))
                with pytest.raises(QuotaExceeded):
                    stage.do(upload(key=None))
            stage.clear()
            assert stage.stores.metadata.usage(stage.owner) == Usage()
