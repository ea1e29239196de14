"""What a sweep and an audit cost in a library of a million images, and in a small one."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import calotype
from bench.compare import CACHE, seeded
from bench.library import UPLOADER
from bench.peers.ours import Calotype
from bench.rows import LARGE, MEDIUM, SMALL
from bench.table import markdown
from tests.pictures import jpeg

_ROOT = Path(__file__).parent.parent
_DELETED = 500


class Cost(NamedTuple):
    """What a command took."""

    seconds: float
    cpu_s: float


def sweeps(*, is_quick: bool) -> dict[str, Any]:
    """Return what a sweep takes with nothing due and with something, by the size of the library.

    Raises:
        RuntimeError: a command failed.
    """
    return {str(size): _sweeps(size) for size in _sizes(is_quick=is_quick)}


def audits(*, is_quick: bool) -> dict[str, Any]:
    """Return what an audit takes, by the size of the library: some minutes for a million images.

    Raises:
        RuntimeError: it failed, or found something.
    """
    found: dict[str, Any] = {}
    for size in _sizes(is_quick=is_quick):
        with _library(size) as data_dir:
            found[str(size)] = {"audit": _command(data_dir, "audit")._asdict()}
    return found


def table(title: str, results: dict[str, Any]) -> str:
    """Return the table of either."""
    rows = [
        [name, f"{int(size):,}", f"{cost['seconds']:.1f}", f"{cost['cpu_s']:.1f}"]
        for size, costs in results.items()
        for name, cost in costs.items()
    ]
    return markdown(title, ["", "images", "seconds", "CPU seconds"], rows)


def _sizes(*, is_quick: bool) -> tuple[int, ...]:
    return (SMALL, MEDIUM) if is_quick else (SMALL, MEDIUM, LARGE)


@contextmanager
def _library(size: int) -> Iterator[Path]:
    peer = Calotype()
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="run-") as folder:
        data_dir = Path(folder, "data")
        peer.copy(seeded("calotype", peer, size), data_dir, size)
        yield data_dir


def _sweeps(size: int) -> dict[str, Any]:
    with _library(size) as data_dir:
        nothing = _command(data_dir, "sweep")
        # What is due is swept in any case: where objects are linked to, nothing else may be left behind there.
        try:
            _delete_some(data_dir)
        finally:
            some = _command(data_dir, "sweep")
    return {"sweep, nothing due": nothing._asdict(), f"sweep of {_DELETED} images": some._asdict()}


def _delete_some(data_dir: Path) -> None:
    owner = calotype.UserId(UPLOADER)
    with calotype.open(data_dir=data_dir) as bus:
        for number in range(_DELETED):
            content = calotype.Content.of(jpeg(16, 16, seed=number))
            upload = calotype.UploadImage(owner=owner, filename=calotype.Filename("photo.jpg"), content=content)
            image = bus.execute(upload).image
            bus.execute(calotype.DeleteImage(owner=owner, image_id=image.image_id, permanent=True))


def _command(data_dir: Path, name: str) -> Cost:
    begun = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "entrypoints.cli", name, "--data-dir", data_dir, "--json"],
            cwd=_ROOT,
            stdout=output,
            stderr=output,
        )
        # Not by wait(): only this tells what this one process took.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - begun
        output.seek(0)
        told = output.read().decode(errors="replace")
    if process.returncode != 0:
        raise RuntimeError(f"{name} ended with {process.returncode}: {told[-2000:]}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime)
