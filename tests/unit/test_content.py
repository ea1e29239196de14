import hashlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from application.content import Content


@given(data=st.binary())
def test_content_knows_its_length_and_digest_and_stands_at_its_start(data: bytes) -> None:
    content = Content.of(data)
    assert content.size_bytes == len(data)
    assert content.sha256 == hashlib.sha256(data).hexdigest()
    assert content.stream.read() == data


def test_a_file_is_measured_from_its_start_wherever_it_stands_and_stays_open() -> None:
    file = io.BytesIO(b"jpeg")
    file.seek(3)
    content = Content.of(file)
    assert content == Content.of(file)
    assert content.size_bytes == 4
    assert content.stream is file
    assert file.tell() == 0


def test_bytes_are_hashed_once_and_only_if_somebody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[bytes] = []

    def sha256(data: bytes) -> object:
        hashed.append(data)
        return real(data)

    real = hashlib.sha256
    monkeypatch.setattr(hashlib, "sha256", sha256)
    content = Content.of(b"jpeg")
    assert hashed == []
    assert content.sha256 == content.sha256 == real(b"jpeg").hexdigest()
    assert hashed == [b"jpeg"]


@pytest.mark.parametrize("size_bytes", [256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 3 * 256 * 1024])
def test_long_content_is_measured_in_bounded_reads(size_bytes: int) -> None:
    class Careful(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            assert 0 < size <= 256 * 1024
            return super().read(size)

    content = Content.of(Careful(b"x" * size_bytes))
    assert content.size_bytes == size_bytes
    assert content.sha256 == hashlib.sha256(b"x" * size_bytes).hexdigest()
