"""What a team would write first: Flask, SQLite and files behind gunicorn (apps/plain.py)."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode
from uuid import UUID

from bench.library import DESCRIPTION, PAGE, READER, photo
from bench.peers.filling import filling
from bench.peers.gunicorn import THREADS, gunicorn, installed, programs_of
from bench.peers.peer import UPLOADED_TAGS, HeaderLibrary, words_of_items

_PROGRAMS = programs_of("plain")


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
        return installed(_PROGRAMS, "flask", "gunicorn")

    def schema(self) -> str:
        """See Peer."""
        return "1"

    def seed(self, folder: Path, size: int) -> None:
        """See Peer. By SQL, into the tables that the program has made."""
        library = self.library(folder, size)
        with library.server:
            library.start()
        with filling(folder / "plain.db") as db:
            db.executemany(f"INSERT INTO images VALUES ({', '.join('?' * 12)})", _rows(size))  # noqa: S608
            db.executemany("INSERT INTO image_tags VALUES (?, ?)", _tags(size))

    def copy(self, seeded: Path, folder: Path, size: int) -> None:
        """See Peer."""
        del size
        shutil.copytree(seeded, folder)

    def library(self, folder: Path, size: int) -> HeaderLibrary:
        """See Peer."""
        environment = {"PLAIN_DATA_DIR": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        return HeaderLibrary(
            server=gunicorn(_PROGRAMS, "plain:app", folder, environment),
            size=size,
            page_path=_page_path,
            record_path=lambda number: f"/images/{_id(number)}/metadata",
            original_path=lambda name: f"/images/{name}",
            upload_path="/images",
            id_field="id",
            is_upload=lambda told, size_bytes: (told["size_bytes"], told["tags"]) == (size_bytes, UPLOADED_TAGS),
            read_words=words_of_items,
        )


def _page_path(tags: tuple[str, ...], title: str | None) -> str:
    question = [("limit", str(PAGE)), *(("tag", tag) for tag in tags), *([("title", title)] if title else [])]
    return f"/images?{urlencode(question)}"


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
