"""The issuer's keys, fetched from a real server and from files: rotated, away, hostile."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import RSAAlgorithm

from adapters.http import jwks
from adapters.http.jwks import FetchFailed, KeySet, from_file, from_url, parse_keys
from adapters.http.problems import Problem
from tests.issuer import IssuerServer, key_set, private_key, public_jwk
from tests.waiting import PATIENCE_S, until

ALGORITHMS = ("RS256", "ES256", "EdDSA")
OLD, NEW = public_jwk("one"), public_jwk("two")
FOREVER_S = 10**6


@pytest.fixture
def issuer() -> Iterator[IssuerServer]:
    with IssuerServer(key_set(OLD)) as running:
        yield running


def _keys(fetch: Callable[[], Awaitable[bytes]], *, max_age_s: float = FOREVER_S, min_age_s: float = 0) -> KeySet:
    return KeySet(fetch, algorithms=ALGORITHMS, max_age_s=max_age_s, min_age_s=min_age_s)


def _run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(3 * PATIENCE_S):
            await test()

    asyncio.run(bounded())


# ---- fetched when they are needed


def test_a_key_is_fetched_once_and_kept(issuer: IssuerServer) -> None:
    async def test() -> None:
        keys = _keys(from_url(issuer.url))
        for _ in range(3):
            assert isinstance(await keys.find("one", "RS256"), jwt.PyJWK)
        assert issuer.asked == 1

    _run(test)


def test_all_who_need_it_at_once_wait_for_one_answer(issuer: IssuerServer) -> None:
    async def test() -> None:
        keys = _keys(from_url(issuer.url))
        issuer.go_on.clear()
        waiting = [asyncio.create_task(keys.find("one", "RS256")) for _ in range(20)]
        await until(lambda: _is(issuer.asked == 1))
        waiting[0].cancel()  # whoever gives up takes it from nobody
        issuer.go_on.set()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting[0]
        assert all(await asyncio.gather(*waiting[1:]))
        assert issuer.asked == 1

    _run(test)


def test_a_new_key_is_found_by_its_first_token(issuer: IssuerServer) -> None:
    async def test() -> None:
        keys = _keys(from_url(issuer.url))
        assert await keys.find("one", "RS256")
        generation = keys.generation
        issuer.body = key_set(NEW)
        assert await keys.find("two", "RS256")
        assert await keys.find("one", "RS256") is None
        assert keys.generation != generation

    _run(test)


def test_invented_key_ids_do_not_make_it_ask_without_end(issuer: IssuerServer) -> None:
    async def test() -> None:
        keys = _keys(from_url(issuer.url), min_age_s=FOREVER_S)
        assert await keys.find("one", "RS256")
        for number in range(50):
            assert await keys.find(f"invented-{number}", "RS256") is None
        assert issuer.asked == 1

    _run(test)


def test_a_known_key_with_another_algorithm_is_no_reason_to_ask(issuer: IssuerServer) -> None:
    async def test() -> None:
        keys = _keys(from_url(issuer.url))
        assert await keys.find("one", "RS256")
        assert await keys.find("one", "ES256") is None
        assert issuer.asked == 1

    _run(test)


# ---- kept fresh


def test_a_key_that_was_taken_back_is_forgotten_though_nobody_asks_for_another(issuer: IssuerServer) -> None:
    async def test() -> None:
        keys = _keys(from_url(issuer.url), max_age_s=0.05, min_age_s=0.01)
        async with keys.kept_fresh():
            await until(lambda: _found(keys, "one"))
            issuer.body = key_set(NEW)
            await until(lambda: _is(keys.generation == 2))
            assert await keys.find("one", "RS256") is None
            assert asyncio.all_tasks() != {asyncio.current_task()}
        assert asyncio.all_tasks() == {asyncio.current_task()}  # nothing is left running

    _run(test)


def test_an_issuer_that_has_no_keys_any_more_is_believed(issuer: IssuerServer) -> None:
    async def test() -> None:
        keys = _keys(from_url(issuer.url))
        assert await keys.find("one", "RS256")
        issuer.body = key_set()
        assert await keys.find("another", "RS256") is None
        assert await keys.find("one", "RS256") is None

    _run(test)


def test_keys_that_are_not_among_the_new_ones_are_forgotten_though_none_of_those_is_of_use(
    issuer: IssuerServer,
) -> None:
    async def test() -> None:
        keys = _keys(from_url(issuer.url))
        assert await keys.find("one", "RS256")
        generation = keys.generation
        issuer.body = key_set(public_jwk("two", alg="PS512"))
        for _ in range(2):
            with pytest.raises(Problem) as refused:
                await keys.find("one" if keys.generation > generation else "two", "RS256")
            assert refused.value.code == "identity_unavailable"
        assert keys.generation > generation
        issuer.body = key_set(OLD)
        assert await keys.find("one", "RS256")

    _run(test)


def test_an_unchanged_answer_changes_nothing(issuer: IssuerServer) -> None:
    async def test() -> None:
        keys = _keys(from_url(issuer.url))
        assert await keys.find("one", "RS256")
        assert await keys.find("invented", "RS256") is None
        assert (issuer.asked, keys.generation) == (2, 1)

    _run(test)


# ---- the issuer is away


def test_without_any_keys_nobody_can_tell(issuer: IssuerServer) -> None:
    issuer.status = 503

    async def test() -> None:
        keys = _keys(from_url(issuer.url), min_age_s=20)
        for _ in range(3):
            with pytest.raises(Problem) as refused:
                await keys.find("one", "RS256")
            assert refused.value.code == "identity_unavailable"
            assert 1 <= int(dict(refused.value.headers)["Retry-After"]) <= 20
        assert issuer.asked == 1

    _run(test)


def test_the_last_keys_serve_on_while_the_issuer_is_away(issuer: IssuerServer) -> None:
    async def test() -> None:
        keys = _keys(from_url(issuer.url))
        assert await keys.find("one", "RS256")
        issuer.status = 500
        with pytest.raises(Problem) as refused:  # it may well be a new one of the issuer's
            await keys.find("two", "RS256")
        assert refused.value.code == "identity_unavailable"
        assert await keys.find("one", "RS256")
        issuer.status, issuer.body = 200, key_set(OLD, NEW)
        assert await keys.find("two", "RS256")

    _run(test)


def test_it_recovers_by_itself(issuer: IssuerServer) -> None:
    issuer.status = 500

    async def test() -> None:
        keys = _keys(from_url(issuer.url), min_age_s=0.05)
        async with keys.kept_fresh():
            await until(lambda: _is(issuer.asked >= 2))
            issuer.status = 200
            await until(lambda: _is(keys.generation == 1))
            assert await keys.find("one", "RS256")

    _run(test)


def test_nobody_else_waits_while_the_issuer_hangs(issuer: IssuerServer) -> None:
    async def test() -> None:
        keys = _keys(from_url(issuer.url))
        assert await keys.find("one", "RS256")
        issuer.go_on.clear()
        waiting = asyncio.create_task(keys.find("two", "RS256"))
        await until(lambda: _is(issuer.asked == 2))
        assert await keys.find("one", "RS256")
        assert not waiting.done()
        issuer.go_on.set()
        assert await waiting is None

    _run(test)


@pytest.mark.parametrize("what", [jwt.PyJWTError("x"), ZeroDivisionError()])
def test_a_bug_does_not_end_the_asking(what: Exception) -> None:
    answers: list[Any] = [what, key_set(OLD)]

    async def fetch() -> bytes:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return bytes(answer)

    async def test() -> None:
        keys = _keys(fetch)
        with pytest.raises(Problem):
            await keys.find("one", "RS256")
        assert await keys.find("one", "RS256")

    _run(test)


# ---- how they are fetched


def _failure(fetch: Callable[[], Awaitable[bytes]]) -> str:
    async def test() -> None:
        await fetch()

    with pytest.raises(FetchFailed) as failed:
        _run(test)
    return str(failed.value)


@pytest.mark.parametrize("status", [204, 301, 302, 307, 401, 404, 500])
def test_another_status_than_200_is_a_failure_and_nothing_is_followed(issuer: IssuerServer, status: int) -> None:
    with IssuerServer(key_set(NEW)) as elsewhere:
        issuer.status, issuer.headers = status, {"Location": elsewhere.url}
        assert f"status {status}" in _failure(from_url(issuer.url))
        assert elsewhere.asked == 0


def test_an_answer_without_end_is_broken_off(issuer: IssuerServer) -> None:
    issuer.body = b" " * (jwks._MAX_BYTES + 1)
    assert "longer than" in _failure(from_url(issuer.url))


def test_an_answer_is_not_unpacked(issuer: IssuerServer) -> None:
    issuer.headers = {"Content-Encoding": "gzip"}

    async def test() -> None:
        assert await from_url(issuer.url)() == issuer.body

    _run(test)


def test_an_issuer_that_does_not_answer_in_time_has_failed(
    issuer: IssuerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "_TIMEOUT_S", 0.3)
    issuer.go_on.clear()
    assert _failure(from_url(issuer.url))


def test_an_issuer_that_is_not_there_has_failed(issuer: IssuerServer) -> None:
    url = issuer.url.replace("127.0.0.1", "127.0.0.9")
    assert url in _failure(from_url(url))
    with pytest.raises(FetchFailed, match="no URL"):
        from_url("https://[::1")


def test_a_certificate_that_nobody_vouches_for_is_refused(issuer: IssuerServer) -> None:
    assert _failure(from_url(issuer.url.replace("http:", "https:")))


def test_a_file_is_read_anew_too(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(key_set(OLD))

    async def test() -> None:
        keys = _keys(from_file(path))
        assert await keys.find("one", "RS256")
        path.write_bytes(key_set(NEW))
        assert await keys.find("two", "RS256")
        path.unlink()
        with pytest.raises(Problem):
            await keys.find("three", "RS256")
        assert await keys.find("two", "RS256")

    _run(test)


@pytest.mark.parametrize("what", ["none", "folder", "long"])
def test_a_file_that_can_not_be_read_is_a_failure(tmp_path: Path, what: str) -> None:
    path = tmp_path / what
    if what == "folder":
        path.mkdir()
    if what == "long":
        path.write_bytes(b" " * (jwks._MAX_BYTES + 1))
    assert _failure(from_file(path))


# ---- what is in them


def test_only_keys_that_check_signatures_are_taken() -> None:
    keys = parse_keys(
        key_set(
            OLD,
            public_jwk("curve", "EC"),
            public_jwk("edwards", "Ed25519"),
            public_jwk("for encryption", use="enc"),
            public_jwk("for another algorithm", alg="RSA-OAEP"),
            public_jwk("for signing", key_ops=["sign"]) | {"key_ops": ["sign"]},
            public_jwk("nameless", kid=None),
            public_jwk("oddly named", kid=5),
            public_jwk("broken", n="!"),
            {"kty": "oct", "kid": "secret", "k": "c2VjcmV0", "alg": "HS256"},
            {**_private_jwk(), "kid": "private"},
            {"kty": "EC", "kid": "odd curve", "crv": "secp256k1", "x": "AA", "y": "AA"},
            {"kid": "no kind"},
        ),
        {*ALGORITHMS, "HS256"},
    )
    assert set(keys) == {("one", "RS256"), ("curve", "ES256"), ("edwards", "EdDSA")}


def test_the_first_of_two_keys_with_one_name_counts() -> None:
    keys = parse_keys(key_set(OLD, public_jwk("two", kid="one"), public_jwk("curve", "EC", kid="one")), ALGORITHMS)
    assert set(keys) == {("one", "RS256"), ("one", "ES256")}
    assert (
        keys["one", "RS256"].key.public_numbers()
        == parse_keys(key_set(OLD), ALGORITHMS)["one", "RS256"].key.public_numbers()
    )


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"keys": 5}', b'{"keys": null}', b"<html>", b"\xff", b"5"])
def test_what_is_no_key_set_is_a_failure(document: bytes) -> None:
    with pytest.raises(FetchFailed):
        parse_keys(document, ALGORITHMS)


def test_keys_of_which_none_is_of_use_are_a_failure_that_says_so() -> None:
    with pytest.raises(FetchFailed, match="has an id and is for ES256"):
        parse_keys(key_set(OLD), ["ES256"])


_ODD: st.SearchStrategy[Any] = (
    st.none() | st.integers() | st.text(max_size=5) | st.lists(st.text(max_size=3), max_size=2) | st.just({})
)


@given(st.dictionaries(st.sampled_from(["kty", "crv", "n", "e", "x", "y", "alg", "use", "key_ops", "kid"]), _ODD))
def test_an_odd_key_spoils_no_other(odd: dict[str, Any]) -> None:
    for whole in [public_jwk("odd"), public_jwk("odd curve", "EC"), public_jwk("odd edwards", "Ed25519")]:
        assert ("one", "RS256") in parse_keys(key_set({**whole, **odd}, odd, OLD), ALGORITHMS)


@given(st.recursive(_ODD | st.floats(), lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=4), inner)))
def test_any_json_is_a_key_set_or_a_failure(value: Any) -> None:
    for document in [json.dumps(value), json.dumps({"keys": value})]:
        with contextlib.suppress(FetchFailed):
            assert parse_keys(document.encode(), ALGORITHMS) == {}


def _private_jwk() -> dict[str, Any]:
    jwk = RSAAlgorithm.to_jwk(cast("RSAPrivateKey", private_key()), as_dict=True)
    return {name: value for name, value in jwk.items() if name != "key_ops"}


async def _is(value: bool) -> bool:  # noqa: FBT001
    return value


async def _found(keys: KeySet, key_id: str) -> bool:
    return await keys.find(key_id, "RS256") is not None
