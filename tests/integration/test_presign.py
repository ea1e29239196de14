"""Presigned URLs: byte for byte botocore's, stable within a window, and honest about their end."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any
from unittest import mock
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.credentials import Credentials, RefreshableCredentials
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapters.memory import FixedClock
from adapters.s3 import Presigner, client_config
from application.ports import SignedUrl
from domain.errors import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "image-uploads"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR_S, DAY_S = 3600, 24 * 3600

# Region, endpoint and S3 options: every way in which the host, the path or the scope differ.
PLACES: list[tuple[str, str | None, Any]] = [
    ("eu-west-1", None, {}),
    ("us-east-1", None, {}),
    ("aws-global", None, {}),
    ("cn-north-1", None, {}),
    ("eu-central-1", None, {"addressing_style": "virtual"}),
    ("eu-central-1", None, {"addressing_style": "path"}),
    ("eu-central-1", None, {"use_accelerate_endpoint": True}),
    ("eu-central-1", None, {"use_dualstack_endpoint": True}),
    ("us-east-1", "http://localhost:4566", {}),
    ("us-east-1", "http://localhost:80", {}),
    ("us-east-1", "https://Storage.Example:443/some/base/", {}),
    ("us-east-1", "https://storage.example", {"addressing_style": "virtual"}),
    ("us-east-1", "http://[::1]:9000", {}),
]


@cache
def client_at(place: int) -> "S3Client":
    region, endpoint, options = PLACES[place]
    session = boto3.Session(aws_access_key_id="AKID", aws_secret_access_key="secret", region_name=region)
    return session.client("s3", endpoint_url=endpoint, config=Config(signature_version="s3v4", s3=options))


def botocores_url(
    client: "S3Client", credentials: Credentials, at: datetime, lifetime_s: int, headers: dict[str, str], key: str
) -> str:
    """What botocore signs at that time: it takes the time, and the credentials, from where only a patch can reach."""
    with (
        mock.patch.object(client._request_signer, "_credentials", credentials),  # type: ignore[attr-defined]
        mock.patch("botocore.auth.get_current_datetime", return_value=at.replace(tzinfo=None)),
    ):
        return client.generate_presigned_url(
            "get_object", Params={"Bucket": BUCKET, "Key": key, **headers}, ExpiresIn=lifetime_s
        )


printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E))
anything = st.text(st.characters(exclude_categories=["Cs"]))


@settings(max_examples=400)
@given(
    place=st.sampled_from(range(len(PLACES))),
    key=anything.filter(bool),
    content_type=anything,
    content_disposition=anything,
    credentials=st.builds(Credentials, printable.filter(bool), anything.filter(bool), st.none() | anything),
    at=st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    ttl_s=st.integers(1, 7 * DAY_S - 1),
)
@example(0, "images/1/a b+c%2F?&#~!*'().jpg", "image/jpeg", "inline", Credentials("A/K", "s", "t+/="), NOON, 1)
@example(0, "/images//../x", "image/jpeg", "inline", Credentials("AK", "s"), NOON, 7 * DAY_S - 1)
def test_a_url_is_byte_for_byte_that_of_botocore(
    place: int,
    key: str,
    content_type: str,
    content_disposition: str,
    credentials: Credentials,
    at: datetime,
    ttl_s: int,
) -> None:
    client = client_at(place)
    presigner = Presigner(client, BUCKET, credentials, clock=FixedClock(at), window_s=1)
    headers = {"ResponseContentType": content_type, "ResponseContentDisposition": content_disposition}

    signed = presigner.sign(key, content_type=content_type, content_disposition=content_disposition, ttl_s=ttl_s)

    assert signed.url == botocores_url(client, credentials, at, ttl_s + 1, headers, key)


def presigner_at(clock: FixedClock, credentials: Credentials | None = None, *, window_s: int = 300) -> Presigner:
    return Presigner(client_at(0), BUCKET, credentials or Credentials("AKID", "secret"), clock=clock, window_s=window_s)


def sign(presigner: Presigner, *, ttl_s: int = HOUR_S, key: str = "images/1/cat.jpg") -> SignedUrl:
    return presigner.sign(key, content_type="image/jpeg", content_disposition="inline", ttl_s=ttl_s)


def asked(url: str, name: str) -> str:
    return parse_qs(urlsplit(url).query)[name][0]


def end_of(url: str) -> datetime:
    signed = datetime.strptime(asked(url, "X-Amz-Date"), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return signed + timedelta(seconds=int(asked(url, "X-Amz-Expires")))


@given(
    at=st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    window_s=st.integers(1, DAY_S),
    ttl_s=st.integers(1, 6 * DAY_S),
)
def test_a_url_lives_as_long_as_promised_and_a_window_at_most_longer(at: datetime, window_s: int, ttl_s: int) -> None:
    signed = sign(presigner_at(FixedClock(at), window_s=window_s), ttl_s=ttl_s)

    assert signed.expires_at == end_of(signed.url)
    assert timedelta(seconds=ttl_s) <= signed.expires_at - at <= timedelta(seconds=ttl_s + window_s)


def test_a_url_stays_the_same_within_a_window_and_changes_with_it() -> None:
    clock = FixedClock(NOON)
    presigner = presigner_at(clock)
    first = sign(presigner)

    clock.advance(timedelta(minutes=4, seconds=59, microseconds=999_999))
    assert sign(presigner) == first
    clock.advance(timedelta(microseconds=1))
    assert sign(presigner).url != first.url


def test_each_object_and_each_lifetime_has_its_own_url() -> None:
    presigner = presigner_at(FixedClock(NOON))

    urls = {sign(presigner, key=key, ttl_s=ttl_s).url for key in ("a", "b") for ttl_s in (60, 61)}

    assert len(urls) == 4


def test_no_url_asks_for_more_than_seven_days() -> None:
    signed = sign(presigner_at(FixedClock(NOON)), ttl_s=8 * DAY_S)

    assert asked(signed.url, "X-Amz-Expires") == str(7 * DAY_S)
    assert signed.expires_at == NOON + timedelta(days=7)


def role(clock: FixedClock, expiry: datetime, refreshed: Callable[[], dict[str, str]]) -> RefreshableCredentials:
    return RefreshableCredentials("ROLE-1", "secret", "token", expiry, refreshed, "test", time_fetcher=clock.now)


def no_refresh() -> dict[str, str]:
    raise RuntimeError("nobody answers")


def test_a_url_never_outlives_the_credentials_of_a_role() -> None:
    clock = FixedClock(NOON)
    end = NOON + timedelta(minutes=20)

    signed = sign(presigner_at(clock, role(clock, end, no_refresh)))

    assert signed.expires_at == end_of(signed.url) == end


def test_credentials_of_a_role_are_refreshed_before_they_expire() -> None:
    clock = FixedClock(NOON)
    renewed = {
        "access_key": "ROLE-2",
        "secret_key": "secret",
        "token": "token",
        "expiry_time": (NOON + timedelta(hours=6)).isoformat(),
    }
    presigner = presigner_at(clock, role(clock, NOON + timedelta(hours=1), lambda: renewed))
    assert asked(sign(presigner).url, "X-Amz-Credential").startswith("ROLE-1/")

    clock.advance(timedelta(minutes=50))
    signed = sign(presigner)

    assert asked(signed.url, "X-Amz-Credential").startswith("ROLE-2/")
    assert signed.expires_at >= clock.now() + timedelta(hours=1)


def test_expired_credentials_sign_nothing() -> None:
    clock = FixedClock(NOON)
    presigner = presigner_at(clock, role(clock, NOON + timedelta(minutes=20), no_refresh))
    clock.advance(timedelta(minutes=20))

    with pytest.raises(Unavailable):
        sign(presigner)


def test_a_client_that_would_sign_otherwise_is_refused() -> None:
    session = boto3.Session(aws_access_key_id="AKID", aws_secret_access_key="secret", region_name="us-east-1")
    presigner = Presigner(session.client("s3"), BUCKET, Credentials("AKID", "secret"), clock=FixedClock(NOON))

    with pytest.raises(ValueError, match="s3v4"):
        sign(presigner)


def test_the_configuration_for_aws_presigns_for_the_host_of_the_region() -> None:
    session = boto3.Session(aws_access_key_id="AKID", aws_secret_access_key="secret", region_name="eu-west-1")
    client = session.client("s3", config=client_config(10, addressing_style="virtual"))

    signed = sign(Presigner(client, BUCKET, Credentials("AKID", "secret"), clock=FixedClock(NOON)))

    assert urlsplit(signed.url).netloc == "image-uploads.s3.eu-west-1.amazonaws.com"
