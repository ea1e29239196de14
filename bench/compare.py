"""Calotype beside its peers: the same work through each, on this machine, in interleaved rounds."""

import json
import math
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import wrk
from bench.peers import PEERS, CannotDo, Library, Seedable
from bench.peers.ours import Calotype
from bench.processes import Server
from bench.rows import JPEG_BYTES, LARGE, ROWS, SMALL, Row
from bench.wrk import Ask

# Not in the project's folder: two million files slow down every search through it.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "calotype-bench"
_SEED_VERSION = 1  # another one wherever what a library holds, or a peer's schema, changes
_LONGEST_S = 10
_SETTLE_S = 2
_SLOW_MS = 100  # p99; the last of faster answers are there before the next load begins


@dataclass(frozen=True)
class Effort:
    """How long it may take."""

    rounds: int
    seconds: int
    starts: int
    is_quick: bool

    def rows(self) -> list[Row]:
        """Return the rows that are measured."""
        return [row for row in ROWS if not self.is_quick or (row.quick and row.size < LARGE)]


FULL = Effort(rounds=5, seconds=1, starts=5, is_quick=False)
QUICK = Effort(rounds=2, seconds=1, starts=1, is_quick=True)


@dataclass
class Sample:
    """One row of one peer in one round."""

    requests: int
    rate: float
    cpu_ms: float
    p50_ms: float
    p99_ms: float
    errors: int
    durable_rate: float | None
    """Requests a second if the time counts, too, that it then takes until all of them are on the disk; for uploads.

    Who is slow gets to end what wrk no longer waits for, which counts as neither requests nor time.
    """


@dataclass
class Results:
    """All that was measured, as it is kept in JSON."""

    effort: dict[str, Any]
    peers: dict[str, dict[str, str]] = field(default_factory=dict)
    titles: list[dict[str, str]] = field(default_factory=list)
    rows: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)
    absent: dict[str, dict[str, str]] = field(default_factory=dict)
    """Why a peer is not in a row."""
    starts_s: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    memory: dict[str, dict[str, int]] = field(default_factory=dict)


def compare(effort: Effort, names: list[str]) -> Results:
    """Measure the peers of these names.

    Raises:
        Wrong: one of them answered something else than it should.
    """
    wrk.find()
    results = Results(asdict(effort))
    rows = effort.rows()
    results.titles = [{"name": row.name, "title": row.title} for row in rows]
    sizes = sorted({row.size for row in rows})
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="run-") as folder, ExitStack() as stack:
        run = Path(folder)
        libraries: dict[tuple[str, int], Library] = {}
        for name in names:
            peer = PEERS[name]
            results.peers[name] = {"name": peer.name, "version": peer.version(), "setting": peer.setting}
            for size in sizes:
                if peer.largest and size > peer.largest:
                    continue
                _say(f"{peer.name}: a library of {size:,}")
                copy = run / f"{name}-{size}"
                peer.copy(seeded(name, peer, size), copy, size)
                libraries[name, size] = peer.library(copy, size)
        _one_worker(run, results, effort)
        for (name, size), library in libraries.items():
            _say(f"{PEERS[name].name}: starts at {size:,}")
            _starts(name, size, library, results, effort)
        for library in libraries.values():
            stack.enter_context(library.server)
            library.start()
        _settle()
        for (name, size), library in libraries.items():
            results.memory[f"{name}-{size}"] = _memory(library.server, "idle")
            library.sign_in(stores=size == SMALL)
            _warm_up(library, size, run)
        for number in range(effort.rounds):
            _round(number, rows, libraries, results, effort, run)
            # Whatever goes wrong later, this is not lost.
            (CACHE / "latest.json").write_text(json.dumps(asdict(results), indent=1))
        for (name, size), library in libraries.items():
            results.memory[f"{name}-{size}"] |= _memory(library.server, "loaded")
    return results


def _round(
    number: int,
    rows: list[Row],
    libraries: Mapping[tuple[str, int], Library],
    results: Results,
    effort: Effort,
    run: Path,
) -> None:
    names = list(results.peers)
    # Everybody is the first as often as the others.
    order = names[number % len(names) :] + names[: number % len(names)]
    for row in rows:
        _say(f"round {number + 1} of {effort.rounds}: {row.title}")
        for name in order:
            library = libraries.get((name, row.size))
            ask = f"not measured with more than {PEERS[name].largest:,}" if library is None else _ask(row, library)
            if library is None or isinstance(ask, str):
                results.absent.setdefault(row.name, {})[name] = str(ask)
                continue
            taken = sample(row, library.server, ask, effort, run)
            results.rows.setdefault(row.name, {}).setdefault(name, []).append(taken)


def _ask(row: Row, library: Library) -> Ask | str:
    """Return what to ask, or why it can't be asked."""
    try:
        return row.ask(library)
    except CannotDo as reason:
        return str(reason)


def sample(row: Row, server: Server, ask: Ask, effort: Effort, run: Path) -> Sample:
    """Put a row to a server for as long as the effort allows.

    Raises:
        Wrong: an answer was not what it should be.
    """
    # Twice: the first may have met something else that was slow.
    (size, first_s), (_, second_s) = _timed(server, ask), _timed(server, ask)
    cpu_s = server.cpu_s()
    # Uploads wait for the disk, which takes its time unevenly. Who is slow gets three turns of all connections.
    seconds = 2 * effort.seconds if row.writes else effort.seconds
    turns_s = math.ceil(3 * min(first_s, second_s) * row.connections / (os.cpu_count() or 1))
    if turns_s > _LONGEST_S:
        load = _one_by_one(server, ask, seconds)
    else:
        load = wrk.drive(server.url, ask, size, connections=row.connections, seconds=max(seconds, turns_s), folder=run)
    # The clock of processes ticks a hundred times a second.
    cpu_s = max(server.cpu_s() - cpu_s, 0.01)
    if load.errors:
        raise wrk.Wrong(f"{row.title}: {load.errors} errors in {load.requests} requests")
    # What one left to be answered, or written, must not slow the next.
    if load.p99_ms > _SLOW_MS:
        server.wait_until_idle()  # wrk goes without waiting for the last answers
    durable_rate = None
    if row.writes:
        begun = time.perf_counter()
        os.sync()
        durable_rate = round(load.requests / (load.seconds + time.perf_counter() - begun), 3)
    return Sample(
        requests=load.requests,
        rate=round(load.requests / load.seconds, 3),
        cpu_ms=round(cpu_s / load.requests * 1000, 4),
        p50_ms=load.p50_ms,
        p99_ms=load.p99_ms,
        errors=load.errors,
        durable_rate=durable_rate,
    )


def _one_by_one(server: Server, ask: Ask, seconds: int) -> wrk.Load:
    """Ask without wrk, which would see no answer in the time, or two."""
    taken_s: list[float] = []
    while sum(taken_s) < seconds:
        taken_s.append(_timed(server, ask)[1])
    return wrk.Load(len(taken_s), sum(taken_s), statistics.median(taken_s) * 1000, max(taken_s) * 1000, 0)


def _timed(server: Server, ask: Ask) -> tuple[int, float]:
    """Ask once; return the answer's size, and the seconds it took."""
    begun = time.perf_counter()
    return wrk.one_answer(server.url, ask), time.perf_counter() - begun


def _starts(name: str, size: int, library: Library, results: Results, effort: Effort) -> None:
    taken = results.starts_s.setdefault(name, {}).setdefault(str(size), [])
    with library.server:
        for _ in range(effort.starts):
            taken.append(library.start())
            library.server.stop()


def _one_worker(run: Path, results: Results, effort: Effort) -> None:
    """Measure Calotype as it is started without any setting: one worker."""
    peer = Calotype(workers=1)
    folder = run / "one-worker"
    peer.copy(seeded("calotype", peer, SMALL), folder, SMALL)
    library = peer.library(folder, SMALL)
    _starts("calotype-1", SMALL, library, results, effort)
    with library.server:
        library.start()
        _settle()
        results.memory[f"calotype-1-{SMALL}"] = _memory(library.server, "idle")


def _warm_up(library: Library, size: int, run: Path) -> None:
    """Let every worker import what it imports at its first request."""
    asks = [library.page(), *([library.upload(JPEG_BYTES), library.download(JPEG_BYTES)] if size == SMALL else [])]
    for ask in asks:
        length = wrk.one_answer(library.server.url, ask)
        wrk.drive(library.server.url, ask, length, connections=8, seconds=2, folder=run)
    os.sync()


def _memory(server: Server, when: str) -> dict[str, int]:
    return {f"{when}_pss": server.pss_bytes(), f"{when}_rss": server.rss_bytes()}


def _settle() -> None:
    time.sleep(_SETTLE_S)


def seeded(name: str, peer: Seedable, size: int) -> Path:
    """Return the folder of a library, made once and kept for later runs."""
    folder = CACHE / f"{name}-{size}-{peer.schema()}-{_SEED_VERSION}"
    if not folder.exists():
        with _all_or_nothing(folder) as fresh:
            begun = time.perf_counter()
            peer.seed(fresh, size)
            _say(f"{name}: seeded {size:,} in {time.perf_counter() - begun:.0f} s")
    return folder


@contextmanager
def _all_or_nothing(folder: Path) -> Iterator[Path]:
    fresh = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        yield fresh
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    fresh.rename(folder)


def _say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", flush=True)
