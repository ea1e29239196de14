"""The server's side of the command line besides serving: `calotype config` and `calotype sweep`."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import calotype
from entrypoints.cli.app import cli
from entrypoints.settings import Settings, parse_settings
from tests import pictures


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without a ``.env``, to run in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(*args: str, env: Mapping[str, str] | None = None) -> Result:
    return CliRunner().invoke(cli, args, env=env)


def test_config_prints_the_settings_in_force_as_variables(here: Path) -> None:
    (here / ".env").write_text("CALOTYPE_PORT=9001\nCALOTYPE_WORKERS=2\n")
    result = _run("config", env={"CALOTYPE_PORT": "9002"})
    assert (result.exit_code, result.stderr) == (0, "")
    printed = dict(line.split("=", 1) for line in result.stdout.splitlines())
    expected = Settings(port=9002, workers=2, data_dir=str(here / "calotype-data"), public_url="http://127.0.0.1:9002")
    assert parse_settings(printed) == expected
    assert json.loads(_run("config", "--json", env={"CALOTYPE_PORT": "9002"}).stdout) == printed


def test_config_shows_no_secret() -> None:
    secret = "0123456789abcdef0123456789abcdef"
    for options in [[], ["--json"]]:
        result = _run("config", *options, env={"CALOTYPE_GATEWAY_SECRET": secret})
        assert result.exit_code == 0
        assert "CALOTYPE_GATEWAY_SECRET" in result.stdout
        assert secret not in result.output


@pytest.mark.parametrize("command", ["serve", "config", "sweep"])
def test_a_setting_that_can_not_be_used_is_named(command: str) -> None:
    result = _run(command, env={"CALOTYPE_RESERVATION_TTL_S": "soon"})
    assert result.exit_code == 1
    assert result.stderr == "Error: CALOTYPE_RESERVATION_TTL_S must be a whole number from 2 to 604800, not 'soon'\n"


@pytest.mark.parametrize("command", ["serve", "config", "sweep"])
def test_a_file_of_settings_that_can_not_be_read_is_named(here: Path, command: str) -> None:
    (here / ".env").write_bytes(b"CALOTYPE_PORT=\xff\n")
    result = _run(command)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: .env can't be read: ")


def test_a_misspelt_setting_is_told_wherever_it_stands(here: Path) -> None:
    (here / ".env").write_text("CALOTYPE_PROT=9001\n")
    result = _run("config", env={"CALOTYPE_WORKER": "2"})
    assert result.exit_code == 0
    assert result.stderr == ("warning: CALOTYPE_PROT is not a setting\nwarning: CALOTYPE_WORKER is not a setting\n")


def test_a_sweep_tells_what_it_collected() -> None:
    ada = calotype.UserId("ada")
    with calotype.open(data_dir="photos") as bus:
        content = calotype.Content.of(pictures.jpeg())
        upload = calotype.UploadImage(owner=ada, filename=calotype.Filename("a.jpg"), content=content)
        gone, kept = (bus.execute(upload).image.image_id for _ in range(2))
        bus.execute(calotype.DeleteImage(owner=ada, image_id=gone, permanent=True))
        bus.execute(calotype.DeleteImage(owner=ada, image_id=kept))
    swept = _run("sweep", "--data-dir", "photos", "--json")
    assert swept.exit_code == 0
    assert json.loads(swept.stdout) == {"images": 1, "uploads": 0, "failed": 0, "reason": None}
    again = _run("sweep", "--data-dir", "photos")
    assert again.stdout == "0 images and 0 unfinished uploads removed; 0 failed\n"
