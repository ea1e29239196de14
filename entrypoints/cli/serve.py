"""``calotype serve``: the service itself."""

from contextlib import suppress

import click

from entrypoints.settings import Settings, SettingsError, load_settings, unknown_variables, variables


@click.command()
@click.option("--host", help="Address to listen on.  [CALOTYPE_HOST, default 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on.  [CALOTYPE_PORT, default 8000]")
@click.option("--workers", type=int, help="Worker processes.  [CALOTYPE_WORKERS, default 1]")
@click.option("--data-dir", help="Folder of the embedded default.  [CALOTYPE_DATA_DIR, default calotype-data]")
@click.option(
    "--trusted-network",
    is_flag=True,
    default=None,
    help="Believe X-User-ID on an address that others reach.  [CALOTYPE_TRUSTED_NETWORK, default false]",
)
def serve(
    *, host: str | None, port: int | None, workers: int | None, data_dir: str | None, trusted_network: bool | None
) -> None:
    """Serve images over HTTP until stopped.

    Everything else is set by CALOTYPE_* variables; `calotype config` shows them all.
    """
    try:
        settings = load_settings(
            host=host, port=port, workers=workers, data_dir=data_dir, trusted_network=trusted_network
        )
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    from entrypoints import server  # noqa: PLC0415 (a server's weight, only when serving)
    from entrypoints.identity import exposed_keys  # noqa: PLC0415 (as above)

    for name in unknown_variables(variables()):
        _say(f"warning: {name} is not a setting")
    for name in settings.without_effect:
        _say(f"warning: {name} has no effect while CALOTYPE_AUTH is {settings.auth}")
    if (keys := exposed_keys(settings)) is not None:
        _say(f"warning: CALOTYPE_SIGNATURE_KEYS: others can read {keys}; chmod 600 keeps it secret")
    try:
        with server.ready(settings) as run:
            _say(f"Calotype serves {settings.base_url} from {_stores(settings)}")
            _say(f"The API is described at {settings.base_url}/docs")
            run()
    except server.CannotServe as error:
        raise click.ClickException(str(error)) from error


def _say(text: str) -> None:
    # A full disk behind stderr is no reason not to serve.
    with suppress(OSError):
        click.echo(text, err=True)


def _stores(settings: Settings) -> str:
    if settings.storage == "aws":
        return f"DynamoDB and S3 (bucket {settings.bucket}, tables {settings.table_prefix}images-*)"
    return str(settings.data_path)
