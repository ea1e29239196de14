"""Slow, broken and hostile clients over plain sockets: what they get, what they cost, and that others are served.

While they are at it, the service's memory and threads are watched and somebody else uses it. `MEMORY_MARGIN_BYTES` is
what may come on top of a service that is warm; a client that could make it hold a file, or a body, in memory would need
several times that.
"""

import contextlib
import http.client
import re
import socket
import struct
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Self

import httpx
import pytest

from tests import pictures
from tests.e2e.client import (
    BOUNDARY,
    FORM_TYPE,
    IMAGES,
    Api,
    Part,
    answer_from,
    connection,
    document,
    embedded_alone,
    exchange,
    file_part,
    footprint,
    form,
    open_files,
    problem,
    processes,
    resident_bytes,
    text_part,
    upload_head,
)
from tests.e2e.conftest import NewAccount
from tests.service import Service
from tests.waiting import PATIENCE_S, eventually, wait_until

MIB = 1024 * 1024
MEMORY_MARGIN_BYTES = 64 * MIB
# Those of its pools that may have ended for want of work: eight for calls, eight that send files, probes, the log.
THREADS_MARGIN = 20
TIMEOUT_S = 2  # of a head, or of a client that stalls
HOUR_S = "3600"
_ESTABLISHED = "01"


# ---- the service, and what is watched


@contextlib.contextmanager
def _warm_service(root: Path, new_account: NewAccount, **settings: str) -> Iterator[Service]:
    """A service with all the time in the world, but for what is set. All its threads run, and its memory is warm."""
    (root / "tmp").mkdir()
    patient = {
        "TMPDIR": str(root / "tmp"),
        "CALOTYPE_SWEEP_INTERVAL_S": "86400",
        "CALOTYPE_KEEP_ALIVE_S": HOUR_S,
        "CALOTYPE_STALL_TIMEOUT_S": HOUR_S,
        "CALOTYPE_THREADS": "8",
        "CALOTYPE_LOG_FORMAT": "json",
    }
    account = new_account()
    with Service(root / "data", account=account, settings={**patient, **settings}) as service:
        _warm(service)
        yield service
        if account is None:  # a store in AWS that was slow leaves a trace with good reason
            # Whoever makes clients vanish must not be able to fill the disk.
            log = service.log.read_bytes()
            assert b"Traceback" not in log
            assert b'"exception"' not in log
            assert len(log) < 4 * MIB


# Each with little patience for one thing only: a test that is held up itself must not run into a time-out of another.


@pytest.fixture(scope="module")
def besieged(new_account: NewAccount, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that waits for everybody."""
    with _warm_service(tmp_path_factory.mktemp("besieged"), new_account) as service:
        yield service


@pytest.fixture(scope="module")
def wants_heads(new_account: NewAccount, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with little patience for heads, and between requests."""
    settings = {"CALOTYPE_KEEP_ALIVE_S": str(TIMEOUT_S)}
    with _warm_service(tmp_path_factory.mktemp("heads"), new_account, **settings) as service:
        yield service


@pytest.fixture(scope="module")
def wants_progress(new_account: NewAccount, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with little patience for bodies that don't come, and for answers that nobody takes."""
    settings = {"CALOTYPE_STALL_TIMEOUT_S": str(TIMEOUT_S)}
    with _warm_service(tmp_path_factory.mktemp("progress"), new_account, **settings) as service:
        yield service


def _warm(service: Service) -> None:
    def work(number: int) -> None:
        user = f"warm-{number}"
        for _ in range(2):
            image_id = _uploaded(service, user, pictures.big_jpeg(2 * MIB))
            assert _in_time(service, user, partial(Api.get, image_id=image_id)).is_success
            assert _in_time(service, user, partial(Api.get, image_id=image_id, Range="bytes=1-")).is_success

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def _uploaded(service: Service, user: str, content: bytes) -> str:
    return str(document(_in_time(service, user, partial(Api.upload, content=content)), 201)["image_id"])


def _in_time(service: Service, user: str, ask: Callable[[Api], httpx.Response]) -> httpx.Response:
    """Ask, each time over another connection, until a machine that stood still did not make it too slow an asking."""
    answers: list[httpx.Response] = []

    def was_in_time() -> bool:
        begun = time.monotonic()
        try:
            with contextlib.closing(Api(service, user)) as api:
                answers.append(ask(api))
        except httpx.TransportError:
            if time.monotonic() - begun < 1:
                raise
            return False
        return answers[-1].status_code != httpx.codes.REQUEST_TIMEOUT

    wait_until(was_in_time)
    return answers[-1]


@pytest.fixture
def user() -> str:
    return f"user-{uuid.uuid4()}"


class Siege:
    """Watches a service while the context is open, and uses it as somebody who means no harm.

    One that is ``short_tempered`` may hang up on whoever is held up between connecting and asking.
    """

    def __init__(self, service: Service, *, short_tempered: bool = False) -> None:
        self._service = service
        self._short_tempered = short_tempered
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._watch), threading.Thread(target=self._use)]
        self._before_bytes, self._before_threads = resident_bytes(service), _threads(service)
        self._most_bytes = self._most_threads = 0
        self._before = footprint(service)
        self.served = 0
        self.failed: list[str] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        before = self.served  # some of them perhaps when nothing had begun yet
        eventually(lambda: self.served > before or bool(self.failed))
        served = self.served > before
        self._over.set()
        for thread in self._threads:
            thread.join()
        if kind is not None:
            return
        assert self.failed == []
        assert served
        assert self._most_bytes - self._before_bytes < MEMORY_MARGIN_BYTES
        assert self._most_threads - self._before_threads <= THREADS_MARGIN
        if not eventually(lambda: footprint(self._service) == self._before):
            assert footprint(self._service) == self._before

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            self._most_bytes = max(self._most_bytes, resident_bytes(self._service))
            self._most_threads = max(self._most_threads, _threads(self._service))

    def _use(self) -> None:
        while not self._over.wait(0.1):
            begun = time.monotonic()
            try:
                # A connection that was kept may be ended by either side at any moment.
                with contextlib.closing(Api(self._service, "bystander")) as api:
                    document(api.http.get(IMAGES))
                self.served += 1
            except (httpx.TimeoutException, AssertionError) as error:
                self.failed.append(repr(error))
            except httpx.TransportError as error:
                # Whoever was held up himself is not served any better than others.
                if not self._short_tempered or time.monotonic() - begun < TIMEOUT_S:
                    self.failed.append(repr(error))


def _threads(service: Service) -> int:
    total = 0
    for pid in processes(service):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())
    return total


def _sockets(service: Service) -> int:
    return sum(target.startswith("socket:") for target in open_files(service))


@contextlib.contextmanager
def many(service: Service, count: int, *, receive_buffer: int | None = None) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(connection(service, receive_buffer=receive_buffer)) for _ in range(count)]


def dribble(sockets: Sequence[socket.socket], piece: Callable[[], bytes], *, every_s: float = 0.25) -> list[bytes]:
    """Send a piece over each connection, and another, until the service has ended them all; return what each got."""
    got = dict.fromkeys(sockets, b"")
    left = set(sockets)
    deadline = time.monotonic() + PATIENCE_S
    for raw in sockets:
        raw.setblocking(False)
    while left and time.monotonic() < deadline:
        for raw in list(left):
            try:
                with contextlib.suppress(BlockingIOError):
                    while answer := raw.recv(65536):
                        got[raw] += answer
                    left.discard(raw)
            except OSError:
                left.discard(raw)
            with contextlib.suppress(OSError):  # what came before it ended is read in the next round
                raw.send(piece())
        time.sleep(every_s)
    assert not left, f"{len(left)} connections are still open"
    return list(got.values())


def rest_of(raw: socket.socket) -> bytes:
    """Return what comes until the service ends the connection, which it must do."""
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := raw.recv(65536):
            got += piece
    return got


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


def reset(raw: socket.socket) -> None:
    """Close so that the other side hears a reset."""
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.close()


def crlf(head: bytes) -> bytes:
    return head.replace(b"\n", b"\r\n")


HEALTH = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"


# ---- slow


@embedded_alone
def test_heads_that_dribble_end_in_time_and_hold_nobody_up(wants_heads: Service) -> None:
    names = iter(range(10**9))
    with Siege(wants_heads, short_tempered=True), many(wants_heads, 400) as sockets:
        for raw in sockets:
            with contextlib.suppress(ConnectionError):  # those that had to wait for this may have ended by now
                raw.sendall(HEALTH)
        assert set(dribble(sockets, lambda: b"X-%d: a\r\n" % next(names))) == {b""}


@embedded_alone
def test_connections_that_say_nothing_end_in_time(wants_heads: Service) -> None:
    with Siege(wants_heads, short_tempered=True), many(wants_heads, 400) as sockets:
        assert set(dribble(sockets, lambda: b"")) == {b""}


@embedded_alone
def test_kept_connections_that_say_no_more_end_in_time(wants_heads: Service) -> None:
    with Siege(wants_heads, short_tempered=True), contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(_kept(wants_heads)) for _ in range(100)]
        assert set(dribble(sockets, lambda: b"")) == {b""}


def _kept(service: Service) -> socket.socket:
    """Return a connection over which a request was answered."""
    kept: list[socket.socket] = []

    def answered() -> bool:
        raw = connection(service)
        try:
            raw.sendall(HEALTH + b"\r\n")
            assert answer_from(raw).status_code == 200
        except (ConnectionError, http.client.HTTPException):  # held up for too long between connecting and asking
            raw.close()
            return False
        kept.append(raw)
        return True

    wait_until(answered)
    return kept[0]


def test_bodies_that_dribble_are_told_so_and_leave_nothing(wants_progress: Service) -> None:
    """Each has sent enough to be in a file by now. One of them is another's upload that is merely slow."""
    body = form([file_part(pictures.big_jpeg(2 * MIB))])
    with Siege(wants_progress), many(wants_progress, 24) as sockets:
        for number, raw in enumerate(sockets):
            raw.sendall(crlf(upload_head(f"slow-{number}", len(body))) + b"\r\n" + body[: MIB + 1])
        for got in dribble(sockets, lambda: b"x"):
            assert statuses(got) == [408]
            assert b'"code":"request_timeout"' in got
            assert b"connection: close" in got


@pytest.mark.parametrize("sent", [b"", b'{"title": "'])
def test_a_small_body_that_does_not_come_is_told_so(wants_progress: Service, user: str, sent: bytes) -> None:
    head = f"PUT {IMAGES}/{uuid.uuid4()} HTTP/1.1\nHost: x\nX-User-ID: {user}\nContent-Type: application/json\n"
    with Siege(wants_progress), connection(wants_progress) as raw:
        raw.sendall(crlf(f"{head}Content-Length: 100\n".encode()) + b"\r\n" + sent)
        problem(answer_from(raw), 408, "request_timeout")
        assert rest_of(raw) == b""


def test_leave_to_send_that_is_not_taken_ends_in_time(wants_progress: Service, user: str) -> None:
    with Siege(wants_progress), connection(wants_progress) as raw:
        raw.sendall(crlf(upload_head(user, 1000, "Expect: 100-continue")) + b"\r\n")
        got = rest_of(raw)
        assert got.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 408 ")


def test_an_upload_that_is_slow_but_moves_on_succeeds(wants_progress: Service, user: str) -> None:
    body = form([file_part(pictures.big_jpeg(400 * 1024))])

    def accepted() -> bool:
        with connection(wants_progress) as raw, contextlib.suppress(ConnectionError, http.client.HTTPException):
            raw.sendall(crlf(upload_head(user, len(body))) + b"\r\n")
            step = len(body) // 10 + 1
            begun = time.monotonic()
            for at in range(0, len(body), step):  # 40 KiB every 0.3 s, where 32 KiB a second are asked for
                raw.sendall(body[at : at + step])
                time.sleep(0.3)
            assert time.monotonic() - begun > TIMEOUT_S
            answer = answer_from(raw)
            if answer.status_code == 201:
                return True
            problem(answer, 408, "request_timeout")
        return False

    # A machine may stand still for so long that the client does not move on; not each time.
    assert any(accepted() for _ in range(3))


@pytest.mark.parametrize("asks", ["", "Range: bytes=1-\r\n"])
def test_whoever_stops_reading_is_given_up(wants_progress: Service, user: str, asks: str) -> None:
    """Some in pieces by the application, as ranges and what is in memory; others as a file by the server."""
    image_id = _uploaded(wants_progress, user, pictures.big_jpeg(12 * MIB))
    request = f"GET {IMAGES}/{image_id} HTTP/1.1\r\nHost: x\r\nX-User-ID: {user}\r\n{asks}\r\n".encode()
    with Siege(wants_progress), connection(wants_progress) as idle:
        before = _sockets(wants_progress)
        with many(wants_progress, 8, receive_buffer=4096) as sockets:
            for raw in sockets:
                raw.sendall(request)
            assert all(raw.recv(12).startswith(b"HTTP/1.1 20") for raw in sockets)
            # None of the clients does anything, and yet they are given up; and with them the connections to S3.
            wait_until(lambda: _held(wants_progress, sockets) == 0)
            wait_until(lambda: _sockets(wants_progress) <= before + 4)
        assert _held(wants_progress, [idle]) == 1  # so it would have been seen


def _held(service: Service, sockets: Sequence[socket.socket]) -> int:
    """Return how many of these connections the service still has, as the system sees it."""
    ports = {raw.getsockname()[1] for raw in sockets}
    held = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, remote, state = (line.split()[column] for column in (1, 2, 3))
        of_service = int(local.partition(":")[2], 16) == service.port
        held += of_service and int(remote.partition(":")[2], 16) in ports and state == _ESTABLISHED
    return held


# ---- gone


def test_clients_that_vanish_in_mid_upload_leave_nothing(besieged: Service) -> None:
    body = form([file_part(pictures.big_jpeg(3 * MIB))])
    with Siege(besieged):
        for number in range(24):
            raw = connection(besieged)
            length = None if number % 3 == 2 else len(body)
            half = body[: 2 * MIB] if length else b"%x\r\n" % len(body) + body[: 2 * MIB]
            raw.sendall(crlf(upload_head(f"gone-{number}", length)) + b"\r\n" + half)
            if number % 2:
                reset(raw)
            raw.close()


@pytest.mark.parametrize("asks", ["", "Range: bytes=1-\r\n"])
@pytest.mark.parametrize("size_bytes", [5 * MIB, 12 * MIB])
def test_clients_that_vanish_in_mid_download_leave_nothing(
    besieged: Service, user: str, size_bytes: int, asks: str
) -> None:
    """Nobody watches whether the client is there while a shorter one goes out of memory."""
    api = Api(besieged, user)
    image_id = api.uploaded(pictures.big_jpeg(size_bytes))["image_id"]
    request = f"GET {IMAGES}/{image_id} HTTP/1.1\r\nHost: x\r\nX-User-ID: {user}\r\n{asks}\r\n".encode()
    with Siege(besieged):
        before = _sockets(besieged)
        for number in range(8):
            raw = connection(besieged, receive_buffer=4096)
            raw.sendall(request)
            assert raw.recv(12).startswith(b"HTTP/1.1 20")
            if number % 2:
                reset(raw)
            raw.close()
        wait_until(lambda: _sockets(besieged) <= before + 4)
    api.close()


# ---- bodies that are not what they were said to be


def test_a_body_that_is_shorter_than_declared_is_no_upload(besieged: Service, user: str) -> None:
    """The form itself is whole, but nobody knows what the rest would have been."""
    body = form([file_part(pictures.jpeg())])
    with Siege(besieged), connection(besieged) as raw:
        raw.sendall(crlf(upload_head(user, len(body) + 100)) + b"\r\n" + body)
        raw.shutdown(socket.SHUT_WR)
        assert statuses(rest_of(raw)) in ([], [400])  # whoever closes their side may be taken for gone
    api = Api(besieged, user)
    assert api.ids() == []
    api.close()


def test_what_follows_a_body_is_another_request(besieged: Service, user: str) -> None:
    body = form([file_part(pictures.jpeg())])
    with connection(besieged) as raw:
        raw.sendall(crlf(upload_head(user, len(body))) + b"\r\n" + body + b"and more than was declared\r\n\r\n")
        assert statuses(rest_of(raw)) == [201, 400]


def test_an_endless_body_is_read_only_so_far(besieged: Service, user: str) -> None:
    chunk = b"%x\r\n%b\r\n" % (64 * 1024, bytes(64 * 1024))
    sent = 0
    with Siege(besieged), connection(besieged) as raw:
        raw.sendall(crlf(upload_head(user, None)) + b"\r\n")
        first = form([file_part(b"")]).removesuffix(f"\r\n--{BOUNDARY}--\r\n".encode())
        raw.sendall(b"%x\r\n%b\r\n" % (len(first), first))
        with contextlib.suppress(ConnectionError):
            while sent < 1000 * MIB:
                raw.sendall(chunk)
                sent += len(chunk)
    assert sent < 100 * MIB


def test_bodies_over_the_limit_are_refused_with_and_without_a_length(besieged: Service, user: str) -> None:
    body = form([file_part(bytes(26 * MIB))])
    with Siege(besieged):
        problem(exchange(besieged, upload_head(user, len(body)), body), 413, "file_too_large")
        chunked = b"".join(
            b"%x\r\n%b\r\n" % (len(body[at : at + MIB]), body[at : at + MIB]) for at in range(0, len(body), MIB)
        )
        problem(exchange(besieged, upload_head(user, None), chunked + b"0\r\n\r\n"), 413, "file_too_large")


@embedded_alone
@pytest.mark.parametrize(
    "parts",
    [
        [text_part("title", b"x")] * 5000,
        [Part(b"X-Long: " + b"a" * MIB + b'\r\nContent-Disposition: form-data; name="title"', b"x")],
        [Part(b'Content-Disposition: form-data; name="' + b"n" * 100_000 + b'"', b"x")],
        [Part(b"\r\n".join(b"X-%d: a" % number for number in range(10_000)), b"x")],
        [Part(b'Content-Disposition: form-data; name="file"; filename="' + b"\xf0\x9f\x98\x80" * 3000 + b'"', b"x")],
    ],
    ids=["thousands of parts", "one long header", "a long name", "thousands of headers", "a long filename"],
)
def test_a_form_of_more_than_a_form_needs_is_refused(besieged: Service, user: str, parts: list[Part]) -> None:
    body = form(parts)
    with Siege(besieged):
        answer = exchange(besieged, upload_head(user, len(body)), body)
        assert answer.status_code == 400
        assert answer.json()["code"] in {"invalid_form", "invalid_input", "unsupported_image"}


# ---- requests that two servers may read differently

UPLOAD = f"POST {IMAGES} HTTP/1.1\r\nHost: x\r\nX-User-ID: smuggler\r\nContent-Type: {FORM_TYPE}\r\n".encode()
HIDDEN = b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Request-ID: hidden\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"

# What is sent, and the status that alone may come back: the request hidden behind it is never answered.
AMBIGUOUS = {
    "a length and chunks": (UPLOAD + b"Content-Length: 6\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + HIDDEN, 400),
    "chunks and a length": (UPLOAD + CHUNKED + b"Content-Length: 6\r\n\r\n0\r\n\r\n" + HIDDEN, 400),
    "two lengths": (UPLOAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345" + HIDDEN, 400),
    "a list of lengths": (UPLOAD + b"Content-Length: 5, 6\r\n\r\n12345" + HIDDEN, 400),
    "a length with a sign": (UPLOAD + b"Content-Length: +5\r\n\r\n12345" + HIDDEN, 400),
    "a length in hexadecimal": (UPLOAD + b"Content-Length: 0x5\r\n\r\n12345" + HIDDEN, 400),
    "a space before the colon": (UPLOAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + HIDDEN, 400),
    "a control character": (UPLOAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + HIDDEN, 400),
    "a coding that is none": (UPLOAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + HIDDEN, 400),
    "chunked, but not last": (UPLOAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + HIDDEN, 400),
    "a folded header": (UPLOAD + b"X-Y: a\r\n " + CHUNKED + b"\r\n0\r\n\r\n" + HIDDEN, 400),
    "chunks in HTTP/1.0": (UPLOAD.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n0\r\n\r\n" + HIDDEN, 400),
    "a chunk size that is none": (UPLOAD + CHUNKED + b"\r\nxyz\r\n\r\n" + HIDDEN, 400),
    "a negative chunk size": (UPLOAD + CHUNKED + b"\r\n-5\r\nhello\r\n0\r\n\r\n" + HIDDEN, 400),
    "a chunk size past counting": (UPLOAD + CHUNKED + b"\r\n" + b"f" * 20 + b"\r\nhello\r\n0\r\n\r\n" + HIDDEN, 400),
    "chunk sizes ended by LF": (UPLOAD + CHUNKED + b"\r\n5\nhello\n0\n\n" + HIDDEN, 400),
    "a chunk longer than its size": (UPLOAD + CHUNKED + b"\r\n3\r\nhello\r\n0\r\n\r\n" + HIDDEN, 400),
    "a giant chunk extension": (
        UPLOAD + CHUNKED + b"\r\n5;" + b"a" * 100_000 + b"\r\nhello\r\n0\r\n\r\n" + HIDDEN,
        400,
    ),
    "thousands of trailers": (
        UPLOAD
        + CHUNKED
        + b"\r\n0\r\n"
        + b"".join(b"X-%d: %b\r\n" % (n, b"v" * 200) for n in range(5000))
        + b"\r\n"
        + HIDDEN,
        400,
    ),
}


@embedded_alone
@pytest.mark.parametrize("name", AMBIGUOUS)
def test_a_request_that_can_be_read_in_two_ways_is_refused_with_all_behind_it(besieged: Service, name: str) -> None:
    sent, status = AMBIGUOUS[name]
    with connection(besieged) as raw:
        got = _all_that_comes_of(raw, sent)
    assert re.findall(rb"HTTP/1\.[01] (\d{3}) ", got) == [b"%d" % status]
    assert b"hidden" not in got


NONSENSE = {
    "TLS": (bytes.fromhex("16030100c8010000c40303") + bytes(190), [400]),
    "NUL bytes": (bytes(1000), [400]),
    "a NUL in the path": (b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
    "a NUL in a header": (HEALTH + b"X-Y: a\0b\r\n\r\n", [400]),
    "HTTP/0.9": (b"GET /health/live\r\n\r\n", [400]),
    "HTTP/3": (b"GET /health/live HTTP/3.0\r\nHost: x\r\n\r\n", [400]),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", []),
    "two hosts": (HEALTH + b"Host: y\r\nConnection: close\r\n\r\n", [400]),
    "a giant request line": (b"GET /" + b"a" * MIB + b" HTTP/1.1\r\nHost: x\r\n\r\n", [431]),
    "one giant header": (HEALTH + b"X: " + b"a" * MIB + b"\r\n\r\n", [431]),
    "a giant name of a header": (HEALTH + b"X" * MIB + b": a\r\n\r\n", [431]),
    "many headers": (HEALTH + b"".join(b"X-%d: a\r\n" % number for number in range(200)) + b"\r\n", [431]),
    "thousands of headers": (HEALTH + b"".join(b"X-%d: a\r\n" % number for number in range(50_000)) + b"\r\n", [431]),
}


@embedded_alone
@pytest.mark.parametrize("name", NONSENSE)
def test_what_is_no_request_is_refused_at_once(besieged: Service, name: str) -> None:
    sent, expected = NONSENSE[name]
    with connection(besieged) as raw:
        got = _all_that_comes_of(raw, sent)
    assert statuses(got) == expected or (got == b"" and len(sent) >= MIB)  # a reset may overtake the answer
    assert b"granian" not in got.lower()
    assert b"hyper" not in got.lower()


@embedded_alone
@pytest.mark.parametrize(("kib", "status"), [(250, 200), (520, 431)])
def test_a_head_has_as_much_room_as_the_docs_say(besieged: Service, kib: int, status: int) -> None:
    with connection(besieged) as raw:
        got = _all_that_comes_of(raw, HEALTH + b"Connection: close\r\nX: " + b"a" * kib * 1024 + b"\r\n\r\n")
    assert statuses(got) == [status]


def _all_that_comes_of(raw: socket.socket, sent: bytes) -> bytes:
    with contextlib.suppress(ConnectionError):
        raw.sendall(sent)
    return rest_of(raw)


@embedded_alone
def test_nonsense_over_and_over_costs_nothing(besieged: Service) -> None:
    with Siege(besieged):
        for sent, _ in [*AMBIGUOUS.values(), *NONSENSE.values()] * 10:
            with connection(besieged) as raw:
                _all_that_comes_of(raw, sent)


@embedded_alone
def test_the_longest_listing_is_no_giant(besieged: Service, user: str) -> None:
    tags = "&".join(f"tags={n:02}" + "%F0%9F%98%80" * 62 for n in range(30))
    head = f"GET {IMAGES}?filter_by=tags&match=all&{tags} HTTP/1.1\nHost: x\nX-User-ID: {user}\n".encode()
    assert len(head) > 20_000
    assert exchange(besieged, head).json() == {"items": [], "next_cursor": None}


# ---- many at once


def test_pipelined_requests_are_answered_in_their_order(besieged: Service, user: str) -> None:
    body = form([file_part(pictures.jpeg())])
    upload = crlf(upload_head(user, len(body), "X-Request-ID: r0")) + b"\r\n" + body
    reads = [
        f"GET {IMAGES} HTTP/1.1\r\nHost: x\r\nX-User-ID: {user}\r\nX-Request-ID: r{number}\r\n\r\n".encode()
        for number in range(1, 100)
    ]
    last = HEALTH + b"X-Request-ID: r100\r\nConnection: close\r\n\r\n"
    with connection(besieged) as raw:
        raw.sendall(upload + b"".join(reads) + last)
        got = rest_of(raw)
    assert statuses(got) == [201] + [200] * 100
    assert re.findall(rb"x-request-id: (r\d+)", got) == [b"r%d" % number for number in range(101)]


@embedded_alone
def test_whoever_pipelines_and_never_reads_is_given_up(wants_progress: Service, user: str) -> None:
    request = f"GET {IMAGES} HTTP/1.1\r\nHost: x\r\nX-User-ID: {user}\r\n\r\n".encode() * 1000
    with (
        Siege(wants_progress),
        connection(wants_progress, receive_buffer=4096) as raw,
        pytest.raises(ConnectionError),
    ):
        raw.sendall(request * 1000)


def test_a_client_that_closes_its_side_gets_its_whole_answer_or_none(besieged: Service, user: str) -> None:
    """The server takes it for gone, as it can't know better, unless the answer was faster."""
    with Siege(besieged):
        for _ in range(20):
            with connection(besieged) as raw:
                raw.sendall(f"GET {IMAGES} HTTP/1.1\r\nHost: x\r\nX-User-ID: {user}\r\n\r\n".encode())
                raw.shutdown(socket.SHUT_WR)
                got = rest_of(raw)
                assert got == b"" or got.endswith(b'{"items":[],"next_cursor":null}')


_WITH_FEW_FILES = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (406, 406))
os.execv(sys.argv[1], sys.argv[1:])
"""


@embedded_alone
@pytest.mark.parametrize("bounded_by", ["setting", "system"])
def test_connections_past_the_bound_wait_for_others_to_end(
    open_service: Callable[..., Service], bounded_by: str
) -> None:
    settings = {"CALOTYPE_KEEP_ALIVE_S": "1"}
    limits: list[str] = []
    if bounded_by == "setting":
        settings["CALOTYPE_MAX_CONNECTIONS"] = "50"
    else:
        limits = [sys.executable, "-c", _WITH_FEW_FILES]
    service = open_service(settings=settings, run_by=limits)
    with service:
        idle = _sockets(service)
        with many(service, 120):
            time.sleep(0.5)
            assert _sockets(service) <= idle + 51
            document(_in_time(service, "ann", Api.upload), 201)  # once those before it were waited for in vain
