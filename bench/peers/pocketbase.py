"""PocketBase: one Go program, SQLite and files.

A collection ``images`` with the rules of its docs (everybody sees and makes only what is theirs), an index for each
page, ``skipTotal``, and files that only their owner may fetch. Tags are a JSON field and found by ``~``: of the ways
its filters offer, that is the one that takes the least time here.
"""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx

from bench.library import DESCRIPTION, ONE_IN_10, PAGE, READER, UPLOADER, jpeg_template, photo, sampled
from bench.peers.filling import filling
from bench.peers.peer import Stored, content_check, multipart, page_check, stored_pictures, title_check, words_of_items
from bench.processes import Server
from bench.wrk import Ask, Wrong

_PROGRAM = Path(__file__).parent.parent.parent / ".venv-bench-pocketbase" / "bin" / "pocketbase"
_PASSWORD = "only on this machine, for minutes"  # noqa: S105
_SUPERUSER = "operator@example.com"
_RECORDS = "/api/collections/images/records"
_DAY_S = 24 * 3600
_OWN = "owner = @request.auth.id"

_COLLECTION = {
    "name": "images",
    "type": "base",
    "listRule": _OWN,
    "viewRule": _OWN,
    "createRule": _OWN,
    "updateRule": _OWN,
    "deleteRule": _OWN,
    "fields": [
        {
            "name": "owner",
            "type": "relation",
            "collectionId": "_pb_users_auth_",
            "maxSelect": 1,
            "required": True,
            "cascadeDelete": True,
        },
        {
            "name": "file",
            "type": "file",
            "maxSelect": 1,
            "maxSize": 25 * 1024 * 1024,
            "mimeTypes": ["image/jpeg", "image/png", "image/gif", "image/webp"],
            "protected": True,
            "required": True,
        },
        {"name": "title", "type": "text", "max": 200},
        {"name": "description", "type": "text", "max": 5000},
        {"name": "tags", "type": "json"},
        {"name": "created", "type": "autodate", "onCreate": True},
        {"name": "updated", "type": "autodate", "onCreate": True, "onUpdate": True},
    ],
    "indexes": [
        "CREATE INDEX images_by_owner ON images (owner, created)",
        "CREATE INDEX images_by_title ON images (owner, title, created)",
    ],
}


class Pocketbase:
    """See Peer."""

    name = "PocketBase"
    largest = None
    setting = (
        "`pocketbase serve`, defaults; own-rows rules, indexes on (owner, created) and (owner, title, created), "
        "`skipTotal`, a protected file, tags as JSON found by `~`; it logs each request to its own database; the owner "
        "by its own token"
    )

    def version(self) -> str:
        """See Peer."""
        done = subprocess.run([_PROGRAM, "--version"], capture_output=True, text=True, check=True)
        return done.stdout.split()[-1]

    def schema(self) -> str:
        """See Peer."""
        return self.version()

    def seed(self, folder: Path, size: int) -> None:
        """See Peer. The collection is made over its API, the records then by SQL, while it does not run."""
        subprocess.run(
            [_PROGRAM, "superuser", "upsert", _SUPERUSER, _PASSWORD, "--dir", folder, *_places(folder)],
            capture_output=True,
            check=True,
        )
        with PocketbaseLibrary(folder, size).server as server:
            server.start("/api/health")
            _make_schema(server.url)
        # Analysed at the end, which is what its own nightly job does.
        with filling(folder / "data.db") as db:
            db.executemany(
                "INSERT INTO images (id, owner, file, title, description, tags, created, updated) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                _rows(size),
            )

    def copy(self, seeded: Path, folder: Path, size: int) -> None:
        """See Peer."""
        del size
        shutil.copytree(seeded, folder)

    def library(self, folder: Path, size: int) -> "PocketbaseLibrary":
        """See Peer."""
        return PocketbaseLibrary(folder, size)


class PocketbaseLibrary:
    """See Library."""

    def __init__(self, folder: Path, size: int) -> None:
        """Take the seeded folder."""
        self._size = size
        self._tokens = {READER: "", UPLOADER: ""}
        self._file_token = ""
        self._stored: dict[int, Stored] = {}
        self.server = Server(
            [_PROGRAM, "serve", "--http", "127.0.0.1:{port}", "--dir", folder, *_places(folder)],
            log=folder / "server.log",
            cwd=folder,
        )

    def start(self) -> float:
        """See Library."""
        # The first page takes a token, and a token takes a running server.
        if not self._tokens[READER]:
            self.server.start("/api/health")
            self._tokens = {user: _token(self.server.url, "users", f"{user}@example.com") for user in self._tokens}
            self.server.stop()
        ask = self.page()
        return self.server.start(ask.paths[0], ask.headers)

    def sign_in(self, *, stores: bool) -> None:
        """See Library."""
        answer = httpx.post(f"{self.server.url}/api/files/token", headers=self._as(UPLOADER))
        self._file_token = answer.raise_for_status().json()["token"]
        if stores:
            self._stored = stored_pictures(
                self.server.url, self.upload, lambda answer: f"{answer.json()['id']}/{answer.json()['file']}"
            )

    def page(self, *, tags: tuple[str, ...] = (), title: str | None = None) -> Ask:
        """See Library."""
        conditions = [f"""tags ~ '"{tag}"'""" for tag in tags] + ([f"title = '{title}'"] if title else [])
        question = {"perPage": PAGE, "sort": "-created", "skipTotal": 1}
        if conditions:
            question["filter"] = " && ".join(conditions)
        check = page_check(words_of_items, self._size, tags=tags, title=title)
        return Ask((f"{_RECORDS}?{urlencode(question)}",), 200, check, self._as(READER))

    def metadata(self) -> Ask:
        """See Library."""
        photos = sampled(self._size)
        paths = tuple(f"{_RECORDS}/{_id(each.number)}" for each in photos)
        return Ask(paths, 200, title_check(photos[0].title), self._as(READER))

    def upload(self, size_bytes: int) -> Ask:
        """See Library."""
        tags = ["trip", ONE_IN_10]
        fields = [("owner", _user_id(UPLOADER)), ("title", "A bridge"), ("tags", json.dumps(tags))]
        headers, body = multipart(fields, file="file", picture=jpeg_template(size_bytes))

        def check(answer: httpx.Response) -> None:
            if (answer.json()["owner"], answer.json()["tags"]) != (_user_id(UPLOADER), tags):
                raise Wrong("not what was uploaded")

        return Ask((_RECORDS,), 200, check, {**self._as(UPLOADER), **headers}, body)

    def download(self, size_bytes: int) -> Ask:
        """See Library."""
        stored = self._stored[size_bytes]
        return Ask(self._paths(stored), 200, content_check(stored.content))

    def not_modified(self, size_bytes: int) -> Ask:
        """See Library. It sends no ETag; the time of the last change does the same here."""
        paths = self._paths(self._stored[size_bytes])[:1]
        whole = httpx.get(self.server.url + paths[0])
        return Ask(paths, 304, content_check(b""), {"If-Modified-Since": whole.headers["Last-Modified"]})

    def one_byte(self, size_bytes: int) -> Ask:
        """See Library."""
        stored, middle = self._stored[size_bytes], size_bytes // 2
        content = stored.content[middle : middle + 1]
        return Ask(self._paths(stored), 206, content_check(content), {"Range": f"bytes={middle}-{middle}"})

    def _paths(self, stored: Stored) -> tuple[str, ...]:
        return tuple(f"/api/files/images/{name}?token={self._file_token}" for name in stored.names)

    def _as(self, user: str) -> dict[str, str]:
        return {"Authorization": self._tokens[user]}


def _places(folder: Path) -> list[str]:
    # Beside the data folder, else, where it would find those of another library.
    return [f"--{name}Dir={folder / name}" for name in ("migrations", "hooks", "public")]


def _make_schema(url: str) -> None:
    with httpx.Client(base_url=url, timeout=60) as client:
        client.headers["Authorization"] = _token(url, "_superusers", _SUPERUSER)
        # The tokens of a run must last as long as the run.
        durations = {"fileToken": {"duration": _DAY_S}, "authToken": {"duration": _DAY_S}}
        client.patch("/api/collections/users", json=durations).raise_for_status()
        for user in (READER, UPLOADER):
            account: dict[str, Any] = {"id": _user_id(user), "email": f"{user}@example.com", "verified": True}
            account |= {"password": _PASSWORD, "passwordConfirm": _PASSWORD}
            client.post("/api/collections/users/records", json=account).raise_for_status()
        client.post("/api/collections", json=_COLLECTION).raise_for_status()


def _token(url: str, collection: str, email: str) -> str:
    identity = {"identity": email, "password": _PASSWORD}
    answer = httpx.post(f"{url}/api/collections/{collection}/auth-with-password", json=identity, timeout=60)
    token: str = answer.raise_for_status().json()["token"]
    return token


def _rows(size: int) -> Iterator[tuple[str, ...]]:
    owner = _user_id(READER)
    for each in map(photo, range(size)):
        at = f"{each.created_at:%Y-%m-%d %H:%M:%S}.000Z"
        yield _id(each.number), owner, "photo.png", each.title, DESCRIPTION, json.dumps(each.tags), at, at


def _id(number: int) -> str:
    return hashlib.md5(b"%d" % number, usedforsecurity=False).hexdigest()[:15]


def _user_id(user: str) -> str:
    return user.ljust(15, "0")
