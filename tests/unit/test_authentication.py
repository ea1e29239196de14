"""Who is asking, as a gateway says it."""

import asyncio

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from adapters.http.authentication import HeaderAuthenticator
from adapters.http.problems import Problem

SECRET, NEXT_SECRET = "s" * 32, "n" * 32


def _asked(*headers: tuple[bytes, bytes], secrets: tuple[str, ...] = ()) -> str:
    return asyncio.run(HeaderAuthenticator(secrets).authenticate({"headers": list(headers)}))


def _refused(*headers: tuple[bytes, bytes], secrets: tuple[str, ...] = ()) -> Problem:
    with pytest.raises(Problem) as refusal:
        _asked(*headers, secrets=secrets)
    assert dict(refusal.value.headers)["WWW-Authenticate"] == "X-User-ID"
    return refusal.value


def test_the_header_names_the_owner() -> None:
    assert _asked((b"accept", b"*/*"), (b"x-user-id", b"auth0|ada")) == "auth0|ada"


def test_without_the_header_nobody_is_asking() -> None:
    assert _refused((b"accept", b"*/*")).code == "unauthenticated"


@pytest.mark.parametrize("value", [b"", b" ", b"a b", b"ada, bob", b"\xc3\xa9", b"a" * 129, b"ada\n"])
def test_a_header_that_names_nobody_is_refused(value: bytes) -> None:
    assert _refused((b"x-user-id", value)).code == "invalid_user"


@pytest.mark.parametrize("given_secret", [SECRET, NEXT_SECRET])
def test_a_gateway_with_one_of_the_secrets_is_believed(given_secret: str) -> None:
    headers = [(b"x-user-id", b"ada"), (b"x-gateway-secret", given_secret.encode())]
    assert _asked(*headers, secrets=(SECRET, NEXT_SECRET)) == "ada"


def test_whoever_has_no_secret_is_nobody() -> None:
    assert _refused((b"x-user-id", b"ada"), secrets=(SECRET,)).code == "unauthenticated"


@given(st.binary(max_size=80))
def test_any_other_secret_is_none(wrong: bytes) -> None:
    assume(wrong != SECRET.encode())
    headers = [(b"x-user-id", b"ada"), (b"x-gateway-secret", wrong)]
    assert _refused(*headers, secrets=(SECRET,)).code == "unauthenticated"


@pytest.mark.parametrize("twice", [f"{SECRET}, {SECRET}", f"{SECRET}, ", f" ,{SECRET}", f"{SECRET},{NEXT_SECRET}"])
def test_a_secret_that_a_client_and_the_gateway_both_send_is_none(twice: str) -> None:
    headers = [(b"x-user-id", b"ada"), (b"x-gateway-secret", twice.encode())]
    assert _refused(*headers, secrets=(SECRET, NEXT_SECRET)).code == "unauthenticated"


def test_no_refusal_says_the_secret() -> None:
    refusal = _refused((b"x-user-id", b"ada"), (b"x-gateway-secret", b"guess"), secrets=(SECRET,))
    assert SECRET not in repr(refusal)
    assert "guess" not in repr(refusal)
