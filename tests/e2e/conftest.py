"""Two servers for all end-to-end tests: one on the embedded default, one on AWS, and every test is run on both.

Each test is another user of them, so that none sees what another does.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import pytest

from tests.e2e.client import Api, footprint
from tests.ministack import Account, Aws
from tests.ministack import aws as open_aws
from tests.service import Service
from tests.waiting import eventually


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    """Where accounts are made: a ministack, or what AWS_ENDPOINT_URL names."""
    with open_aws(tmp_path_factory.mktemp("ministack")) as opened:
        yield opened


NewAccount = Callable[[], Account | None]


# All that is on AWS is done by one worker of pytest-xdist, so that one ministack serves it.
@pytest.fixture(scope="session", params=["embedded", pytest.param("aws", marks=pytest.mark.xdist_group("aws"))])
def new_account(request: pytest.FixtureRequest) -> NewAccount:
    """Make a place for a service to store things in; None is its data folder."""
    if request.param == "embedded":
        return lambda: None
    return cast("Aws", request.getfixturevalue("aws")).new_account


@pytest.fixture(scope="session")
def service(new_account: NewAccount, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    root = tmp_path_factory.mktemp("service")
    (root / "tmp").mkdir()
    # It never sweeps: what goes and comes must be the tests' own doing.
    settings = {"TMPDIR": str(root / "tmp"), "CALOTYPE_SWEEP_INTERVAL_S": "86400"}
    with Service(root / "data", account=new_account(), settings=settings) as running:
        yield running


@pytest.fixture(scope="session")
def impatient(new_account: NewAccount, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose URLs live for one second, and which sweeps every second."""
    settings = {
        "CALOTYPE_PRESIGN_TTL_S": "1",
        "CALOTYPE_PRESIGN_WINDOW_S": "1",
        "CALOTYPE_SWEEP_INTERVAL_S": "1",
    }
    folder = tmp_path_factory.mktemp("impatient")
    with Service(folder / "data", account=new_account(), settings=settings) as running:
        yield running


@pytest.fixture
def open_service(new_account: NewAccount, tmp_path: Path) -> Callable[..., Service]:
    """Make a service of the test's own, which it starts itself."""
    (tmp_path / "tmp").mkdir()

    def opened(*, workers: int = 1, settings: Mapping[str, str] | None = None, run_by: Sequence[str] = ()) -> Service:
        own = {"TMPDIR": str(tmp_path / "tmp"), **(settings or {})}
        return Service(tmp_path / "data", account=new_account(), workers=workers, settings=own, run_by=run_by)

    return opened


@pytest.fixture
def api(service: Service) -> Iterator[Api]:
    """A user whom nobody has seen before."""
    yield from _user(service)


@pytest.fixture
def stranger(service: Service) -> Iterator[Api]:
    """Another such user."""
    yield from _user(service)


@pytest.fixture
def nobody(service: Service) -> Iterator[Api]:
    """A client that does not say who it is."""
    client = Api(service, None)
    yield client
    client.close()


@pytest.fixture
def leaves_nothing(service: Service, api: Api) -> Iterator[None]:
    """The test fails if it left a record of its user, an object or a temporary file behind."""
    before = footprint(service)
    yield
    assert api.ids() == []
    # The server closes a file that nobody waits for a moment after its client is gone.
    eventually(lambda: footprint(service) == before)
    assert footprint(service) == before


def _user(service: Service) -> Iterator[Api]:
    client = Api(service, f"user-{uuid.uuid4()}")
    yield client
    client.close()
