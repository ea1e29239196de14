"""Settings: what is taken from the environment, and what is said of values that can't be."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrypoints.settings import Settings, SettingsError, parse_settings, unknown_variables

NAMES = [f"CALOTYPE_{each.name.upper()}" for each in msgspec.structs.fields(Settings)]
NUMBERS = [
    "CALOTYPE_PORT",
    "CALOTYPE_WORKERS",
    "CALOTYPE_THREADS",
    "CALOTYPE_MAX_UPLOAD_BYTES",
    "CALOTYPE_MAX_PIXELS",
    "CALOTYPE_MAX_FILE_PIXELS",
    "CALOTYPE_PRESIGN_TTL_S",
    "CALOTYPE_TRASH_RETENTION_S",
    "CALOTYPE_RESERVATION_TTL_S",
    "CALOTYPE_SWEEP_INTERVAL_S",
]


def _refusal(environment: dict[str, str]) -> str | None:
    try:
        parse_settings(environment)
    except SettingsError as error:
        return str(error)
    return None


def test_without_variables_the_defaults_are_those_of_the_contract() -> None:
    settings = parse_settings({})
    assert settings == Settings()
    assert (settings.storage, settings.host, settings.port) == ("embedded", "127.0.0.1", 8000)
    assert settings.max_upload_bytes == 25 * 1024 * 1024
    assert (settings.max_pixels, settings.max_file_pixels) == (100_000_000, 400_000_000)
    assert (settings.presign_ttl_s, settings.reservation_ttl_s) == (3600, 3600)
    assert settings.trash_retention_s == 30 * 24 * 3600


@pytest.mark.parametrize("variable", NAMES)
def test_an_empty_variable_is_as_good_as_none(variable: str) -> None:
    assert parse_settings({variable: ""}) == Settings()


@pytest.mark.parametrize("variable", NUMBERS)
@pytest.mark.parametrize("text", ["-1", "many", "1.5", "10 000", "1e400"])
def test_a_number_that_makes_no_sense_is_refused_by_name(variable: str, text: str) -> None:
    said = _refusal({variable: text}) or ""
    assert said.startswith(f"{variable} must be a whole number")
    assert said.endswith(f", not {text!r}")


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("CALOTYPE_STORAGE", "floppy", "one of aws, embedded"),
        ("CALOTYPE_LOG_LEVEL", "loud", "one of debug, error, info, warning"),
        ("CALOTYPE_PORT", "65536", "a whole number from 1 to 65535"),
        ("CALOTYPE_SWEEP_INTERVAL_S", "9" * 30, "a whole number from 1 to 604800"),
        ("CALOTYPE_MAX_PIXELS", "0", "a whole number, at least 1"),
        ("CALOTYPE_TRANSFER_ACCELERATION", "maybe", "true or false"),
        ("CALOTYPE_PUBLIC_URL", "ftp://x", "an http:// or https:// URL without a query"),
        ("CALOTYPE_PUBLIC_URL", "https://x/?a", "an http:// or https:// URL without a query"),
        ("CALOTYPE_TABLE_PREFIX", "a b", "at most 100 letters, digits or _.-"),
        ("CALOTYPE_BUCKET", "ab", "3-63 lower-case letters, digits, dots and hyphens"),
        ("CALOTYPE_BUCKET", "My_Images", "3-63 lower-case letters, digits, dots and hyphens"),
    ],
)
def test_what_is_refused_says_what_would_be_accepted(variable: str, text: str, said: str) -> None:
    assert _refusal({variable: text}) == f"{variable} must be {said}, not {text!r}"


def test_all_wrong_variables_are_named_at_once() -> None:
    said = _refusal({"CALOTYPE_PORT": "x", "CALOTYPE_WORKERS": "0"}) or ""
    assert [line.split()[0] for line in said.splitlines()] == ["CALOTYPE_PORT", "CALOTYPE_WORKERS"]


@given(st.sampled_from(NAMES), st.text(max_size=20))
def test_any_text_is_a_setting_or_refused_by_name(variable: str, text: str) -> None:
    said = _refusal({variable: text})
    assert said is None or said.startswith(f"{variable} must be ")


def test_an_override_goes_first_unless_it_is_none() -> None:
    environment = {"CALOTYPE_PORT": "9000", "CALOTYPE_HOST": "::1"}
    settings = parse_settings(environment, port=9001, host=None)
    assert (settings.port, settings.host) == (9001, "::1")


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"CALOTYPE_HOST": "localhost", "CALOTYPE_PORT": "81"}, "http://localhost:81"),
        ({"CALOTYPE_HOST": "0.0.0.0"}, "http://127.0.0.1:8000"),  # noqa: S104 (nothing is bound)
        ({"CALOTYPE_HOST": "::"}, "http://[::1]:8000"),
        ({"CALOTYPE_PUBLIC_URL": "https://img.example/base/", "CALOTYPE_HOST": "::"}, "https://img.example/base"),
    ],
)
def test_urls_are_made_of_the_public_url_or_the_address_served_on(environment: dict[str, str], url: str) -> None:
    assert parse_settings(environment).base_url == url


def test_workers_get_the_very_same_settings_through_their_environment() -> None:
    settings = Settings(
        host="::1",
        port=81,
        data_dir=str(Path("photos").absolute()),
        public_url="https://img.example",
        transfer_acceleration=True,
        kms_key_id="alias/images",
        cors_origins="https://a.example, https://b.example",
    )
    assert parse_settings(settings.environment()) == settings


def test_a_misspelt_variable_is_told() -> None:
    environment = {"CALOTYPE_PROT": "1", "CALOTYPE_PORT": "1", "CALOTYPE_SERVER": "http://x", "PATH": "/bin"}
    assert unknown_variables(environment) == ["CALOTYPE_PROT"]


@pytest.mark.parametrize("wrong", [{"port": 0}, {"reservation_ttl_s": 0}, {"storage": "s3"}, {"port": "8000"}])
def test_settings_made_in_code_are_checked_as_well(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"CALOTYPE_{next(iter(wrong)).upper()} must be"):
        Settings(**wrong)
