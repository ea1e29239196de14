"""Bearer tokens: which are believed, and what is said of all others."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import time
from functools import cache
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.http.bearer import JwtAuthenticator
from adapters.http.jwks import KeySet
from adapters.http.problems import Problem
from domain.values import UserId
from tests.issuer import AUDIENCE, ISSUER, claims, key_set, private_key, public_jwk, signed, token
from tests.waiting import wait_until

LEEWAY_S = 30
PUBLISHED = key_set(
    public_jwk("one", alg="RS256"),
    public_jwk("curve", "EC"),
    public_jwk("edwards", "Ed25519"),
    public_jwk("secret", use="enc"),
    public_jwk("short", "short RSA"),
)


def _authenticator(document: bytes = PUBLISHED, **changes: Any) -> JwtAuthenticator:
    async def fetch() -> bytes:
        return document

    algorithms = changes.pop("algorithms", ("RS256", "ES256", "EdDSA"))
    keys = KeySet(fetch, algorithms=algorithms, max_age_s=300, min_age_s=300)
    settings = {"issuer": ISSUER, "audiences": [AUDIENCE], "leeway_s": LEEWAY_S, **changes}
    return JwtAuthenticator(keys, algorithms=algorithms, **settings)


def _asked(credentials: str | None, authenticator: JwtAuthenticator | None = None) -> UserId:
    headers = [] if credentials is None else [(b"authorization", credentials.encode("latin-1"))]
    return asyncio.run((authenticator or _authenticator()).authenticate({"headers": headers}))


def _owner(given_token: str, **changes: Any) -> UserId:
    return _asked(f"Bearer {given_token}", _authenticator(**changes))


def _refusal(credentials: str, **changes: Any) -> str:
    """Return what is said of a token; every refusal has the form of RFC 6750, section 3."""
    with pytest.raises(Problem) as refused:
        _asked(credentials, _authenticator(**changes))
    problem = refused.value
    assert problem.code == "invalid_token"
    (challenge,) = (value for name, value in problem.headers if name == "WWW-Authenticate")
    start, reason, end = challenge.split('"')[:1] + challenge.split('"')[3:]
    assert (start, end) == ("Bearer error=", "")
    assert challenge == f'Bearer error="invalid_token", error_description="{reason}"'
    assert problem.detail == f"{reason[0].upper()}{reason[1:]}."
    return reason


@pytest.mark.parametrize(
    ("name", "kind", "algorithm"), [("one", "RSA", "RS256"), ("curve", "EC", "ES256"), ("edwards", "Ed25519", "EdDSA")]
)
def test_a_token_of_the_issuer_for_this_audience_names_the_owner(name: str, kind: str, algorithm: str) -> None:
    assert _owner(token(name, kind, algorithm)) == "ada"


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer  "])
def test_the_scheme_may_be_written_in_any_way(scheme: str) -> None:
    assert _asked(f"{scheme} {token()}") == "ada"


@pytest.mark.parametrize("credentials", [None, "", "Bearer", "Basic YTpi", "Digest x", "x"])
def test_without_a_token_the_answer_asks_for_one(credentials: str | None) -> None:
    with pytest.raises(Problem) as refused:
        _asked(credentials)
    assert refused.value.code == "unauthenticated"
    assert refused.value.headers == (("WWW-Authenticate", "Bearer"),)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": 0}, "the token has expired"),
        ({"exp": None}, "the token lacks a claim that is needed"),
        ({"exp": "soon"}, "the token is malformed"),
        ({"exp": "4102444800"}, "the token is malformed"),
        ({"exp": True}, "the token has expired"),
        ({"exp": float("inf")}, "the token is malformed"),
        ({"nbf": "later"}, "the token is malformed"),
        ({"iat": []}, "the token is malformed"),
        ({"iss": None}, "the token lacks a claim that is needed"),
        ({"iss": "https://issuer.example"}, "the token is of another issuer"),
        ({"iss": [ISSUER]}, "the token is of another issuer"),
        ({"aud": None}, "the token lacks a claim that is needed"),
        ({"aud": "https://other.example"}, "the token is for another audience"),
        ({"aud": ["https://other.example"]}, "the token is for another audience"),
        ({"aud": []}, "the token is for another audience"),
        ({"aud": {AUDIENCE: 1}}, "the token is for another audience"),
        ({"aud": 7}, "the token is for another audience"),
        ({"sub": None}, "the token lacks a claim that is needed"),
        ({"sub": ""}, "the token's owner can't be one here"),
        ({"sub": "a b"}, "the token's owner can't be one here"),
        ({"sub": "a" * 129}, "the token's owner can't be one here"),
        ({"sub": "ada\n"}, "the token's owner can't be one here"),
    ],
)
def test_a_token_that_says_something_else_is_refused_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    assert _refusal(f"Bearer {signed(claims(**changes))}") == reason


@pytest.mark.parametrize(
    ("claim", "off_s", "reason"),
    [
        ("exp", -LEEWAY_S - 5, "the token has expired"),
        ("nbf", LEEWAY_S + 60, "the token is not valid yet"),
        ("iat", LEEWAY_S + 60, "the token is not valid yet"),
    ],
)
def test_a_token_is_refused_before_and_after_its_time(claim: str, off_s: int, reason: str) -> None:
    assert _refusal(f"Bearer {signed(claims(**{claim: int(time.time()) + off_s}))}") == reason


@pytest.mark.parametrize("sub", [7, ["ada"], {"ada": 1}, True])
def test_an_owner_that_is_no_text_is_refused(sub: object) -> None:
    assert _refusal(f"Bearer {token(user=sub)}", owner_claim="user") == "the token's owner can't be one here"
    assert _refusal(f"Bearer {token(sub=sub)}") == "the token is malformed"


@pytest.mark.parametrize(("claim", "off_s"), [("exp", -LEEWAY_S + 15), ("nbf", LEEWAY_S - 15), ("iat", LEEWAY_S - 15)])
def test_the_issuers_clock_may_be_off_a_little(claim: str, off_s: int) -> None:
    assert _owner(signed(claims(**{claim: int(time.time()) + off_s}))) == "ada"


def _forged(header: dict[str, Any], *, signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(claims()).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, 5, ["RS256"], {"a": 1}])
@pytest.mark.parametrize("signature", [b"", b"x"])
def test_a_token_that_is_not_signed_is_refused(algorithm: object, signature: bytes) -> None:
    forged = _forged({"alg": algorithm, "kid": "one", "typ": "JWT"}, signature=signature)
    assert _refusal(f"Bearer {forged}") in {"the token's algorithm is not accepted", "the token is malformed"}


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_the_public_key_is_no_shared_secret(algorithm: str) -> None:
    public = private_key().public_key()
    for encoding, form in [
        (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        (Encoding.PEM, PublicFormat.PKCS1),
        (Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    ]:
        unsigned = _forged({"alg": algorithm, "kid": "one"}).rstrip(".")
        secret = public.public_bytes(encoding, form)
        digest = hmac.new(secret, unsigned.encode(), getattr(hashlib, f"sha{algorithm[2:]}")).digest()
        forged = f"{unsigned}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
        assert _refusal(f"Bearer {forged}") == "the token's algorithm is not accepted"


def test_an_algorithm_that_was_not_set_is_refused_though_the_key_fits() -> None:
    allowed = ("RS256",)
    assert _refusal(f"Bearer {token('curve', 'EC', 'ES256')}", algorithms=allowed) == (
        "the token's algorithm is not accepted"
    )
    assert _refusal(f"Bearer {token(algorithm='RS512')}") == "the token's algorithm is not accepted"


def test_a_key_is_used_with_its_own_algorithm_alone() -> None:
    both = ("RS256", "PS256", "ES256")
    assert _refusal(f"Bearer {token(algorithm='PS256')}", algorithms=both) == (
        "the token's key is not one of the issuer's"
    )
    free = key_set(public_jwk("one"))
    assert _owner(token(algorithm="PS256"), document=free, algorithms=both) == "ada"
    assert _owner(token(algorithm="RS256"), document=free, algorithms=both) == "ada"


def test_a_key_of_another_kind_is_refused() -> None:
    mixed = token("one", headers={"kid": "curve"})  # RS256, and the id of a key on a curve
    assert _refusal(f"Bearer {mixed}") == "the token's key is not one of the issuer's"


def test_a_key_that_nobody_published_is_refused() -> None:
    assert _refusal(f"Bearer {token('two')}") == "the token's key is not one of the issuer's"


def test_a_key_under_anothers_name_is_refused() -> None:
    assert _refusal(f"Bearer {token('two', headers={'kid': 'one'})}") == "the token's signature is wrong"


def test_a_token_that_names_no_key_is_refused() -> None:
    nameless = jwt.encode(claims(), private_key(), algorithm="RS256")
    assert _refusal(f"Bearer {nameless}") == "the token does not name its key"


@pytest.mark.parametrize("key_id", [5, None, ["one"], {"one": 1}, True])
def test_a_key_id_that_is_no_text_is_refused(key_id: object) -> None:
    forged = _forged({"alg": "RS256", "kid": key_id}, signature=b"x")
    assert _refusal(f"Bearer {forged}") in {"the token is malformed", "the token does not name its key"}


def test_a_key_for_encryption_checks_no_signature() -> None:
    assert _refusal(f"Bearer {token('secret')}") == "the token's key is not one of the issuer's"


def test_a_key_that_is_too_short_is_refused() -> None:
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        weak = token("short", "short RSA")
    assert _refusal(f"Bearer {weak}") == "the token is malformed"


@pytest.mark.parametrize("field", ["jku", "x5u", "jwk", "x5c"])
def test_a_token_can_not_bring_its_own_key(field: str) -> None:
    own = {"jwk": public_jwk("mine"), "x5c": ["MIIB"]}.get(field, "https://attacker.example/keys")
    unknown = token("mine", headers={field: own})
    assert _refusal(f"Bearer {unknown}") == "the token's key is not one of the issuer's"
    borrowed = token("mine", headers={field: own, "kid": "one"})
    assert _refusal(f"Bearer {borrowed}") == "the token's signature is wrong"


@pytest.mark.parametrize("crit", [[], ["exp"], "b64", ["b64"], [5]])
def test_what_a_token_calls_critical_must_be_understood(crit: object) -> None:
    assert _refusal(f"Bearer {token(headers={'crit': crit})}") == "the token is malformed"


def test_a_payload_that_stands_elsewhere_is_refused() -> None:
    header = {"alg": "RS256", "kid": "one", "b64": False, "crit": ["b64"]}
    assert _refusal(f"Bearer {_forged(header, signature=b'x')}") == "the token is malformed"


@pytest.mark.parametrize(
    "credentials",
    [
        "Bearer x",
        "Bearer a.b",
        "Bearer a.b.c",
        "Bearer ..",
        "Bearer a.b.c.d.e",
        "Bearer \xff.\xff.\xff",
        'Bearer error="x"',
        "Bearer , ",
    ],
)
def test_garbage_is_refused(credentials: str) -> None:
    assert _refusal(credentials) == "the token is malformed"


def test_two_tokens_are_none() -> None:
    assert _refusal(f"Bearer {token()}, Bearer {token()}") == "the token is malformed"  # as Edge joins them


def test_an_enormous_token_is_refused_unread() -> None:
    assert _refusal(f"Bearer {token(more='x' * 8000)}") == "the token is too long"


@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=300))
def test_any_text_is_no_token(text: str) -> None:
    assert _refusal(f"Bearer {text}")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_FIELDS = st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "iss", "aud", "sub", "exp", "nbf", "iat", "jti"])


@given(st.dictionaries(_FIELDS, _JSON | st.sampled_from(["RS256", "one"]), max_size=6) | _JSON, _JSON, st.binary())
@example({"alg": "RS256", "kid": "one"}, None, b"")
def test_any_forgery_is_refused_in_words(header: Any, payload: Any, signature: bytes) -> None:
    parts = [json.dumps(header).encode(), json.dumps(payload).encode(), signature or b"x"]
    forged = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
    assert _refusal(f"Bearer {forged}")


@given(st.dictionaries(_FIELDS.filter(lambda name: name not in {"alg", "kid", "crit", "b64"}), _JSON, max_size=6))
def test_whatever_the_issuer_signs_is_an_owner_or_refused_in_words(changes: dict[str, Any]) -> None:
    odd = signed({**claims(), **changes})
    with contextlib.suppress(Problem):
        assert _asked(f"Bearer {odd}") == changes.get("sub", "ada")
        return
    assert _refusal(f"Bearer {odd}")


@cache
def _good_token() -> str:
    """Return the same token each time: what Hypothesis draws from it must not change with the clock."""
    return token()


@given(st.data())
def test_a_token_with_any_character_changed_is_refused(data: st.DataObject) -> None:
    good = _good_token()
    place = data.draw(st.integers(0, len(good) - 1))
    other = data.draw(st.sampled_from("AZaz09-_=.,~ ").filter(lambda char: char != good[place]))
    changed = good[:place] + other + good[place + 1 :]
    assert _refusal(f"Bearer {changed}")


# ---- the shapes of two issuers that many use


def test_an_access_token_of_cognito_names_its_client_and_no_audience() -> None:
    pool = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_aBcDeFgHi"
    access: dict[str, Any] = {
        "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
        "iss": pool,
        "client_id": "4pq7rs8tu9vw0xy1",
        "token_use": "access",
        "scope": "openid",
        "auth_time": int(time.time()),
        "username": "ada",
        "jti": "c0ffee",
        "aud": None,
    }
    settings = {"issuer": pool, "audience_claim": "client_id", "audiences": ["another", "4pq7rs8tu9vw0xy1"]}
    assert _owner(token(**access), **settings) == access["sub"]
    assert _owner(token(**access), owner_claim="username", **settings) == "ada"
    other_app = {**access, "client_id": "somebodyelse"}
    assert _refusal(f"Bearer {token(**other_app)}", **settings) == "the token is for another audience"
    # An id token is for the application itself: it has an audience, and no client.
    id_token = {**access, "client_id": None, "aud": "4pq7rs8tu9vw0xy1", "token_use": "id"}
    assert _refusal(f"Bearer {token(**id_token)}", **settings) == "the token lacks a claim that is needed"


def test_an_access_token_of_auth0_has_several_audiences_and_a_subject_with_a_bar() -> None:
    tenant = "https://calotype.eu.auth0.com/"
    access: dict[str, Any] = {
        "iss": tenant,
        "sub": "auth0|507f1f77bcf86cd799439020",
        "aud": [AUDIENCE, f"{tenant}userinfo"],
        "azp": "my_client_id",
        "scope": "openid profile",
    }
    assert _owner(token(**access), issuer=tenant) == "auth0|507f1f77bcf86cd799439020"
    machine = {**access, "sub": "my_client_id@clients"}
    assert _owner(token(**machine), issuer=tenant) == "my_client_id@clients"
    namespaced = {**access, "https://images.example/user": "ada"}
    assert _owner(token(**namespaced), issuer=tenant, owner_claim="https://images.example/user") == "ada"


# ---- tokens that were found good


def test_a_token_that_was_found_good_is_not_checked_again() -> None:
    authenticator, good = _authenticator(), f"Bearer {token()}"
    for _ in range(2):  # the first brought the keys, and whenever there are other ones all tokens are checked anew
        assert _asked(good, authenticator) == "ada"
    authenticator._algorithms = frozenset()  # whoever checks a token now refuses it
    assert _asked(good, authenticator) == "ada"


def test_a_token_that_was_found_good_is_believed_until_it_expires() -> None:
    for lives_s in (0.2, 2, 20):  # the shorter it lives, the sooner it may be over before it is asked with
        # It says a whole second; with the leeway the end is at any moment.
        exp = int(time.time())
        authenticator, good = _authenticator(leeway_s=time.time() - exp + lives_s), f"Bearer {token(exp=exp)}"
        if _said_of(good, authenticator) == "ada":
            break
    else:
        pytest.fail("all were over before they were asked with")
    wait_until(lambda: _said_of(good, authenticator) != "ada")
    assert _said_of(good, authenticator) == "The token has expired."


def _said_of(credentials: str, authenticator: JwtAuthenticator) -> str:
    """Return the owner, or why there is none."""
    try:
        return _asked(credentials, authenticator)
    except Problem as problem:
        return str(problem.detail)


def test_many_tokens_are_remembered_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.http.bearer._KEPT_MAX", 3)
    authenticator = _authenticator()

    async def ask_with_many() -> None:
        for number in range(8):
            one = token(sub=f"user-{number}")
            for _ in range(2):
                asked = {"headers": [(b"authorization", f"Bearer {one}".encode())]}
                assert await authenticator.authenticate(asked) == f"user-{number}"

    asyncio.run(ask_with_many())
    assert len(authenticator._known) == 3
