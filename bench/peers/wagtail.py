"""Wagtail: its image model and API in Django behind gunicorn (apps/pictures)."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import httpx

from bench.library import DESCRIPTION, PAGE, READER, UPLOADER, Words, photo
from bench.peers.filling import filling
from bench.peers.gunicorn import APPS, THREADS, gunicorn, installed, programs_of
from bench.peers.peer import UPLOADED_TAGS, HeaderLibrary

_PROGRAMS = programs_of("wagtail")
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
        return installed(_PROGRAMS, "wagtail", "Django")

    def schema(self) -> str:
        """See Peer."""
        return self.version().split()[0]

    def seed(self, folder: Path, size: int) -> None:
        """See Peer. By SQL, into the tables that Django has made."""
        command = [str(_PROGRAMS / "python"), "make_wagtail.py", READER, UPLOADER]
        subprocess.run(command, cwd=APPS, env={**os.environ, **_environment(folder)}, check=True)
        with filling(folder / "wagtail.db") as db:
            _fill(db, size)

    def copy(self, seeded: Path, folder: Path, size: int) -> None:
        """See Peer."""
        del size
        shutil.copytree(seeded, folder)

    def library(self, folder: Path, size: int) -> HeaderLibrary:
        """See Peer."""
        return HeaderLibrary(
            server=gunicorn(_PROGRAMS, "pictures.wsgi", folder, _environment(folder)),
            size=size,
            page_path=_page_path,
            record_path=lambda number: f"/api/images/{_FIRST_ID + number}/",
            original_path=lambda name: f"/originals/{name}",
            upload_path="/upload/",
            more_fields=[("collection", "1"), ("description", "")],
            id_field="id",
            is_upload=lambda told, size_bytes: (
                (told["size"], sorted(told["tags"])) == (size_bytes, sorted(UPLOADED_TAGS))
            ),
            read_words=_words,
            no_ranges="Django's FileResponse has no ranges",
        )


def _page_path(tags: tuple[str, ...], title: str | None) -> str:
    question = {"limit": str(PAGE), "order": "-created_at"}
    if tags:
        question["tags"] = ",".join(tags)
    if title:
        question["title"] = title
    return f"/api/images/?{urlencode(question)}"


def _environment(folder: Path) -> dict[str, str]:
    return {
        "WAGTAIL_DATA_DIR": str(folder),
        "DJANGO_SETTINGS_MODULE": "pictures.settings",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


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
