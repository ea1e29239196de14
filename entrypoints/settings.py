"""Settings: ``CALOTYPE_*`` variables and a ``.env`` file to typed values; wrong ones are refused at start, by name."""

import os
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from dotenv import dotenv_values
from msgspec import inspect

from adapters.observability.logging import LogFormat, LogLevel
from application.rate_limits import Budgets
from domain.limits import Limits
from domain.quota import Quota
from entrypoints.budgets import parse_budgets, parse_networks, tenfold

PREFIX = "CALOTYPE_"

_DAY_S = 24 * 3600
_HTTP_URL = r"^https?://[^/?#\s]+(/[^?#\s]*)?\Z"
_HTTP_URL_WORDS = "an http:// or https:// URL without a query"
_BUCKET = r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z"
_BUCKET_WORDS = "3-63 lower-case letters, digits, dots and hyphens"
_TABLE_PREFIX = r"^[A-Za-z0-9_.-]{0,100}\Z"
_TABLE_PREFIX_WORDS = "at most 100 letters, digits or _.-"
_SECRETS = r"^[!-+\--~]{32,}(,[!-+\--~]{32,})*$"
_SECRETS_WORDS = "a secret of at least 32 visible ASCII characters, or several with commas between"
_LIST = r"^[^,\s]+( *, *[^,\s]+)*$"
_LIST_WORDS = "one or more names without spaces, with commas between"
_ALGORITHM = "([RP]S256|[RP]S384|[RP]S512|ES256|ES384|ES512|EdDSA)"
_ALGORITHMS = rf"^{_ALGORITHM}( *, *{_ALGORITHM})*$"
_ALGORITHMS_WORDS = (
    "RS256, ES256 and the like, or EdDSA, with commas between; no secret is shared with an issuer (HS256)"
)
_JWKS = r"^(https://[^\s/?#@]+(/\S*)?|http://(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?(/\S*)?|((?!://)[^\x00])+)\Z"
_JWKS_WORDS = "an https:// URL (http:// for this machine alone), or the path of a file"
_REDACTED = "********"
_REDIS_URL = r"^(rediss?|unix)://\S+\Z"
_REDIS_URL_WORDS = "a redis://, rediss:// or unix:// URL"
_ORIGIN = r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]+)?"
_ORIGINS = rf"^\s*(\*|{_ORIGIN}(\s*,\s*{_ORIGIN})*)?\s*$"
_ORIGINS_WORDS = "origins such as https://app.example.org with commas between, or *"


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
    scheduling: Literal["batch", "unchanged"] = "batch"
    max_connections: Annotated[int, msgspec.Meta(ge=16, le=1_000_000)] = 2048
    keep_alive_s: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 30
    stall_timeout_s: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 30
    auth: Literal["header", "jwt", "signature"] = "header"
    gateway_secret: Annotated[str, msgspec.Meta(pattern=_SECRETS, description=_SECRETS_WORDS)] | None = None
    trusted_network: bool = False
    jwt_jwks: Annotated[str, msgspec.Meta(pattern=_JWKS, description=_JWKS_WORDS)] | None = None
    jwt_issuer: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    jwt_audience: Annotated[str, msgspec.Meta(pattern=_LIST, description=_LIST_WORDS)] | None = None
    jwt_audience_claim: Annotated[str, msgspec.Meta(min_length=1)] = "aud"
    jwt_owner_claim: Annotated[str, msgspec.Meta(min_length=1)] = "sub"
    jwt_algorithms: Annotated[str, msgspec.Meta(pattern=_ALGORITHMS, description=_ALGORITHMS_WORDS)] = "RS256,ES256"
    jwt_jwks_max_age_s: Annotated[int, msgspec.Meta(ge=1, le=_DAY_S)] = 300
    jwt_jwks_min_age_s: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 30
    signature_keys: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    signature_max_age_s: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 300
    clock_skew_s: Annotated[int, msgspec.Meta(ge=0, le=600)] = 30
    public_url: Annotated[str, msgspec.Meta(pattern=_HTTP_URL, description=_HTTP_URL_WORDS)] | None = None
    rate_limit: str = "reads=30000/m, writes=6000/m, bytes=30GiB/m"
    rate_limit_address: str | None = None
    rate_limit_url: Annotated[str, msgspec.Meta(pattern=_REDIS_URL, description=_REDIS_URL_WORDS)] | None = None
    trusted_proxies: str = ""
    hot_files_bytes: Annotated[int, msgspec.Meta(ge=0)] = 32 * 1024**2
    max_concurrent_uploads: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 128
    max_bytes_in_flight: Annotated[int, msgspec.Meta(ge=1)] = 1024**3
    max_bytes_in_inspection: Annotated[int, msgspec.Meta(ge=1)] = 256 * 1024**2
    max_upload_bytes: Annotated[int, msgspec.Meta(ge=1, le=5 * 1024**3)] = Limits().max_upload_bytes
    max_pixels: Annotated[int, msgspec.Meta(ge=1)] = Limits().max_pixels
    max_file_pixels: Annotated[int, msgspec.Meta(ge=1)] = Limits().max_file_pixels
    max_metadata_bytes: Annotated[int, msgspec.Meta(ge=0)] = Limits().max_metadata_bytes
    quota_images: Annotated[int, msgspec.Meta(ge=0)] | None = None
    quota_bytes: Annotated[int, msgspec.Meta(ge=0)] | None = None
    presign_ttl_s: Annotated[int, msgspec.Meta(ge=1, le=7 * _DAY_S)] = 3600
    trash_retention_s: Annotated[int, msgspec.Meta(ge=0, le=100 * 365 * _DAY_S)] = 30 * _DAY_S
    reservation_ttl_s: Annotated[int, msgspec.Meta(ge=2, le=7 * _DAY_S)] = 3600
    sweep_interval_s: Annotated[int, msgspec.Meta(ge=1, le=7 * _DAY_S)] = 60
    bucket: Annotated[str, msgspec.Meta(pattern=_BUCKET, description=_BUCKET_WORDS)] = "image-uploads"
    table_prefix: Annotated[str, msgspec.Meta(pattern=_TABLE_PREFIX, description=_TABLE_PREFIX_WORDS)] = ""
    kms_key_id: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    transfer_acceleration: bool = False
    deletion_protection: bool = False
    cors_origins: Annotated[str, msgspec.Meta(pattern=_ORIGINS, description=_ORIGINS_WORDS)] = ""
    hsts_s: Annotated[int, msgspec.Meta(ge=0, le=10 * 365 * _DAY_S)] = 0
    presign_window_s: Annotated[int, msgspec.Meta(ge=1, le=_DAY_S)] = 300
    dynamodb_parser: Literal["msgspec", "botocore"] = "msgspec"
    log_format: LogFormat = "auto"
    log_level: LogLevel = "info"

    def __post_init__(self) -> None:
        """Check the values; raise SettingsError with every one that can't be used."""
        values = ((each, getattr(self, each.name)) for each in msgspec.structs.fields(Settings))
        faults = [fault for each, value in values if (fault := _converted(each, value, strict=True)[1])]
        faults += [
            f"{_variable(name)} must be set while {_variable('auth')} is {self.auth}"
            for name in _NEEDED.get(self.auth, ())
            if getattr(self, name) is None
        ]
        faults += [fault for name, parse in _PARSED.items() if (fault := _fault(name, parse, getattr(self, name)))]
        if faults:
            raise SettingsError("\n".join(faults))

    def __repr__(self) -> str:
        """Show no secrets."""
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Show no secrets."""
        values = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return [(name, _REDACTED if name in _SECRET and value is not None else value) for name, value in values]

    @property
    def base_url(self) -> str:
        """Where clients reach the service: as set, or the address served on. Never taken from a request."""
        if self.public_url is not None:
            return _normal(self.public_url.rstrip("/"))
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 (not bound here)
        return _normal(f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}")

    @property
    def limits(self) -> Limits:
        """The configurable limits."""
        return Limits(
            max_upload_bytes=self.max_upload_bytes,
            max_pixels=self.max_pixels,
            max_file_pixels=self.max_file_pixels,
            max_metadata_bytes=self.max_metadata_bytes,
            quota=Quota(images=self.quota_images, size_bytes=self.quota_bytes),
        )

    @property
    def browser_origins(self) -> tuple[str, ...]:
        """The origins of ``cors_origins``, which stand there with commas between them."""
        return _listed(self.cors_origins)

    @property
    def gateway_secrets(self) -> tuple[str, ...]:
        """What requests may carry to show that they come through the gateway; two of them while one is replaced."""
        return _listed(self.gateway_secret)

    @property
    def owner_budgets(self) -> Budgets | None:
        """What each owner may use up; None without rate limits."""
        return parse_budgets(self.rate_limit)

    @property
    def address_budgets(self) -> Budgets:
        """What each address may without saying who asks: ten times as much as an owner, unless set."""
        if self.rate_limit_address is None:
            return tenfold(self.owner_budgets or Budgets())
        return parse_budgets(self.rate_limit_address) or Budgets()

    @property
    def proxy_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The proxies whose word is taken for where a request comes from."""
        return parse_networks(self.trusted_proxies)

    @property
    def jwt_audiences(self) -> tuple[str, ...]:
        """The audiences of which tokens have to name one."""
        return _listed(self.jwt_audience)

    @property
    def jwt_allowed_algorithms(self) -> tuple[str, ...]:
        """What tokens may be signed with."""
        return _listed(self.jwt_algorithms)

    @property
    def without_effect(self) -> list[str]:
        """The variables that are set, but for another way to say who is asking."""
        of_others = [name for mode, names in _OF_MODE.items() if mode != self.auth for name in names]
        unset = Settings()
        return [_variable(name) for name in of_others if getattr(self, name) != getattr(unset, name)]

    @property
    def data_path(self) -> Path:
        """The data directory, absolute."""
        return parse_path(self.data_dir)

    def environment(self) -> dict[str, str]:
        """Return the variables that make these settings again: how worker processes get them."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        values["data_dir"] = str(self.data_path)
        return {_variable(name): str(value) for name, value in values.items() if value not in {None, ""}}

    def shown(self) -> dict[str, str]:
        """Return the same for people to see, without secrets."""
        secret = {_variable(name) for name in _SECRET}
        return {name: _REDACTED if name in secret else value for name, value in self.environment().items()}


def parse_path(text: str) -> Path:
    """Return a path, absolute, with ``~`` as the home that it stands for; raise ValueError if there is none."""
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"must be a path, not {text!r}: there is no such home") from error


_SECRET = frozenset({"gateway_secret", "rate_limit_url"})
"""The settings that nobody is shown."""
_PARSED: Mapping[str, Callable[[str], object]] = {
    "rate_limit": parse_budgets,
    "rate_limit_address": parse_budgets,
    "trusted_proxies": parse_networks,
    "data_dir": parse_path,
    "jwt_jwks": parse_path,  # a URL is taken as it is
    "signature_keys": parse_path,
}
"""The settings with a language of their own."""
_OF_MODE = {
    "header": ("gateway_secret", "trusted_network"),
    "jwt": (
        "jwt_jwks",
        "jwt_issuer",
        "jwt_audience",
        "jwt_audience_claim",
        "jwt_owner_claim",
        "jwt_algorithms",
        "jwt_jwks_max_age_s",
        "jwt_jwks_min_age_s",
    ),
    "signature": ("signature_keys", "signature_max_age_s"),
}
"""The settings of one way to say who is asking."""
_NEEDED = {"jwt": ("jwt_jwks", "jwt_issuer", "jwt_audience"), "signature": ("signature_keys",)}


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _fault(name: str, parse: Callable[[str], object], text: object) -> str | None:
    """Return what is wrong with a setting that has a language of its own."""
    try:
        if isinstance(text, str):
            parse(text)
    except ValueError as error:
        return f"{_variable(name)} {error}"
    return None


def _normal(url: str) -> str:
    """Return a URL as clients write it, and sign it (RFC 9110, section 4.2.3)."""
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    authority = authority.lower().removesuffix(":443" if scheme == "https" else ":80")
    return f"{scheme}://{authority}{slash}{path}"


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(each.strip() for each in (text or "").split(",") if each.strip())


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
        instead = "" if setting.name in _SECRET else f", not {raw!r}"
        return None, f"{_variable(setting.name)} must be {accepted}{instead}"


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
