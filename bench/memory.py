"""How much memory an upload takes: the server's resident set before, and its peak while 25 MB come in."""

import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from bench.table import markdown
from tests.pictures import big_jpeg, jpeg
from tests.service import Service

_UPLOAD_BYTES = 25_000_000
_ROUNDS = 5


def measure(folder: Path, *, is_quick: bool) -> str:
    """Return a table of growth in MB for each round."""
    rows = []
    with Service(folder / "data") as service, service.client() as client:
        content = big_jpeg(_UPLOAD_BYTES)
        for _ in range(20):
            client.post("/api/v1/images", files={"file": ("warm.jpg", jpeg())}).raise_for_status()
        for number in range(1 if is_quick else _ROUNDS):
            before = _resident_bytes(service.pid)
            with _Peak(service.pid) as peak:
                client.post("/api/v1/images", files={"file": ("big.jpg", content)}).raise_for_status()
            rows.append([number + 1, f"{before / 1e6:.1f}", f"{(peak.bytes - before) / 1e6:.1f}"])
    return markdown(
        "Memory of the server while one JPEG of 25 MB is uploaded (all its processes)",
        ["round", "before, MB", "growth at peak, MB"],
        rows,
    )


class _Peak:
    """Samples the resident set in a thread as long as the context lasts."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(0.05)
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(0.002):
            self.bytes = max(self.bytes, _resident_bytes(self._pid))


def _resident_bytes(pid: int) -> int:
    total = 0
    for each in (pid, *_children(pid)):
        with suppress(OSError):
            status = Path(f"/proc/{each}/status").read_text()
            total += next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0)
    return total


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []
