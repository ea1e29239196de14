"""What was used once: by threads, by processes, across restarts, and when there is no room."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adapters.sqlite import SqliteReplays
from domain.errors import Unavailable
from tests.waiting import PATIENCE_S

NOW_S = 1_000_000.0
ROOT = Path(__file__).parent.parent.parent


class Clock:
    now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def replays(tmp_path: Path, clock: Clock) -> Iterator[SqliteReplays]:
    opened = SqliteReplays(tmp_path / "used.sqlite3", timeout_s=PATIENCE_S, now=clock)
    yield opened
    opened.close()


def _digest(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def test_the_first_use_is_the_only_one(replays: SqliteReplays) -> None:
    assert [replays.is_first(_digest(1), until_s=NOW_S + 10) for _ in range(3)] == [True, False, False]
    assert replays.is_first(_digest(2), until_s=NOW_S + 10)


def test_it_is_remembered_until_then_and_not_for_ever(replays: SqliteReplays, clock: Clock) -> None:
    for number in range(250):
        assert replays.is_first(_digest(number), until_s=NOW_S + 10)
    clock.now_s = NOW_S + 10
    assert not replays.is_first(_digest(0), until_s=NOW_S + 20)
    clock.now_s = NOW_S + 10.1
    for number in range(1000, 1004):  # each clears some of it away
        assert replays.is_first(_digest(number), until_s=NOW_S + 20)
    assert replays._session.fetch("SELECT count(*) FROM used") == [(4,)]


def test_it_is_remembered_when_the_service_comes_back(tmp_path: Path, replays: SqliteReplays, clock: Clock) -> None:
    replays.is_first(_digest(1), until_s=NOW_S + 10)
    replays.close()
    again = SqliteReplays(tmp_path / "used.sqlite3", now=clock)
    assert not again.is_first(_digest(1), until_s=NOW_S + 10)
    again.close()


def test_of_many_threads_one_is_first(replays: SqliteReplays) -> None:
    with ThreadPoolExecutor(8) as pool:
        for number in range(50):
            asked = [pool.submit(replays.is_first, _digest(number), until_s=NOW_S + 10) for _ in range(8)]
            assert sum(each.result() for each in asked) == 1


_WORKER = """
import hashlib, sys
from pathlib import Path
from adapters.sqlite import SqliteReplays
replays = SqliteReplays(Path(sys.argv[1]), timeout_s=60)
sys.stdin.readline()
for number in range(100):
    print(int(replays.is_first(hashlib.sha256(str(number).encode()).digest(), until_s=1e12)))
replays.close()
"""


def test_of_several_workers_one_is_first(tmp_path: Path) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(tmp_path / "used.sqlite3")],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    answers = [[int(line) for line in worker.communicate(timeout=5 * PATIENCE_S)[0].split()] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert [sum(each) for each in zip(*answers, strict=True)] == [1] * 100


def test_beyond_its_bound_nothing_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.sqlite.replays._PAGES_MAX", 16)
    replays = SqliteReplays(tmp_path / "used.sqlite3", now=lambda: NOW_S)

    def fill() -> None:
        for number in range(10_000):
            replays.is_first(_digest(number), until_s=NOW_S + 10)

    with pytest.raises(Unavailable):
        fill()
    assert not replays.is_first(_digest(1), until_s=NOW_S + 10)
    replays.close()
    assert (tmp_path / "used.sqlite3").stat().st_size <= 16 * 4096


def test_a_closed_file_is_unavailable(replays: SqliteReplays) -> None:
    replays.close()
    with pytest.raises(Unavailable):
        replays.is_first(_digest(1), until_s=NOW_S)
