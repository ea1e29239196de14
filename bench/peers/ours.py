"""Calotype: `calotype serve` on the embedded default, with one worker for each processor."""

import hashlib
import os
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlencode

from adapters.filesystem.layout import ImagePlace
from adapters.sqlite.schema import MIGRATIONS
from bench.library import PAGE
from bench.peers.peer import UPLOADED_TAGS, HeaderLibrary, words_of_items
from bench.processes import Server
from bench.seed import image_id, seed

_ROOT = Path(__file__).parent.parent.parent
_IMAGES = "/api/v1/images"


class Calotype:
    """See Peer."""

    name = "Calotype"
    largest = None

    def __init__(self, *, workers: int | None = None, is_synced: bool = True, keeps_files: bool = True) -> None:
        """Take how many workers it has, if not one for each processor, and what it is to leave out."""
        self._workers = workers or os.cpu_count() or 1
        self._environment = {} if keeps_files else {"CALOTYPE_HOT_FILES_BYTES": "0"}
        self._command = [sys.executable] if is_synced else ["eatmydata", "--", sys.executable]

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

    def library(self, folder: Path, size: int) -> HeaderLibrary:
        """See Peer."""
        return HeaderLibrary(
            server=Server(
                [*self._command, "-m", "entrypoints.cli", "serve", "--port", "{port}"],
                log=folder.with_name(f"{folder.name}.log"),
                cwd=_ROOT,
                environment={
                    "CALOTYPE_DATA_DIR": str(folder),
                    "CALOTYPE_WORKERS": str(self._workers),
                    "CALOTYPE_RATE_LIMIT": "off",
                    **self._environment,
                },
            ),
            size=size,
            page_path=_page_path,
            record_path=lambda number: f"{_IMAGES}/{image_id(number)}/metadata",
            original_path=lambda name: f"{_IMAGES}/{name}",
            upload_path=_IMAGES,
            id_field="image_id",
            is_upload=lambda told, size_bytes: (told["size_bytes"], told["tags"]) == (size_bytes, UPLOADED_TAGS),
            read_words=words_of_items,
        )


def _page_path(tags: tuple[str, ...], title: str | None) -> str:
    question = [("limit", str(PAGE))]
    if tags:
        question += [("filter_by", "tags"), *(("tags", tag) for tag in tags), ("match", "all")]
    if title:
        question += [("filter_by", "title"), ("title", title)]
    return f"{_IMAGES}?{urlencode(question)}"
