"""Content-Digest (RFC 9530): what the body of a request must be, checked while it passes."""

import base64
import binascii
import hashlib
import hmac
import re
from typing import Any

from adapters.http.problems import Problem

STATE_KEY = "content_digest"
"""Where a request's state has what to hold its body against."""

_MEMBER = re.compile(r"(sha-256|sha-512)=:([A-Za-z0-9+/]+={0,2}):", re.ASCII)
_HASHES = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}


class ContentDigest:
    """The digests of a field value such as ``sha-256=:...:``; one or both of SHA-256 and SHA-512.

    Without a value: those of an empty body.
    """

    __slots__ = ("_expected",)

    def __init__(self, field: str | None) -> None:
        """Parse; raise ValueError otherwise."""
        self._expected: dict[str, tuple[Any, bytes]] = {}
        members = [f"sha-256=:{base64.b64encode(hashlib.sha256().digest()).decode()}:"]
        if field is not None:
            members = [member.strip(" \t") for member in field.split(",")]
        for member in members:
            match = _MEMBER.fullmatch(member)
            # Each once: of a thousand the body would be hashed as often.
            if match is None or match[1] in self._expected:
                raise ValueError("Content-Digest must be sha-256=:...: or sha-512=:...:, in base64, or one of each")
            hashed, digest = _HASHES[match[1]](), _decoded(match[2])
            if len(digest) != hashed.digest_size:
                raise ValueError(f"Content-Digest has no {match[1]} of the right length")
            self._expected[match[1]] = hashed, digest

    def update(self, piece: bytes) -> None:
        """Take the next piece of the body."""
        for hashed, _ in self._expected.values():
            hashed.update(piece)

    def check(self) -> None:
        """Raise Problem if what came is not what was expected. To be called at the body's end, before it is used."""
        if not all(hmac.compare_digest(hashed.digest(), digest) for hashed, digest in self._expected.values()):
            raise Problem("digest_mismatch", "The body is not the one that was signed. Nothing was changed.")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("Content-Digest is no base64") from error
