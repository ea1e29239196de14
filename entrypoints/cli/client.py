"""A small typed client of the HTTP API, version 1. It knows nothing of the command line."""

import hashlib
import itertools
import json
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import TracebackType
from typing import Any, BinaryIO, Literal, NamedTuple, Self, TypedDict, cast
from urllib.parse import unquote
from uuid import UUID

import httpx

PAGE_MAX_ITEMS = 100
_IMAGES = "api/v1/images"

# Answers that a later try may change. The gateway's own say as little of the outcome as a lost connection.
_GATEWAYS_OWN = {HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT}
_TRANSIENT = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, *_GATEWAYS_OWN}


class ImageDocument(TypedDict):
    """The public document of one image, as the server sent it."""

    image_id: str
    user_id: str
    s3_key: str
    filename: str
    title: str
    description: str
    tags: list[str]
    content_type: str
    size_bytes: int
    width: int
    height: int
    sha256: str
    created_at: str
    updated_at: str
    version: int
    presigned_url: str
    presigned_url_expires_at: str


class Page(TypedDict):
    """One page of a listing, newest first."""

    items: list[ImageDocument]
    next_cursor: str | None


class Deletion(TypedDict):
    """What was deleted, and until when it can be restored."""

    image_id: str
    deleted_at: str
    restorable_until: str


class Uploaded(NamedTuple):
    """An image that is stored now; ``replayed`` when an earlier call with the same key had stored it."""

    image: ImageDocument
    replayed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """The words to store beside a file. Without a title the server takes the filename's stem."""

    title: str | None = None
    description: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """Which images to list: all, those with any or all of the tags, or those with a title."""

    tags: tuple[str, ...] = ()
    match: Literal["any", "all"] = "any"
    title: str | None = None

    @property
    def params(self) -> dict[str, str | Sequence[str]]:
        """The query parameters that say it."""
        if self.tags:
            return {"filter_by": "tags", "tags": self.tags, "match": self.match}
        return {} if self.title is None else {"filter_by": "title", "title": self.title}


# ---- what may go wrong


class RequestFailed(Exception):
    """A request that did not do what it was meant to; ``lines`` tell why, one fault a line.

    ``transient`` when another try may go better, not before ``retry_after_s`` if the server said so.
    """

    def __init__(self, *lines: str, transient: bool = False, retry_after_s: float | None = None) -> None:
        """Keep the reasons."""
        super().__init__("; ".join(lines))
        self.lines = lines
        self.transient = transient
        self.retry_after_s = retry_after_s
        self.after_lost_answer = False
        """Whether an earlier try of the same request may have been carried out."""

    @property
    def may_be_done(self) -> bool:
        """Whether this try may have been carried out nevertheless."""
        return False


class Unreachable(RequestFailed):
    """There is no connection to the server."""


class ConnectionLost(RequestFailed):
    """The connection broke off, or nothing came in time. Whether the request was carried out is unknown."""

    @property
    def may_be_done(self) -> bool:
        """Nobody can tell."""
        return True


class Unintelligible(RequestFailed):
    """The server answered well, but not as a Calotype server does."""


class Corrupted(RequestFailed):
    """The bytes that came are not the bytes that are stored, or can't be known to be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One of several things wrong with an input: the reason ends a sentence that starts with the field."""

    field: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A problem document (RFC 9457). Texts are empty where an answer lacks them, as a proxy's would."""

    status: int
    code: str = ""
    title: str = ""
    detail: str = ""
    request_id: str = ""
    errors: tuple[Fault, ...] = ()

    @classmethod
    def of(cls, response: httpx.Response) -> Self:
        """Read any answer that isn't a success, whoever wrote it."""
        body = _json_object(response) or {}
        texts = {name: str(body.get(name) or "") for name in ("code", "title", "detail", "request_id")}
        if not texts["title"]:
            moved = f" to {response.headers['Location']}" if response.has_redirect_location else ""
            texts["title"] = f"HTTP {response.status_code} {response.reason_phrase}{moved}"
        texts["request_id"] = texts["request_id"] or response.headers.get("X-Request-ID", "")
        errors = body.get("errors")
        faults = [
            Fault(field=str(each.get("field", "")), reason=str(each.get("reason", "")))
            for each in (errors if isinstance(errors, list) else [])
            if isinstance(each, dict)
        ]
        return cls(status=response.status_code, errors=tuple(faults), **texts)

    @property
    def lines(self) -> tuple[str, ...]:
        """What is wrong, a line a fault; for the server's own failures with the id by which its log knows them."""
        if self.errors:
            return tuple(_one_line(f"{fault.field} {fault.reason}") for fault in self.errors)
        text = f"{self.title}: {self.detail}" if self.detail else self.title
        own_failure = self.status >= HTTPStatus.INTERNAL_SERVER_ERROR and self.request_id
        return (_one_line(f"{text} (request {self.request_id})" if own_failure else text),)

    def as_json(self) -> dict[str, Any]:
        """Return the fields that are there."""
        return {name: value for name, value in asdict(self).items() if value}


class Refused(RequestFailed):
    """The server answered with a problem."""

    def __init__(self, problem: Problem, *, transient: bool, retry_after_s: float | None) -> None:
        """Keep the problem."""
        super().__init__(*problem.lines, transient=transient, retry_after_s=retry_after_s)
        self.problem = problem

    @property
    def may_be_done(self) -> bool:
        """A gateway, or a server that lost a store, knows as little of the outcome as we do."""
        return self.problem.status in _GATEWAYS_OWN or self.problem.code == "unavailable"

    @classmethod
    def by(cls, response: httpx.Response) -> Self:
        """Read a response that isn't a success. A conflict passes only if the server says when."""
        retry_after_s = _retry_after_s(response.headers.get("Retry-After"))
        conflict_passes = response.status_code == HTTPStatus.CONFLICT and retry_after_s is not None
        transient = response.status_code in _TRANSIENT or conflict_passes
        return cls(Problem.of(response), transient=transient, retry_after_s=retry_after_s)


# ---- the client


@dataclass(frozen=True, kw_only=True, slots=True)
class Retries:
    """How often to try, and how long to wait between: twice as long each time, at random within the upper half.

    A server that asks for more than ``longest_wait_s`` is not waited for.
    """

    attempts: int = 5
    base_s: float = 0.5
    cap_s: float = 10
    longest_wait_s: float = 120

    def wait_s(self, attempt: int, failure: RequestFailed) -> float | None:
        """Return how long to wait after the attempt (1, 2 ...) that failed so; None to give up."""
        asked_s = failure.retry_after_s or 0.0
        if not failure.transient or attempt >= self.attempts or asked_s > self.longest_wait_s:
            return None
        backoff_s = min(self.cap_s, self.base_s * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1)  # noqa: S311 (no secret)
        # Behind the time asked for, not at it: all the clients that were sent away would come back together.
        return asked_s + backoff_s


class Client:
    """Talks to one Calotype server as one user. Safe to share between threads; close it, or use it as a context.

    Every call may raise RequestFailed. Failures that pass are tried again first, which is safe for each call here.

    Args:
        server: the server's base URL.
        user: sent as ``X-User-ID``.
        token: sent as a bearer token.
        timeout_s: how long to wait for a connection, and for each next part of an answer.
        retries: when to try again.
        pause: waits that many seconds before another try; may raise to give up.
    """

    def __init__(
        self,
        server: str,
        *,
        user: str | None = None,
        token: str | None = None,
        timeout_s: float = 60,
        retries: Retries = Retries(),
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        """Connect to nothing yet."""
        headers = {"Accept": "application/json, application/problem+json", "User-Agent": "calotype-cli"}
        if user is not None:
            headers["X-User-ID"] = user
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self._server = server
        self._timeout_s = timeout_s
        self._retries = retries
        self._pause = pause
        self._http = httpx.Client(base_url=server, headers=headers, timeout=httpx.Timeout(timeout_s, pool=None))

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def upload(self, filename: str, content: BinaryIO, words: Words, *, key: str) -> Uploaded:
        """Upload a seekable file, which is read in pieces. ``key`` makes it safe to repeat."""
        fields = {"title": words.title, "description": words.description or None, "tags": words.tags or None}

        def request() -> httpx.Request:
            content.seek(0)
            return self._http.build_request(
                "POST",
                _IMAGES,
                data={name: value for name, value in fields.items() if value is not None},
                files={"file": (filename, content, "application/octet-stream")},
                headers={"Idempotency-Key": key},
            )

        response = self._send(request)
        image = cast("ImageDocument", self._document(response, "image_id", "sha256"))
        return Uploaded(image, replayed=response.headers.get("Idempotent-Replayed") == "true")

    def pages(self, which: Filter, *, limit: int | None = None) -> Iterator[Page]:
        """Walk the listing, newest first, to at most ``limit`` images. The last page tells whether more follow."""
        cursor: str | None = None
        while limit is None or limit > 0:
            page = self._page(which, PAGE_MAX_ITEMS if limit is None else min(limit, PAGE_MAX_ITEMS), cursor)
            yield page
            if (cursor := page["next_cursor"]) is None:
                return
            if limit is not None:
                limit -= len(page["items"])

    def _page(self, which: Filter, limit: int, cursor: str | None) -> Page:
        params = which.params | {"limit": str(limit)} | ({} if cursor is None else {"cursor": cursor})
        response = self._send(lambda: self._http.build_request("GET", _IMAGES, params=params))
        return cast("Page", self._document(response, "items", "next_cursor"))

    def download(self, image_id: UUID) -> "Download":
        """Start to download an original."""
        return Download(lambda headers: self._open(image_id, headers), self._retries)

    def _open(self, image_id: UUID, headers: Mapping[str, str]) -> httpx.Response:
        # The stored bytes and no others: a digest over a recompressed stream would be of something else.
        plain = {"Accept": "*/*", "Accept-Encoding": "identity", **headers}
        url = f"{_IMAGES}/{image_id}"
        return self._send(lambda: self._http.build_request("GET", url, headers=plain), stream=True)

    def delete(self, image_id: UUID, *, permanent: bool = False) -> Deletion | None:
        """Delete an image: to the trash, or for good. None if a try did it whose answer was lost."""
        params = {"permanent": "true"} if permanent else {}
        try:
            response = self._send(lambda: self._http.build_request("DELETE", f"{_IMAGES}/{image_id}", params=params))
        except Refused as refusal:
            if refusal.after_lost_answer and refusal.problem.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        return cast("Deletion", self._document(response, "restorable_until"))

    def _send(self, make_request: Callable[[], httpx.Request], *, stream: bool = False) -> httpx.Response:
        """Send until it succeeds or there is no more hope. Each try has a request of its own, and a body rewound."""
        may_be_done = False
        for attempt in itertools.count(1):
            try:
                return self._try(make_request(), stream=stream)
            except RequestFailed as failure:
                failure.after_lost_answer = may_be_done
                may_be_done = may_be_done or failure.may_be_done
                if (wait_s := self._retries.wait_s(attempt, failure)) is None:
                    raise
            self._pause(wait_s)
        raise AssertionError("unreachable")

    def _try(self, request: httpx.Request, *, stream: bool) -> httpx.Response:
        try:
            response = self._http.send(request, stream=stream)
            if not response.is_success:
                response.read()
                raise Refused.by(response)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            reason = str(error) or "no answer"
            raise Unreachable(f"no connection to {self._server}: {reason}", transient=True) from error
        except httpx.TimeoutException as error:
            raise ConnectionLost(f"no answer from {self._server} in {self._timeout_s:g} s", transient=True) from error
        except httpx.RequestError as error:
            reason = str(error) or type(error).__name__
            raise ConnectionLost(f"the connection to {self._server} broke off: {reason}", transient=True) from error
        return response

    def _document(self, response: httpx.Response, *fields: str) -> dict[str, Any]:
        document = _json_object(response)
        if document is None or not all(field in document for field in fields):
            raise Unintelligible(f"the answer is not what a Calotype server says; is there one at {self._server}?")
        return document


class Download:
    """An original on its way, as chunks of bytes.

    A connection that breaks off is taken up again where it broke. Iterate to the end: that is where the bytes are
    checked against the SHA-256 that the server promised, and Corrupted is raised if they don't fit. Close it, or use
    it as a context.
    """

    def __init__(self, open_with: Callable[[Mapping[str, str]], httpx.Response], retries: Retries) -> None:
        """Ask for the whole; ``open_with`` sends the request with further headers."""
        self._open_with = open_with
        self._resumptions_left = retries.attempts - 1
        self._response = open_with({})
        self._etag = self._response.headers.get("ETag", "")
        self.filename = filename_of(self._response.headers.get("Content-Disposition", ""))

    def __enter__(self) -> Self:
        """Return the download."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._response.close()

    def __iter__(self) -> Iterator[bytes]:
        """Walk the bytes. Once only."""
        promised = _sha256_in(self._etag)
        digest = hashlib.sha256()
        for chunk in self._chunks():
            digest.update(chunk)
            yield chunk
        if digest.hexdigest() != promised:
            raise Corrupted("the bytes that came are not those that are stored: their SHA-256 differs")

    def _chunks(self) -> Iterator[bytes]:
        received = 0
        while True:
            try:
                for chunk in self._response.iter_raw():
                    received += len(chunk)
                    yield chunk
            except httpx.RequestError as error:
                self._resume(received, error)
            else:
                return

    def _resume(self, received: int, broken_by: httpx.RequestError) -> None:
        self._response.close()
        if self._resumptions_left == 0:
            raise ConnectionLost(f"the connection broke off after {received} bytes") from broken_by
        self._resumptions_left -= 1
        self._response = self._open_with({"Range": f"bytes={received}-", "If-Range": self._etag})
        if not self._response.headers.get("Content-Range", "").startswith(f"bytes {received}-"):
            raise ConnectionLost(
                f"the connection broke off after {received} bytes, and can't be taken up"
            ) from broken_by


# ---- reading answers


def filename_of(disposition: str) -> str | None:
    """Return the name in a Content-Disposition as it was sent, which is anything: clean it (RFC 6266)."""
    if extended := re.search(r"filename\*\s*=\s*utf-8'[^']*'([^\s;]+)", disposition, re.IGNORECASE):
        return unquote(extended[1], errors="replace")
    if quoted := re.search(r'filename\s*=\s*"((?:[^"\\]|\\.)*)"', disposition, re.IGNORECASE):
        return re.sub(r"\\(.)", r"\1", quoted[1])
    token = re.search(r"filename\s*=\s*([^\s;\"]+)", disposition, re.IGNORECASE)
    return token[1] if token else None


def _sha256_in(etag: str) -> str:
    # A proxy may weaken the tag; what it says of the bytes is still to be proved by them.
    if match := re.fullmatch(r'(?:W/)?"([0-9a-f]{64})"', etag):
        return match[1]
    raise Corrupted("the answer has no ETag with the SHA-256 of the image, so its bytes can't be checked")


def _json_object(response: httpx.Response) -> dict[str, Any] | None:
    try:
        body = json.loads(response.content)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _retry_after_s(header: str | None) -> float | None:
    """Read seconds or a date (RFC 9110, section 10.2.3); None for nothing, and for nonsense."""
    if header is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", header):
        return float(header)
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def _one_line(text: str) -> str:
    return " ".join(text.split())
