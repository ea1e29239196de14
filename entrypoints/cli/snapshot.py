"""``calotype snapshot``: the embedded default as one archive, taken while the service runs."""

import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click
import msgspec

from entrypoints.cli.bar import byte_bar
from entrypoints.cli.text import human_size
from entrypoints.settings import Settings, SettingsError, load_settings

if TYPE_CHECKING:
    from entrypoints.backup import Summary

STDIO = "-"

_EPILOG = """\
\b
The archive is a plain tar: catalog.sqlite3, the secret that signs URLs, every
original under its key, SHA256SUMS, manifest.json. It holds all owners' images
and the secret, so only its owner may read it (mode 0600); keep it so.
docs/backup.md describes it.

\b
Examples:
  calotype snapshot nightly.tar
  calotype snapshot --force nightly.tar
  calotype snapshot - | zstd | ssh backup 'cat > calotype.tar.zst'
"""


@click.command(epilog=_EPILOG)
@click.argument("archive", metavar="ARCHIVE.tar|-")
@click.option("--data-dir", help="Folder of the embedded default.  [CALOTYPE_DATA_DIR, default calotype-data]")
@click.option("--force", "-f", is_flag=True, help="Replace the archive if there is one.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a sentence.")
def snapshot(archive: str, data_dir: str | None, *, force: bool, as_json: bool) -> None:
    """Put all images and all that is known of them into one archive, while the service runs.

    The archive is consistent: the records are those of one moment, and each has its object. It gets its name when it
    is complete. With "-" it goes to stdout, and what is said of it to stderr.
    """
    if archive == STDIO and sys.stdout.isatty():
        raise click.UsageError("An archive would only confuse the terminal: redirect stdout, or name a file.")
    from domain.errors import CalotypeError  # noqa: PLC0415 (the stores' weight, only when they are used)

    try:
        folder = embedded_folder(load_settings(data_dir=data_dir))
        summary = _to_stdout(folder) if archive == STDIO else _to_file(folder, Path(archive), replace=force)
    except FileExistsError as error:
        raise click.ClickException(f"{archive} is there already; --force replaces it") from error
    except BrokenPipeError:
        raise  # Click's: whoever read stdout has seen enough
    except (SettingsError, CalotypeError, OSError, EOFError) as error:
        raise click.ClickException(f"no archive was made: {error}") from error
    what = "The archive" if archive == STDIO else archive
    report(summary, f"{what} holds", as_json=as_json, to_stderr=archive == STDIO)


def embedded_folder(settings: Settings) -> Path:
    """Return the data folder; raise SettingsError where the stores are others."""
    if settings.storage != "embedded":
        raise SettingsError(
            "snapshots are of the embedded default. On AWS, DynamoDB's point-in-time recovery and S3's versions do this"
        )
    return settings.data_path


def report(summary: "Summary", holds: str, *, as_json: bool, to_stderr: bool = False) -> None:
    """Print what an archive or a folder holds."""
    if as_json:
        click.echo(msgspec.json.encode(summary).decode(), err=to_stderr)
        return
    gone = f"; {summary.purged} deleted for good meanwhile are left out" if summary.purged else ""
    click.echo(
        f"{holds} {summary.objects} images, {summary.trashed} of them in the trash, "
        f"{human_size(summary.object_bytes)}{gone}",
        err=to_stderr,
    )


def _to_stdout(folder: Path) -> "Summary":
    summary = _written(folder, sys.stdout.buffer.write, scratch=None)
    sys.stdout.buffer.flush()
    return summary


def _to_file(folder: Path, target: Path, *, replace: bool) -> "Summary":
    from adapters.filesystem import Disk  # noqa: PLC0415 (see above)

    if not replace and os.path.lexists(target):
        raise FileExistsError
    if replace and target.exists() and not target.is_file():
        raise OSError(f"{target} is not a file")
    disk = Disk()
    final = os.fsencode(target.absolute())
    partial = os.fsencode(target.absolute().with_name(f".{target.name}.{secrets.token_hex(4)}.part"))
    with disk.temporary(partial) as descriptor:
        with _file_over(descriptor) as file:
            summary = _written(folder, file.write, scratch=target.absolute().parent)
        disk.sync(descriptor)
        if replace:
            disk.rename(partial, final)
        else:
            disk.publish(partial, final)
        disk.sync_folder(os.path.dirname(final))  # noqa: PTH120 (pathlib knows no bytes paths)
    return summary


def _file_over(descriptor: int) -> BinaryIO:
    return open(descriptor, "wb", closefd=False)


def _written(folder: Path, write: Callable[[bytes], object], *, scratch: Path | None) -> "Summary":
    from adapters.system import SystemClock  # noqa: PLC0415 (see above)
    from entrypoints.backup import snapshot as take  # noqa: PLC0415

    with byte_bar("Copying") as progress:
        return take(folder, write, clock=SystemClock(), scratch=scratch, progress=progress)
