"""What stands between Calotype and PocketBase: parts of Calotype's work, on its server, beside both of them."""

import os
import sqlite3
import statistics
import sys
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import httpx

from bench.compare import FULL, QUICK, Sample, sample, seeded
from bench.library import TOKEN_CHARS, jpeg_template
from bench.peers import Library
from bench.peers.ours import Calotype
from bench.peers.peer import DOWNLOADED
from bench.peers.pocketbase import Pocketbase
from bench.processes import Server
from bench.rows import BIG_JPEG_BYTES, JPEG_BYTES, ROWS, SMALL
from bench.table import markdown
from bench.wrk import Ask, Wrong

_ROOT = Path(__file__).parent.parent
_UPLOADS = {
    "the server reads the body, and answers": "/received",
    "and one SHA-256, a synced file in synced folders, two commits": "/synced",
    "and Calotype's own stores: reserve, put, commit": "/kept",
    "and the form parsed, the picture inspected": "/checked",
}
_DOWNLOADS = {"the server sends a file": "/file/{n}", "the server sends what it has in memory": "/memory/{n}"}


class Contender(NamedTuple):
    """Somebody who does a row's work, or a part of it."""

    server: Server
    ask: Ask


def measure(folder: Path, *, is_quick: bool) -> str:
    """Return what each takes, and the ratio to PocketBase in the same round."""
    effort = QUICK if is_quick else FULL
    lines: list[list[object]] = []
    with ExitStack() as stack:
        theirs, ours = _started(stack, folder / "theirs", Pocketbase()), _started(stack, folder / "ours", Calotype())
        unsynced = _started(stack, folder / "unsynced", Calotype(is_synced=False))
        forgetful = _started(stack, folder / "forgetful", Calotype(keeps_files=False))
        floor = _floor(folder)
        stack.enter_context(floor)
        floor.start("/")
        for row in ROWS:
            if not row.writes and row.name != "download-5m":
                continue
            parts = _UPLOADS if row.writes else _DOWNLOADS
            asks = {"PocketBase": Contender(theirs.server, row.ask(theirs))}
            asks |= {name: Contender(floor, _part(path, row.ask(ours))) for name, path in parts.items()}
            asks["Calotype"] = Contender(ours.server, row.ask(ours))
            if row.writes:
                asks["Calotype, if it synced nothing either"] = Contender(unsynced.server, row.ask(unsynced))
            else:
                asks["Calotype, if it kept no files in memory"] = Contender(forgetful.server, row.ask(forgetful))
            rounds = [
                {name: sample(row, *each, effort, folder) for name, each in _turned(asks, number).items()}
                for number in range(effort.rounds + 1)
            ]
            lines += [[row.title, *cells] for cells in _lines(rounds[1:])]  # the first one warms up
    _require_all_kept(folder / "floor")
    head = ["row", "", "requests/s", "CPU ms", "CPU to PocketBase's", "rate to PocketBase's"]
    return markdown(f"Parts of the work, and all of it (medians of {effort.rounds} interleaved rounds)", head, lines)


def _started(stack: ExitStack, folder: Path, peer: Pocketbase | Calotype) -> Library:
    peer.copy(seeded(peer.name.lower(), peer, SMALL), folder, SMALL)
    library: Library = peer.library(folder, SMALL)
    stack.enter_context(library.server)
    library.start()
    library.sign_in(stores=True)
    return library


def _floor(folder: Path) -> Server:
    kept, sent = folder / "floor", folder / "sent"
    kept.mkdir()
    sent.mkdir()
    for number in range(DOWNLOADED[BIG_JPEG_BYTES]):
        (sent / str(number)).write_bytes(jpeg_template(BIG_JPEG_BYTES).filled(_token(number)))
    # As Calotype starts it: see entrypoints/server.py.
    options = ["--workers", str(os.cpu_count() or 1), "--http", "1", "--http1-buffer-size", str(256 * 1024)]
    options += ["--runtime-blocking-threads", "32", "--no-ws", "--interface", "asgi", "--factory", "--port", "{port}"]
    return Server(
        ["chrt", "--batch", "0", sys.executable, "-m", "granian", *options, "bench.floorapp:Floor"],
        log=folder / "floor.log",
        cwd=_ROOT,
        environment={"FLOOR_FOLDER": str(kept), "FLOOR_FILES": str(sent)},
    )


def _token(number: int) -> str:
    return f"{number:0{TOKEN_CHARS}d}"


def _part(path: str, whole: Ask) -> Ask:
    """Return the ask for a part of the work that this ask is for."""

    def check(answer: httpx.Response) -> None:
        if answer.json() != {"size_bytes": JPEG_BYTES}:
            raise Wrong("not what was uploaded")

    def check_file(answer: httpx.Response) -> None:
        if answer.content != jpeg_template(BIG_JPEG_BYTES).filled(_token(0)):
            raise Wrong("not the file")

    paths = tuple(dict.fromkeys(path.format(n=number) for number in range(len(whole.paths))))
    return replace(whole, paths=paths, check=check if whole.upload else check_file)


def _require_all_kept(folder: Path) -> None:
    """Raise Wrong unless every row of the floor's stores has its file. Its server has stopped."""
    for catalog, files in (
        ("disk/floor.sqlite3", "disk"),
        ("stores/catalog.sqlite3", "stores/objects"),
        ("checked/catalog.sqlite3", "checked/objects"),
    ):
        with closing(sqlite3.connect(folder / catalog)) as db:
            (rows,) = db.execute("SELECT count(*) FROM images").fetchone()
        count = sum(each.stat().st_size == JPEG_BYTES for each in (folder / files).glob("?/?/images/*/photo.jpg"))
        if not 0 < rows == count:
            raise Wrong(f"{catalog} has {rows} rows, and {count} files")


def _turned(asks: Mapping[str, Contender], number: int) -> dict[str, Contender]:
    """Everybody is the first in turn."""
    names = list(asks)
    first = number % len(names)
    return {name: asks[name] for name in names[first:] + names[:first]}


def _lines(rounds: list[dict[str, Sample]]) -> list[list[object]]:
    lines: list[list[object]] = []
    for name in sorted(rounds[0], key=lambda name: name != "PocketBase"):
        own, theirs = ([each[who] for each in rounds] for who in (name, "PocketBase"))
        cpu = [mine.cpu_ms / other.cpu_ms for mine, other in zip(own, theirs, strict=True)]
        rate = [mine.rate / other.rate for mine, other in zip(own, theirs, strict=True)]
        lines.append(
            [
                name,
                f"{statistics.median(each.rate for each in own):,.0f}",
                f"{statistics.median(each.cpu_ms for each in own):.3f}",
                f"{min(cpu):.2f}, {statistics.median(cpu):.2f}, {max(cpu):.2f}",
                f"{min(rate):.2f}, {statistics.median(rate):.2f}, {max(rate):.2f}",
            ]
        )
    return lines
