"""Operations on one image at the same time, in every interleaving of their calls, with the clock moved in between.

All of them on the memory adapters, each state once; the schedules that lead through all those states then on others.
A line in STORES aims it at another adapter. See docs/testing.md.
"""

import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest

from tests.harness.aws import aws_stores
from tests.harness.interleavings import Explorer, Race, Schedule, replay, worth_most
from tests.harness.stage import (
    CLAIM,
    INSTANT,
    LEASE,
    OTHER,
    RESERVATION,
    RETENTION,
    Stages,
    delete,
    look,
    restore,
    revise,
    sweep,
    upload,
)
from tests.harness.systems import OpenStores, embedded_stores

SCALE = float(os.environ.get("HARNESS_SCALE", "1"))
SEED = int(os.environ.get("HARNESS_SEED", "0"))
"""Which of the schedules are carried out where there is no time for all."""


@dataclass(frozen=True)
class Aim:
    """Stores, and how many schedules of each race there is time for; with `HARNESS_SCALE`, so many times that."""

    open_stores: Callable[[Path], AbstractContextManager[OpenStores]]
    schedules: int


@contextmanager
def _embedded(folder: Path) -> Iterator[OpenStores]:
    yield embedded_stores(folder, synced=False)


STORES: Mapping[str, Aim] = {
    "embedded": Aim(_embedded, 24),
    "aws": Aim(lambda _: aws_stores(), 2),
}

RACES: Mapping[str, Race] = {
    "upload and sweep": Race((upload(), sweep()), (), moves=(RESERVATION, CLAIM), more_moves=(LEASE,)),
    "the same upload twice": Race((upload(), upload()), (), moves=(LEASE, LEASE)),
    "the same upload twice and sweep": Race(
        (upload(), upload(), sweep()), (), moves=(RESERVATION,), more_moves=(LEASE,)
    ),
    "two uploads with one key": Race((upload(), upload(OTHER)), (), moves=(LEASE,)),
    "delete and restore": Race((delete(), restore()), moves=(RETENTION,)),
    "delete, restore and delete": Race((delete(), restore(), delete()), moves=(INSTANT,)),
    "restore and sweep": Race((restore(), sweep()), (upload(), delete()), moves=(RETENTION, CLAIM)),
    "restore, sweep and sweep": Race(
        (restore(), sweep(), sweep()), (upload(), delete()), moves=(RETENTION,), more_moves=(CLAIM,)
    ),
    "revise and delete": Race((revise("Hill"), delete()), moves=(INSTANT,)),
    "revise, delete and restore": Race((revise("Hill"), delete(), restore()), moves=(INSTANT,)),
    "revise and revise": Race((revise("Hill"), revise("Dale")), moves=(INSTANT,), winners=2),
    "revise and revise at the same version": Race((revise("Hill", version=1), revise("Dale", version=1)), winners=1),
    "revise and delete at the same version": Race((revise("Hill", version=1), delete(version=1)), winners=1),
    "sweep and sweep": Race((sweep(), sweep()), (upload(), delete(permanent=True)), moves=(CLAIM, CLAIM)),
    "delete permanently, sweep and upload again": Race(
        (delete(permanent=True), sweep(), upload(OTHER)), moves=(CLAIM,), more_moves=(LEASE,)
    ),
    "sweep, sweep and upload again": Race(
        (sweep(), sweep(), upload(OTHER)), (upload(), delete(permanent=True)), moves=(CLAIM,), more_moves=(LEASE,)
    ),
    "read, delete permanently, sweep and upload again": Race(
        # An id comes back, but not in the very microsecond that it first came in.
        (look(), delete(permanent=True), sweep(), upload(OTHER)),
        waited=INSTANT,
        more_moves=(CLAIM,),
    ),
    "delete and delete": Race((delete(), delete()), moves=(INSTANT,), winners=1),
    "restore and restore": Race((restore(), restore()), (upload(), delete()), moves=(RETENTION,)),
}


def race_of(name: str) -> Race:
    race = RACES[name]
    return race if SCALE <= 1 else replace(race, moves=race.moves + race.more_moves)


@cache
def schedules_of(name: str) -> Sequence[Schedule]:
    return tuple(Explorer(race_of(name)).schedules())


@pytest.mark.parametrize("name", RACES)
def test_every_interleaving_equals_some_serial_order(name: str) -> None:
    assert schedules_of(name)


@pytest.fixture(scope="module", params=STORES)
def aim(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stages, int]]:
    aim = STORES[request.param]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")  # it is for the end-to-end tests
        with aim.open_stores(tmp_path_factory.mktemp("data")) as open_stores, Stages(open_stores) as stages:
            yield stages, int(aim.schedules * SCALE)


@pytest.mark.parametrize("name", RACES)
def test_an_adapter_answers_as_the_reference_model_does(name: str, aim: tuple[Stages, int]) -> None:
    (stages, count), schedules = aim, schedules_of(name)
    for schedule in worth_most(schedules, count, random.Random(SEED)):  # noqa: S311 (not a secret)
        replay(race_of(name), schedule.actions, stages)
