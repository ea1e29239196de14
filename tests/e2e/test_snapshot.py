"""A snapshot of a server at work: restored elsewhere, it has everything that was acknowledged before it began."""

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests import pictures
from tests.e2e.client import IMAGES, fetch
from tests.service import Service
from tests.waiting import wait_until

OWNERS = ("ada", "bob", "cyd")
ROOT = Path(__file__).parent.parent.parent


@dataclass
class Ledger:
    """What one user was promised. Written after each answer, so that whoever reads it before asks for nothing more."""

    kept: dict[str, bytes] = field(default_factory=dict)
    trashed: dict[str, bytes] = field(default_factory=dict)
    touched: list[str] = field(default_factory=list)
    """Images whose deletion or restoration was asked for, in this order; the last may not be answered yet."""

    def promised(self) -> "Promised":
        # The mark first: what is changed from then on is promised to nobody.
        mark = max(0, len(self.touched) - 1)
        return Promised(dict(self.kept), dict(self.trashed), mark)


class Promised(NamedTuple):
    """What a user has at one moment, and how far their changes had come."""

    kept: dict[str, bytes]
    trashed: dict[str, bytes]
    mark: int


class User(threading.Thread):
    """Uploads, deletes, deletes for good and restores, as fast as the server answers."""

    def __init__(self, service: Service, owner: str, stop: threading.Event) -> None:
        super().__init__()
        self.owner = owner
        self.ledger = Ledger()
        self.operations = 0
        self._service = service
        self._stop_asked = stop
        self._random = random.Random(owner)  # noqa: S311 (no secret)
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            with self._service.client(self.owner) as client:
                while not self._stop_asked.is_set():
                    self._step(client)
                    self.operations += 1
        except BaseException as error:  # noqa: BLE001 (shown by the test)
            self.failure = error

    def _step(self, client: httpx.Client) -> None:
        choice = self._random.random()
        if choice < 0.55 or not self.ledger.kept:
            self._upload(client)
        elif choice < 0.75:
            self._remove(client, permanent=False)
        elif choice < 0.92:
            self._remove(client, permanent=True)
        elif self.ledger.trashed:
            self._restore(client)

    def _upload(self, client: httpx.Client) -> None:
        content = pictures.jpeg(seed=self._random.randrange(10**6))
        answer = client.post(IMAGES, files={"file": ("käse.jpg", content)}, data={"tags": "a,b"})
        assert answer.status_code == 201, answer.text
        self.ledger.kept[answer.json()["image_id"]] = content

    def _remove(self, client: httpx.Client, *, permanent: bool) -> None:
        image_id = self._random.choice(list(self.ledger.kept))
        self.ledger.touched.append(image_id)
        answer = client.delete(f"{IMAGES}/{image_id}", params={"permanent": "true"} if permanent else {})
        assert answer.status_code == 200, answer.text
        content = self.ledger.kept.pop(image_id)
        if not permanent:
            self.ledger.trashed[image_id] = content

    def _restore(self, client: httpx.Client) -> None:
        image_id = self._random.choice(list(self.ledger.trashed))
        self.ledger.touched.append(image_id)
        assert client.post(f"{IMAGES}/{image_id}/restore").status_code == 200
        self.ledger.kept[image_id] = self.ledger.trashed.pop(image_id)


@contextmanager
def at_work(service: Service) -> Iterator[list[User]]:
    stop = threading.Event()
    users = [User(service, owner, stop) for owner in OWNERS]
    for user in users:
        user.start()
    try:
        yield users
    finally:
        stop.set()
        for user in users:
            user.join()
    for user in users:
        if user.failure is not None:
            raise user.failure


def calotype(*arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CALOTYPE_")}
    done = subprocess.run(
        [sys.executable, "-m", "entrypoints.cli", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def everything_of(client: httpx.Client) -> set[str]:
    found: set[str] = set()
    cursor: dict[str, str] = {}
    while True:
        page = client.get(IMAGES, params={"limit": 100, **cursor}).json()
        found |= {item["image_id"] for item in page["items"]}
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


def wait_for(users: list[User], operations: int) -> None:
    wait_until(lambda: all(user.operations >= operations or not user.is_alive() for user in users))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_snapshot_under_load_has_all_that_was_acknowledged_and_nothing_half(tmp_path: Path, workers: int) -> None:
    archive, copy = tmp_path / "snapshot.tar", tmp_path / "copy"
    settings = {"CALOTYPE_SWEEP_INTERVAL_S": "1"}
    with Service(tmp_path / "data", workers=workers, settings=settings) as service, at_work(service) as users:
        wait_for(users, 40)
        promised = {user.owner: user.ledger.promised() for user in users}
        summary = json.loads(calotype("snapshot", str(archive), "--json", "--data-dir", str(tmp_path / "data")))
        wait_for(users, users[0].operations + 10)
        changed = {user.owner: set(user.ledger.touched[promised[user.owner].mark :]) for user in users}
    assert summary["objects"] == summary["records"] + summary["trashed"] - summary["purged"]
    assert summary["objects"] >= 30
    calotype("restore", str(archive), "--data-dir", str(copy))
    audit = calotype("audit", "--deep", "--json", "--data-dir", str(copy))
    assert '"finding"' not in audit
    assert any(each.trashed.keys() - changed[owner] for owner, each in promised.items())
    with Service(copy) as service:
        for owner, (kept, trashed, _) in promised.items():
            with service.client(owner) as client:
                listed = everything_of(client)
                assert kept.keys() - changed[owner] <= listed
                assert not (trashed.keys() - changed[owner]) & listed
                for image_id in listed:
                    answer = client.get(f"{IMAGES}/{image_id}")
                    assert answer.status_code == 200
                    assert answer.content == {**trashed, **kept}.get(image_id, answer.content)
                for image_id in trashed.keys() - changed[owner]:
                    assert client.post(f"{IMAGES}/{image_id}/restore").status_code == 200
                    assert client.get(f"{IMAGES}/{image_id}").content == trashed[image_id]


def test_a_signed_url_opens_the_same_image_in_the_copy(tmp_path: Path) -> None:
    with Service(tmp_path / "data") as service, service.client() as client:
        url = client.post(IMAGES, files={"file": ("a.jpg", pictures.jpeg())}).json()["presigned_url"]
    archive = tmp_path / "snapshot.tar"
    calotype("snapshot", str(archive), "--data-dir", str(tmp_path / "data"))
    calotype("restore", str(archive), "--data-dir", str(tmp_path / "copy"))
    with Service(tmp_path / "copy") as service:
        moved = url.replace(url.partition("/objects/")[0], service.base_url)
        assert fetch(moved).content == pictures.jpeg()
