"""How requests say who is asking, as set. What a way needs is imported only where it is chosen."""

import stat
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from litestar import Litestar

from adapters.http.app import Lifespan
from adapters.http.authentication import Authenticator, HeaderAuthenticator
from domain.errors import CalotypeError
from entrypoints.settings import Settings, SettingsError, parse_path

REPLAYS_NAME = "signatures.sqlite3"
"""What of a data folder keeps the signatures that were used."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who tells the owner of a request, what runs beside it while the server does, and how to let go of it."""

    authenticator: Authenticator
    lifespan: Sequence[Lifespan] = ()
    close: Callable[[], None] = lambda: None


def open_identity(settings: Settings) -> Identity:
    """Make what the settings ask for.

    Raises:
        SettingsError: a file that they name can't be used.
        Unavailable: what has to be remembered can't be.
    """
    match settings.auth:
        case "header":
            return Identity(HeaderAuthenticator(settings.gateway_secrets))
        case "jwt":
            return _jwt(settings)
        case "signature":
            return _signature(settings)


def _jwt(settings: Settings) -> Identity:
    from adapters.http import jwks  # noqa: PLC0415 (cryptography takes a tenth of a second)
    from adapters.http.bearer import JwtAuthenticator  # noqa: PLC0415

    algorithms = settings.jwt_allowed_algorithms
    place = settings.jwt_jwks or ""
    try:
        if "://" in place:
            fetch = jwks.from_url(place)
        else:
            path = parse_path(place)
            fetch = jwks.from_file(path)
            # An issuer may be back in a moment. A file that is of no use now is a mistake.
            jwks.parse_keys(jwks.read_file(path), algorithms)
    except jwks.FetchFailed as error:
        raise SettingsError(f"CALOTYPE_JWT_JWKS: {error}") from error
    keys = jwks.KeySet(
        fetch,
        algorithms=algorithms,
        max_age_s=settings.jwt_jwks_max_age_s,
        min_age_s=settings.jwt_jwks_min_age_s,
    )
    authenticator = JwtAuthenticator(
        keys,
        algorithms=algorithms,
        issuer=settings.jwt_issuer or "",
        audiences=settings.jwt_audiences,
        audience_claim=settings.jwt_audience_claim,
        owner_claim=settings.jwt_owner_claim,
        leeway_s=settings.clock_skew_s,
    )

    @asynccontextmanager
    async def fetching(_: Litestar) -> AsyncIterator[None]:
        async with keys.kept_fresh():
            yield

    return Identity(authenticator, [fetching])


def _signature(settings: Settings) -> Identity:
    from adapters.http.signatures import SignatureAuthenticator, read_keys  # noqa: PLC0415 (as above)
    from adapters.sqlite import SqliteReplays  # noqa: PLC0415

    path = parse_path(settings.signature_keys or "")
    try:
        keys = read_keys(path)
    except ValueError as error:
        raise SettingsError(f"CALOTYPE_SIGNATURE_KEYS: {error}") from error
    folder = settings.data_path
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"CALOTYPE_DATA_DIR: {folder} can't be used: {error.strerror}") from error
    replays = SqliteReplays(folder / REPLAYS_NAME)
    authenticator = SignatureAuthenticator(
        keys,
        replays,
        base_url=settings.base_url,
        max_age_s=settings.signature_max_age_s,
        clock_skew_s=settings.clock_skew_s,
    )

    def close() -> None:
        authenticator.close()
        replays.close()

    return Identity(authenticator, close=close)


def exposed_keys(settings: Settings) -> Path | None:
    """Return the file of the shared keys, if others than who owns it can read it."""
    if settings.auth != "signature":
        return None
    path = parse_path(settings.signature_keys or "")
    try:
        return path if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH) else None
    except OSError:  # open_identity says what is wrong
        return None


def check_identity(settings: Settings) -> None:
    """Find out now whether `open_identity` will do; raise SettingsError with the reason otherwise."""
    try:
        open_identity(settings).close()
    except CalotypeError as error:
        raise SettingsError(str(error)) from error
