"""The policy that the server runs under, and what refuses it."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from entrypoints import server
from entrypoints.settings import Settings
from tests.waiting import reserve_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no policies to choose from")


@pytest.fixture(autouse=True)
def as_usual(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        pytest.skip("the tests run under a policy of their own")
    monkeypatch.setattr(os, "environ", dict(os.environ))  # the server tells its workers their settings by it
    yield
    monkeypatch.undo()
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))  # or the tests that follow would skip themselves


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return Settings(data_dir=str(tmp_path), port=reserve_port(request.node))


def test_the_policy_is_set_while_it_serves_and_not_behind_that(settings: Settings) -> None:
    with server.ready(settings):
        assert os.sched_getscheduler(0) == os.SCHED_BATCH
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.mark.parametrize("call", ["sched_getscheduler", "sched_setscheduler"])
@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EINVAL, errno.EPERM], ids=errno.errorcode.get)
def test_a_system_that_refuses_the_policy_serves_all_the_same(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, call: str, code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with ExitStack() as stack:
        with monkeypatch.context() as patch:
            patch.setattr(os, call, refuse)
            stack.enter_context(server.ready(settings))
        assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_a_system_that_refuses_to_take_the_policy_back_ends_the_server_all_the_same(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    with monkeypatch.context() as patch, server.ready(settings):
        patch.setattr(os, "sched_setscheduler", refuse)
    assert os.sched_getscheduler(0) == os.SCHED_BATCH
