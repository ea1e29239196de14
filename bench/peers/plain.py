"""What a team would write first: Flask, SQLite and files behind gunicorn (apps/plain.py)."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode
from uuid import UUID

import httpx

from bench.library import DESCRIPTION, ONE_IN_10, PAGE, READER, UPLOADER, Words, jpeg_template, photo, sampled
from bench.peers.filling import filling
from bench.peers.gunicorn import THREADS, gunicorn
from bench.peers.peer import Stored, content_check, multipart, page_check, stored_pictures
from bench.processes import Server
from bench.wrk import Ask, Wrong

_BIN = Path(__file__).parent.parent.parent / ".venv-bench-plain" / "bin"
_APPS = Path(__file__).parent / "apps"


class Plain:
    """See Peer."""

    name = "Flask"
    largest = None
    setting = (
        f"gunicorn, {THREADS} threads in each of 2 x processors + 1 workers, as its docs advise, access log to a file; "
        "SQLite (WAL, `synchronous=NORMAL`) with an index for each page, files by `send_file`; the owner by `X-User-ID`"
    )

    def version(self) -> str:
        """See Peer."""
        script = "from importlib.metadata import version as v; print(f\"{v('flask')} (gunicorn {v('gunicorn')})\")"
        return subprocess.run(
            [_BIN / "python", "-c", script], capture_output=True, text=True, check=True
        ).stdout.strip()

    def schema(self) -> str:
        """See Peer."""
        return "1"

    def seed(self, folder: Path, size: int) -> None:
        """See Peer. By SQL, into the tables that the program has made."""
        library = PlainLibrary(folder, size)
        with library.server as server:
            server.start("/images", {"X-User-ID": READER})
        with filling(folder / "plain.db") as db:
            db.executemany(f"INSERT INTO images VALUES ({', '.join('?' * 12)})", _rows(size))  # noqa: S608
            db.executemany("INSERT INTO image_tags VALUES (?, ?)", _tags(size))

    def copy(self, seeded: Path, folder: Path, size: int) -> None:
        """See Peer."""
        del size
        shutil.copytree(seeded, folder)

    def library(self, folder: Path, size: int) -> "PlainLibrary":
        """See Peer."""
        return PlainLibrary(folder, size)


class PlainLibrary:
    """See Library."""

    def __init__(self, folder: Path, size: int) -> None:
        """Take the seeded folder."""
        self._size = size
        self._stored: dict[int, Stored] = {}
        self.server = Server(
            gunicorn(_BIN, "plain:app"),
            log=folder / "server.log",
            cwd=_APPS,
            environment={"PLAIN_DATA_DIR": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        )

    def start(self) -> float:
        """See Library."""
        ask = self.page()
        return self.server.start(ask.paths[0], ask.headers)

    def sign_in(self, *, stores: bool) -> None:
        """See Library."""
        if stores:
            self._stored = stored_pictures(self.server.url, self.upload, lambda answer: answer.json()["id"])

    def page(self, *, tags: tuple[str, ...] = (), title: str | None = None) -> Ask:
        """See Library."""
        question = [("limit", str(PAGE)), *(("tag", tag) for tag in tags), *([("title", title)] if title else [])]
        check = page_check(_words, self._size, tags=tags, title=title)
        return Ask((f"/images?{urlencode(question)}",), 200, check, {"X-User-ID": READER})

    def metadata(self) -> Ask:
        """See Library."""
        photos = sampled(self._size)

        def check(answer: httpx.Response) -> None:
            if answer.json()["title"] != photos[0].title:
                raise Wrong("not the metadata of that image")

        return Ask(tuple(f"/images/{_id(each.number)}/metadata" for each in photos), 200, check, {"X-User-ID": READER})

    def upload(self, size_bytes: int) -> Ask:
        """See Library."""
        fields = [("title", "A bridge"), ("tags", f"trip,{ONE_IN_10}")]
        headers, body = multipart(fields, file="file", picture=jpeg_template(size_bytes))

        def check(answer: httpx.Response) -> None:
            if (answer.json()["size_bytes"], answer.json()["tags"]) != (size_bytes, ["trip", ONE_IN_10]):
                raise Wrong("not what was uploaded")

        return Ask(("/images",), 201, check, {"X-User-ID": UPLOADER, **headers}, body)

    def download(self, size_bytes: int) -> Ask:
        """See Library."""
        stored = self._stored[size_bytes]
        return Ask(_paths(stored), 200, content_check(stored.content), {"X-User-ID": UPLOADER})

    def not_modified(self, size_bytes: int) -> Ask:
        """See Library."""
        paths = _paths(self._stored[size_bytes])[:1]
        whole = httpx.get(self.server.url + paths[0], headers={"X-User-ID": UPLOADER})
        headers = {"X-User-ID": UPLOADER, "If-None-Match": whole.headers["ETag"]}
        return Ask(paths, 304, content_check(b""), headers)

    def one_byte(self, size_bytes: int) -> Ask:
        """See Library."""
        stored, middle = self._stored[size_bytes], size_bytes // 2
        headers = {"X-User-ID": UPLOADER, "Range": f"bytes={middle}-{middle}"}
        return Ask(_paths(stored), 206, content_check(stored.content[middle : middle + 1]), headers)


def _paths(stored: Stored) -> tuple[str, ...]:
    return tuple(f"/images/{name}" for name in stored.names)


def _rows(size: int) -> Iterator[tuple[object, ...]]:
    nothing = hashlib.sha256(b"").hexdigest()
    for each in map(photo, range(size)):
        tags, at = json.dumps(each.tags), each.created_at.isoformat()
        words = (each.title, DESCRIPTION, tags)
        yield _id(each.number), READER, "photo.jpg", *words, "image/jpeg", 200_000, 1600, 1200, nothing, at


def _tags(size: int) -> Iterator[tuple[str, str]]:
    return ((tag, _id(each.number)) for each in map(photo, range(size)) for tag in each.tags)


def _id(number: int) -> str:
    return str(UUID(bytes=hashlib.md5(b"%d" % number, usedforsecurity=False).digest(), version=4))


def _words(answer: httpx.Response) -> list[Words]:
    return [Words(each["title"], tuple(each["tags"])) for each in answer.json()["items"]]
