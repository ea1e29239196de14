"""``calotype config``: the settings in force."""

import click
import msgspec

from entrypoints.settings import SettingsError, load_settings, unknown_variables, variables


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of NAME=value lines.")
def config(*, as_json: bool) -> None:
    """Print the settings in force, as read from the environment and .env, without secrets."""
    try:
        settings = load_settings()
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    for name in unknown_variables(variables()):
        click.echo(f"warning: {name} is not a setting", err=True)
    environment = settings.shown()
    environment["CALOTYPE_PUBLIC_URL"] = settings.base_url
    if as_json:
        click.echo(msgspec.json.encode(dict(sorted(environment.items()))).decode())
        return
    for name, value in sorted(environment.items()):
        click.echo(f"{name}={value}")
