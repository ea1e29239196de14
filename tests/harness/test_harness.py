"""The harness at its three levels. `HARNESS_SCALE=100 pytest tests/harness` runs a hundred times as much."""

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar, cast

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.harness.faulty_machine import FaultyHarness, FaultySystem
from tests.harness.machine import Harness
from tests.harness.systems import SERVER_SETTINGS, BusSystem, HttpSystem, System, embedded_stores, memory_stores
from tests.service import Service

S = TypeVar("S", bound=System)

SCALE = float(os.environ.get("HARNESS_SCALE", "1"))


def run(open_system: Callable[[], S], *, examples: int, steps: int, harness: Callable[[S], Harness] = Harness) -> None:
    run_state_machine_as_test(
        cast("type[Harness]", lambda: harness(open_system())),  # all that is asked of it is to make one
        settings=settings(
            max_examples=max(1, int(examples * SCALE)),
            stateful_step_count=steps,
            deadline=None,
            derandomize=False,
            print_blob=True,
            phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_bus_on_memory_does_what_the_model_says() -> None:
    run(lambda: BusSystem(memory_stores()), examples=60, steps=50)


def test_the_bus_on_sqlite_and_files_does_what_the_model_says(tmp_path: Path) -> None:
    numbers = itertools.count()
    run(lambda: BusSystem(embedded_stores(tmp_path / str(next(numbers)), synced=False)), examples=20, steps=50)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path / "data", workers=2, settings=SERVER_SETTINGS) as started:
        yield started


def test_the_bus_on_memory_keeps_its_promises_under_faults() -> None:
    run(lambda: FaultySystem(memory_stores()), examples=100, steps=50, harness=FaultyHarness)


def test_the_bus_on_sqlite_and_files_keeps_its_promises_under_faults(tmp_path: Path) -> None:
    numbers = itertools.count()
    run(
        lambda: FaultySystem(embedded_stores(tmp_path / str(next(numbers)), synced=False)),
        examples=8,
        steps=50,
        harness=FaultyHarness,
    )


def test_a_server_over_http_does_what_the_model_says(service: Service) -> None:
    run(lambda: HttpSystem(service), examples=8, steps=30)
