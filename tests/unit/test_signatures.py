"""Signed requests: which are believed, and that no change of one is."""

import asyncio
import base64
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from http_message_signatures.algorithms import HMAC_SHA256
from hypothesis import given
from hypothesis import strategies as st

from adapters.http.authentication import Authenticator
from adapters.http.digests import STATE_KEY
from adapters.http.problems import Problem
from adapters.http.signatures import SignatureAuthenticator, SigningKey
from adapters.http.throttle import Throttle, ThrottledAuthenticator
from adapters.memory import MemoryRateLimiter
from application.rate_limits import Budget, Budgets
from domain.errors import Unavailable
from domain.values import UserId
from tests.signer import SECRETS, Message, sign

BASE = "https://img.example/base"
IMAGES = f"{BASE}/api/v1/images"
MAX_AGE_S, SKEW_S = 300, 30
KEYS = {
    "billing": SigningKey(secret=SECRETS["billing"], owner="acme"),
    "backend": SigningKey(secret=SECRETS["backend"], any_owner=True),
}
JSON = {"Content-Type": "application/json"}


class Remembered:
    """Replays as plain as can be."""

    def __init__(self) -> None:
        self.used: dict[bytes, float] = {}

    def is_first(self, digest: bytes, *, until_s: float) -> bool:
        is_first = digest not in self.used
        self.used[digest] = until_s
        return is_first


class Forgetful:
    """Can't remember anything."""

    def is_first(self, _: bytes, **__: float) -> bool:
        raise Unavailable("the disk is full")


class Server:
    """Answers who has signed a request, as it came over the wire."""

    def __init__(self, replays: Any = None, throttle: Throttle | None = None) -> None:
        self._signatures = SignatureAuthenticator(
            KEYS, replays or Remembered(), base_url=BASE, max_age_s=MAX_AGE_S, clock_skew_s=SKEW_S
        )
        self._authenticator: Authenticator = self._signatures
        if throttle is not None:
            self._authenticator = ThrottledAuthenticator(self._signatures, throttle)

    def close(self) -> None:
        self._signatures.close()

    def owner(self, message: Message, body: bytes = b"") -> UserId:
        """Take a request with its body, as the routes do: at the end of the body, before anything is done."""
        url = urlsplit(message.url)
        headers = dict(message.headers)
        if body:
            headers["Content-Length"] = str(len(body))
        scope: dict[str, Any] = {
            "method": message.method,
            "client": ("203.0.113.7", 40_000),
            "raw_path": url.path.removeprefix("/base").encode("latin-1"),
            "query_string": url.query.encode("latin-1"),
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
            "state": {},
        }
        owner = asyncio.run(self._let_in(scope))
        if message.method not in {"GET", "HEAD", "DELETE"}:
            scope["state"][STATE_KEY].update(body)
            scope["state"][STATE_KEY].check()
        return owner

    async def _let_in(self, scope: Any) -> UserId:
        owner = await self._authenticator.authenticate(scope)
        await self._authenticator.spend(scope)
        return owner


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


def _refusal(server: Server, message: Message, body: bytes = b"", code: str = "invalid_signature") -> str:
    with pytest.raises(Problem) as refused:
        server.owner(message, body)
    problem = refused.value
    assert problem.code == code, problem.detail
    if problem.code in {"invalid_signature", "unauthenticated", "invalid_user"}:
        headers = dict(problem.headers)
        assert headers["WWW-Authenticate"] == "Signature"
        assert headers["Accept-Signature"].startswith('calotype=("@method" "@target-uri"')
    return problem.detail


def _signed(
    method: str = "GET", url: str = IMAGES, headers: dict[str, str] | None = None, body: bytes = b"", **options: Any
) -> Message:
    message = Message(method, url, dict(headers or {}))
    sign(message, body=body or None, **options)
    return message


# ---- who may act for whom


def test_a_key_acts_for_its_owner(server: Server) -> None:
    assert server.owner(_signed()) == "acme"
    assert server.owner(_signed(headers={"X-User-ID": "acme"})) == "acme"


def test_a_key_acts_for_no_other_owner(server: Server) -> None:
    assert "does not act for" in _refusal(server, _signed(headers={"X-User-ID": "other"}))


def test_a_key_for_all_acts_for_whom_the_signed_header_names(server: Server) -> None:
    assert server.owner(_signed(key_id="backend", headers={"X-User-ID": "ada"})) == "ada"


def test_a_key_for_all_must_say_for_whom(server: Server) -> None:
    _refusal(server, _signed(key_id="backend"), code="unauthenticated")
    _refusal(server, _signed(key_id="backend", headers={"X-User-ID": "a b"}), code="invalid_user")


def test_a_user_that_was_not_signed_is_refused(server: Server) -> None:
    message = _signed(key_id="backend", headers={"X-User-ID": "ada"}, covered=["@method", "@target-uri"])
    assert "does not cover x-user-id" in _refusal(server, message)
    own = _signed(headers={"X-User-ID": "acme"}, covered=["@method", "@target-uri"])
    assert "does not cover x-user-id" in _refusal(server, own)


# ---- what must be signed


def test_a_request_without_a_signature_is_told_what_to_sign(server: Server) -> None:
    with pytest.raises(Problem) as refused:
        server.owner(Message("POST", IMAGES, dict(JSON)), b"{}")
    assert refused.value.code == "unauthenticated"
    assert dict(refused.value.headers)["Accept-Signature"] == (
        'calotype=("@method" "@target-uri" "content-type" "content-digest");created;alg="hmac-sha256"'
    )


@pytest.mark.parametrize("left_out", ["@method", "@target-uri", "content-digest", "content-type", "if-match"])
def test_a_signature_that_leaves_something_out_is_refused(server: Server, left_out: str) -> None:
    body, headers = b"{}", {**JSON, "If-Match": '"1"'}
    covered = ["@method", "@target-uri", "content-digest", "content-type", "if-match"]
    assert server.owner(_signed("PATCH", IMAGES, headers, body, covered=covered), body) == "acme"
    covered.remove(left_out)
    message = Message("PATCH", IMAGES, {**headers, "Content-Digest": _digest(body)})
    sign(message, covered=covered)
    assert f"does not cover {left_out}" in _refusal(server, message, body)


def test_the_target_may_be_signed_in_its_parts(server: Server) -> None:
    parts = ["@method", "@authority", "@path"]
    assert server.owner(_signed(covered=parts)) == "acme"
    assert "does not cover @query" in _refusal(server, _signed(url=f"{IMAGES}?limit=1", covered=parts))
    assert server.owner(_signed(url=f"{IMAGES}?limit=1", covered=[*parts, "@query"])) == "acme"
    assert "does not cover @path" in _refusal(server, _signed(covered=["@method", "@authority"]))
    assert "does not cover @target-uri" in _refusal(server, _signed(covered=["@method", "@path", "@query"]))
    assert "does not cover @target-uri" in _refusal(server, _signed(covered=["@method", "@request-target"]))


@pytest.mark.parametrize(
    ("name", "value"),
    [("Idempotency-Key", "k"), ("If-Match", "*"), ("If-None-Match", "*"), ("If-Unmodified-Since", "x"), *JSON.items()],
)
def test_nothing_that_decides_over_a_change_is_added_behind_the_signer(server: Server, name: str, value: str) -> None:
    message = _signed("DELETE")
    message.headers[name] = value
    assert f"does not cover {name.lower()}" in _refusal(server, message)


@pytest.mark.parametrize(
    "part", ['"accept";sf', '"accept";bs', '"accept";key="a"', '"@query-param";name="a"', '"@path";x']
)
def test_a_part_of_something_is_not_looked_for(server: Server, part: str) -> None:
    message = _signed(url=f"{IMAGES}?a=1", headers={"Accept": "a"})
    message.headers["Signature-Input"] = message.headers["Signature-Input"].replace("=(", f"=({part} ")
    assert "Parameters of components are not taken" in _refusal(server, message)


def test_a_body_behind_a_signature_without_one_is_refused(server: Server) -> None:
    _refusal(server, _signed("POST"), b"x")
    chunked = _signed("POST")
    chunked.headers["Transfer-Encoding"] = "chunked"
    assert "does not cover content-digest" in _refusal(server, chunked)


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_what_takes_no_body_gets_none(server: Server, method: str) -> None:
    _refusal(server, _signed(method, body=b"x"), b"x", code="invalid_request")


def test_a_digest_that_is_none_is_refused(server: Server) -> None:
    message = Message("PUT", IMAGES, {**JSON, "Content-Digest": "md5=:1B2M2Y8AsgTpgAmY7PhCfg==:"})
    sign(message)
    assert "Content-Digest" in _refusal(server, message, b"{}")


def test_a_body_that_is_not_the_signed_one_is_refused(server: Server) -> None:
    assert "Nothing was changed" in _refusal(
        server, _signed("PUT", headers=JSON, body=b'{"title":"a"}'), b'{"title":"b"}', code="digest_mismatch"
    )
    _refusal(server, _signed("PUT", headers=JSON, body=b"{}"), b"", code="digest_mismatch")


_METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
_WORDS = st.text(alphabet="abcXYZ019-._~", min_size=1, max_size=8)
_PATHS = st.lists(_WORDS, max_size=3).map(lambda words: "/" + "/".join(words))
_QUERIES = st.one_of(st.just(""), _WORDS, st.lists(_WORDS, min_size=2, max_size=3).map("&".join))
_HEADERS = st.dictionaries(
    st.sampled_from(["Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "X-User-ID", "X-Other"]),
    _WORDS,
    max_size=4,
)


@given(_METHODS, _PATHS, _QUERIES, _HEADERS, st.binary(max_size=30), st.data())
def test_no_change_of_a_signed_request_is_believed(
    server: Server, method: str, path: str, query: str, headers: dict[str, str], body: bytes, data: st.DataObject
) -> None:
    if method in {"GET", "HEAD", "DELETE"}:
        body = b""
    url = f"{BASE}{path}?{query}" if query else f"{BASE}{path}"
    headers = {**headers, "X-User-ID": "ada"}
    changed_what = data.draw(st.sampled_from(["method", "path", "query", "header", "added", "removed", "body"]))
    in_parts = ["@method", "@authority", "@path", "@query", *map(str.lower, headers)]
    whole = ["@method", "@target-uri", *map(str.lower, headers)]
    message = _signed(
        method, url, headers, body, key_id="backend", covered=data.draw(st.sampled_from([in_parts, whole]))
    )
    changed = Message(message.method, message.url, dict(message.headers))
    match changed_what:
        case "method":
            changed.method = data.draw(_METHODS.filter(lambda other: other != method))
        case "path":
            changed.url = url.replace(path, data.draw(_PATHS.filter(lambda other: other != path)), 1)
        case "query":
            other_query = data.draw(_QUERIES.filter(lambda other: other != query))
            changed.url = f"{BASE}{path}?{other_query}" if other_query else f"{BASE}{path}"
        case "header":
            name = data.draw(st.sampled_from([*headers, "Signature", "Signature-Input"]))
            changed.headers[name] = data.draw(_WORDS.filter(lambda other: other != message.headers[name]))
        case "added":
            name = data.draw(st.sampled_from(list(headers)))
            changed.headers[name] += f", {headers[name]}"  # as Edge joins what is sent twice
        case "removed":
            del changed.headers[data.draw(st.sampled_from([*headers, "Signature", "Signature-Input"]))]
        case _:
            body = data.draw(st.binary(max_size=30).filter(lambda other: other != body))
    with pytest.raises(Problem) as refused:
        server.owner(changed, body)
    assert refused.value.code in {"invalid_signature", "unauthenticated", "digest_mismatch", "invalid_request"}
    if changed_what not in {"method", "body"}:
        assert refused.value.code != "invalid_request"


def test_the_host_that_is_signed_is_the_public_one(server: Server) -> None:
    for url in ["https://other.example/base/x", "http://img.example/base/x", "https://img.example:444/base/x"]:
        message = _signed(url=url)
        message.headers["Host"] = message.headers["X-Forwarded-Host"] = urlsplit(url).netloc
        message.headers["X-Forwarded-Proto"] = "http"
        assert BASE in _refusal(server, message)  # and says which it is


# ---- keys and algorithms


def test_an_unknown_key_and_a_wrong_signature_are_refused_alike(server: Server) -> None:
    unknown = _signed(key_id="nobody", keys={"nobody": b"n" * 32})
    wrong = _signed(keys={"billing": b"n" * 32})
    assert _refusal(server, unknown) == _refusal(server, wrong)


def test_one_keys_signature_under_anothers_name_is_refused(server: Server) -> None:
    message = _signed()
    message.headers["Signature-Input"] = message.headers["Signature-Input"].replace("billing", "backend")
    message.headers["X-User-ID"] = "ada"
    _refusal(server, message)


def test_the_algorithm_is_fixed(server: Server) -> None:
    class Other(HMAC_SHA256):
        algorithm_id = "rsa-pss-sha512"

    assert "algorithm" in _refusal(server, _signed(algorithm=Other))
    assert server.owner(_signed(include_alg=False)) == "acme"


def test_several_signatures_are_none(server: Server) -> None:
    message = _signed(label="one")
    sign(message, label="two", append_if_signature_exists=True)
    _refusal(server, message)


# ---- time


@pytest.mark.parametrize("age_s", [-SKEW_S + 15, 0, MAX_AGE_S + SKEW_S - 15])
def test_a_signature_of_a_moment_ago_is_believed(server: Server, age_s: float) -> None:
    assert server.owner(_signed(age_s=age_s)) == "acme"


@pytest.mark.parametrize("age_s", [-SKEW_S - 15, MAX_AGE_S + SKEW_S + 15, 10**9])
def test_a_signature_of_another_time_is_refused(server: Server, age_s: float) -> None:
    _refusal(server, _signed(age_s=age_s))


def test_a_signature_that_says_when_it_ends_ends_then(server: Server) -> None:
    assert server.owner(_signed(expires_in_s=100)) == "acme"
    assert "expires" in _refusal(server, _signed(expires_in_s=-SKEW_S - 15))


@pytest.mark.parametrize("parameter", ["created", "keyid"])
def test_a_signature_without_its_time_or_its_key_is_refused(server: Server, parameter: str) -> None:
    message = _signed()
    kept = [part for part in message.headers["Signature-Input"].split(";") if not part.startswith(parameter)]
    message.headers["Signature-Input"] = ";".join(kept)
    assert parameter in _refusal(server, message)


# ---- once


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("nonce", [None, "", "fixed"])
def test_what_changes_something_is_done_once(method: str, nonce: str | None) -> None:
    server = Server()
    message = _signed(method, nonce=nonce)
    assert server.owner(message) == "acme"
    assert "already" in _refusal(server, message)
    message.headers["X-Unsigned"] = "another"
    relabelled = {name: value.replace("pyhms", "other") for name, value in message.headers.items()}
    assert "already" in _refusal(server, Message(message.method, message.url, relabelled))
    assert server.owner(_signed(method)) == "acme"
    server.close()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_reading_twice_does_no_harm(server: Server, method: str) -> None:
    message = _signed(method)
    assert [server.owner(message), server.owner(message)] == ["acme", "acme"]


def test_a_use_is_remembered_for_as_long_as_the_signature_could_be_believed() -> None:
    replays = Remembered()
    server = Server(replays)
    message = _signed("DELETE")
    server.owner(message)
    created = int(message.headers["Signature-Input"].split("created=")[1].split(";")[0])
    ((_, until_s),) = replays.used.items()
    assert until_s > created + MAX_AGE_S + SKEW_S
    server.close()


def test_a_forged_request_is_not_remembered() -> None:
    replays = Remembered()
    server = Server(replays)
    _refusal(server, _signed("DELETE", keys={"billing": b"n" * 32}))
    assert replays.used == {}
    server.close()


def test_what_its_budget_refuses_is_not_remembered_and_may_come_again() -> None:
    replays, now_s = Remembered(), [0.0]
    throttle = Throttle(MemoryRateLimiter(lambda: now_s[0]), owners=Budgets(writes=Budget(1, 0.1)), addresses=Budgets())
    server = Server(replays, throttle)
    message = _signed("DELETE")
    server.owner(_signed("DELETE"))
    for _ in range(3):
        _refusal(server, message, code="rate_limited")
    assert len(replays.used) == 1
    now_s[0] += 11
    assert server.owner(message) == "acme"
    now_s[0] += 11
    assert "already" in _refusal(server, message)
    server.close()


def test_who_repeats_what_was_done_is_counted_by_address() -> None:
    throttle = Throttle(MemoryRateLimiter(lambda: 0.0), owners=Budgets(), addresses=Budgets(writes=Budget(2, 0.1)))
    server = Server(throttle=throttle)
    message = _signed("DELETE")
    server.owner(message)
    for _ in range(2):
        assert "already" in _refusal(server, message)
    _refusal(server, message, code="rate_limited")
    assert server.owner(_signed("DELETE")) == "acme"
    server.close()


def test_what_can_not_be_remembered_is_not_done() -> None:
    server = Server(Forgetful())
    with pytest.raises(Unavailable):
        server.owner(_signed("DELETE"))
    assert server.owner(_signed("GET")) == "acme"
    server.close()


# ---- garbage


@pytest.mark.parametrize("name", ["Signature", "Signature-Input"])
def test_a_signature_of_enormous_length_is_refused_unread(server: Server, name: str) -> None:
    message = _signed()
    message.headers[name] += "," * 8192
    assert "too long" in _refusal(server, message)


def test_a_url_of_enormous_length_is_refused_unread(server: Server) -> None:
    longest = f"{IMAGES}?tags=".ljust(8192, "x")
    assert server.owner(_signed(url=longest)) == "acme"
    assert "URL is too long" in _refusal(server, _signed(url=f"{longest}x"))
    unread = _signed()
    unread.url = f"{longest}%"  # what parses it would say that it is none
    assert "URL is too long" in _refusal(server, unread)


_FIELD = st.one_of(
    st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=255), max_size=120),
    st.lists(
        st.sampled_from(['a=("@method")', "a=:AAAA:", ";created=1", ';keyid="billing"', "=", "(", ")", '"', ";", ","]),
        max_size=8,
    ).map("".join),
)


@given(_FIELD, _FIELD)
def test_any_text_is_no_signature(server: Server, signature_input: str, signature: str) -> None:
    _refusal(server, Message("GET", IMAGES, {"Signature-Input": signature_input, "Signature": signature}))


_COMPONENTS = st.sampled_from(
    ["@method", "@target-uri", "@status", "@query-param", "@signature-params", "@x", "content-type", "x-none", "", "é"]
)
_PARAMETERS = st.sampled_from(
    ["", ";sf", ";bs", ";tr", ";req", ';key="a"', ';name="a"', ";created=99999999999", ";created=-1", ";nonce=1", ";x"]
)


@given(st.lists(st.tuples(_COMPONENTS, _PARAMETERS), max_size=6), st.lists(_PARAMETERS, max_size=3))
def test_any_claim_of_what_is_signed_is_refused(
    server: Server, components: list[tuple[str, str]], parameters: list[str]
) -> None:
    covered = " ".join(f'"{name}"{parameter}' for name, parameter in components)
    claim = f'a=({covered});created=1;keyid="billing"{"".join(parameters)}'
    signature = f"a=:{base64.b64encode(os.urandom(32)).decode()}:"
    _refusal(server, Message("GET", IMAGES, {**JSON, "Signature-Input": claim, "Signature": signature}))


@pytest.mark.parametrize("path", ["/%", "/%zz", "/a b", "/\xe9", "/<>", "//x", "/../x", "/\x00"])
def test_a_path_that_no_url_has_is_refused_or_signed_as_it_is(server: Server, path: str) -> None:
    message = _signed(url=f"{BASE}/x")
    message.url = f"{BASE}{path}"
    _refusal(server, message)


def test_no_key_shows_its_secret() -> None:
    assert "bbbb" not in repr(KEYS["billing"])


def _digest(body: bytes) -> str:
    message = Message("PUT", IMAGES)
    sign(message, body=body)
    return message.headers["Content-Digest"]
