"""The command ``calotype`` itself: finds the subcommands, and turns their endings into exit codes."""

import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple, NoReturn, cast

import click

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class _Lazy(NamedTuple):
    target: str
    help: str


# Commands are imported when they are called for: the client side must not wait for a web framework and an SDK, nor
# `--help` for either. So their summaries stand here, and a test holds them to the commands' own.
COMMANDS = {
    "serve": _Lazy("entrypoints.cli.serve:serve", "Serve images over HTTP until stopped."),
    "sweep": _Lazy(
        "entrypoints.cli.sweep:sweep", "Delete for good what the trash and broken uploads have left once it is due."
    ),
    "snapshot": _Lazy(
        "entrypoints.cli.snapshot:snapshot",
        "Put all images and all that is known of them into one archive, while the service runs.",
    ),
    "restore": _Lazy(
        "entrypoints.cli.restore:restore", "Make a data folder of an archive that `calotype snapshot` made."
    ),
    "audit": _Lazy("entrypoints.cli.audit:audit", "Compare what is recorded with what is stored, in both directions."),
    "config": _Lazy(
        "entrypoints.cli.config:config",
        "Print the settings in force, as read from the environment and .env, without secrets.",
    ),
    "bootstrap": _Lazy(
        "entrypoints.cli.bootstrap:bootstrap",
        "Create the bucket and the tables on AWS, or make them as they should be.",
    ),
    "upload": _Lazy("entrypoints.cli.upload:upload", "Upload images and folders of images."),
    "list": _Lazy("entrypoints.cli.listing:list_images", "List images, newest first."),
    "get": _Lazy("entrypoints.cli.get:get", "Download an original, byte for byte as it was uploaded."),
    "rm": _Lazy("entrypoints.cli.rm:rm", "Delete images."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module only when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command."""
        del ctx
        if (lazy := COMMANDS.get(cmd_name)) is None:
            return None
        module, _, name = lazy.target.partition(":")
        return cast("click.Command", getattr(importlib.import_module(module), name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table, importing nothing."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in COMMANDS.items()])


_EPILOG = """\
\b
Examples:
  calotype serve                        a server on http://127.0.0.1:8000
  calotype upload --tag rome Pictures/  every image below a folder
  calotype list --tag rome
  calotype get 0f8fad5b-d9cb-469f-a165-70867728950e

\b
Exit codes:
  0  all went well
  1  something, or everything, failed
  2  wrong usage
  130  interrupted

Each command explains itself: calotype COMMAND --help
"""


@click.group(cls=LazyGroup, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="calotype", prog_name="calotype")
def cli() -> None:
    """Store images and get them back.

    upload, list, get and rm talk to any Calotype server over HTTP; the others are the server's side.
    """


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line, and exit the process with the code that fits the ending."""
    try:
        # Click's own ending would make every interrupt a plain failure. A command that merely returns ended well,
        # and one that calls `Context.exit` gives its code here. A broken pipe ends quietly inside, by Click.
        code = cli.main(args, prog_name="calotype", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)
