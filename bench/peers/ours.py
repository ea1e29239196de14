"""Calotype: `calotype serve` on the embedded default, with one worker for each processor."""

import hashlib
import os
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlencode

import httpx

from adapters.filesystem.layout import ImagePlace
from adapters.sqlite.schema import MIGRATIONS
from bench.library import ONE_IN_10, PAGE, READER, UPLOADER, Words, jpeg_template, sampled
from bench.peers.peer import Stored, content_check, multipart, page_check, stored_pictures
from bench.processes import Server
from bench.seed import image_id, seed
from bench.wrk import Ask, Wrong

_ROOT = Path(__file__).parent.parent.parent
_IMAGES = "/api/v1/images"


class Calotype:
    """See Peer."""

    name = "Calotype"
    largest = None

    def __init__(self, *, workers: int | None = None) -> None:
        """Take how many workers it has, if not one for each processor."""
        self._workers = workers or os.cpu_count() or 1

    @property
    def setting(self) -> str:
        """See Peer."""
        return (
            f"`calotype serve`, defaults except `CALOTYPE_WORKERS={self._workers}` (the machine's processors) and "
            "`CALOTYPE_RATE_LIMIT=off`; log to a file; the owner by `X-User-ID`, as behind a gateway"
        )

    def version(self) -> str:
        """See Peer."""
        parts = ", ".join(f"{name} {version(name)}" for name in ("granian", "litestar"))
        return f"{version('calotype')} ({parts})"

    def schema(self) -> str:
        """See Peer."""
        layout = ImagePlace.of(b"", str(image_id(0))).folder
        return f"{len(MIGRATIONS)}-{hashlib.sha256(layout).hexdigest()[:8]}"

    def seed(self, folder: Path, size: int) -> None:
        """See Peer."""
        seed(folder, size)

    def copy(self, seeded: Path, folder: Path, size: int) -> None:
        """See Peer. Where nothing is uploaded the objects, two million files and folders, are only linked to."""
        if size <= 1_000:  # noqa: PLR2004 (the one that is written to)
            shutil.copytree(seeded, folder)
            return
        folder.mkdir()
        shutil.copy(seeded / "catalog.sqlite3", folder)
        shutil.copy(seeded / "secret", folder)
        (folder / "objects").symlink_to(seeded / "objects")

    def library(self, folder: Path, size: int) -> "CalotypeLibrary":
        """See Peer."""
        return CalotypeLibrary(folder, size, self._workers)


class CalotypeLibrary:
    """See Library."""

    def __init__(self, folder: Path, size: int, workers: int) -> None:
        """Take the seeded folder."""
        self._size = size
        self._stored: dict[int, Stored] = {}
        self.server = Server(
            [sys.executable, "-m", "entrypoints.cli", "serve", "--port", "{port}"],
            log=folder.with_name(f"{folder.name}.log"),
            cwd=_ROOT,
            environment={
                "CALOTYPE_DATA_DIR": str(folder),
                "CALOTYPE_WORKERS": str(workers),
                "CALOTYPE_RATE_LIMIT": "off",
            },
        )

    def start(self) -> float:
        """See Library."""
        ask = self.page()
        return self.server.start(ask.paths[0], ask.headers)

    def sign_in(self, *, stores: bool) -> None:
        """See Library."""
        if stores:
            self._stored = stored_pictures(self.server.url, self.upload, lambda answer: answer.json()["image_id"])

    def page(self, *, tags: tuple[str, ...] = (), title: str | None = None) -> Ask:
        """See Library."""
        question = [("limit", str(PAGE))]
        if tags:
            question += [("filter_by", "tags"), *(("tags", tag) for tag in tags), ("match", "all")]
        if title:
            question += [("filter_by", "title"), ("title", title)]
        return Ask(
            (f"{_IMAGES}?{urlencode(question)}",),
            200,
            page_check(_words, self._size, tags=tags, title=title),
            {"X-User-ID": READER},
        )

    def metadata(self) -> Ask:
        """See Library."""
        photos = sampled(self._size)

        def check(answer: httpx.Response) -> None:
            if answer.json()["title"] != photos[0].title:
                raise Wrong("not the metadata of that image")

        paths = tuple(f"{_IMAGES}/{image_id(each.number)}/metadata" for each in photos)
        return Ask(paths, 200, check, {"X-User-ID": READER})

    def upload(self, size_bytes: int) -> Ask:
        """See Library."""
        fields = [("title", "A bridge"), ("tags", f"trip,{ONE_IN_10}")]
        headers, body = multipart(fields, file="file", picture=jpeg_template(size_bytes))

        def check(answer: httpx.Response) -> None:
            told = answer.json()
            if (told["size_bytes"], told["tags"]) != (size_bytes, ["trip", ONE_IN_10]):
                raise Wrong("not what was uploaded")

        return Ask((_IMAGES,), 201, check, {"X-User-ID": UPLOADER, **headers}, body)

    def download(self, size_bytes: int) -> Ask:
        """See Library."""
        stored = self._stored[size_bytes]
        return Ask(self._paths(stored), 200, content_check(stored.content), {"X-User-ID": UPLOADER})

    def not_modified(self, size_bytes: int) -> Ask:
        """See Library."""
        stored = self._stored[size_bytes]
        whole = httpx.get(self.server.url + self._paths(stored)[0], headers={"X-User-ID": UPLOADER})
        headers = {"X-User-ID": UPLOADER, "If-None-Match": whole.headers["ETag"]}
        return Ask(self._paths(stored)[:1], 304, content_check(b""), headers)

    def one_byte(self, size_bytes: int) -> Ask:
        """See Library."""
        stored, middle = self._stored[size_bytes], size_bytes // 2
        headers = {"X-User-ID": UPLOADER, "Range": f"bytes={middle}-{middle}"}
        return Ask(self._paths(stored), 206, content_check(stored.content[middle : middle + 1]), headers)

    def _paths(self, stored: Stored) -> tuple[str, ...]:
        return tuple(f"{_IMAGES}/{name}" for name in stored.names)


def _words(answer: httpx.Response) -> list[Words]:
    return [Words(each["title"], tuple(each["tags"])) for each in answer.json()["items"]]
