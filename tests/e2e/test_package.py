"""The wheel that people install: what is in it, and that it works without this folder."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from email.parser import Parser
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import pytest

from entrypoints.cli.app import COMMANDS
from tests import pictures

_ROOT = Path(__file__).parent.parent.parent
_TIMEOUT_S = 600
_UV = next((str(path) for path in sorted(_ROOT.glob(".uv/*/bin/uv"), reverse=True)), None) or shutil.which("uv")

pytestmark = [
    pytest.mark.skipif(_UV is None, reason="no uv to build the wheel with; `make test` sets it up"),
    pytest.mark.xdist_group("package"),  # one worker builds it, once
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [str(_UV), "build", "--quiet", "--wheel", "--python", sys.executable, "--out-dir", str(folder), str(_ROOT)]
    # What it takes to build is in uv's cache since this environment was made; if not, it is fetched.
    if subprocess.run([*build, "--offline"], capture_output=True, check=False, timeout=_TIMEOUT_S).returncode:
        subprocess.run(build, check=True, timeout=_TIMEOUT_S)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    install = [str(_UV), "pip", "install", "--quiet", "--offline", "--no-deps", "--python", sys.executable]
    subprocess.run([*install, "--target", str(folder), str(wheel)], check=True, timeout=_TIMEOUT_S)
    return folder


def test_the_wheel_holds_the_four_packages_the_public_module_with_its_stubs_and_nothing_else(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0] for name in names} == {
        *("domain", "application", "adapters", "entrypoints"),
        "calotype.py",
        "calotype-stubs",
        f"calotype-{version('calotype')}.dist-info",
    }
    assert [
        name for name in names if ".dist-info/" not in name and not name.endswith((".py", ".pyi", "/py.typed"))
    ] == []


def test_the_public_module_brings_its_types(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        assert archive.read("calotype-stubs/__init__.pyi") == archive.read("calotype.py")


def test_every_module_of_the_tree_is_in_the_wheel(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
    packages = [_ROOT / name for name in ("domain", "application", "adapters", "entrypoints")]
    modules = {str(path.relative_to(_ROOT)) for package in packages for path in package.rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules | {"calotype.py"}
    assert {name for name in names if name.endswith("py.typed")} == {f"{package.name}/py.typed" for package in packages}


def test_the_metadata_has_the_licence_the_readme_and_the_command(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        texts = {
            name.partition(".dist-info/")[2]: archive.read(name).decode()
            for name in archive.namelist()
            if ".dist-info/" in name
        }
    metadata = Parser().parsestr(texts["METADATA"])
    assert (metadata["Name"], metadata["License-Expression"]) == ("calotype", "Apache-2.0")
    assert str(metadata.get_payload()).lstrip().startswith("# Calotype")
    assert "licenses/LICENSE" in texts
    assert texts["entry_points.txt"].split() == ["[console_scripts]", "calotype", "=", "entrypoints.cli:main"]


def test_another_program_uses_it_from_a_folder_of_its_own(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(pictures.jpeg())
    program = """
        import sys
        from pathlib import Path

        import calotype

        ada = calotype.UserId("ada")
        photo = Path("photo.jpg").read_bytes()
        with calotype.open(data_dir="photos") as bus:
            upload = calotype.UploadImage(
                owner=ada, filename=calotype.Filename("photo.jpg"), content=calotype.Content.of(photo)
            )
            image = bus.execute(upload).image
            body = bus.ask(calotype.ReadContent(owner=ada, image_id=image.image_id)).open()
            assert body.read() == photo
            body.close()

        ours = {"calotype", "domain", "application", "adapters", "entrypoints"}
        for name, module in sorted(sys.modules.items()):
            if name.partition(".")[0] in ours and module.__file__:
                print(module.__file__)
    """
    files = _python("-c", textwrap.dedent(program), installed=installed, folder=tmp_path).splitlines()
    assert len(files) > 20
    assert [file for file in files if not Path(file).is_relative_to(installed)] == []
    assert (tmp_path / "photos" / "catalog.sqlite3").is_file()


@pytest.mark.parametrize("how", ["module", "script"])
def test_the_command_runs_from_any_folder(how: str, installed: Path, tmp_path: Path) -> None:
    command = ["-m", "entrypoints.cli"] if how == "module" else [str(installed / "bin" / "calotype")]
    said = _python(*command, "--version", installed=installed, folder=tmp_path)
    assert re.fullmatch(rf"calotype, version {re.escape(version('calotype'))}\n", said)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_there_from_any_folder(command: str, installed: Path, tmp_path: Path) -> None:
    said = _python("-m", "entrypoints.cli", command, "--help", installed=installed, folder=tmp_path)
    assert said.startswith(f"Usage: calotype {command} ")


def _python(*arguments: str, installed: Path, folder: Path) -> str:
    # Without the site module no .pth file counts, and so this environment's link to the source tree doesn't either.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CALOTYPE_", "PYTHON"))}
    path = os.pathsep.join([str(installed), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    done = subprocess.run(
        [sys.executable, "-S", *arguments],
        cwd=folder,
        env={**inherited, "PYTHONPATH": path},
        capture_output=True,
        encoding="utf-8",
        timeout=_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
