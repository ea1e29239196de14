"""How the stores on AWS are opened: by boto3's own configuration, and with a clear word about what is missing."""

import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.dynamodb import DynamoMetadata
from adapters.s3 import S3Objects
from adapters.system import SystemClock
from domain.errors import Unavailable
from entrypoints.aws import aws_stores
from entrypoints.settings import Settings
from entrypoints.stores import Stores
from tests.builders import ANN, an_image

SETTINGS = Settings(storage="aws", threads=7, presign_window_s=60)
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}
Open = Callable[..., Stores]


@pytest.fixture
def open_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Open:
    """Open the stores with just these variables, and this file for AWS_CONFIG_FILE."""

    def opened(*, config: str = "", **variables: str) -> Stores:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        (tmp_path / "config").write_text(config)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return aws_stores(SETTINGS, SystemClock())

    return opened


@pytest.mark.parametrize(
    ("variables", "word"),
    [
        (KEYS, "AWS_REGION"),
        ({"AWS_REGION": "eu-central-1"}, "AWS_ACCESS_KEY_ID"),
        ({**KEYS, "AWS_PROFILE": "nobody"}, "nobody"),
        ({"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "x"}, "AWS_SECRET_ACCESS_KEY"),
        ({**KEYS, "AWS_REGION": "eu-central-1", "AWS_ENDPOINT_URL": "nonsense"}, "nonsense"),
    ],
)
def test_what_is_missing_is_named(open_with: Open, variables: dict[str, str], word: str) -> None:
    with pytest.raises(Unavailable, match=word):
        open_with(**variables)


def test_a_program_for_credentials_that_is_not_there_is_named(open_with: Open) -> None:
    with pytest.raises(Unavailable, match="/no/such/program"):
        open_with(config="[default]\ncredential_process = /no/such/program\n", AWS_REGION="eu-central-1")


def _vanish(program: Path) -> None:
    program.unlink()


def _talk(program: Path) -> None:
    program.write_text("#!/bin/sh\necho Please log in.\n")


def _repeat_itself(program: Path) -> None:
    del program  # what it gives has expired by now


@pytest.mark.parametrize("fail", [_vanish, _talk, _repeat_itself])
def test_credentials_that_can_not_be_refreshed_make_both_stores_unavailable(
    open_with: Open, tmp_path: Path, fail: Callable[[Path], None]
) -> None:
    expired = datetime.now(UTC) - timedelta(seconds=1)
    role = {
        "Version": 1,
        "AccessKeyId": "ASIAROLE",
        "SecretAccessKey": "secret",
        "SessionToken": "token",
        "Expiration": expired.isoformat(),
    }
    program = tmp_path / "credentials"
    program.write_text(f"#!/bin/sh\necho '{json.dumps(role)}'\n")
    program.chmod(0o700)
    stores = open_with(config=f"[default]\ncredential_process = {program}\n", AWS_REGION="eu-central-1")
    fail(program)
    asks: list[Callable[[], object]] = [
        stores.metadata.ping,
        lambda: stores.metadata.get(ANN, an_image().image_id),
        stores.objects.ping,
        lambda: stores.objects.head("images/1/cat.jpg"),
        lambda: signed(stores),
    ]
    for ask in asks:
        with pytest.raises(Unavailable):
            ask()


@pytest.mark.parametrize("variable", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_either_variable_says_the_region(open_with: Open, variable: str) -> None:
    url = signed(open_with(**KEYS, **{variable: "eu-north-1"}))[0]
    assert url.startswith("https://image-uploads.s3.eu-north-1.amazonaws.com/images/")


def test_a_profile_may_say_everything(open_with: Open) -> None:
    config = "[profile cats]\nregion = eu-north-1\naws_access_key_id = AKIDCATS\naws_secret_access_key = secret\n"
    url, _ = signed(open_with(config=config, AWS_PROFILE="cats"))
    assert "AKIDCATS%2F" in url
    assert ".eu-north-1." in url


@pytest.mark.parametrize(
    ("variables", "profile"),
    [
        ({"AWS_ENDPOINT_URL": "http://localhost:4566"}, ""),
        ({"AWS_ENDPOINT_URL_S3": "http://localhost:4566"}, ""),
        ({}, "endpoint_url = http://localhost:4566"),
    ],
)
def test_another_endpoint_has_the_bucket_in_its_path(open_with: Open, variables: dict[str, str], profile: str) -> None:
    stores = open_with(config=f"[default]\n{profile}\n", **KEYS, AWS_REGION="eu-central-1", **variables)
    assert signed(stores)[0].startswith("http://localhost:4566/image-uploads/images/")


def test_a_url_never_outlives_the_credentials_of_a_role(open_with: Open) -> None:
    until = datetime.now(UTC) + timedelta(minutes=20)
    role = {
        "Version": 1,
        "AccessKeyId": "ASIAROLE",
        "SecretAccessKey": "secret",
        "SessionToken": "token",
        "Expiration": until.isoformat(),
    }
    config = f"[default]\ncredential_process = {sys.executable} -c 'print({json.dumps(json.dumps(role))})'\n"
    url, expires_at = signed(open_with(config=config, AWS_REGION="eu-central-1"))
    assert "ASIAROLE%2F" in url
    assert "X-Amz-Security-Token=token" in url
    assert until - timedelta(seconds=2) < expires_at <= until


def test_a_health_check_ends_within_two_seconds_and_everything_else_inside_a_lease(open_with: Open) -> None:
    stores = open_with(**KEYS, AWS_REGION="eu-central-1")
    assert isinstance(stores.metadata, DynamoMetadata)
    assert isinstance(stores.objects, S3Objects)
    assert stores.objects.prober is not None
    for prober in (stores.objects.prober, stores.metadata._prober):
        assert longest_s(prober.meta.config) < 2
    for client in (stores.objects.client, stores.metadata._client):
        assert longest_s(client.meta.config) < 20
        config: Any = client.meta.config
        assert config.max_pool_connections == SETTINGS.threads


def signed(stores: Stores) -> tuple[str, datetime]:
    return stores.objects.signed_url(an_image(), disposition="inline", ttl_s=3600)


def longest_s(config: Any) -> float:
    """Return how long a request may take, without the pauses between attempts."""
    return float(config.retries["total_max_attempts"] * (config.connect_timeout + config.read_timeout))
