"""Content-Digest: what a body must be."""

import base64
import hashlib

import pytest
from http_message_signatures import ContentDigest as TheLibrarys
from hypothesis import assume, given
from hypothesis import strategies as st

from adapters.http.digests import ContentDigest
from adapters.http.problems import Problem


def _field(body: bytes, *names: str) -> str:
    return ", ".join(
        f"{name}=:{base64.b64encode(hashlib.new(name.replace('-', ''), body).digest()).decode()}:" for name in names
    )


def _check(field: str | None, *pieces: bytes) -> None:
    digest = ContentDigest(field)
    for piece in pieces:
        digest.update(piece)
    digest.check()


@given(
    st.lists(st.binary(max_size=40), max_size=5), st.sampled_from([("sha-256",), ("sha-512",), ("sha-256", "sha-512")])
)
def test_a_body_is_what_its_digests_name_in_whatever_pieces_it_comes(
    pieces: list[bytes], names: tuple[str, ...]
) -> None:
    _check(_field(b"".join(pieces), *names), *pieces)
    _check(TheLibrarys.create(b"".join(pieces)), *pieces)


@given(st.binary(max_size=40), st.binary(max_size=40), st.sampled_from(["sha-256", "sha-512"]))
def test_another_body_is_refused(body: bytes, other: bytes, name: str) -> None:
    assume(body != other)
    with pytest.raises(Problem) as refused:
        _check(_field(body, name), other)
    assert refused.value.code == "digest_mismatch"


@pytest.mark.parametrize("names", [("sha-256", "sha-512"), ("sha-512", "sha-256")])
def test_of_two_digests_both_must_fit(names: tuple[str, str]) -> None:
    with pytest.raises(Problem):
        _check(f"{_field(b'body', names[0])}, {_field(b'other', names[1])}", b"body")


def test_without_a_digest_there_must_be_no_body() -> None:
    _check(None)
    with pytest.raises(Problem):
        _check(None, b"x")


@pytest.mark.parametrize(
    "field",
    [
        "",
        "sha-256",
        "sha-256=",
        "sha-256=::",
        "sha-256=:AAAA:",
        "sha-256=:A:",
        "sha-256=:====:",
        "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU:",
        "sha-256=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        f"{_field(b'', 'sha-256')},",
        f"{_field(b'', 'sha-256')};a=1",
        f"{_field(b'', 'sha-256')}, {_field(b'', 'sha-256')}",
        f"{_field(b'', 'sha-256')}, md5=:1B2M2Y8AsgTpgAmY7PhCfg==:",
        "SHA-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:",
        "md5=:1B2M2Y8AsgTpgAmY7PhCfg==:",
        "é",
    ],
)
def test_a_field_that_names_no_digest_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match="Content-Digest"):
        ContentDigest(field)


@given(st.text(max_size=80))
def test_any_text_is_a_digest_or_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Content-Digest"):
        ContentDigest(text)
