"""``calotype restore``: an archive of ``calotype snapshot`` back into an empty data folder."""

from typing import BinaryIO, cast

import click

from entrypoints.cli.bar import byte_bar
from entrypoints.cli.snapshot import embedded_folder, report
from entrypoints.settings import SettingsError, load_settings

_EPILOG = """\
\b
Examples:
  calotype restore nightly.tar --data-dir /srv/calotype
  ssh backup 'zstd -dc calotype.tar.zst' | calotype restore - --data-dir /srv/calotype
"""


@click.command(epilog=_EPILOG)
@click.argument("archive", metavar="ARCHIVE.tar|-")
@click.option("--data-dir", help="Empty folder to restore into.  [CALOTYPE_DATA_DIR, default calotype-data]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a sentence.")
def restore(archive: str, data_dir: str | None, *, as_json: bool) -> None:
    """Make a data folder of an archive that `calotype snapshot` made.

    The folder must be empty, or not there. Every object is checked against its record; an archive that is cut short
    or was altered is refused, and the folder is left as it was. Then `calotype serve` can be started on it.
    """
    from adapters.system import SystemClock  # noqa: PLC0415 (the stores' weight, only when they are used)
    from domain.errors import CalotypeError  # noqa: PLC0415
    from entrypoints.backup import BadArchive, NotEmpty  # noqa: PLC0415
    from entrypoints.backup import restore as unpack  # noqa: PLC0415

    try:
        folder = embedded_folder(load_settings(data_dir=data_dir))
        with (
            click.open_file(archive, "rb") as source,
            byte_bar("Restoring") as progress,
        ):
            summary = unpack(cast("BinaryIO", source), folder, clock=SystemClock(), progress=progress)
    except BadArchive as error:
        raise click.ClickException(f"{archive} is not a whole archive, nothing was restored: {error}") from error
    except (SettingsError, CalotypeError, NotEmpty, OSError) as error:
        raise click.ClickException(f"nothing was restored: {error}") from error
    report(summary, f"{folder} holds", as_json=as_json)
