"""Hostile images: each is accepted or refused, in bounded time and memory, by a process that lives on.

``HARNESS_SCALE=100 pytest tests/integration/test_hostile_images.py`` tries a hundred times as many.
"""

import os
import signal
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests import pictures
from tests.damage import Anatomy, anatomy, damaged
from tests.hostile import HOSTILE
from tests.inspecting import Inspecting, Seen

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the peak of a process's memory is told by Linux's /proc alone"
)

SCALE = float(os.environ.get("HARNESS_SCALE", "1"))
ANSWERS = {"accepted", "unsupported_image", "unreadable_image", "too_many_pixels", "too_much_metadata"}
MOST_CPU_S = 5.0
# From here on a file may be refused for the time alone: what is near it on one machine is past it on a slower one.
LONG_CPU_S = 1.0
MOST_MEMORY_BYTES = 200_000_000
CORPORA = Path(__file__).parents[2] / ".corpus"

SOUND: dict[str, list[bytes]] = {
    "jpeg": [
        pictures.jpeg(orientation=6),
        pictures.jpeg(progressive=True),
        pictures.jpeg_with_thumbnail(),
        pictures.mpo(),
    ],
    "png": [pictures.png(8, 8, orientation=6), pictures.png(mode="P"), pictures.interlaced_png(), pictures.apng(8, 8)],
    "gif": [pictures.gif(8, 8), pictures.gif(16, 16, frames=4)],
    "webp": [
        pictures.webp(orientation=6),
        pictures.webp(lossless=True),
        pictures.webp(mode="RGBA"),
        pictures.animated_webp(16, 16),
    ],
    "avif": [pictures.avif(orientation=6), pictures.animated_avif()],
    "heic": [pictures.heic(orientation=6), pictures.heic(images=2)],
    "tiff": [
        pictures.tiff(8, 8, orientation=6),
        pictures.tiff(8, 8, pages=3),
        pictures.tiff(mode="P"),
        pictures.tiff(compression="jpeg"),
        pictures.tiff(compression="tiff_lzw"),
    ],
    "bmp": [pictures.bmp(8, 8), pictures.bmp(mode="P")],
}


@pytest.fixture(scope="module")
def inspecting() -> Iterator[Inspecting]:
    with Inspecting() as process:
        yield process


def check(seen: Seen) -> None:
    assert seen.outcome in ANSWERS
    assert seen.cpu_s < MOST_CPU_S
    assert seen.memory_bytes < MOST_MEMORY_BYTES


def test_a_process_that_dies_would_be_seen(inspecting: Inspecting) -> None:
    assert inspecting.inspect(pictures.png()).outcome == "accepted"
    inspecting._process.send_signal(signal.SIGSEGV)
    assert inspecting.inspect(pictures.png()).outcome == f"died with {-signal.SIGSEGV}"
    assert inspecting.inspect(pictures.png()).outcome == "accepted"


@pytest.mark.parametrize("name", HOSTILE)
def test_what_was_made_to_do_harm_does_none(inspecting: Inspecting, name: str) -> None:
    build, outcome = HOSTILE[name]
    seen = inspecting.inspect(build())
    check(seen)
    assert seen.outcome in ({outcome, "unreadable_image"} if seen.cpu_s > LONG_CPU_S else {outcome})


@pytest.mark.parametrize("kind", SOUND)
def test_damage_of_every_sort_is_answered(inspecting: Inspecting, kind: str) -> None:
    wholes: list[tuple[bytes, Anatomy]] = [(whole, anatomy(whole)) for whole in SOUND[kind]]
    for whole, _ in wholes:
        assert inspecting.inspect(whole).outcome == "accepted"

    @given(file=damaged(wholes))
    @settings(max_examples=int(500 * SCALE), deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def answered(file: bytes) -> None:
        check(inspecting.inspect(file))

    answered()


@pytest.mark.parametrize("kind", SOUND)
def test_no_beginning_of_a_file_does_harm(inspecting: Inspecting, kind: str) -> None:
    whole = min(SOUND[kind], key=len)
    known = anatomy(whole)
    borders = {border for part in known.parts for border in part} | {each.at for each in known.fields}
    for stop in sorted({stop for border in borders for stop in (border - 1, border, border + 1)} | set(range(100))):
        if 0 <= stop < len(whole):
            check(inspecting.inspect(whole[:stop]))


@pytest.mark.skipif(not CORPORA.is_dir(), reason="the corpora are not here: `make corpus` fetches them")
def test_what_has_harmed_decoders_before_does_no_harm_here(inspecting: Inspecting) -> None:
    outcomes: Counter[str] = Counter()
    for archive in sorted(CORPORA.glob("*.tar.gz")):
        with tarfile.open(archive) as files:
            for entry in files:
                if entry.isfile() and "/tests/" in entry.name.lower() and (file := files.extractfile(entry)):
                    seen = inspecting.inspect(file.read())
                    assert seen.outcome in ANSWERS, entry.name
                    check(seen)
                    outcomes[seen.outcome] += 1
    assert outcomes["accepted"] > 700
    assert outcomes["unreadable_image"] > 20
