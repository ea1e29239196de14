"""Bearer tokens (RFC 6750) that are JWTs, signed with a key of the issuer's (RFC 7519, RFC 8725)."""

import hashlib
import re
import time
from collections.abc import Collection
from typing import Any, NoReturn

import jwt

from adapters.http.authentication import Scheme, header
from adapters.http.jwks import KeySet
from adapters.http.problems import Problem
from adapters.http.replies import Scope
from domain.errors import Invalid
from domain.values import UserId

_CREDENTIALS = re.compile(r"bearer +([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)", re.IGNORECASE | re.ASCII)
_TOKEN_MAX_CHARS = 8192
_KEPT_MAX = 4096
# What is said of a token that PyJWT refuses; anything else is malformed.
_REFUSALS: dict[type[jwt.PyJWTError], str] = {
    jwt.ExpiredSignatureError: "the token has expired",
    jwt.ImmatureSignatureError: "the token is not valid yet",
    jwt.InvalidAudienceError: "the token is for another audience",
    jwt.InvalidIssuerError: "the token is of another issuer",
    jwt.InvalidSignatureError: "the token's signature is wrong",
    jwt.MissingRequiredClaimError: "the token lacks a claim that is needed",
}


class JwtAuthenticator:
    """Believes tokens that the issuer has signed for this audience, and that are valid now.

    Nothing that a token says decides how it is checked: the algorithms and the keys are those set here. Tokens that
    were found good are remembered by their digest until they expire, or other keys come into force.

    Args:
        keys: the issuer's.
        algorithms: what tokens may be signed with.
        issuer: what the claim ``iss`` must be.
        audiences: of these the audience claim must name one.
        audience_claim: ``aud``, or another claim that has the audience.
        owner_claim: the claim that has the owner.
        leeway_s: how far the issuer's clock may be off.
    """

    scheme: Scheme = "jwt"

    def __init__(
        self,
        keys: KeySet,
        *,
        algorithms: Collection[str],
        issuer: str,
        audiences: Collection[str],
        audience_claim: str = "aud",
        owner_claim: str = "sub",
        leeway_s: float = 0,
    ) -> None:
        """Remember no token yet."""
        self._keys = keys
        self._algorithms = frozenset(algorithms)
        self._issuer = issuer
        self._audiences = frozenset(audiences)
        self._audience_claim = audience_claim
        self._owner_claim = owner_claim
        self._leeway_s = leeway_s
        self._known: dict[bytes, tuple[UserId, float]] = {}
        self._known_by = keys.generation

    async def authenticate(self, scope: Scope) -> UserId:
        """See Authenticator.authenticate."""
        token = _token(header(scope, b"authorization"))
        if self._known_by != self._keys.generation:
            self._known.clear()
            self._known_by = self._keys.generation
        digest = hashlib.sha256(token.encode()).digest()
        owner, valid_until_s = self._known.get(digest, (None, 0))
        if owner is not None and time.time() < valid_until_s:
            return owner
        owner, valid_until_s = await self._checked(token)
        if len(self._known) >= _KEPT_MAX:
            del self._known[next(iter(self._known))]
        self._known[digest] = owner, valid_until_s
        return owner

    async def spend(self, scope: Scope) -> None:
        """See Authenticator.spend. A token is good until it expires."""

    async def _checked(self, token: str) -> tuple[UserId, float]:
        try:
            head = jwt.get_unverified_header(token)
            key_id, algorithm = head.get("kid"), head.get("alg")
            if not (isinstance(algorithm, str) and algorithm in self._algorithms):
                _refuse("the token's algorithm is not accepted")
            if key_id is None:
                _refuse("the token does not name its key")
            key = await self._keys.find(key_id, algorithm)
            if key is None:
                _refuse("the token's key is not one of the issuer's")
            claims = self._claims(token, key)
        except jwt.PyJWTError as error:
            _refuse(_REFUSALS.get(type(error), "the token is malformed"), error)
        return self._owner(claims), claims["exp"] + self._leeway_s

    def _claims(self, token: str, key: jwt.PyJWK) -> dict[str, Any]:
        claims = jwt.decode(
            token,
            key,
            algorithms=[key.algorithm_name],
            issuer=self._issuer,
            leeway=self._leeway_s,
            options={
                "require": ["exp", "iss", self._audience_claim, self._owner_claim],
                "verify_aud": False,  # it may be another claim; see below
                "enforce_minimum_key_length": True,
            },
        )
        if type(claims["exp"]) not in {int, float}:
            raise jwt.DecodeError("exp is no number")
        named = claims[self._audience_claim]
        named = named if isinstance(named, list) else [named]
        if not any(isinstance(each, str) and each in self._audiences for each in named):
            raise jwt.InvalidAudienceError
        return claims

    def _owner(self, claims: dict[str, Any]) -> UserId:
        try:
            return UserId(claims[self._owner_claim])
        except (Invalid, TypeError) as error:
            _refuse("the token's owner can't be one here", error)


def _token(credentials: str | None) -> str:
    """Return the token of an Authorization field. It is looked for nowhere else: URLs end up in logs."""
    if credentials is None or not credentials.lower().startswith("bearer "):
        raise Problem("unauthenticated", "Send a bearer token.", (("WWW-Authenticate", "Bearer"),))
    if len(credentials) > _TOKEN_MAX_CHARS:
        _refuse("the token is too long")
    if (match := _CREDENTIALS.fullmatch(credentials)) is None:
        _refuse("the token is malformed")
    return match[1]


def _refuse(reason: str, cause: Exception | None = None) -> NoReturn:
    raise Problem(
        "invalid_token",
        f"{reason[0].upper()}{reason[1:]}.",
        (("WWW-Authenticate", f'Bearer error="invalid_token", error_description="{reason}"'),),
    ) from cause
