"""The adapters that the contract suites run over. A new one is a factory and a line."""

import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from adapters.dynamodb import Patience
from adapters.memory import MemoryMetadata
from adapters.sqlite import SqliteMetadata
from tests.builders import Catalog, OpenCatalog
from tests.integration.dynamodb_on_moto import dynamodb_on_moto

# No deadline, because the machine may be busy. A function's fixtures may serve all examples: those used with
# properties are factories, and each example makes its own store.
settings.register_profile(
    "integration",
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("integration")


@pytest.fixture(autouse=True)
def _moto_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the clients of these tests from where AWS_ENDPOINT_URL sends the end-to-end tests."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def _memory(folder: Path) -> Iterator[Catalog]:
    del folder
    yield MemoryMetadata()


@contextmanager
def _sqlite(folder: Path) -> Iterator[Catalog]:
    with SqliteMetadata(folder / "catalog.sqlite3") as metadata:
        # The contract says nothing of power cuts, and a thousand waits for the disk are the most of a suite's time.
        # That every commit is synced is checked in test_sqlite.py.
        metadata._writer.fetch("PRAGMA synchronous = OFF")
        yield metadata


@contextmanager
def _dynamodb(folder: Path) -> Iterator[Catalog]:
    del folder
    # moto knows no throttling; what a race of threads takes to settle is the machine's affair.
    with dynamodb_on_moto(patience=Patience(deadline_s=60)) as dynamo:
        yield dynamo.metadata


_CATALOGS = {"memory": _memory, "sqlite": _sqlite, "dynamodb": _dynamodb}


@pytest.fixture(params=_CATALOGS)
def open_catalog(request: pytest.FixtureRequest, tmp_path: Path) -> OpenCatalog:
    """Make an empty catalog; each call another one."""
    numbers = itertools.count()

    def open_one() -> AbstractContextManager[Catalog]:
        folder = tmp_path / f"catalog-{next(numbers)}"
        folder.mkdir()
        return _CATALOGS[request.param](folder)

    return open_one


@pytest.fixture
def scale(request: pytest.FixtureRequest, open_catalog: OpenCatalog) -> float:
    """How much of a long test there is time for: moto copies whole tables for each transaction."""
    del open_catalog
    return 0.12 if request.node.callspec.params["open_catalog"] == "dynamodb" else 1.0


@pytest.fixture
def catalog(open_catalog: OpenCatalog) -> Iterator[Catalog]:
    """An empty catalog."""
    with open_catalog() as opened:
        yield opened
