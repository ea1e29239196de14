"""``calotype serve``: the service itself."""

import click

from entrypoints.settings import Settings, SettingsError, load_settings, unknown_variables, variables


@click.command()
@click.option("--host", help="Address to listen on.  [CALOTYPE_HOST, default 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on.  [CALOTYPE_PORT, default 8000]")
@click.option("--workers", type=int, help="Worker processes.  [CALOTYPE_WORKERS, default 1]")
@click.option("--data-dir", help="Folder of the embedded default.  [CALOTYPE_DATA_DIR, default calotype-data]")
def serve(host: str | None, port: int | None, workers: int | None, data_dir: str | None) -> None:
    """Serve images over HTTP until stopped.

    Everything else is set by CALOTYPE_* variables; `calotype config` shows them all.
    """
    try:
        settings = load_settings(host=host, port=port, workers=workers, data_dir=data_dir)
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    from entrypoints import server  # noqa: PLC0415 (a server's weight, only when serving)

    for name in unknown_variables(variables()):
        click.echo(f"warning: {name} is not a setting", err=True)
    try:
        with server.ready(settings) as run:
            click.echo(f"Calotype serves {settings.base_url} from {_stores(settings)}", err=True)
            click.echo(f"The API is described at {settings.base_url}/docs", err=True)
            run()
    except server.CannotServe as error:
        raise click.ClickException(str(error)) from error


def _stores(settings: Settings) -> str:
    if settings.storage == "aws":
        return f"DynamoDB and S3 (bucket {settings.bucket}, tables {settings.table_prefix}images-*)"
    return str(settings.data_path)
