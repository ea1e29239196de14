"""Signed URLs of the service itself. Pure: text in, text out."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import quote

from application.ports import Disposition, Permit

_PARAMETERS = {"expires", "disposition", "signature"}
_DIGEST_CHARS = 64
_SECRET_MIN_BYTES = 32


@dataclass(frozen=True, slots=True)
class UrlSigner:
    """Signs and verifies ``{public_url}/objects/{key}?expires=...&disposition=...&signature=...``.

    The signature is the object's SHA-256 and behind it an HMAC-SHA256 (RFC 2104) over method, disposition, expiry,
    digest and key, both in hex. The digest is there because nobody reads the record when the URL is used: it says
    what the object's bytes must be.
    """

    public_url: str
    secret: bytes = field(repr=False)
    _keyed: hmac.HMAC = field(init=False, repr=False, compare=False)
    """Copied for each signature: looking the algorithm up again costs 50 us when the caches are cold."""

    def __post_init__(self) -> None:
        """Raise ValueError for a secret that is too short to keep one (RFC 2104, section 3)."""
        if len(self.secret) < _SECRET_MIN_BYTES:
            raise ValueError(f"the secret must have at least {_SECRET_MIN_BYTES} bytes")
        object.__setattr__(self, "_keyed", hmac.new(self.secret, digestmod="sha256"))

    def url(self, key: str, permit: Permit, expires: int) -> str:
        """Return the URL that gives the object until ``expires``, in Unix seconds."""
        sha256, disposition = permit
        signature = self._signature("GET", disposition, str(expires), sha256, key)
        path = f"{self.public_url.rstrip('/')}/objects/{quote(key, safe='/')}"
        return f"{path}?expires={expires}&disposition={disposition}&signature={sha256}{signature}"

    def verified(self, method: str, key: str, params: Mapping[str, str], *, at: float) -> Permit | None:
        """Return what is granted if ``url`` made this request's URL and it holds at ``at``, in Unix seconds.

        Key and parameters are as decoded from the URL; anything else than the three parameters is refused.
        """
        if params.keys() != _PARAMETERS:
            return None
        disposition, expires = params["disposition"], params["expires"]
        sha256, signature = params["signature"][:_DIGEST_CHARS], params["signature"][_DIGEST_CHARS:]
        expected = self._signature(method, disposition, expires, sha256, key)
        # compare_digest takes text only in ASCII, so bytes; what can't be encoded can't be hexadecimal either.
        if not hmac.compare_digest(expected.encode(), signature.encode(errors="replace")):
            return None
        # Signed by us, so all are as `url` wrote them: expires is a number, and disposition one of the two.
        return Permit(sha256, cast("Disposition", disposition)) if at < int(expires) else None

    def _signature(self, method: str, disposition: str, expires: str, sha256: str, key: str) -> str:
        # Lengths in front, so that no two requests run together into the same message, whatever they consist of.
        parts = [part.encode(errors="surrogatepass") for part in (method, disposition, expires, sha256, key)]
        signed = self._keyed.copy()
        signed.update(b"".join([b"%d:%b" % (len(part), part) for part in parts]))
        return signed.hexdigest()
