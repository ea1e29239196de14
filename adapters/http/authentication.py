"""Who is asking: from a request's headers to an owner."""

from collections.abc import Mapping
from typing import Protocol

from adapters.http.problems import Problem
from domain.errors import Invalid
from domain.values import UserId

USER_HEADER = "X-User-ID"
# A 401 has to say how to do better (RFC 9110, section 15.5.2); a scheme that no browser knows keeps it from asking.
_CHALLENGE = (("WWW-Authenticate", USER_HEADER),)


class Authenticator(Protocol):
    """Tells whose request this is. The core only ever sees the owner."""

    def authenticate(self, headers: Mapping[str, str]) -> UserId:
        """Return the owner that the headers prove.

        Raises:
            Problem: 401, when they prove none.
        """


class HeaderAuthenticator:
    """Trusts ``X-User-ID`` as set by the gateway in front. Only for networks that nobody else reaches."""

    def authenticate(self, headers: Mapping[str, str]) -> UserId:
        """See Authenticator.authenticate."""
        raw = headers.get(USER_HEADER)
        if raw is None:
            raise Problem("unauthenticated", f"The {USER_HEADER} header is missing.", _CHALLENGE)
        try:
            return UserId(raw)
        except Invalid as error:
            raise Problem("invalid_user", f"The {USER_HEADER} header {error.reason}.", _CHALLENGE) from error
