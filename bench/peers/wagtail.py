"""Wagtail: its image model and API in Django behind gunicorn (apps/pictures)."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import httpx

from bench.library import DESCRIPTION, ONE_IN_10, PAGE, READER, UPLOADER, Words, jpeg_template, photo, sampled
from bench.peers.filling import filling
from bench.peers.gunicorn import THREADS, gunicorn
from bench.peers.peer import CannotDo, Stored, content_check, multipart, page_check, stored_pictures
from bench.processes import Server
from bench.wrk import Ask, Wrong

_BIN = Path(__file__).parent.parent.parent / ".venv-bench-wagtail" / "bin"
_APPS = Path(__file__).parent / "apps"
_FIRST_ID = 1


class Wagtail:
    """See Peer."""

    name = "Wagtail"
    largest = 20_000
    setting = (
        f"gunicorn, {THREADS} threads in each of 2 x processors + 1 workers, access log to a file; SQLite (WAL, "
        "`synchronous=NORMAL`); a custom image model with an index for each page, its API v2 cut to the caller's own "
        "and its N+1 on tags mended, its upload form in a view, originals by `FileResponse`; the owner by `X-User-ID`"
    )

    def version(self) -> str:
        """See Peer."""
        script = "from importlib.metadata import version as v; print(f\"{v('wagtail')} (Django {v('django')})\")"
        return subprocess.run(
            [_BIN / "python", "-c", script], capture_output=True, text=True, check=True
        ).stdout.strip()

    def schema(self) -> str:
        """See Peer."""
        return self.version().split()[0]

    def seed(self, folder: Path, size: int) -> None:
        """See Peer. By SQL, into the tables that Django has made."""
        command = [str(_BIN / "python"), "make_wagtail.py", READER, UPLOADER]
        subprocess.run(command, cwd=_APPS, env={**os.environ, **_environment(folder)}, check=True)
        with filling(folder / "wagtail.db") as db:
            _fill(db, size)

    def copy(self, seeded: Path, folder: Path, size: int) -> None:
        """See Peer."""
        del size
        shutil.copytree(seeded, folder)

    def library(self, folder: Path, size: int) -> "WagtailLibrary":
        """See Peer."""
        return WagtailLibrary(folder, size)


class WagtailLibrary:
    """See Library."""

    def __init__(self, folder: Path, size: int) -> None:
        """Take the seeded folder."""
        self._size = size
        self._stored: dict[int, Stored] = {}
        self.server = Server(
            gunicorn(_BIN, "pictures.wsgi"),
            log=folder / "server.log",
            cwd=_APPS,
            environment=_environment(folder),
        )

    def start(self) -> float:
        """See Library."""
        ask = self.page()
        return self.server.start(ask.paths[0], ask.headers)

    def sign_in(self, *, stores: bool) -> None:
        """See Library."""
        if stores:
            self._stored = stored_pictures(self.server.url, self.upload, lambda answer: str(answer.json()["id"]))

    def page(self, *, tags: tuple[str, ...] = (), title: str | None = None) -> Ask:
        """See Library."""
        question = {"limit": str(PAGE), "order": "-created_at"}
        if tags:
            question["tags"] = ",".join(tags)
        if title:
            question["title"] = title
        check = page_check(_words, self._size, tags=tags, title=title)
        return Ask((f"/api/images/?{urlencode(question)}",), 200, check, {"X-User-ID": READER})

    def metadata(self) -> Ask:
        """See Library."""
        photos = sampled(self._size)

        def check(answer: httpx.Response) -> None:
            if answer.json()["title"] != photos[0].title:
                raise Wrong("not the metadata of that image")

        paths = tuple(f"/api/images/{_FIRST_ID + each.number}/" for each in photos)
        return Ask(paths, 200, check, {"X-User-ID": READER})

    def upload(self, size_bytes: int) -> Ask:
        """See Library."""
        fields = [("title", "A bridge"), ("tags", f"trip,{ONE_IN_10}"), ("collection", "1"), ("description", "")]
        headers, body = multipart(fields, file="file", picture=jpeg_template(size_bytes))

        def check(answer: httpx.Response) -> None:
            if (answer.json()["size"], sorted(answer.json()["tags"])) != (size_bytes, sorted(["trip", ONE_IN_10])):
                raise Wrong("not what was uploaded")

        return Ask(("/upload/",), 201, check, {"X-User-ID": UPLOADER, **headers}, body)

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
        del size_bytes
        raise CannotDo("Django's FileResponse has no ranges")


def _environment(folder: Path) -> dict[str, str]:
    return {
        "WAGTAIL_DATA_DIR": str(folder),
        "DJANGO_SETTINGS_MODULE": "pictures.settings",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _paths(stored: Stored) -> tuple[str, ...]:
    return tuple(f"/originals/{name}" for name in stored.names)


def _fill(db: sqlite3.Connection, size: int) -> None:
    [(owner,)] = db.execute("SELECT id FROM auth_user WHERE username = ?", (READER,))
    [(kind,)] = db.execute("SELECT id FROM django_content_type WHERE app_label = 'pictures' AND model = 'picture'")
    db.executemany(
        "INSERT INTO pictures_picture (id, collection_id, title, file, description, width, height, created_at,"
        " uploaded_by_user_id, file_size, file_hash) VALUES (?, 1, ?, 'photo.jpg', ?, 1600, 1200, ?, ?, 200000, ?)",
        (
            (_FIRST_ID + each.number, each.title, DESCRIPTION, _at(each.created_at), owner, f"{each.number:040x}")
            for each in map(photo, range(size))
        ),
    )
    names = sorted({tag for number in range(min(size, 400)) for tag in photo(number).tags})
    db.executemany("INSERT INTO taggit_tag (name, slug) VALUES (?, ?)", zip(names, names, strict=True))
    tags = dict(db.execute("SELECT name, id FROM taggit_tag"))

    def tagged() -> Iterator[tuple[int, int, int]]:
        for each in map(photo, range(size)):
            yield from ((_FIRST_ID + each.number, kind, tags[tag]) for tag in each.tags)

    db.executemany("INSERT INTO taggit_taggeditem (object_id, content_type_id, tag_id) VALUES (?, ?, ?)", tagged())


def _at(moment: object) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S.%f}"


def _words(answer: httpx.Response) -> list[Words]:
    return [Words(each["title"], tuple(each["meta"]["tags"])) for each in answer.json()["items"]]
