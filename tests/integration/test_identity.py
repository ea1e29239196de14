"""The ways to say who is asking, as they are set: what is made of the settings, and which are refused at the start."""

import base64
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from entrypoints.identity import check_identity, exposed_keys, open_identity
from entrypoints.server import CannotServe, _check_identity, ready
from entrypoints.settings import Settings, SettingsError, parse_settings
from tests.issuer import AUDIENCE, ISSUER, key_set, public_jwk
from tests.service import Service
from tests.signer import SECRETS

JWT = {"auth": "jwt", "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}
SECRET = "s" * 32


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "jwks.json").write_bytes(key_set(public_jwk("one"), public_jwk("curve", "EC")))
    secret = base64.b64encode(SECRETS["billing"]).decode()
    (tmp_path / "keys.toml").write_text(f'[billing]\nsecret = "{secret}"\nowner = "acme"\n')
    return tmp_path


def _settings(folder: Path, **values: Any) -> Settings:
    return Settings(data_dir=str(folder / "data"), **values)


def _scheme(settings: Settings) -> str:
    identity = open_identity(settings)
    identity.close()
    return identity.authenticator.scheme


def test_each_way_is_made_of_its_settings(files: Path) -> None:
    assert _scheme(_settings(files)) == "header"
    assert _scheme(_settings(files, gateway_secret=SECRET)) == "gateway"
    assert _scheme(_settings(files, **JWT, jwt_jwks=str(files / "jwks.json"))) == "jwt"
    assert _scheme(_settings(files, **JWT, jwt_jwks="https://issuer.example/jwks.json")) == "jwt"
    assert _scheme(_settings(files, auth="signature", signature_keys=str(files / "keys.toml"))) == "signature"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({**JWT, "jwt_jwks": "none.json"}, "CALOTYPE_JWT_JWKS: .*none.json can't be read"),
        ({**JWT, "jwt_jwks": "."}, "CALOTYPE_JWT_JWKS: .* can't be read"),
        ({**JWT, "jwt_jwks": "keys.toml"}, "CALOTYPE_JWT_JWKS: it is no JSON object"),
        ({**JWT, "jwt_jwks": "jwks.json", "jwt_algorithms": "ES512"}, "CALOTYPE_JWT_JWKS: none of its keys"),
        ({**JWT, "jwt_jwks": "https://[::1"}, "CALOTYPE_JWT_JWKS: it is no URL"),
        ({"auth": "signature", "signature_keys": "none.toml"}, "CALOTYPE_SIGNATURE_KEYS: .*can't be read"),
        ({"auth": "signature", "signature_keys": "jwks.json"}, "CALOTYPE_SIGNATURE_KEYS: .*is no TOML file"),
    ],
)
def test_a_file_that_can_not_be_used_is_refused_by_the_name_of_its_setting(
    files: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], said: str
) -> None:
    monkeypatch.chdir(files)
    with pytest.raises(SettingsError, match=said):
        check_identity(_settings(files, **values))


def test_a_folder_in_which_nothing_can_be_remembered_is_refused(files: Path) -> None:
    (files / "data").write_text("a file")
    values = {"auth": "signature", "signature_keys": str(files / "keys.toml")}
    with pytest.raises(SettingsError, match="CALOTYPE_DATA_DIR"):
        check_identity(_settings(files, **values))
    (files / "data").unlink()
    (files / "data" / "signatures.sqlite3").mkdir(parents=True)
    with pytest.raises(SettingsError, match=r"signatures\.sqlite3 can't be opened"):
        check_identity(_settings(files, **values))


def test_a_file_of_shared_keys_that_others_can_read_is_told(files: Path) -> None:
    keys = files / "keys.toml"
    settings = _settings(files, auth="signature", signature_keys=str(keys))
    for mode, is_exposed in [(0o600, False), (0o400, False), (0o640, True), (0o604, True), (0o644, True)]:
        keys.chmod(mode)
        assert exposed_keys(settings) == (keys if is_exposed else None)
    assert exposed_keys(_settings(files, signature_keys=str(keys))) is None  # it has no effect
    keys.unlink()
    assert exposed_keys(settings) is None


# ---- which addresses may be served on


def test_the_machine_itself_may_say_who_it_is(files: Path) -> None:
    for address in ["127.0.0.1", "127.8.8.8", "::1"]:
        _check_identity(_settings(files), address)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1", "10.0.0.1", "fe80::1%eth0", "::ffff:10.0.0.1"])  # noqa: S104
def test_others_may_not_unless_they_can_not_lie(files: Path, address: str) -> None:
    with pytest.raises(CannotServe, match="CALOTYPE_TRUSTED_NETWORK"):
        _check_identity(_settings(files), address)
    _check_identity(_settings(files, trusted_network=True), address)
    _check_identity(_settings(files, gateway_secret=SECRET), address)
    _check_identity(_settings(files, **JWT, jwt_jwks=str(files / "jwks.json")), address)
    _check_identity(_settings(files, auth="signature", signature_keys=str(files / "keys.toml")), address)


def test_a_name_counts_as_the_address_that_it_stands_for(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolved(*_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("0.0.0.0", 0))]  # noqa: S104 (a name for all of them)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    with (
        pytest.raises(CannotServe, match=r"CALOTYPE_HOST is images\.internal"),
        ready(_settings(files, host="images.internal")),
    ):
        pass


@pytest.mark.parametrize("host", ["0", "0x0", "0.0"])
def test_all_addresses_are_all_however_they_are_written(files: Path, host: str) -> None:
    service = Service(files / "data")  # for its port
    with (
        pytest.raises(CannotServe, match=f"CALOTYPE_HOST is {host}: whoever"),
        ready(_settings(files, host=host, port=service.port)),
    ):
        pass


# ---- weight


def test_who_uses_no_tokens_does_not_wait_for_cryptography(tmp_path: Path) -> None:
    heavy = ["jwt", "cryptography", "http_message_signatures", "httpx"]
    program = f"""
import sys
from entrypoints.asgi import create
create()
print([name for name in {heavy} if name in sys.modules])
"""
    loaded = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parent.parent.parent,
        env={"CALOTYPE_DATA_DIR": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert loaded.stdout == "[]\n"


def test_what_is_allowed_in_the_settings_is_what_there_are_keys_for() -> None:
    from adapters.http.jwks import ALGORITHMS  # noqa: PLC0415

    for algorithm in ALGORITHMS:
        assert parse_settings({"CALOTYPE_JWT_ALGORITHMS": algorithm}).jwt_allowed_algorithms == (algorithm,)
    for algorithm in ["none", "HS256", "HS384", "HS512", "ES256K", "RS256,HS256", "rs256", "RS256;ES256"]:
        with pytest.raises(SettingsError, match="CALOTYPE_JWT_ALGORITHMS must be"):
            parse_settings({"CALOTYPE_JWT_ALGORITHMS": algorithm})
