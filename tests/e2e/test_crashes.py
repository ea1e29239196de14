"""A server of two workers that is killed (SIGKILL) again and again under mixed load: what it said stays so.

``CRASHES`` says how often it is killed; more than the default is for a long run by hand.
"""

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.memory import FixedClock
from adapters.system import RandomIds
from application.commands.sweep import Sweep, SweepHandler
from entrypoints.server import remove_abandoned_folders
from entrypoints.settings import parse_settings
from entrypoints.stores import open_stores
from tests import pictures
from tests.e2e.client import IMAGES, Api, Document, document, embedded_alone, fetch, files_at_rest, problem
from tests.service import Service
from tests.waiting import eventually, wait_until

KILLS = int(os.environ.get("CRASHES", "4"))
USERS = 6
ROOT = Path(__file__).parent.parent.parent
# Reservations are due soon, so that the server's own sweepers meet uploads, deletions and kills all the time.
RESERVATION_TTL_S = 6
SETTINGS = {"CALOTYPE_RESERVATION_TTL_S": str(RESERVATION_TTL_S), "CALOTYPE_SWEEP_INTERVAL_S": "1"}
# Kept in memory, spooled to the disk, and on S3 uploaded in parts.
SIZES = (3_000, 90_000, 700_000, 17 * 1024 * 1024)
WEIGHTS = (60, 30, 8, 2)
OWN_FIELDS = {"presigned_url", "presigned_url_expires_at"}


def picture(size_bytes: int, number: int) -> bytes:
    """Return a picture of about this size that differs from all others in a comment at its beginning."""
    plain = pictures.big_jpeg(size_bytes)
    return plain[:2] + b"\xff\xfe\0\x0a" + number.to_bytes(8, "big") + plain[2:]


class Died(Exception):
    """The server is gone. What was asked of it last has happened, or it has not."""


class Unavailable(Exception):
    """The server is there and says 503: the same."""


@dataclass(frozen=True)
class Kept:
    """An image that a user relies on: its document, and how to make its bytes again."""

    known: Document
    size_bytes: int
    number: int

    @property
    def content(self) -> bytes:
        return picture(self.size_bytes, self.number)


def known(answer: Document) -> Document:
    return {name: value for name, value in answer.items() if name not in OWN_FIELDS}


@dataclass
class User:
    """One owner, who does one thing after another and notes what was acknowledged."""

    service: Service
    name: str
    chance: random.Random
    kept: dict[str, Kept] = field(default_factory=dict)
    trashed: dict[str, Kept] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    acknowledged: int = 0
    unknown: int = 0
    """How often the outcome of a call was not known."""
    _numbers: int = 0
    _settle: Callable[[Api], None] | None = None
    """How to find out what became of the call whose answer is missing."""

    # ---- at work

    def work(self) -> None:
        """Do this and that until the server dies."""
        with closing(Api(self.service, self.name, patient=False)) as api:
            try:
                while True:
                    try:
                        self._step(api)
                        self._settle = None
                        self.acknowledged += 1
                    except Unavailable:
                        self.settle(api)
            except Died:
                return

    def settle(self, api: Api) -> None:
        """Find out what became of the call whose outcome is unknown. From now on it must stay so."""
        if self._settle is not None:
            self.unknown += 1
            _persistently(lambda: self._settle and self._settle(api))
            self._settle = None

    def _step(self, api: Api) -> None:
        steps: list[tuple[int, Callable[[Api], None]]] = [(30, self._upload), (15, self._upload_with_key)]
        if self.kept:
            steps += [(15, self._revise), (10, self._delete), (10, self._delete_for_good), (20, self._read)]
        if self.trashed:
            steps.append((8, self._restore))
        weights, actions = zip(*steps, strict=True)
        self.chance.choices(actions, weights)[0](api)

    def _upload(self, api: Api) -> None:
        send = self._new_upload(api, {})

        def settle(api: Api) -> None:
            found = [item for item in everything(api) if item["image_id"] not in self.kept]
            assert len(found) <= 1
            for item in found:
                self._keep(item, send.size_bytes, send.number)

        self._settle = settle
        self._keep(_stored(send), send.size_bytes, send.number)

    def _upload_with_key(self, api: Api) -> None:
        send = self._new_upload(api, {"Idempotency-Key": f"key-{self._numbers}"})

        def settle(api: Api) -> None:
            send.api = api
            while (answer := _asked(send)).status_code != httpx.codes.CREATED:
                problem(answer, 409, "conflict")
                assert 1 <= int(answer.headers["retry-after"]) <= 3
                time.sleep(0.1)
            self._keep(document(answer, 201), send.size_bytes, send.number)

        self._settle = settle
        self._keep(_stored(send), send.size_bytes, send.number)

    def _revise(self, api: Api) -> None:
        image_id, image = self._any(self.kept)
        self._numbers += 1
        change = {"title": f"Title {self._numbers}", "tags": ["crash", f"tag {self._numbers % 5}"]}
        after = {**image.known, **change, "version": image.known["version"] + 1}

        def settle(api: Api) -> None:
            now = known(document(_asked(lambda: api.metadata(image_id))))
            assert now in (image.known, {**after, "updated_at": now["updated_at"]})
            self.kept[image_id] = Kept(now, image.size_bytes, image.number)

        self._settle = settle
        answer = document(
            _asked(lambda: api.patch(image_id, change, If_Match=f'"{image.known["version"]}"')),
        )
        assert known(answer) == {**after, "updated_at": answer["updated_at"]}
        self.kept[image_id] = Kept(known(answer), image.size_bytes, image.number)

    def _delete(self, api: Api) -> None:
        image_id, _ = self._any(self.kept)

        def settle(api: Api) -> None:
            if _asked(lambda: api.metadata(image_id)).status_code == httpx.codes.NOT_FOUND:
                self.trashed[image_id] = self.kept.pop(image_id)

        self._settle = settle
        document(_asked(lambda: api.delete(image_id)))
        self.trashed[image_id] = self.kept.pop(image_id)

    def _delete_for_good(self, api: Api) -> None:
        image_id, _ = self._any(self.kept)

        def settle(api: Api) -> None:
            if _asked(lambda: api.metadata(image_id)).status_code == httpx.codes.NOT_FOUND:
                del self.kept[image_id]
                self.gone.add(image_id)

        self._settle = settle
        document(_asked(lambda: api.delete(image_id, permanent=True)))
        del self.kept[image_id]
        self.gone.add(image_id)

    def _restore(self, api: Api) -> None:
        image_id, image = self._any(self.trashed)

        def settle(api: Api) -> None:
            if _asked(lambda: api.metadata(image_id)).status_code == httpx.codes.OK:
                self.kept[image_id] = self.trashed.pop(image_id)

        self._settle = settle
        assert known(document(_asked(lambda: api.restore(image_id)))) == image.known
        self.kept[image_id] = self.trashed.pop(image_id)

    def _read(self, api: Api) -> None:
        newest = document(_asked(lambda: api.http.get(IMAGES, params={"limit": 5})))["items"]
        assert {item["image_id"] for item in newest} <= self.kept.keys()
        image_id, image = self._any(self.kept)
        assert _asked(lambda: api.get(image_id)).content == image.content

    def _new_upload(self, api: Api, headers: dict[str, str]) -> "Upload":
        self._numbers += 1
        (size_bytes,) = self.chance.choices(SIZES, WEIGHTS)
        return Upload(api, size_bytes, self._numbers, headers)

    def _keep(self, answer: Document, size_bytes: int, number: int) -> None:
        assert answer["image_id"] not in self.kept.keys() | self.trashed.keys() | self.gone
        image = Kept(known(answer), size_bytes, number)
        assert (answer["title"], answer["size_bytes"]) == (f"Picture {number}", len(image.content))
        self.kept[answer["image_id"]] = image

    def _any(self, images: dict[str, Kept]) -> tuple[str, Kept]:
        return self.chance.choice(list(images.items()))

    # ---- afterwards

    def check(self) -> None:
        """Compare all that the server gives with all that it acknowledged."""
        with closing(Api(self.service, self.name, patient=False)) as api:
            self.settle(api)
            _persistently(lambda: self._compare(api))

    def _compare(self, api: Api) -> None:
        listed = {item["image_id"]: known(item) for item in everything(api)}
        assert listed == {image_id: image.known for image_id, image in self.kept.items()}
        # No record without its postings, no posting without its record.
        assert {item["image_id"] for item in everything(api, filter_by="tags", tags="crash")} == self.kept.keys()
        for image_id, image in self.kept.items():
            assert _asked(partial(api.get, image_id)).content == image.content
        for image_id in (*self.trashed, *self.gone):
            problem(_asked(partial(api.metadata, image_id)), 404, "not_found")

    def check_the_trash(self) -> None:
        """Restore all that was deleted, but not for good; nothing else comes back."""
        with closing(Api(self.service, self.name)) as api:
            for image_id in self.gone:
                problem(api.restore(image_id), 404, "not_found")
            for image_id, image in self.trashed.items():
                assert known(document(api.restore(image_id))) == image.known
                assert api.get(image_id).content == image.content


@dataclass
class Upload:
    """One upload, which may be sent again."""

    api: Api
    size_bytes: int
    number: int
    headers: dict[str, str]

    def __call__(self) -> httpx.Response:
        content = picture(self.size_bytes, self.number)
        return self.api.upload(content, headers=self.headers, title=f"Picture {self.number}", tags=["crash"])


def _asked(ask: Callable[[], httpx.Response]) -> httpx.Response:
    try:
        answer = ask()
    except httpx.TransportError as error:
        raise Died from error
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        raise Unavailable
    return answer


def _stored(upload: "Upload") -> Document:
    begun = time.monotonic()
    answer = _asked(upload)
    if answer.status_code == httpx.codes.CONFLICT:
        # On a machine that stood still the sweeper may take an attempt for a dead one: it has become of it what may.
        assert time.monotonic() - begun > RESERVATION_TTL_S - 1
        raise Unavailable
    return document(answer, 201)


def _persistently(ask: Callable[[], object]) -> None:
    """Ask until it is answered: a machine that stood still may have kept a store, or a thread, for too long."""

    def answered() -> bool:
        try:
            ask()
        except Unavailable:
            return False
        return True

    wait_until(answered, every_s=0.2)


def everything(api: Api, **query: str) -> Iterator[Document]:
    cursor: dict[str, str] = {}
    while True:
        page = document(_asked(lambda: api.http.get(IMAGES, params={"limit": 100, **query, **cursor})))  # noqa: B023 (called at once)
        yield from page["items"]
        if page["next_cursor"] is None:
            return
        cursor = {"cursor": page["next_cursor"]}


@dataclass
class Crowd:
    """All users of a server, and its end."""

    service: Service
    seed: int
    users: list[User] = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)  # noqa: S311 (no secret)
        self.users = [
            User(self.service, f"user-{n}", random.Random(f"{self.seed}-{n}"))  # noqa: S311 (no secret)
            for n in range(USERS)
        ]

    def work_until_killed(self) -> None:
        before = self._acknowledged()
        with ThreadPoolExecutor(USERS) as pool:
            working = [pool.submit(user.work) for user in self.users]
            eventually(lambda: self._acknowledged() >= before + 10 or all(each.done() for each in working))
            time.sleep(self.chance.uniform(0, 0.4))
            self.service.kill()
            for each in working:
                each.result()
        assert self._acknowledged() >= before + 10, "there was hardly any load"

    def all(self, act: Callable[[User], None]) -> None:
        with ThreadPoolExecutor(USERS) as pool:
            list(pool.map(act, self.users))

    def _acknowledged(self) -> int:
        return sum(user.acknowledged for user in self.users)


def test_whatever_kills_a_server_nothing_is_lost_and_nothing_is_left(
    open_service: Callable[..., Service], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 (shown when the test fails)
    service = open_service(workers=2, settings=SETTINGS)
    crowd = Crowd(service, seed)
    try:
        for _ in range(KILLS):
            service.start()
            crowd.all(User.check)
            crowd.work_until_killed()
        service.start()
        crowd.all(User.check)
        service.kill()
        assert sum(user.unknown for user in crowd.users) >= KILLS

        for name, value in environment_of(service).items():
            monkeypatch.setenv(name, value)
        sweep_later()
        assert findings(service, tmp_path / "audit.state") == []
        owned = (image for user in crowd.users for image in (*user.kept.values(), *user.trashed.values()))
        assert keys_at_rest(service) == sorted(image.known["s3_key"] for image in owned)

        service.start()
        crowd.all(User.check)
        crowd.all(User.check_the_trash)
        assert service.stop() == 0
    finally:
        service.kill()
    assert "Traceback" not in service.log.read_text()


@embedded_alone
def test_what_a_killed_server_counted_in_is_removed_later_and_what_a_running_one_does_is_not(
    open_service: Callable[..., Service], tmp_path: Path
) -> None:
    with open_service(workers=2) as service:
        (folder,) = (tmp_path / "tmp").glob("calotype-workers-*")
        os.utime(folder, (0, 0))
        remove_abandoned_folders(tmp_path / "tmp")
        assert folder.exists()
        assert fetch(f"{service.base_url}/metrics").status_code == httpx.codes.OK
        service.kill()
        # The workers hold the folder's lock, and write to it, until the kernel has done away with the last of them.
        wait_until(lambda: removed(folder))


def removed(folder: Path) -> bool:
    """Let a later start tidy up, and tell whether this folder is gone."""
    with suppress(FileNotFoundError):
        os.utime(folder, (0, 0))
    remove_abandoned_folders(folder.parent)
    return not folder.exists()


def environment_of(service: Service) -> dict[str, str]:
    account = {} if service.account is None else service.account.environment
    return {"CALOTYPE_DATA_DIR": str(service.data_dir), **account}


def sweep_later() -> None:
    """Sweep as ten minutes from now: every reservation is due by then, and every claim of a dead sweeper over."""
    clock = FixedClock(datetime.now(UTC) + timedelta(minutes=10))
    with closing(open_stores(parse_settings(os.environ), clock)) as stores:
        handler = SweepHandler(metadata=stores.metadata, objects=stores.objects, clock=clock, ids=RandomIds())
        assert handler(Sweep()).result.failed == 0
        assert list(stores.metadata.due(clock.now())) == []


def findings(service: Service, state: Path) -> list[Any]:
    """Return what an audit finds. On AWS it takes more rights than the service has."""
    rights = {} if service.account is None else service.account.root
    done = subprocess.run(
        [sys.executable, "-m", "entrypoints.cli", "audit", "--deep", "--json", "--state", str(state)],
        env={**os.environ, **rights},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode == 0) == (found == []), done.stderr
    return found


_OBJECT_FILE = re.compile(r"data/objects/[0-9a-f]/[0-9a-f]/images/[^/]+/[^/]+")


def keys_at_rest(service: Service) -> list[str]:
    """Return the keys of all versions of all objects, sorted; fail for a file that is none."""
    files = {name for name in files_at_rest(service) if re.match(r"data/(?!secret$)|tmp/", name)}
    if service.account is None:
        assert {name for name in files if not _OBJECT_FILE.fullmatch(name)} == set()
        return sorted(name.split("/", 4)[4] for name in files)
    assert files == set()
    # Uploads in parts that a retry has taken the place of are the bucket's lifecycle's.
    found = service.account.s3.list_object_versions(Bucket=service.account.bucket)
    assert not found["IsTruncated"]
    assert found.get("DeleteMarkers", []) == []
    return sorted(each["Key"] for each in found.get("Versions", []))
