"""Settings: what is taken from the environment, and what is said of values that can't be."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrypoints.settings import _OF_MODE, Settings, SettingsError, parse_settings, unknown_variables

NAMES = [f"CALOTYPE_{each.name.upper()}" for each in msgspec.structs.fields(Settings)]
NUMBERS = [
    "CALOTYPE_PORT",
    "CALOTYPE_WORKERS",
    "CALOTYPE_THREADS",
    "CALOTYPE_MAX_UPLOAD_BYTES",
    "CALOTYPE_MAX_PIXELS",
    "CALOTYPE_MAX_FILE_PIXELS",
    "CALOTYPE_MAX_METADATA_BYTES",
    "CALOTYPE_PRESIGN_TTL_S",
    "CALOTYPE_TRASH_RETENTION_S",
    "CALOTYPE_RESERVATION_TTL_S",
    "CALOTYPE_SWEEP_INTERVAL_S",
    "CALOTYPE_QUOTA_IMAGES",
    "CALOTYPE_QUOTA_BYTES",
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
        ("CALOTYPE_PUBLIC_URL", "https://x\n", "an http:// or https:// URL without a query"),
        ("CALOTYPE_BUCKET", "images\n", "3-63 lower-case letters, digits, dots and hyphens"),
        ("CALOTYPE_PUBLIC_URL", "https://x/?a", "an http:// or https:// URL without a query"),
        ("CALOTYPE_TABLE_PREFIX", "a b", "at most 100 letters, digits or _.-"),
        ("CALOTYPE_BUCKET", "ab", "3-63 lower-case letters, digits, dots and hyphens"),
        ("CALOTYPE_BUCKET", "My_Images", "3-63 lower-case letters, digits, dots and hyphens"),
        ("CALOTYPE_AUTH", "basic", "one of header, jwt, signature"),
        (
            "CALOTYPE_JWT_JWKS",
            "http://issuer.example/jwks.json",
            "an https:// URL (http:// for this machine alone), or the path of a file",
        ),
        *(
            ("CALOTYPE_CORS_ORIGINS", text, "origins such as https://app.example.org with commas between, or *")
            for text in (
                "app.example",
                "https://a.example/",
                "https://*.a.example",
                "null",
                "https://A.example",
                "*, *",
            )
        ),
        ("CALOTYPE_JWT_AUDIENCE", ",", "one or more names without spaces, with commas between"),
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
        ({"CALOTYPE_PUBLIC_URL": "https://Img.Example:443/Base"}, "https://img.example/Base"),
        ({"CALOTYPE_PUBLIC_URL": "http://IMG:80/"}, "http://img"),
        ({"CALOTYPE_PUBLIC_URL": "http://img:443"}, "http://img:443"),
        ({"CALOTYPE_PUBLIC_URL": "https://[::80]"}, "https://[::80]"),
        ({"CALOTYPE_PORT": "80"}, "http://127.0.0.1"),
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


# ---- who is asking

SECRET = "0123456789abcdef0123456789ABCDEF"


@pytest.mark.parametrize(
    "place",
    [
        "https://issuer.example/.well-known/jwks.json",
        "http://127.0.0.1:8080/jwks",
        "http://localhost/jwks",
        "http://[::1]:1/x",
        "jwks.json",
        "/etc/calotype/jwks.json",
    ],
)
def test_keys_come_from_a_file_or_an_address_that_can_be_believed(place: str) -> None:
    assert parse_settings({"CALOTYPE_JWT_JWKS": place}).jwt_jwks == place


@pytest.mark.parametrize(
    "place",
    [
        "http://issuer.example/jwks.json",
        "http://127.0.0.1.evil.example/",
        "http://127.0.0.1@evil.example/",
        "http://localhost.evil.example/",
        "https://user:password@issuer.example/",
        "ftp://issuer.example/jwks.json",
        "file:///etc/jwks.json",
        "https://",
    ],
)
def test_keys_come_from_nowhere_else(place: str) -> None:
    assert (_refusal({"CALOTYPE_JWT_JWKS": place}) or "").startswith("CALOTYPE_JWT_JWKS must be an https:// URL")


@pytest.mark.parametrize(
    ("mode", "needed"),
    [
        ("jwt", ["CALOTYPE_JWT_JWKS", "CALOTYPE_JWT_ISSUER", "CALOTYPE_JWT_AUDIENCE"]),
        ("signature", ["CALOTYPE_SIGNATURE_KEYS"]),
    ],
)
def test_a_mode_without_what_it_needs_is_refused_by_name(mode: str, needed: list[str]) -> None:
    said = _refusal({"CALOTYPE_AUTH": mode}) or ""
    assert said.splitlines() == [f"{name} must be set while CALOTYPE_AUTH is {mode}" for name in needed]
    assert _refusal({"CALOTYPE_AUTH": mode, **dict.fromkeys(needed, "x")}) is None


@pytest.mark.parametrize("secret", ["short", SECRET[1:], f"{SECRET} ", f"{SECRET},short", f"{SECRET},", "é" * 32])
def test_a_secret_that_is_none_is_refused_and_not_repeated(secret: str) -> None:
    said = _refusal({"CALOTYPE_GATEWAY_SECRET": secret}) or ""
    assert said.startswith(
        "CALOTYPE_GATEWAY_SECRET must be a secret of at least 32 visible ASCII characters, or several"
    )
    assert secret not in said


def test_a_secret_goes_to_the_workers_and_is_shown_to_nobody() -> None:
    settings = Settings(gateway_secret=f"{SECRET},{SECRET[::-1]}", data_dir=str(Path("photos").absolute()))
    assert settings.gateway_secrets == (SECRET, SECRET[::-1])
    assert parse_settings(settings.environment()) == settings
    for shown in [repr(settings), str(settings), f"{settings!r}", str(settings.shown()), str(settings.__rich_repr__())]:
        assert SECRET not in shown
        assert "********" in shown
    assert settings.shown().keys() == settings.environment().keys()
    assert "********" not in repr(Settings())


def test_what_is_set_for_another_mode_is_told() -> None:
    jwt = {"CALOTYPE_JWT_JWKS": "x", "CALOTYPE_JWT_ISSUER": "x", "CALOTYPE_JWT_AUDIENCE": "x"}
    assert parse_settings({}).without_effect == []
    assert parse_settings({"CALOTYPE_TRUSTED_NETWORK": "true", **jwt}).without_effect == list(jwt)
    assert parse_settings({"CALOTYPE_AUTH": "jwt", "CALOTYPE_GATEWAY_SECRET": SECRET, **jwt}).without_effect == [
        "CALOTYPE_GATEWAY_SECRET"
    ]
    assert parse_settings({"CALOTYPE_AUTH": "jwt", "CALOTYPE_TRUSTED_NETWORK": "false", **jwt}).without_effect == []


def test_every_setting_of_a_mode_is_known_as_such() -> None:
    named = {name for name in Settings.__struct_fields__ if name.startswith(("gateway_", "jwt_", "signature_"))}
    assert {name for names in _OF_MODE.values() for name in names} == {*named, "trusted_network"}


@pytest.mark.parametrize("variable", ["CALOTYPE_DATA_DIR", "CALOTYPE_SIGNATURE_KEYS", "CALOTYPE_JWT_JWKS"])
def test_the_home_of_nobody_is_refused_by_name(variable: str) -> None:
    said = _refusal({variable: "~nobody-of-that-name/x"}) or ""
    assert said.startswith(f"{variable} must be a path, not '~nobody-of-that-name/x'")
    assert _refusal({variable: "~/x"}) is None
