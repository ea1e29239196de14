"""A server that signs its requests, with the library's own signer."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from http_message_signatures import ContentDigest, HTTPMessageSigner, MappingKeyResolver
from http_message_signatures.algorithms import HMAC_SHA256

SECRETS = {"billing": b"b" * 32, "backend": b"k" * 48}
TARGET = ("@method", "@target-uri")


@dataclass
class Message:
    """What a signer sees of a request."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)


class _AsItIs(ContentDigest):
    @classmethod
    def prepare(cls, headers: Any, body: bytes | None, *, use_existing_digest: bool) -> None:
        """Add the digest of a body; sign one that is there, whatever it says."""
        if body is not None:
            super().prepare(headers, body, use_existing_digest=use_existing_digest)


class _Signer(HTTPMessageSigner):
    content_digest_class = _AsItIs


def sign(
    message: Any,  # a Message, or a request of httpx
    key_id: str = "billing",
    *,
    body: bytes | None = None,
    covered: Sequence[str] | None = None,
    age_s: float = 0,
    expires_in_s: float | None = None,
    nonce: str | None = "",
    keys: Mapping[str, bytes] | None = None,
    **options: Any,
) -> None:
    """Add a signature that covers the target, the body, and every other header that there is."""
    also = [name.lower() for name in message.headers if name.lower() in _COVERED]
    created = datetime.now(UTC) - timedelta(seconds=age_s)
    signer = _Signer(
        signature_algorithm=options.pop("algorithm", HMAC_SHA256),
        key_resolver=MappingKeyResolver(public_keys={}, private_keys=keys or SECRETS),
    )
    signer.sign(
        message,
        key_id=key_id,
        created=created,
        expires=None if expires_in_s is None else datetime.now(UTC) + timedelta(seconds=expires_in_s),
        nonce=secrets.token_urlsafe(12) if nonce == "" else nonce,
        covered_component_ids=(*TARGET, *also) if covered is None else covered,
        body=body,
        **options,
    )


_COVERED = {"content-type", "content-digest", "idempotency-key", "if-match", "if-none-match", "x-user-id"}
