"""Requests that servers sign with a shared key: HTTP Message Signatures (RFC 9421) with HMAC-SHA256."""

import asyncio
import hashlib
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Protocol

import msgspec
from cryptography.exceptions import InvalidSignature
from http_message_signatures import (
    HTTPMessageSignaturesException,
    HTTPMessageVerifier,
    HTTPSignatureComponentResolver,
    HTTPSignatureKeyResolver,
    VerifyResult,
)
from http_message_signatures.algorithms import HMAC_SHA256

from adapters.http.authentication import USER_HEADER, Scheme
from adapters.http.digests import STATE_KEY, ContentDigest
from adapters.http.problems import Problem
from adapters.http.replies import Scope
from domain.errors import Invalid, Unavailable
from domain.values import UserId

_FIELD_MAX_CHARS = 2048  # real ones have 400; what parses them takes its time
_URL_MAX_CHARS = 8192  # as above
_REASON_MAX_CHARS = 200
_PATIENCE_S = 5
# Between the look at the clock that finds a signature young enough, and the one that forgets that it was used.
_MARGIN_S = 60
_UNSPENT = "unspent_signature"
"""Where in a request's state it stands what is good for one use."""
_SAFE = {"GET", "HEAD"}
_WITH_BODY = {"POST", "PUT", "PATCH"}
# What decides over what a request does, besides its method and its target. Nobody may add one behind the signer's back.
_DECISIVE = (
    "content-digest",
    "content-type",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
)


class SigningKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A shared secret, and whom its holder may act for: one owner, or whomever ``X-User-ID`` names."""

    secret: Annotated[bytes, msgspec.Meta(min_length=32)]
    owner: str | None = None
    any_owner: bool = False

    def __repr__(self) -> str:
        """Show no secret."""
        return f"SigningKey(owner={self.owner!r}, any_owner={self.any_owner!r})"


class Replays(Protocol):
    """Remembers what was used. Every call may raise Unavailable."""

    def is_first(self, digest: bytes, *, until_s: float) -> bool:
        """Say whether a digest is new, and remember it until then (seconds since the epoch)."""
        ...


class SignatureAuthenticator:
    """Believes requests that the holder of a key has signed, a moment ago, as they are.

    The signature has to cover the method, the whole target, the body by its digest, and whatever else decides over what
    happens. A request that changes something is done once.

    Args:
        keys: by their id.
        replays: what was done.
        base_url: what the URLs begin with that clients sign.
        max_age_s: how old a signature may be.
        clock_skew_s: how far the signer's clock may be off.
    """

    scheme: Scheme = "signature"

    def __init__(
        self,
        keys: Mapping[str, SigningKey],
        replays: Replays,
        *,
        base_url: str,
        max_age_s: float,
        clock_skew_s: float,
    ) -> None:
        """Start the thread that remembers: the file is written to disk each time."""
        self._keys = keys
        self._replays = replays
        self._base_url = base_url
        self._max_age = timedelta(seconds=max_age_s)
        self._remembered_s = max_age_s + clock_skew_s + _MARGIN_S
        self._verifier = HTTPMessageVerifier(
            signature_algorithm=HMAC_SHA256, key_resolver=_Secrets(keys), component_resolver_class=_WholeComponents
        )
        self._verifier.max_clock_skew = timedelta(seconds=clock_skew_s)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="calotype-replays")

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()

    async def authenticate(self, scope: Scope) -> UserId:
        """See Authenticator.authenticate. The body is held against its digest where it is read."""
        request = _Request.of(scope, self._base_url)
        signed = self._verified(request)
        key = self._keys[str(signed.parameters["keyid"])]
        owner = _owner(request, key)
        if request.has_body and request.method not in _WITH_BODY:
            raise Problem("invalid_request", f"A signed {request.method} takes no body.")
        try:
            scope["state"][STATE_KEY] = ContentDigest(request.headers.get("content-digest"))
        except ValueError as error:
            raise _refusal(request, f"{error}") from error
        if request.method not in _SAFE:
            scope["state"][_UNSPENT] = request, signed
        return owner

    async def spend(self, scope: Scope) -> None:
        """See Authenticator.spend. Not a part of authenticate, since it costs a write to disk."""
        if _UNSPENT not in scope["state"]:
            return
        request, signed = scope["state"][_UNSPENT]
        # All that was signed stands in this: the same again is the same request again, whatever else it comes with.
        base = "\n".join(f"{name}: {value}" for name, value in signed.covered_components.items())
        digest = hashlib.sha256(base.encode()).digest()
        until_s = int(signed.parameters["created"]) + self._remembered_s
        try:
            async with asyncio.timeout(_PATIENCE_S):
                is_first = await asyncio.get_running_loop().run_in_executor(
                    self._thread, lambda: self._replays.is_first(digest, until_s=until_s)
                )
        except TimeoutError as error:
            raise Unavailable("what was signed can't be remembered in time") from error
        if not is_first:
            raise _refusal(request, "This signature was used already: sign anew, with a nonce if within a second")

    def _verified(self, request: "_Request") -> VerifyResult:
        fields = [request.headers.get(name) for name in ("signature-input", "signature")]
        if fields == [None, None]:
            raise Problem("unauthenticated", "Sign the request (RFC 9421).", _challenge(request))
        if any(field is not None and len(field) > _FIELD_MAX_CHARS for field in fields):
            raise _refusal(request, "The signature is too long")
        if len(request.url) > _URL_MAX_CHARS:
            raise _refusal(request, "The URL is too long to be signed")
        try:
            (signed,) = self._verifier.verify(request, max_age=self._max_age)
        except HTTPMessageSignaturesException as error:
            reason = str(error)[:_REASON_MAX_CHARS]
            if isinstance(error.__cause__, InvalidSignature):
                reason = f"The key is unknown, or something is not as it was signed; URLs begin with {self._base_url}"
            raise _refusal(request, reason) from error
        covered = signed.covered_components
        if missing := [name for name in request.to_cover(covered) if f'"{name}"' not in covered]:
            raise _refusal(request, f"The signature does not cover {', '.join(missing)}")
        return signed


def read_keys(path: Path) -> dict[str, SigningKey]:
    """Return the keys of a TOML file, one table a key.

    Raises:
        ValueError: the file can't be read, or says nothing sensible of a key.
    """
    try:
        tables = msgspec.toml.decode(path.read_bytes(), type=dict[str, object])
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is no TOML file: {error}") from error
    if not tables:
        raise ValueError(f"{path} has no keys")
    return {name: _key(f"{path}: key {name!r}", table) for name, table in tables.items()}


def _key(name: str, table: object) -> SigningKey:
    try:
        key = msgspec.convert(table, SigningKey)
        if key.owner is not None:
            UserId(key.owner)
    except (msgspec.ValidationError, Invalid) as error:
        raise ValueError(f"{name}: {error}") from error
    if (key.owner is None) != key.any_owner:
        raise ValueError(f"{name} needs owner = ..., or any_owner = true; not both")
    return key


@dataclass(frozen=True, slots=True)
class _Request:
    """A request as http_message_signatures wants to see it."""

    method: str
    url: str
    headers: dict[str, str]

    @classmethod
    def of(cls, scope: Scope, base_url: str) -> "_Request":
        path = scope["raw_path"].partition(b"?")[0].decode("latin-1")
        query = scope["query_string"].decode("latin-1")
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        return cls(scope["method"], f"{base_url}{path}{'?' if query else ''}{query}", headers)

    @property
    def has_body(self) -> bool:
        return "transfer-encoding" in self.headers or self.headers.get("content-length", "0") != "0"

    def to_cover(self, covered: Mapping[str, str]) -> list[str]:
        """Return the components that a signature must cover, of which there are two ways to cover the target."""
        in_parts = '"@target-uri"' not in covered and '"@authority"' in covered
        target = ["@authority", "@path", *(["@query"] if "?" in self.url else [])] if in_parts else ["@target-uri"]
        decisive = () if self.method in _SAFE else [name for name in _DECISIVE if name in self.headers]
        needed = ["@method", *target, *decisive]
        if self.has_body and "content-digest" not in needed:
            needed.append("content-digest")
        if USER_HEADER.lower() in self.headers:
            needed.append(USER_HEADER.lower())
        return needed


class _WholeComponents(HTTPSignatureComponentResolver):
    """Takes components as they come. To sign a part of one, it would have to be parsed first, however long it is."""

    def resolve(self, component_node: Any) -> str:
        if component_node.params:
            raise HTTPMessageSignaturesException(f"Parameters of components are not taken: {component_node}")
        return str(super().resolve(component_node))


class _Secrets(HTTPSignatureKeyResolver):
    """Finds a secret for every id, so that each takes the same time: one that nobody has where there is no key."""

    def __init__(self, keys: Mapping[str, SigningKey]) -> None:
        self._keys = keys
        self._nobodys = secrets.token_bytes(32)

    def resolve_public_key(self, key_id: str) -> bytes:
        key = self._keys.get(key_id)
        return self._nobodys if key is None else key.secret


def _owner(request: _Request, key: SigningKey) -> UserId:
    named = request.headers.get(USER_HEADER.lower())
    if key.owner is not None and named not in {None, key.owner}:
        raise _refusal(request, f"This key does not act for the user that {USER_HEADER} names")
    owner = named if key.owner is None else key.owner
    if owner is None:
        raise Problem("unauthenticated", f"The {USER_HEADER} header is missing.", _challenge(request))
    try:
        return UserId(owner)
    except Invalid as error:
        raise Problem("invalid_user", f"The {USER_HEADER} header {error.reason}.", _challenge(request)) from error


def _refusal(request: _Request, reason: str) -> Problem:
    return Problem("invalid_signature", f"{reason.rstrip('.')}.", _challenge(request))


def _challenge(request: _Request) -> tuple[tuple[str, str], ...]:
    """Say what to sign (RFC 9421, section 5.1), beside the challenge that every 401 must have."""
    components = " ".join(f'"{name}"' for name in request.to_cover({}))
    return (
        ("WWW-Authenticate", "Signature"),
        ("Accept-Signature", f'calotype=({components});created;alg="hmac-sha256"'),
    )
