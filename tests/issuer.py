"""An issuer of tokens: its keys, its tokens, and a server that publishes the keys."""

import json
import threading
import time
from collections.abc import Mapping
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER = "https://issuer.example/"
AUDIENCE = "https://images.example"

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@cache
def private_key(name: str = "one", kind: str = "RSA") -> PrivateKey:
    """Return a key; the same for the same name, since making one takes a while."""
    del name
    match kind:
        case "RSA":
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)
        case "short RSA":
            return rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 (to be refused)
        case "EC":
            return ec.generate_private_key(ec.SECP256R1())
        case _:
            return ed25519.Ed25519PrivateKey.generate()


def public_jwk(name: str = "one", kind: str = "RSA", **more: Any) -> dict[str, Any]:
    key = private_key(name, kind).public_key()
    match key:
        case rsa.RSAPublicKey():
            jwk = RSAAlgorithm.to_jwk(key, as_dict=True)
        case ec.EllipticCurvePublicKey():
            jwk = ECAlgorithm.to_jwk(key, as_dict=True)
        case _:
            jwk = OKPAlgorithm.to_jwk(key, as_dict=True)
    jwk = {**jwk, "kid": name, "use": "sig", **more}
    jwk.pop("key_ops", None)
    return {name: value for name, value in jwk.items() if value is not None}


def key_set(*keys: Mapping[str, Any]) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


def claims(**changes: Any) -> dict[str, Any]:
    """Return what a good token says, with some of it changed; None takes a claim away."""
    now = int(time.time())
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "iat": now - 1, "exp": now + 600}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def token(
    name: str = "one",
    kind: str = "RSA",
    algorithm: str = "RS256",
    headers: Mapping[str, Any] | None = None,
    **changes: Any,
) -> str:
    return signed(claims(**changes), name, kind, algorithm, headers)


def signed(
    payload: Mapping[str, Any],
    name: str = "one",
    kind: str = "RSA",
    algorithm: str = "RS256",
    headers: Mapping[str, Any] | None = None,
) -> str:
    # PyJWT would refuse to make tokens that say something odd; what signs anything is below it.
    return jwt.PyJWS().encode(
        json.dumps(payload).encode(),
        private_key(name, kind),
        algorithm=algorithm,
        headers={"kid": name, **(headers or {})},
    )


class IssuerServer:
    """Publishes keys at ``url``, on a port of this machine, and counts who asks."""

    def __init__(self, body: bytes = b"") -> None:
        self.body = body
        self.status = 200
        self.headers: dict[str, str] = {}
        self.asked = 0
        self.go_on = threading.Event()
        self.go_on.set()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                issuer.go_on.wait(30)
                self.send_response(issuer.status)
                for name, value in issuer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(issuer.body)))
                self.end_headers()
                self.wfile.write(issuer.body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks.json"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
