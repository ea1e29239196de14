"""Settings: ``CALOTYPE_*`` variables and a ``.env`` file to typed values; wrong ones are refused at start, by name."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from dotenv import dotenv_values
from msgspec import inspect

from adapters.observability.logging import LogFormat, LogLevel
from domain.limits import Limits

PREFIX = "CALOTYPE_"

_DAY_S = 24 * 3600
_HTTP_URL = r"^https?://[^/?#\s]+(/[^?#\s]*)?$"
_HTTP_URL_WORDS = "an http:// or https:// URL without a query"
_BUCKET = r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"
_BUCKET_WORDS = "3-63 lower-case letters, digits, dots and hyphens"
_TABLE_PREFIX = r"^[A-Za-z0-9_.-]{0,100}$"
_TABLE_PREFIX_WORDS = "at most 100 letters, digits or _.-"


class SettingsError(Exception):
    """A setting can't be used; the message names the variable."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator may set. Each field is the variable ``CALOTYPE_{NAME}``."""

    storage: Literal["embedded", "aws"] = "embedded"
    data_dir: Annotated[str, msgspec.Meta(min_length=1)] = "calotype-data"
    host: Annotated[str, msgspec.Meta(min_length=1)] = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 8000
    workers: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    threads: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 32
    public_url: Annotated[str, msgspec.Meta(pattern=_HTTP_URL, description=_HTTP_URL_WORDS)] | None = None
    max_upload_bytes: Annotated[int, msgspec.Meta(ge=1, le=5 * 1024**3)] = Limits().max_upload_bytes
    max_pixels: Annotated[int, msgspec.Meta(ge=1)] = Limits().max_pixels
    max_file_pixels: Annotated[int, msgspec.Meta(ge=1)] = Limits().max_file_pixels
    presign_ttl_s: Annotated[int, msgspec.Meta(ge=1, le=7 * _DAY_S)] = 3600
    trash_retention_s: Annotated[int, msgspec.Meta(ge=0, le=100 * 365 * _DAY_S)] = 30 * _DAY_S
    reservation_ttl_s: Annotated[int, msgspec.Meta(ge=2, le=7 * _DAY_S)] = 3600
    sweep_interval_s: Annotated[int, msgspec.Meta(ge=1, le=7 * _DAY_S)] = 60
    bucket: Annotated[str, msgspec.Meta(pattern=_BUCKET, description=_BUCKET_WORDS)] = "image-uploads"
    table_prefix: Annotated[str, msgspec.Meta(pattern=_TABLE_PREFIX, description=_TABLE_PREFIX_WORDS)] = ""
    kms_key_id: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    transfer_acceleration: bool = False
    deletion_protection: bool = False
    cors_origins: str = ""
    presign_window_s: Annotated[int, msgspec.Meta(ge=1, le=_DAY_S)] = 300
    log_format: LogFormat = "auto"
    log_level: LogLevel = "info"

    def __post_init__(self) -> None:
        """Check the values; raise SettingsError with every one that can't be used."""
        values = ((each, getattr(self, each.name)) for each in msgspec.structs.fields(Settings))
        faults = [fault for each, value in values if (fault := _converted(each, value, strict=True)[1])]
        if faults:
            raise SettingsError("\n".join(faults))

    @property
    def base_url(self) -> str:
        """Where clients reach the service: as set, or the address served on. Never taken from a request."""
        if self.public_url is not None:
            return self.public_url.rstrip("/")
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 (not bound here)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def limits(self) -> Limits:
        """The configurable limits."""
        return Limits(
            max_upload_bytes=self.max_upload_bytes,
            max_pixels=self.max_pixels,
            max_file_pixels=self.max_file_pixels,
        )

    @property
    def browser_origins(self) -> tuple[str, ...]:
        """The origins of ``cors_origins``, which stand there with commas between them."""
        return tuple(origin.strip() for origin in self.cors_origins.split(",") if origin.strip())

    @property
    def data_path(self) -> Path:
        """The data directory, absolute."""
        return Path(self.data_dir).expanduser().absolute()

    def environment(self) -> dict[str, str]:
        """Return the variables that make these settings again: how worker processes get them."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        values["data_dir"] = str(self.data_path)
        return {PREFIX + name.upper(): str(value) for name, value in values.items() if value not in {None, ""}}


def load_settings(**overrides: object) -> Settings:
    """Read the settings from the environment and ``.env``; an override that is not None goes first.

    Raises:
        SettingsError: names every variable that can't be used, and why.
    """
    return parse_settings(variables(), **overrides)


def variables() -> dict[str, str]:
    """Return the variables of this process, and of ``.env`` those that it does not have.

    Raises:
        SettingsError: the file can't be read.
    """
    try:
        of_file = dotenv_values(".env")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f".env can't be read: {error}") from error
    return {**{name: value for name, value in of_file.items() if value is not None}, **os.environ}


def parse_settings(environment: Mapping[str, str], **overrides: object) -> Settings:
    """Return the settings that an environment describes. Raise SettingsError as load_settings does."""
    values: dict[str, Any] = {}
    faults: list[str] = []
    for each in msgspec.structs.fields(Settings):
        variable = PREFIX + each.name.upper()
        raw = overrides.get(each.name)
        raw = environment.get(variable) if raw is None else raw
        if raw is None or raw == "":  # as unset: that is how shells and compose files say it
            continue
        values[each.name], fault = _converted(each, raw, strict=False)
        faults.extend(filter(None, [fault]))
    if faults:
        raise SettingsError("\n".join(faults))
    return Settings(**values)


def _converted(setting: msgspec.structs.FieldInfo, raw: object, *, strict: bool) -> tuple[Any, str | None]:
    """Return the value of a setting's type, and what is wrong with it if it can't be that."""
    try:
        return msgspec.convert(raw, setting.type, strict=strict), None
    except msgspec.ValidationError as error:
        accepted = _accepted(inspect.type_info(setting.type)) or error
        return None, f"{PREFIX}{setting.name.upper()} must be {accepted}, not {raw!r}"


def _accepted(kind: inspect.Type) -> str | None:
    """Return what a setting of this type may be, in words; None if there are none."""
    match kind:
        case inspect.UnionType(types=types):  # it may as well be unset
            return next(filter(None, map(_accepted, types)), None)
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType(values=values):
            return f"one of {', '.join(map(str, values))}"
        case inspect.IntType(ge=least, le=most):
            return f"a whole number, at least {least}" if most is None else f"a whole number from {least} to {most}"
        case inspect.Metadata(extra_json_schema={"description": words}):
            return str(words)
        case _:
            return None


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Return the ``CALOTYPE_*`` names that no setting has: misspelt, most likely."""
    known = {PREFIX + each.name.upper() for each in msgspec.structs.fields(Settings)} | _CLIENT_VARIABLES
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in known)


# Read by the client side of the command line.
_CLIENT_VARIABLES = frozenset({f"{PREFIX}SERVER", f"{PREFIX}USER", f"{PREFIX}TOKEN", f"{PREFIX}TIMEOUT"})
