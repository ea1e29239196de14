"""Log lines on their way: in batches, in order, and none lost."""

import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from adapters.observability.logging import _Lines

ROOT = Path(__file__).parents[2]


class Writes(io.StringIO):
    """Keeps apart what was written at once."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def write(self, text: str, /) -> int:
        self.pieces.append(text)
        return len(text)


def test_lines_are_written_together_and_soon() -> None:
    file = Writes()
    lines = _Lines(file)
    lines.info("a")
    lines.info("b")
    assert file.pieces == []
    deadline = time.monotonic() + 30
    while not file.pieces and time.monotonic() < deadline:
        time.sleep(0.01)
    assert file.pieces == ["a\nb\n"]


def test_a_warning_is_written_at_once_with_all_before_it() -> None:
    file = Writes()
    lines = _Lines(file)
    lines.info("a")
    lines.error("b")
    assert file.pieces == ["a\nb\n"]


def test_a_write_is_no_longer_than_what_a_pipe_takes_whole() -> None:
    file = Writes()
    lines = _Lines(file)
    for number in range(1000):
        lines.info(f"{number:050}")
    lines.error("end")
    assert "".join(file.pieces).split("\n") == [*(f"{number:050}" for number in range(1000)), "end", ""]
    assert max(map(len, file.pieces)) <= 4096 + len("end\n")


def test_the_lines_of_several_threads_stay_whole() -> None:
    file = Writes()
    lines = _Lines(file)

    def write(name: str) -> None:
        for number in range(200):
            (lines.error if number % 50 == 0 else lines.info)(f"{name}{number}")

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines.error("end")
    written = "".join(file.pieces).splitlines()
    assert sorted(written) == sorted([*(f"{name}{number}" for name in "abcd" for number in range(200)), "end"])
    assert [line for line in written if line[0] == "a"] == [f"a{number}" for number in range(200)]


def test_a_process_that_ends_has_written_all_its_lines() -> None:
    program = """
from adapters.observability.logging import configure_logging
import structlog
configure_logging("json", "info")
structlog.get_logger("x").info("last words")
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "last words" in done.stderr
