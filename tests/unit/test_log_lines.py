"""Log lines on their way: in batches, in order, and none lost."""

import errno
import io
import os
import threading
from pathlib import Path

from adapters.observability.logging import _Lines
from tests.waiting import wait_until

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
    def written_together() -> bool:
        file = Writes()
        lines = _Lines(file)
        lines.info("a")
        lines.info("b")
        before = list(file.pieces)
        wait_until(lambda: "".join(file.pieces) == "a\nb\n")
        return before == [] and len(file.pieces) == 1

    # A thread may stand still between two lines for longer than a line waits; not each time.
    wait_until(written_together)


def test_a_warning_is_written_at_once_with_all_before_it() -> None:
    file = Writes()
    lines = _Lines(file)
    lines.info("a")
    lines.error("b")
    assert "".join(file.pieces) == "a\nb\n"


def test_a_write_is_no_longer_than_what_a_pipe_takes_whole() -> None:
    file = Writes()
    lines = _Lines(file)
    for number in range(1000):
        (lines.error if number % 75 == 74 else lines.info)(f"{number:050}\N{CAT}")
    lines.error("end")
    assert "".join(file.pieces).split("\n") == [*(f"{number:050}\N{CAT}" for number in range(1000)), "end", ""]
    assert max(len(piece.encode()) for piece in file.pieces) <= 4096


def test_what_a_full_disk_refuses_fails_nobody_and_does_not_pile_up() -> None:
    class Full(Writes):
        is_full = True

        def write(self, text: str, /) -> int:
            if self.is_full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(text)

    file = Full()
    lines = _Lines(file)
    for number in range(100):
        lines.error(f"refused {number}")
    file.is_full = False
    lines.error("taken")
    assert file.pieces == ["taken\n"]


def test_without_a_thread_for_later_a_line_is_written_at_once() -> None:
    file = Writes()
    lines = _Lines(file)
    usual = threading.stack_size(2**47)  # more than there is
    try:
        lines.info("a")
    finally:
        threading.stack_size(usual)
    assert file.pieces == ["a\n"]
    lines.info("b")
    wait_until(lambda: file.pieces == ["a\n", "b\n"])


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
