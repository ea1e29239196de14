"""Files to upload: what is found, and that none can change unnoticed."""

import hashlib
import os
from pathlib import Path

import pytest

from entrypoints.cli.files import FileChanged, SteadyFile, find_images


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    path = tmp_path / "cat.jpg"
    path.write_bytes(b"0123456789")
    return path


def read_all(file: SteadyFile) -> bytes:
    return b"".join(iter(lambda: file.read(4), b""))


def test_a_file_reads_the_same_again_and_again(cat: Path) -> None:
    with SteadyFile(cat) as file:
        assert file.sha256 == hashlib.sha256(b"0123456789").hexdigest()
        assert file.size_bytes == 10
        for _ in range(2):
            assert read_all(file) == b"0123456789"
            file.seek(0)


@pytest.mark.parametrize("now", [b"012345678", b"01234567890", b"012345678X", b""])
def test_a_file_that_changed_never_comes_to_an_end(cat: Path, now: bytes) -> None:
    with SteadyFile(cat) as file:
        cat.write_bytes(now)
        with pytest.raises(FileChanged):
            read_all(file)


def test_a_file_that_is_replaced_or_removed_is_still_the_one_that_was_opened(cat: Path) -> None:
    with SteadyFile(cat) as file:
        cat.unlink()
        cat.write_bytes(b"another")
        assert read_all(file) == b"0123456789"


def test_reading_tells_how_far_it_is_and_can_be_stopped(cat: Path) -> None:
    positions: list[int] = []
    with SteadyFile(cat, positions.append) as file:
        positions.clear()
        read_all(file)
        file.seek(0)
    assert positions == [4, 8, 10, 10, 0]

    def stop(position: int) -> None:
        if position > 4:
            raise KeyError

    with SteadyFile(cat, stop) as file, pytest.raises(KeyError):
        read_all(file)


def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        SteadyFile(tmp_path / "pipe")


def test_named_files_are_taken_whatever_they_are_called_and_each_once(tmp_path: Path) -> None:
    for name in ("b.txt", "a.jpg", "c.png", ".d.jpg", "in/e.HEIC", "in/f.svg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    found = find_images([tmp_path / "b.txt", tmp_path, tmp_path / "a.jpg", tmp_path / "gone"], on_error=print)
    assert [str(path.relative_to(tmp_path)) for path in found] == ["b.txt", "a.jpg", "c.png", "in/e.HEIC", "gone"]
