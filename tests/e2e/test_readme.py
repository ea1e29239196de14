"""What the README tells people to type does what it says."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import pictures
from tests.service import Service

_ROOT = Path(__file__).parent.parent.parent
_README = (_ROOT / "README.md").read_text(encoding="utf-8")
_TIMEOUT_S = 600


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(pictures.jpeg(320, 240))
    return path


def test_the_example_prints_what_its_last_line_says(photo: Path) -> None:
    example = _block("example", "python")
    *_, last = example.splitlines()
    done = _run([sys.executable, "-c", example], folder=photo.parent, PYTHONPATH=str(_ROOT))
    assert done.stderr == ""
    assert done.stdout.splitlines() == [last.removeprefix("# ")]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed (a package of that name)")
def test_the_tour_works_line_by_line_and_gives_the_photo_back(photo: Path) -> None:
    tour = _block("tour", "bash")
    with Service(photo.parent / "data") as service:
        tour = tour.replace("http://127.0.0.1:8000", service.base_url)
        # What a reader would see and stop at, set for each curl without a change to its line.
        (photo.parent / ".curlrc").write_text('fail-with-body\nsilent\nshow-error\nnoproxy = "*"\n')
        done = _run(["bash", "-euo", "pipefail", "-c", tour], folder=photo.parent, HOME=str(photo.parent))
        with service.client() as ada:
            (image,) = ada.get("/api/v1/images").json()["items"]
    assert done.stderr == ""
    assert (photo.parent / "again.jpg").read_bytes() == photo.read_bytes()
    assert (image["title"], image["tags"]) == ("Clifton Bridge", ["bristol", "bridge"])
    assert (image["description"], image["version"]) == ("From the west, in fog", 2)

    uploaded, *listings, changed, deleted, restored = _documents(done.stdout)
    assert uploaded["image_id"] == image["image_id"]
    assert len(listings) == 4
    assert all([item["image_id"] for item in listing["items"]] == [image["image_id"]] for listing in listings)
    assert changed["version"] == 2
    assert deleted["restorable_until"] > deleted["deleted_at"]
    assert restored == {**changed, **{name: restored[name] for name in restored if name.startswith("presigned")}}


def test_all_that_the_documents_link_to_is_there() -> None:
    pages = [*_ROOT.glob("*.md"), *_ROOT.glob("docs/**/*.md")]
    links = {(page, link) for page in pages for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))}
    local = {(page, link) for page, link in links if "://" not in link}
    assert len(local) > 10
    assert sorted(f"{page.name}: {link}" for page, link in local if not (page.parent / link).exists()) == []


def _block(mark: str, language: str) -> str:
    (block,) = re.findall(rf"<!-- {mark} -->\n```{language}\n(.*?)```", _README, re.DOTALL)
    return str(block)


def _run(command: list[str], *, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CALOTYPE_")}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment | variables,
        capture_output=True,
        encoding="utf-8",
        timeout=_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def _documents(output: str) -> Iterator[dict[str, Any]]:
    # curl puts no line end behind an answer, so they stand one behind the other.
    decoder, position = json.JSONDecoder(), 0
    while position < len(output.rstrip()):
        document, position = decoder.raw_decode(output, position)
        yield document
