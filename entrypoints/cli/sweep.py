"""``calotype sweep``: collect what is due, now."""

import click
import msgspec

from entrypoints.settings import SettingsError, load_settings


@click.command()
@click.option("--data-dir", help="Folder of the embedded default.  [CALOTYPE_DATA_DIR, default calotype-data]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a sentence.")
def sweep(data_dir: str | None, *, as_json: bool) -> None:
    """Delete for good what the trash and broken uploads have left once it is due.

    The server does this by itself every CALOTYPE_SWEEP_INTERVAL_S; it is safe to do at any time, also meanwhile.
    """
    from application.commands.sweep import Sweep  # noqa: PLC0415 (the stores' weight, only when sweeping)
    from domain.errors import CalotypeError  # noqa: PLC0415
    from entrypoints.embedded import open_bus  # noqa: PLC0415

    try:
        with open_bus(load_settings(data_dir=data_dir)) as bus:
            report = bus.execute(Sweep())
    except (SettingsError, CalotypeError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(msgspec.json.encode(report).decode())
    else:
        click.echo(f"{report.images} images and {report.uploads} unfinished uploads removed; {report.failed} failed")
    if report.failed:
        raise click.ClickException(f"the last that failed is {report.reason}")
