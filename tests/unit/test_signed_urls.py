"""Signed URLs of the service itself: what was signed is honoured until it is over, and nothing else is."""

import re
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from adapters.filesystem.signing import UrlSigner
from adapters.http.routes.objects import _parameters as parameters_of
from application.ports import Disposition, Permit
from domain.values import Filename

FOLDER = "images/00000000-0000-4000-8000-000000000001/"
KEY = f"{FOLDER}photo.jpg"
EXPIRES = 1_800_000_000
SIGNER = UrlSigner("http://localhost:8000", b"s" * 32)
SHA256 = "ab" * 32
INLINE = Permit(SHA256, "inline")

dispositions = st.sampled_from(["inline", "attachment"])
keys = st.text(max_size=300).map(lambda text: FOLDER + Filename(text))


def taken_apart(url: str) -> tuple[str, dict[str, str]]:
    """Return key and parameters as a server decodes them."""
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, strict_parsing=True)
    assert len(dict(pairs)) == len(pairs)
    return unquote(parts.path.removeprefix("/objects/"), errors="strict"), dict(pairs)


def verdict(url: str, *, method: str = "GET", at: float = EXPIRES - 1.0, signer: UrlSigner = SIGNER) -> Permit | None:
    key, params = taken_apart(url)
    return signer.verified(method, key, params, at=at)


@given(key=keys, disposition=dispositions, expires=st.integers(1, 10**11))
def test_a_signed_url_is_honoured_until_it_expires(key: str, disposition: Disposition, expires: int) -> None:
    permit = Permit(SHA256, disposition)
    url = SIGNER.url(key, permit, expires)
    assert url.isascii()
    assert taken_apart(url)[0] == key
    assert verdict(url, at=expires - 0.001) == permit
    assert verdict(url, at=expires) is None
    assert verdict(url, at=expires + 1) is None


def test_a_signed_url_shows_what_it_promises() -> None:
    url = SIGNER.url(f"{FOLDER}é a?.jpg", INLINE, EXPIRES)
    path, query = url.split("?")
    assert path == f"http://localhost:8000/objects/{FOLDER}%C3%A9%20a%3F.jpg"
    assert re.fullmatch(rf"expires={EXPIRES}&disposition=inline&signature={SHA256}[0-9a-f]{{64}}", query)


def test_a_slash_behind_the_public_url_does_not_count() -> None:
    assert UrlSigner("https://host/base/", b"s" * 32).url(KEY, INLINE, 1).startswith("https://host/base/objects/")


@given(data=st.data(), key=keys, disposition=dispositions)
def test_a_url_with_any_character_changed_is_refused(data: st.DataObject, key: str, disposition: Disposition) -> None:
    key, params = taken_apart(SIGNER.url(key, Permit(SHA256, disposition), EXPIRES))
    parts = {"key": key, **params}
    field = data.draw(st.sampled_from(sorted(parts)))
    position = data.draw(st.integers(0, len(parts[field]) - 1))
    other = data.draw(st.characters() | st.sampled_from("0123456789abcdefABCDEF") | st.just(""))
    changed = parts[field][:position] + other + parts[field][position + 1 :]
    assume(changed != parts[field])
    parts[field] = changed
    assert SIGNER.verified("GET", parts.pop("key"), parts, at=EXPIRES - 1) is None


@given(field=st.sampled_from(["key", "expires", "disposition", "signature"]), value=st.text())
def test_a_url_with_any_part_replaced_is_refused_without_a_fuss(field: str, value: str) -> None:
    key, params = taken_apart(SIGNER.url(KEY, INLINE, EXPIRES))
    parts = {"key": key, **params}
    assume(parts[field] != value)
    parts[field] = value
    assert SIGNER.verified("GET", parts.pop("key"), parts, at=EXPIRES - 1) is None


@given(data=st.data())
def test_a_query_that_was_changed_means_the_same_or_nothing(data: st.DataObject) -> None:
    """Whatever is done to the query as it stands in the URL, nobody gets anything that was not signed."""
    url = SIGNER.url(KEY, INLINE, EXPIRES)
    query = urlsplit(url).query
    for _ in range(data.draw(st.integers(1, 3))):
        at, until = sorted(data.draw(st.tuples(*[st.integers(0, len(query))] * 2)))
        put = data.draw(
            st.sampled_from([*"0123456789af&=+%;?#", "%26", "%3D", "&expires=9", query]) | st.text(max_size=3)
        )
        query = query[:at] + put + query[until:]
    params = parameters_of(query.encode())
    permit = SIGNER.verified("GET", KEY, params, at=EXPIRES - 1)
    assert permit is None or (permit, params) == (INLINE, taken_apart(url)[1])


@given(key=keys, other=keys | st.text())
def test_a_signature_is_for_one_key(key: str, other: str) -> None:
    assume(key != other)
    _, params = taken_apart(SIGNER.url(key, INLINE, EXPIRES))
    assert SIGNER.verified("GET", other, params, at=EXPIRES - 1) is None


@pytest.mark.parametrize(
    "expires", ["", "-1", "1e9", "9" * 5000, " 1800000000", "1800000000\n", "١٨٠٠٠٠٠٠٠٠", "\ud800"]
)
def test_a_malformed_expiry_is_refused(expires: str) -> None:
    key, params = taken_apart(SIGNER.url(KEY, INLINE, EXPIRES))
    assert SIGNER.verified("GET", key, params | {"expires": expires}, at=0) is None


@pytest.mark.parametrize("signature", ["", "é" * 64, "\ud800", "f" * 64, "0" * 10_000, "\0"])
def test_a_malformed_signature_is_refused(signature: str) -> None:
    key, params = taken_apart(SIGNER.url(KEY, INLINE, EXPIRES))
    assert SIGNER.verified("GET", key, params | {"signature": signature}, at=0) is None


def test_a_signature_in_capitals_is_refused() -> None:
    key, params = taken_apart(SIGNER.url(KEY, INLINE, EXPIRES))
    assert SIGNER.verified("GET", key, params | {"signature": params["signature"].upper()}, at=0) is None


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "get", "", "GET\n"])
def test_a_url_is_for_get_alone(method: str) -> None:
    assert verdict(SIGNER.url(KEY, INLINE, EXPIRES), method=method) is None


def test_another_secret_is_refused() -> None:
    other = UrlSigner(SIGNER.public_url, b"t" * 32)
    assert verdict(SIGNER.url(KEY, INLINE, EXPIRES), signer=other) is None


def test_missing_and_extra_parameters_are_refused() -> None:
    key, params = taken_apart(SIGNER.url(KEY, INLINE, EXPIRES))
    assert SIGNER.verified("GET", key, params, at=0) == INLINE
    assert SIGNER.verified("GET", key, params | {"download": "1"}, at=0) is None
    for name in params:
        rest = {other: value for other, value in params.items() if other != name}
        assert SIGNER.verified("GET", key, rest, at=0) is None
        assert SIGNER.verified("GET", key, rest | {name.upper(): params[name]}, at=0) is None


def test_an_expired_url_is_not_extended_by_a_later_expiry() -> None:
    key, params = taken_apart(SIGNER.url(KEY, INLINE, EXPIRES))
    assert SIGNER.verified("GET", key, params | {"expires": str(EXPIRES + 3600)}, at=EXPIRES) is None


@given(
    st.tuples(*[st.text(alphabet="1:\nab", max_size=6)] * 5), st.tuples(*[st.text(alphabet="1:\nab", max_size=6)] * 5)
)
@example(("a\nb", "c", "d", "", ""), ("a", "b", "c", "d\n", ""))
def test_other_requests_have_other_signatures(
    one: tuple[str, str, str, str, str], other: tuple[str, str, str, str, str]
) -> None:
    assume(one != other)
    assert SIGNER._signature(*one) != SIGNER._signature(*other)


@pytest.mark.parametrize("secret", [b"", b"s" * 31])
def test_a_short_secret_signs_nothing(secret: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        UrlSigner("http://localhost", secret)


def test_the_secret_is_not_shown() -> None:
    assert "ssss" not in repr(SIGNER)
