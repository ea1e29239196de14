"""Who is asking: from a request to an owner. Here the port, and the mode in which a gateway in front has found out.

The other modes are in bearer.py and signatures.py; what they need is imported only where one of them is chosen.
"""

import hmac
from collections.abc import Sequence
from typing import Literal, Protocol

from adapters.http.problems import Problem
from adapters.http.replies import Scope
from domain.errors import Invalid
from domain.values import UserId

USER_HEADER = "X-User-ID"
# A 401 has to say how to do better (RFC 9110, section 15.5.2); a scheme that no browser knows keeps it from asking.
_CHALLENGE = (("WWW-Authenticate", USER_HEADER),)

Scheme = Literal["header", "gateway", "jwt", "signature"]
"""By what a request says whose it is."""


class Authenticator(Protocol):
    """Tells whose request this is. The core only ever sees the owner."""

    @property
    def scheme(self) -> Scheme:
        """What requests have to carry; the OpenAPI document says so."""
        ...

    async def authenticate(self, scope: Scope) -> UserId:
        """Return the owner that a request proves.

        Args:
            scope: the request as ASGI has it, and as Edge leaves it: each header field stands there once.

        Raises:
            Problem: 401, when it proves none; 503, when nobody can tell at present.
        """
        ...

    async def spend(self, scope: Scope) -> None:
        """Use up the proof of a request that was let in, if it is good for one use. Nothing may be done before.

        Raises:
            Problem: 401, when it was used already.
            Unavailable: what has to be remembered of it can't be.
        """
        ...


class HeaderAuthenticator:
    """Trusts ``X-User-ID`` as set by the gateway in front: only for networks that nobody else reaches.

    With ``secrets``, only of a request that carries one of them in ``X-Gateway-Secret``.
    """

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        """Take the secrets, in visible ASCII."""
        self.scheme: Scheme = "gateway" if secrets else "header"
        self._secrets = [secret.encode() for secret in secrets]

    async def authenticate(self, scope: Scope) -> UserId:
        """See Authenticator.authenticate."""
        headers = dict(scope["headers"])
        if self._secrets and not self._comes_from_gateway(headers.get(b"x-gateway-secret", b"")):
            raise Problem("unauthenticated", "The request does not come through the gateway.", _CHALLENGE)
        user = headers.get(b"x-user-id")
        if user is None:
            raise Problem("unauthenticated", f"The {USER_HEADER} header is missing.", _CHALLENGE)
        try:
            return UserId(user.decode("latin-1"))
        except Invalid as error:
            raise Problem("invalid_user", f"The {USER_HEADER} header {error.reason}.", _CHALLENGE) from error

    async def spend(self, scope: Scope) -> None:
        """See Authenticator.spend. There is nothing to use up."""

    def _comes_from_gateway(self, given: bytes) -> bool:
        return any(hmac.compare_digest(given, secret) for secret in self._secrets)


def header(scope: Scope, name: bytes) -> str | None:
    """Return a header field, None if it isn't there. ``name`` is in lower case."""
    value = dict(scope["headers"]).get(name)
    return None if value is None else str(value, "latin-1")
