"""Who is asking, in each of the ways to say it: real servers, a real issuer, a real signer."""

import base64
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import pictures
from tests.e2e.client import IMAGES, answers, check_problem, document, embedded_alone, fetch, files_at_rest, problem
from tests.issuer import AUDIENCE, ISSUER, IssuerServer, key_set, public_jwk, token
from tests.service import Service
from tests.signer import SECRETS, sign
from tests.waiting import PATIENCE_S, wait_until

ROOT = Path(__file__).parent.parent.parent
SECRET, NEXT_SECRET = "s" * 32, "n" * 32
OpenService = Callable[..., Service]


def _client(service: Service, **headers: str) -> httpx.Client:
    return httpx.Client(
        base_url=service.base_url,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        timeout=PATIENCE_S,
        event_hooks={"response": [_check]},
    )


def _check(response: httpx.Response) -> None:
    if response.status_code >= 400 and response.request.method != "HEAD":
        response.read()
        check_problem(response)


def _scheme(service: Service) -> dict[str, Any]:
    """Return what the server says that requests have to carry."""
    described = fetch(f"{service.base_url}/openapi.json").json()
    schemes: dict[str, Any] = described["components"]["securitySchemes"]
    assert described["security"] == [{name: [] for name in schemes}]
    return schemes


def _serve(tmp_path: Path, *args: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a server that must not start."""
    service = Service(tmp_path / "data")  # for its port
    return subprocess.run(
        [sys.executable, "-m", "entrypoints.cli", "serve", "--port", str(service.port), *args],
        env={**_environment(tmp_path), **settings},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def _environment(tmp_path: Path) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("CALOTYPE_")}
    return {**own, "CALOTYPE_DATA_DIR": str(tmp_path / "data")}


# ---- a gateway says it


@embedded_alone
def test_a_gateway_with_the_secret_is_believed_on_an_address_that_others_reach(open_service: OpenService) -> None:
    settings = {"CALOTYPE_HOST": "0.0.0.0", "CALOTYPE_GATEWAY_SECRET": f"{SECRET},{NEXT_SECRET}"}  # noqa: S104
    with open_service(settings=settings) as service:
        with _client(service, X_User_ID="ada", X_Gateway_Secret=SECRET) as gateway:
            image = document(gateway.post(IMAGES, files={"file": ("a.jpg", pictures.jpeg())}), 201)
        with _client(service, X_User_ID="ada", X_Gateway_Secret=NEXT_SECRET) as rotated:
            assert [each["image_id"] for each in document(rotated.get(IMAGES))["items"]] == [image["image_id"]]
        with _client(service, X_User_ID="ada") as past_the_gateway:
            refused = past_the_gateway.get(f"{IMAGES}/{image['image_id']}")
            assert refused.headers["www-authenticate"] == "X-User-ID"
            problem(refused, 401, "unauthenticated")
            twice = [("X-Gateway-Secret", "guess"), ("X-Gateway-Secret", SECRET)]
            problem(past_the_gateway.get(IMAGES, headers=twice), 401, "unauthenticated")
            # What asks nobody who they are goes on as before.
            assert past_the_gateway.get(httpx.URL(image["presigned_url"]).raw_path.decode()).status_code == 200
            assert past_the_gateway.get("/health/ready").status_code == 200
        assert set(_scheme(service)) == {"owner", "gateway"}
        assert SECRET not in service.log.read_text()


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104 (refused)
def test_an_address_that_others_reach_is_refused_unless_said_otherwise(tmp_path: Path, host: str) -> None:
    if host == "::" and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    refused = _serve(tmp_path, "--host", host)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"Error: CALOTYPE_HOST is {host}: ")
    for name in ["CALOTYPE_GATEWAY_SECRET", "CALOTYPE_AUTH", "CALOTYPE_TRUSTED_NETWORK"]:
        assert name in refused.stderr
    assert not (tmp_path / "data").exists()


def test_a_flag_says_that_the_network_is_trusted(tmp_path: Path) -> None:
    service = Service(tmp_path / "data")  # for its port, and the folder
    everywhere, port = "0.0.0.0", str(service.port)  # noqa: S104 (for a moment)
    log = tmp_path / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "entrypoints.cli",
                "serve",
                "--host",
                everywhere,
                "--port",
                port,
                "--trusted-network",
            ],
            env=_environment(tmp_path),
            cwd=ROOT,
            stderr=output,
        ) as process,
    ):
        # It says so a moment before it listens to signals.
        wait_until(lambda: answers(service) or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        assert "Calotype serves" in log.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0


def test_a_secret_that_can_not_be_used_is_refused_and_not_shown(tmp_path: Path) -> None:
    refused = _serve(tmp_path, CALOTYPE_GATEWAY_SECRET="hunter2")
    assert refused.returncode == 1
    assert "CALOTYPE_GATEWAY_SECRET must be" in refused.stderr
    assert "hunter2" not in refused.stderr


# ---- an issuer's tokens say it


@pytest.fixture
def issuer() -> Iterator[IssuerServer]:
    with IssuerServer(key_set(public_jwk("one"))) as running:
        yield running


def _jwt_settings(issuer: IssuerServer, **more: str) -> dict[str, str]:
    return {
        "CALOTYPE_AUTH": "jwt",
        "CALOTYPE_JWT_JWKS": issuer.url,
        "CALOTYPE_JWT_ISSUER": ISSUER,
        "CALOTYPE_JWT_AUDIENCE": AUDIENCE,
        "CALOTYPE_JWT_JWKS_MIN_AGE_S": "1",
        **more,
    }


def _bearer(service: Service, given: str) -> httpx.Client:
    return _client(service, Authorization=f"Bearer {given}")


@embedded_alone
def test_a_token_gives_its_owner_what_is_theirs_and_nobody_else(
    open_service: OpenService, issuer: IssuerServer, tmp_path: Path
) -> None:
    with open_service(workers=2, settings=_jwt_settings(issuer)) as service:
        picture = tmp_path / "cat.jpg"
        picture.write_bytes(pictures.jpeg())
        assert _cli(service, token(), "upload", str(picture)).returncode == 0
        listed = _cli(service, token(), "list")
        assert "cat.jpg" in listed.stdout
        image_id = listed.stdout.split("\t")[0]
        assert _cli(service, token(sub="bob"), "list").stdout == ""
        with _bearer(service, token()) as ada, _bearer(service, token(sub="bob")) as bob:
            read = ada.get(f"{IMAGES}/{image_id}")
            assert read.content == picture.read_bytes()
            assert "Authorization" in read.headers["vary"]
            problem(bob.get(f"{IMAGES}/{image_id}"), 404, "not_found")
            # A header means nothing here, and a token is taken from nowhere else.
            problem(bob.get(f"{IMAGES}/{image_id}", headers={"X-User-ID": "ada"}), 404, "not_found")
        with _client(service, X_User_ID="ada") as nobody:
            asked = nobody.get(IMAGES)
            assert asked.headers["www-authenticate"] == "Bearer"
            problem(asked, 401, "unauthenticated")
            problem(nobody.get(IMAGES, params={"access_token": token()}), 401, "unauthenticated")
        assert _scheme(service) == {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}


@embedded_alone
def test_a_token_that_is_refused_says_why(open_service: OpenService, issuer: IssuerServer) -> None:
    with open_service(settings=_jwt_settings(issuer)) as service:
        bad = [token(exp=1), token(aud="x"), token(nbf=2**31), token("two"), token("two", headers={"kid": "one"}), "x"]
        for each in bad:
            with _bearer(service, each) as client:
                refused = client.post(IMAGES, files={"file": ("a.jpg", pictures.jpeg())})
                problem(refused, 401, "invalid_token")
                challenge = refused.headers["www-authenticate"]
                assert challenge.startswith('Bearer error="invalid_token", error_description="the token')
        with _client(service) as client:
            twice = [("Authorization", f"Bearer {token()}")] * 2
            problem(client.get(IMAGES, headers=twice), 401, "invalid_token")
        told = service.log.read_text()
        assert not any(each in told for each in [token(), *bad[:-1]])
        assert "eyJ" not in told


@embedded_alone
def test_keys_are_rotated_and_the_issuer_may_be_away(open_service: OpenService, issuer: IssuerServer) -> None:
    settings = _jwt_settings(issuer, CALOTYPE_JWT_JWKS_MAX_AGE_S="1")
    service = open_service(settings=settings)
    with service, _bearer(service, token("one")) as old, _bearer(service, token("two")) as new:
        assert old.get(IMAGES).status_code == 200
        # A new key is believed; an old one as long as the issuer says so, also for tokens that were checked before.
        issuer.body = key_set(public_jwk("one"), public_jwk("two"))
        wait_until(lambda: new.get(IMAGES).status_code == 200)
        assert old.get(IMAGES).status_code == 200
        issuer.body = key_set(public_jwk("two"))
        wait_until(lambda: old.get(IMAGES).status_code == 401)
        # While the issuer is away, whom it vouched for is served.
        issuer.status = 500
        asked = issuer.asked
        wait_until(lambda: issuer.asked > asked + 1)
        assert new.get(IMAGES).status_code == 200
        # A start without it is one at which nobody can tell: a client shall come back, not log out.
        service.kill()
        service.start()
        refused = new.get(IMAGES)
        assert int(refused.headers["retry-after"]) >= 1
        problem(refused, 503, "identity_unavailable")
        issuer.status = 200
        wait_until(lambda: new.get(IMAGES).status_code == 200)


def _cli(service: Service, given: str, *args: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("CALOTYPE_")}
    return subprocess.run(
        [sys.executable, "-m", "entrypoints.cli", *args],
        env={**own, "CALOTYPE_SERVER": service.base_url, "CALOTYPE_TOKEN": given},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_a_start_without_what_is_needed_is_refused_by_name(tmp_path: Path) -> None:
    refused = _serve(tmp_path, CALOTYPE_AUTH="signature", CALOTYPE_SIGNATURE_KEYS="none.toml")
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: CALOTYPE_SIGNATURE_KEYS: ")
    assert "Traceback" not in refused.stderr


def test_a_start_with_keys_that_others_can_read_says_so(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text("no keys")
    keys.chmod(0o644)
    settings = {"CALOTYPE_AUTH": "signature", "CALOTYPE_SIGNATURE_KEYS": str(keys)}
    warning = f"warning: CALOTYPE_SIGNATURE_KEYS: others can read {keys}"
    assert warning in _serve(tmp_path, **settings).stderr
    keys.chmod(0o600)
    assert warning not in _serve(tmp_path, **settings).stderr


# ---- a server signs its requests


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys.toml"
    billing, backend = (base64.b64encode(SECRETS[name]).decode() for name in ("billing", "backend"))
    path.write_text(
        f'[billing]\nsecret = "{billing}"\nowner = "acme"\n[backend]\nsecret = "{backend}"\nany_owner = true\n'
    )
    return path


def _signature_settings(keys: Path) -> dict[str, str]:
    return {"CALOTYPE_AUTH": "signature", "CALOTYPE_SIGNATURE_KEYS": str(keys)}


def _signed(client: httpx.Client, method: str, path: str, key_id: str = "billing", **parts: Any) -> httpx.Request:
    request = client.build_request(method, path, **parts)
    sign(request, key_id, body=request.read() or None)
    return request


def _uploading(client: httpx.Client, **parts: Any) -> httpx.Request:
    return _signed(client, "POST", IMAGES, files={"file": ("a.jpg", pictures.jpeg(seed=5))}, **parts)


def _unsigned_body(request: httpx.Request, body: bytes) -> httpx.Request:
    """Return the request with another body, and all else as it was signed."""
    headers = [(name, value) for name, value in request.headers.items() if name != "content-length"]
    return httpx.Request(request.method, request.url, headers=headers, content=body)


@embedded_alone
def test_a_signed_upload_is_stored_once_for_the_owner_of_the_key(open_service: OpenService, keys: Path) -> None:
    with open_service(settings=_signature_settings(keys)) as service, _client(service) as client:
        upload = _uploading(client)
        image = document(client.send(upload), 201)
        assert image["user_id"] == "acme"
        problem(client.send(upload), 401, "invalid_signature")
        assert len(document(client.send(_signed(client, "GET", IMAGES)))["items"]) == 1
        path = f"{IMAGES}/{image['image_id']}"
        assert client.send(_signed(client, "GET", f"{path}?download=1")).content == pictures.jpeg(seed=5)
        change: dict[str, Any] = {"json": {"title": "Signed"}, "headers": {"If-Match": '"1"'}}
        assert document(client.send(_signed(client, "PATCH", path, **change)))["title"] == "Signed"
        assert client.send(_signed(client, "DELETE", path)).status_code == 200
        assert client.send(_signed(client, "POST", f"{path}/restore")).status_code == 200
        # For another owner this key proves nothing; a key for all says for whom.
        other: dict[str, Any] = {"headers": {"X-User-ID": "other"}}
        problem(client.send(_signed(client, "GET", path, **other)), 401, "invalid_signature")
        problem(client.send(_signed(client, "GET", path, "backend", **other)), 404, "not_found")
        acme: dict[str, Any] = {"headers": {"X-User-ID": "acme"}}
        assert client.send(_signed(client, "GET", path, "backend", **acme)).status_code == 200
        unsigned = client.get(IMAGES, headers={"X-User-ID": "acme"})
        assert unsigned.headers["accept-signature"].startswith("calotype=(")
        problem(unsigned, 401, "unauthenticated")
        assert set(_scheme(service)) == {"signatureInput", "signature"}
        assert "acme" not in service.log.read_text()


@embedded_alone
def test_what_was_changed_on_the_way_changes_nothing(open_service: OpenService, keys: Path) -> None:
    with open_service(settings=_signature_settings(keys)) as service, _client(service) as client:
        image = document(client.send(_uploading(client)), 201)
        path = f"{IMAGES}/{image['image_id']}"
        before = files_at_rest(service)

        upload = _uploading(client)
        body = upload.read()
        other_title = _unsigned_body(upload, body.replace(b"a.jpg", b"b.jpg"))
        problem(client.send(other_title), 400, "digest_mismatch")
        for cut in [body[:-1], b"", body + b"\r\n"]:
            refused = client.send(_unsigned_body(_uploading(client), cut))
            assert refused.status_code == 400

        for method in ["PUT", "PATCH"]:
            change = _signed(client, method, path, json={"title": "mine"})
            problem(client.send(_unsigned_body(change, b'{"title":"evil"}')), 400, "digest_mismatch")
            chunked = _signed(client, method, path, json={"title": "mine"})
            pieces = httpx.Request(
                method,
                chunked.url,
                headers=[each for each in chunked.headers.items() if each[0] != "content-length"],
                content=iter([b'{"title":', b'"evil"}']),
            )
            problem(client.send(pieces), 400, "digest_mismatch")

        to_trash = _signed(client, "DELETE", path)
        for_good = httpx.Request("DELETE", f"{to_trash.url}?permanent=true", headers=to_trash.headers)
        problem(client.send(for_good), 401, "invalid_signature")
        with_body = httpx.Request("DELETE", to_trash.url, headers=to_trash.headers, content=b"x")
        problem(client.send(with_body), 401, "invalid_signature")

        document(client.send(_signed(client, "DELETE", path)))
        restore = _unsigned_body(_signed(client, "POST", f"{path}/restore", content=b"as signed"), b"otherwise")
        problem(client.send(restore), 400, "digest_mismatch")
        problem(client.send(_signed(client, "GET", path)), 404, "not_found")
        document(client.send(_signed(client, "POST", f"{path}/restore", content=b"as signed")))

        after = document(client.send(_signed(client, "GET", f"{path}/metadata")))
        assert (after["title"], after["version"]) == (image["title"], image["version"])
        assert len(document(client.send(_signed(client, "GET", IMAGES)))["items"]) == 1
        assert files_at_rest(service) == before


@embedded_alone
def test_of_the_same_change_sent_to_all_workers_one_is_made_and_none_after_a_restart(
    open_service: OpenService, keys: Path
) -> None:
    service = open_service(workers=3, settings=_signature_settings(keys))
    with service:
        with _client(service) as client:
            image = document(client.send(_uploading(client)), 201)
            path = f"{IMAGES}/{image['image_id']}"
            changes = [_signed(client, "PATCH", path, json={"title": f"number {number}"}) for number in range(5)]

        def send(change: httpx.Request) -> int:
            with _client(service) as each:  # a connection of its own, to any worker
                return each.send(change).status_code

        with ThreadPoolExecutor(8) as pool:
            for change in changes:
                assert sorted(pool.map(send, [change] * 8)) == [200, *[401] * 7]
        service.kill()
        service.start()
        assert [send(change) for change in changes] == [401] * 5
