"""``calotype get``: an original to a file or to stdout, whole and checked or not at all."""

import os
import secrets
import stat
import sys
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import click

from domain.values import Filename
from entrypoints.cli.client import Download
from entrypoints.cli.options import Access, Failed, client_command
from entrypoints.cli.text import shown

_STDOUT = "-"

_EPILOG = """\
\b
The bytes are checked against the SHA-256 that the server keeps, and the file
appears under its name only when they are all there. The name is printed.
With "-o -" there is no taking back: look at the exit code.

\b
Examples:
  calotype get 0f8fad5b-d9cb-469f-a165-70867728950e
  calotype get 0f8fad5b-d9cb-469f-a165-70867728950e -o Pictures/
  calotype get 0f8fad5b-d9cb-469f-a165-70867728950e -o cat.jpg --force
  calotype get 0f8fad5b-d9cb-469f-a165-70867728950e -o - | exiftool -
"""


@click.command(epilog=_EPILOG)
@click.argument("image_id", metavar="ID", type=click.UUID)
@click.option(
    "--output",
    "-o",
    metavar="FILE|DIR|-",
    default=".",
    help="Where to: a file, a folder that exists, or - for stdout. Default: this folder, under the uploaded name.",
)
@click.option("--force", "-f", is_flag=True, help="Replace the file if there is one.")
@client_command
def get(access: Access, *, image_id: UUID, output: str, force: bool) -> None:
    """Download an original, byte for byte as it was uploaded."""
    if output == _STDOUT and sys.stdout.isatty():
        raise click.UsageError("An image would only confuse the terminal: redirect stdout, or give -o FILE.")
    with access.client() as client, client.download(image_id) as download:
        if output == _STDOUT:
            _write_stdout(download)
            return
        target = _target(output, download.filename)
        try:
            _save(download, target, replace=force)
        except FileExistsError as error:
            raise Failed(f"{target} is there already; --force replaces it") from error
        except OSError as error:
            raise Failed(f"{target}: {error.strerror or error}") from error
    click.echo(shown(str(target)))


def _write_stdout(download: Download) -> None:
    for chunk in download:
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def _target(output: str, sent_name: str | None) -> Path:
    """Return the file to write: the server chooses a name, never a place, and no hidden one."""
    path = Path(output)
    if path.is_dir():
        return path / Filename(Filename(sent_name or "").lstrip("."))
    if output.endswith(os.sep):
        raise Failed(f"{output}: no such folder")
    return path


def _save(download: Download, target: Path, *, replace: bool) -> None:
    """Write a temporary file beside the target, and give it the name when it is whole.

    Raises:
        FileExistsError: the target is there, and is not to be replaced.
    """
    _check_replaceable(target, replace=replace)
    temporary = target.parent / f".calotype-{secrets.token_hex(8)}.part"
    try:
        with temporary.open("xb") as file:
            for chunk in download:
                file.write(chunk)
        _publish(temporary, target, replace=replace)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _check_replaceable(target: Path, *, replace: bool) -> None:
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return
    # Whoever says --force means a file; a rename would as well replace /dev/null.
    if not stat.S_ISREG(mode):
        raise OSError("is there, and is not a file")
    if not replace:
        raise FileExistsError


def _publish(temporary: Path, target: Path, *, replace: bool) -> None:
    if replace:
        temporary.replace(target)
        return
    try:
        # Unlike a rename, a link never replaces what came to be there meanwhile.
        target.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        _check_replaceable(target, replace=replace)
        temporary.rename(target)
