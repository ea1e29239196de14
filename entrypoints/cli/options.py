"""The options that every client command has: which server, and who is asking."""

import functools
import getpass
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click
import httpx

from domain.errors import Invalid
from domain.values import Tag, UserId, parse_tags
from entrypoints.cli.client import Client, RequestFailed
from entrypoints.cli.text import shown

V = TypeVar("V")


class Failed(click.ClickException):
    """A command that ends with messages, one a line, and exit code 1."""

    def __init__(self, *lines: str) -> None:
        """Keep the lines."""
        super().__init__("\n".join(f"Error: {shown(line)}" for line in lines))

    def show(self, file: Any = None) -> None:
        """Print them on stderr."""
        click.echo(self.message, file=file, err=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """How to reach the server, and as whom."""

    server: str
    user: UserId | None
    token: str | None
    timeout_s: float

    def client(self, **options: Any) -> Client:
        """Return a client; ``options`` are its further ones."""
        return Client(self.server, user=self.user, token=self.token, timeout_s=self.timeout_s, **options)


def client_command(function: Callable[..., None]) -> Callable[..., None]:
    """Add the common options; the function gets them as its first argument, an Access.

    A request that fails ends the command with its reasons and exit code 1.
    """

    @_OPTIONS
    @functools.wraps(function)
    def command(*, server: str, user: UserId | None, token: str | None, timeout: float, **rest: object) -> None:
        access = Access(server=server, user=_identity(user, token), token=token, timeout_s=timeout)
        try:
            function(access, **rest)
        except RequestFailed as failure:
            raise Failed(*failure.lines) from failure

    return command


def parsed_by(parse: Callable[[str], V]) -> Callable[[click.Context, click.Parameter, str | None], V | None]:
    """Return a Click callback that parses an option's text with a domain value, and tells what it refuses."""

    def callback(context: click.Context, parameter: click.Parameter, raw: str | None) -> V | None:
        try:
            return None if raw is None else parse(raw)
        except Invalid as error:
            raise click.BadParameter(error.reason, context, parameter) from error

    return callback


def tags_option(text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return the option --tag, repeatable, given to the command as ``tags``."""

    def callback(context: click.Context, parameter: click.Parameter, raw: tuple[str, ...]) -> tuple[Tag, ...]:
        try:
            # The API splits a lone value at its commas; here commas always split, as one rule is easier to remember.
            return parse_tags(each for value in raw for each in value.split(","))
        except Invalid as error:
            raise click.BadParameter(error.reason, context, parameter) from error

    return click.option("--tag", "-t", "tags", multiple=True, metavar="TAG", callback=callback, help=text)


def _server(raw: str) -> str:
    try:
        url = httpx.URL(raw)
    except httpx.InvalidURL as error:
        raise Invalid("server", f"is no URL: {error}") from error
    if url.scheme not in {"http", "https"} or not url.host or url.query or url.fragment:
        raise Invalid("server", "must be a URL such as http://127.0.0.1:8000")
    return raw


def _token(raw: str) -> str:
    if not raw.isascii() or not raw.isprintable() or " " in raw:
        raise Invalid("token", "must be printable ASCII without spaces")
    return raw


def _identity(user: UserId | None, token: str | None) -> UserId | None:
    """Return the user to name: the given one, or the login name; a token says by itself who it is."""
    if user is not None or token is not None:
        return user
    try:
        return UserId(getpass.getuser())
    except (Invalid, KeyError, OSError) as error:
        raise click.UsageError("Nobody is asking: give --user or --token, or set CALOTYPE_USER.") from error


def _options() -> Callable[[Callable[..., None]], Callable[..., None]]:
    options = [
        click.option(
            "--server",
            envvar="CALOTYPE_SERVER",
            default="http://127.0.0.1:8000",
            metavar="URL",
            callback=parsed_by(_server),
            show_default=True,
            show_envvar=True,
            help="The server to talk to.",
        ),
        click.option(
            "--user",
            envvar="CALOTYPE_USER",
            metavar="ID",
            callback=parsed_by(UserId),
            show_envvar=True,
            help="Whose images; sent as X-User-ID. Default: the login name, unless there is a token.",
        ),
        click.option(
            "--token",
            envvar="CALOTYPE_TOKEN",
            callback=parsed_by(_token),
            show_envvar=True,
            help="A bearer token. Better set by the environment: a process list shows arguments.",
        ),
        click.option(
            "--timeout",
            envvar="CALOTYPE_TIMEOUT",
            type=click.FloatRange(min=0, min_open=True),
            default=60,
            metavar="SECONDS",
            show_default=True,
            show_envvar=True,
            help="How long to wait for the server's next sign of life.",
        ),
    ]
    return lambda function: functools.reduce(lambda inner, option: option(inner), reversed(options), function)


_OPTIONS = _options()
