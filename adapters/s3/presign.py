"""Presigned GET URLs, byte for byte those of botocore, at the price of one hash and one HMAC.

The rules are those of "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)",
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html.
"""

import hmac
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from math import inf
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import parse_qs, quote, urlsplit

from botocore.credentials import Credentials, ReadOnlyCredentials

from adapters.s3.errors import translated
from application.ports import Clock, SignedUrl
from domain.errors import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_LIFETIME_S = 7 * 24 * 3600
"""S3 refuses a presigned URL that asks for more."""

_ALGORITHM = "AWS4-HMAC-SHA256"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_PROBE_KEY = "probe"
_ESCAPES = [quote(chr(code), safe="") for code in range(128)]
# How long a batch is used. A look at role credentials costs more than a signature; they are refreshed minutes ahead.
_BATCH_S = 1


class Presigner:
    """Signs URLs that let anyone who holds them read one object.

    The signing time is rounded down to a window, so that an image keeps its URL for the length of it and browsers
    can cache; the window is added to the lifetime, so that a URL lives at least as long as was promised.

    Args:
        client: says by its configuration where the bucket is for those who get the URLs. It is asked once, and makes
            no request: the rules of endpoints stay botocore's.
        bucket: the bucket's name.
        credentials: whom the URLs speak for. Those of the session, so that botocore keeps them fresh.
        clock: the time.
        window_s: the length of the window in seconds; 1 gives every second URLs of its own.
    """

    def __init__(
        self, client: "S3Client", bucket: str, credentials: Credentials, *, clock: Clock, window_s: int = 300
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._credentials = credentials
        self._clock = clock
        self._window_s = window_s
        # Both are replaced whole and never changed, so threads need no lock: at worst two make the same one.
        self._place: _Place | None = None
        self._batch: _Batch | None = None

    def sign(self, key: str, *, content_type: str, content_disposition: str, ttl_s: int) -> SignedUrl:
        """Return a URL of the object that pins these two headers of the response.

        It lives for ``ttl_s`` seconds and up to a window longer; ``expires_at`` is when S3 starts to refuse it. It
        lives shorter only where S3 allows no more (seven days), or the credentials end before.

        Raises:
            Unavailable: there are no credentials to sign with, or they have expired.
        """
        now_s = self._clock.now().timestamp()
        batch = self._batch
        if batch is None or not batch.serves(now_s, ttl_s):
            batch = self._batch = self._new_batch(now_s, ttl_s)
        return SignedUrl(batch.url(key, content_type, content_disposition), batch.expires_at)

    def _new_batch(self, now_s: float, ttl_s: int) -> "_Batch":
        credentials, usable_until_s = self._current_credentials()
        signed_s = int(now_s // self._window_s) * self._window_s
        expires_s = int(min(signed_s + min(ttl_s + self._window_s, MAX_LIFETIME_S), usable_until_s))
        if expires_s <= now_s:
            raise Unavailable("the credentials for signing have expired")
        if (place := self._place) is None:
            place = self._place = _Place.of(self._client, self._bucket)
        return _Batch.of(
            place,
            credentials,
            signed_s=signed_s,
            expires_s=expires_s,
            ttl_s=ttl_s,
            serves_from_s=now_s,
            serves_until_s=min(now_s + _BATCH_S, signed_s + self._window_s, expires_s),
        )

    def _current_credentials(self) -> tuple[ReadOnlyCredentials, float]:
        """Return the credentials, refreshed if need be, and when they expire (seconds since 1970)."""
        with translated():
            self._credentials.get_frozen_credentials()
            # botocore publishes new credentials first and their expiry, for which it has no public name, second. Read
            # in the opposite order, the expiry can be that of older credentials, never of newer ones.
            expiry: datetime | None = getattr(self._credentials, "_expiry_time", None)
            return self._credentials.get_frozen_credentials(), inf if expiry is None else expiry.timestamp()


class _Place(NamedTuple):
    """Where the objects of a bucket are found: what stands in a URL before the key."""

    origin: str
    host: str
    root: str
    region: str

    @classmethod
    def of(cls, client: "S3Client", bucket: str) -> Self:
        with translated():
            probe = urlsplit(client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": _PROBE_KEY}))
        query = parse_qs(probe.query)
        if query.get("X-Amz-Algorithm") != [_ALGORITHM]:
            raise ValueError("the S3 client must sign with signature_version='s3v4'")
        *_, region, _service, _end = query["X-Amz-Credential"][0].split("/")
        host = probe.netloc.lower()
        if probe.port == _DEFAULT_PORTS.get(probe.scheme):
            host = host.removesuffix(f":{probe.port}")  # as clients leave it out of the Host header
        return cls(f"{probe.scheme}://{probe.netloc}", host, probe.path.removesuffix(_PROBE_KEY), region)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Batch:
    """What the URLs of one moment have in common."""

    place: _Place
    keyed: hmac.HMAC
    """The HMAC with the day's key in it, to be copied."""
    string_to_sign: str
    """Up to the hash of the canonical request."""
    canonical_query: str
    """The parameters of the signature in the order of their names, as they are signed."""
    query: str
    """The same in the order in which botocore writes them."""
    expires_at: datetime
    ttl_s: int
    serves_from_s: float
    serves_until_s: float

    @classmethod
    def of(
        cls,
        place: _Place,
        credentials: ReadOnlyCredentials,
        *,
        signed_s: int,
        expires_s: int,
        ttl_s: int,
        serves_from_s: float,
        serves_until_s: float,
    ) -> Self:
        if credentials.secret_key is None:
            raise Unavailable("there are no credentials to sign with")
        timestamp = datetime.fromtimestamp(signed_s, UTC).strftime("%Y%m%dT%H%M%SZ")
        day = timestamp[:8]
        scope = f"{day}/{place.region}/s3/aws4_request"
        start = (
            f"X-Amz-Algorithm={_ALGORITHM}&X-Amz-Credential={_quoted(f'{credentials.access_key}/{scope}')}"
            f"&X-Amz-Date={timestamp}&X-Amz-Expires={expires_s - signed_s}"
        )
        headers = "&X-Amz-SignedHeaders=host"
        token = "" if credentials.token is None else f"&X-Amz-Security-Token={_quoted(credentials.token)}"
        return cls(
            place=place,
            keyed=hmac.new(_signing_key(credentials.secret_key, day, place.region), digestmod=sha256),
            string_to_sign=f"{_ALGORITHM}\n{timestamp}\n{scope}\n",
            canonical_query=start + token + headers,
            query=start + headers + token,
            expires_at=datetime.fromtimestamp(expires_s, UTC),
            ttl_s=ttl_s,
            serves_from_s=serves_from_s,
            serves_until_s=serves_until_s,
        )

    def serves(self, now_s: float, ttl_s: int) -> bool:
        return self.serves_from_s <= now_s < self.serves_until_s and self.ttl_s == ttl_s

    def url(self, key: str, content_type: str, content_disposition: str) -> str:
        origin, host, root, _ = self.place
        path = root + quote(key, safe="/~")
        kind = f"response-content-type={_quoted(content_type)}"
        disposition = f"response-content-disposition={_quoted(content_disposition)}"
        canonical_request = (
            f"GET\n{path}\n{self.canonical_query}&{disposition}&{kind}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD"
        )
        string_to_sign = self.string_to_sign + sha256(canonical_request.encode()).hexdigest()
        signature = self.keyed.copy()
        signature.update(string_to_sign.encode())
        return f"{origin}{path}?{kind}&{disposition}&{self.query}&X-Amz-Signature={signature.hexdigest()}"


def _quoted(value: str) -> str:
    # A table costs a third of quote(). Header values and credentials are ASCII, keys need not be.
    return value.translate(_ESCAPES) if value.isascii() else quote(value, safe="")


def _signing_key(secret_key: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
