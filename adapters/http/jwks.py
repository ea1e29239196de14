"""The keys that an issuer signs with (a JWK Set, RFC 7517): fetched, kept, and fetched anew while requests go on."""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import httpx
import jwt
import msgspec
import structlog
from litestar.concurrency import sync_to_thread

from adapters.http.problems import Problem

_MAX_BYTES = 512 * 1024
_TIMEOUT_S = 10
# Which keys an algorithm may be used with. Nothing symmetric is here: what verifies such tokens could make them too.
_ALGORITHMS = {
    ("RSA", ""): {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"},
    ("EC", "P-256"): {"ES256"},
    ("EC", "P-384"): {"ES384"},
    ("EC", "P-521"): {"ES512"},
    ("OKP", "Ed25519"): {"EdDSA"},
}
ALGORITHMS = frozenset[str]().union(*_ALGORITHMS.values())
"""All that can be allowed."""

Keys = Mapping[tuple[str, str], jwt.PyJWK]
"""Keys by their id and the algorithm they are used with."""

_log = structlog.get_logger("calotype.identity")


class FetchFailed(Exception):
    """The keys can't be had; the message says why."""


class NoneUsable(FetchFailed):
    """There are keys, and none of them is of use here."""


class KeySet:
    """The issuer's keys. While they can't be fetched the last ones serve on.

    An unknown key id is a reason to ask the issuer again: it may have a new key. All requests that come with one wait
    for the same answer, and the issuer is asked at most once in ``min_age_s``, however many tokens somebody invents.

    Args:
        fetch: gets the document, in bounded time and memory, or raises FetchFailed.
        algorithms: what may be used, of ALGORITHMS.
        max_age_s: for how long keys are used before the issuer is asked whether they have changed.
        min_age_s: how long to wait between two questions.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[bytes]],
        *,
        algorithms: Collection[str],
        max_age_s: float,
        min_age_s: float,
    ) -> None:
        """Fetch nothing yet."""
        self._fetch = fetch
        self._algorithms = algorithms
        self._max_age_s = max_age_s
        self._min_age_s = min_age_s
        self.generation = 0
        """Another number whenever other keys are in force."""
        self._document: bytes | None = None
        self._keys: Keys = {}
        self._ids: frozenset[str] = frozenset()
        self._asked_s = -math.inf
        self._failed = True
        self._question: asyncio.Task[None] | None = None

    async def find(self, key_id: str, algorithm: str) -> jwt.PyJWK | None:
        """Return a key, None if the issuer has no such one for this algorithm.

        Raises:
            Problem: nobody can tell, as the issuer does not answer.
        """
        if key_id not in self._ids:
            await self._ask_again()
            if self._failed and key_id not in self._ids:
                raise Problem(
                    "identity_unavailable",
                    "The keys that tokens are checked with can't be had now.",
                    (("Retry-After", str(max(1, math.ceil(self._wait_s())))),),
                )
        return self._keys.get((key_id, algorithm))

    @contextlib.asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator[None]:
        """Fetch the keys now, and then again and again, in the background."""
        task = asyncio.create_task(self._ask_for_ever())
        try:
            yield
        finally:
            for each in filter(None, [task, self._question]):
                each.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await each

    async def _ask_for_ever(self) -> None:
        while True:
            await self._ask_again()
            await asyncio.sleep(self._min_age_s if self._failed else self._max_age_s)

    async def _ask_again(self) -> None:
        if self._question is None:
            if self._wait_s() > 0:
                return
            self._asked_s = time.monotonic()
            self._question = asyncio.create_task(self._ask())
        # The answer is everybody's: a request that is given up must not take it from the others.
        await asyncio.shield(self._question)

    async def _ask(self) -> None:
        try:
            document = await self._fetch()
            if document != self._document:
                self._use(parse_keys(document, self._algorithms))
                self._document = document
                _log.info("issuer_keys", key_ids=sorted(self._ids))
            self._failed = False
        except FetchFailed as error:
            self._failed = True
            if isinstance(error, NoneUsable):  # still an answer: those before are not the issuer's any more
                self._use({})
                self._document = None
            _log.warning("issuer_keys_unavailable", reason=str(error), serving_old_ones=bool(self._ids))
        except Exception:  # noqa: BLE001 (see below)
            # A bug, told with its trace; without this it would end all asking, and nobody would see.
            self._failed = True
            _log.exception("issuer_keys_unavailable")
        finally:
            self._question = None

    def _use(self, keys: Keys) -> None:
        self._keys = keys
        self._ids = frozenset(key_id for key_id, _ in keys)
        self.generation += 1

    def _wait_s(self) -> float:
        """Return for how long the issuer must not be asked yet."""
        return self._asked_s + self._min_age_s - time.monotonic()


def parse_keys(document: bytes, algorithms: Collection[str]) -> Keys:
    """Return the keys of a JWK Set that can check signatures with one of the algorithms.

    What is for something else, or of a kind nobody knows here, is left out (RFC 7517, section 5). So is a key without
    an id: tokens name their key, and none is tried at a venture. An issuer that has no keys at all is believed.

    Raises:
        FetchFailed: it is no JWK Set; NoneUsable, if there is nothing in it but what is left out.
    """
    try:
        keys = msgspec.json.decode(document)["keys"]
        entries = [each for each in keys if isinstance(each, dict)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError) as error:
        raise FetchFailed("it is no JSON object with a list of keys") from error
    found: dict[tuple[str, str], jwt.PyJWK] = {}
    for entry in entries:
        for algorithm in _uses(entry).intersection(algorithms):
            with contextlib.suppress(jwt.PyJWTError):  # broken
                found.setdefault((entry["kid"], algorithm), jwt.PyJWK(entry, algorithm))
    if keys and not found:
        raise NoneUsable(f"none of its keys has an id and is for {', '.join(sorted(algorithms))}")
    return found


def _uses(entry: Mapping[str, Any]) -> set[str]:
    """Return the algorithms that a key may be used with; none if it is not for checking signatures."""
    operations = entry.get("key_ops", ["verify"])
    if (
        not isinstance(entry.get("kid"), str)
        or entry.get("use", "sig") != "sig"
        or not (isinstance(operations, list) and "verify" in operations)
        or "d" in entry  # a private key, which somebody published by mistake
    ):
        return set()
    fitting = _ALGORITHMS.get((str(entry.get("kty")), str(entry.get("crv", ""))), set())
    return {each for each in fitting if each == entry.get("alg", each)}


def from_file(path: Path) -> Callable[[], Awaitable[bytes]]:
    """Return what reads a JWK Set from a file."""

    async def fetch() -> bytes:
        return await sync_to_thread(read_file, path)

    return fetch


def read_file(path: Path) -> bytes:
    """Return what a file holds; raise FetchFailed."""
    try:
        with path.open("rb") as file:
            return _bounded(file.read(_MAX_BYTES + 1))
    except OSError as error:
        raise FetchFailed(f"{path} can't be read: {error.strerror}") from error


def from_url(url: str) -> Callable[[], Awaitable[bytes]]:
    """Return what fetches a JWK Set with one GET, in 10 seconds at most. A redirection is a failure.

    An https:// URL goes through the proxy that the environment names, if it does; http:// is for this machine alone.

    Raises:
        FetchFailed: it is no URL.
    """
    try:
        httpx.URL(url)
    except httpx.InvalidURL as error:
        raise FetchFailed(f"it is no URL: {error}") from error
    is_secure = url.startswith("https:")
    verify = httpx.create_ssl_context() if is_secure else False  # reads many certificates: once

    async def fetch() -> bytes:
        try:
            async with (
                asyncio.timeout(_TIMEOUT_S),
                httpx.AsyncClient(verify=verify, timeout=_TIMEOUT_S, trust_env=is_secure) as client,
                # Bytes as they come: what is small here may be large when it is unpacked.
                client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response,
            ):
                if response.status_code != httpx.codes.OK:
                    raise FetchFailed(f"{url} answers with status {response.status_code}")
                body = b""
                async for piece in response.aiter_raw():
                    body = _bounded(body + piece)
                return body
        except TimeoutError as error:
            raise FetchFailed(f"{url} takes longer than {_TIMEOUT_S} s") from error
        except httpx.HTTPError as error:
            raise FetchFailed(f"{url} can't be reached: {str(error) or type(error).__name__}") from error

    return fetch


def _bounded(body: bytes) -> bytes:
    if len(body) > _MAX_BYTES:
        raise FetchFailed(f"it is longer than {_MAX_BYTES} bytes")
    return body
