"""What the end-to-end tests speak with: a client that checks every problem it gets, raw sockets, and the disk."""

import http.client
import os
import re
import socket
import ssl
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import httpx
import pytest

from tests.pictures import jpeg
from tests.service import Service
from tests.waiting import PATIENCE_S, wait_until

IMAGES = "/api/v1/images"
DOCUMENT_FIELDS = {
    "image_id",
    "user_id",
    "s3_key",
    "filename",
    "title",
    "description",
    "tags",
    "content_type",
    "size_bytes",
    "width",
    "height",
    "sha256",
    "created_at",
    "updated_at",
    "version",
    "presigned_url",
    "presigned_url_expires_at",
}
BOUNDARY = "e2e-boundary"
FORM_TYPE = f"multipart/form-data; boundary={BOUNDARY}"

Document = dict[str, Any]

embedded_alone = pytest.mark.parametrize("new_account", ["embedded"], indirect=True)
on_aws_alone = pytest.mark.parametrize(
    "new_account", [pytest.param("aws", marks=pytest.mark.xdist_group("aws"))], indirect=True
)
"""For what is special to one of the two. All other tests are run on both."""

# httpx reads the whole list of certificates for every client, which is most of what a short test costs.
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_STORE_TIMEOUT_S = 1  # the shortest in entrypoints/aws.py, but for those of health checks


class _Patient(httpx.HTTPTransport):
    """Asks again where a store took so long that the service gave it up: that is the machine's fault, not the test's.

    The service waits for AWS for some seconds, which a server that speaks AWS on a loaded machine may need. Changes are
    sent again too, though nobody knows what became of them the first time: one upload may become two, and a deletion
    end with a 404. Where that matters a user is not to be ``patient``.
    """

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            begun = time.monotonic()
            response = super().handle_request(request)
            took_s = time.monotonic() - begun
            if response.status_code != 503 or took_s < _STORE_TIMEOUT_S or time.monotonic() > deadline:
                return response
            if request.method != "HEAD":  # which is answered without a word of why
                response.read()
                if response.json().get("code") != "unavailable":
                    return response
            response.close()


class Api:
    """One user of a service. Whatever is answered is checked for what every answer must have.

    Where it stores things in AWS the user is ``patient``, and asks again if a store was too slow.
    """

    def __init__(self, service: Service, user: str | None, *, patient: bool = True) -> None:
        transport = _Patient if patient and service.account is not None else httpx.HTTPTransport
        self.service = service
        self.user = user
        self.http = httpx.Client(
            base_url=service.base_url,
            headers={} if user is None else {"X-User-ID": user},
            timeout=PATIENCE_S,
            transport=transport(verify=_NO_TLS),
            event_hooks={"response": [_check]},
        )
        # For tests that let it go as it is: sockets that nobody closes are warned of, in whatever test runs by then.
        weakref.finalize(self, self.http.close)

    def close(self) -> None:
        self.http.close()

    def post_form(self, parts: Iterable["Part"], *, headers: Mapping[str, str] | None = None) -> httpx.Response:
        return self.http.post(IMAGES, content=form(parts), headers={"Content-Type": FORM_TYPE, **(headers or {})})

    def upload(
        self,
        content: bytes | None = None,
        name: str = "picture.jpg",
        *,
        headers: Mapping[str, str] | None = None,
        **fields: str | Sequence[str],
    ) -> httpx.Response:
        file = (name, jpeg() if content is None else content)
        return self.http.post(IMAGES, files={"file": file}, data=dict(fields), headers=headers)

    def uploaded(
        self, content: bytes | None = None, name: str = "picture.jpg", **fields: str | Sequence[str]
    ) -> Document:
        return document(self.upload(content, name, headers=None, **fields), 201)

    def get(self, image_id: str, **headers: str) -> httpx.Response:
        return self.http.get(f"{IMAGES}/{image_id}", headers=_spelt(headers))

    def head(self, image_id: str, **headers: str) -> httpx.Response:
        return self.http.head(f"{IMAGES}/{image_id}", headers=_spelt(headers))

    def metadata(self, image_id: str, **headers: str) -> httpx.Response:
        return self.http.get(f"{IMAGES}/{image_id}/metadata", headers=_spelt(headers))

    def put(self, image_id: str, body: object, **headers: str) -> httpx.Response:
        return self.http.put(f"{IMAGES}/{image_id}", json=body, headers=_spelt(headers))

    def patch(self, image_id: str, body: object, **headers: str) -> httpx.Response:
        return self.http.patch(f"{IMAGES}/{image_id}", json=body, headers=_spelt(headers))

    def delete(self, image_id: str, *, permanent: bool = False, **headers: str) -> httpx.Response:
        query = {"permanent": "true"} if permanent else {}
        return self.http.delete(f"{IMAGES}/{image_id}", params=query, headers=_spelt(headers))

    def restore(self, image_id: str) -> httpx.Response:
        return self.http.post(f"{IMAGES}/{image_id}/restore")

    def page(self, **query: Any) -> Document:
        return document(self.http.get(IMAGES, params=query))

    def ids(self, **query: Any) -> list[str]:
        return [item["image_id"] for item in self.page(**query)["items"]]


class Part(NamedTuple):
    """One part of a form, its headers just as they go over the wire."""

    headers: bytes
    content: bytes


def file_part(content: bytes, disposition: bytes = b'; filename="picture.jpg"') -> Part:
    return Part(b'Content-Disposition: form-data; name="file"' + disposition, content)


def text_part(name: str, content: bytes) -> Part:
    return Part(f'Content-Disposition: form-data; name="{name}"'.encode(), content)


def form(parts: Iterable[Part]) -> bytes:
    delimiter = f"--{BOUNDARY}".encode()
    body = b"".join(delimiter + b"\r\n" + part.headers + b"\r\n\r\n" + part.content + b"\r\n" for part in parts)
    return body + delimiter + b"--\r\n"


def document(response: httpx.Response, status: int = 200) -> Document:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    answer: Document = response.json()
    return answer


def problem(response: "httpx.Response | RawResponse", status: int, code: str) -> Document:
    """Return the problem, which must be this one and well-formed (RFC 9457)."""
    assert (response.status_code, response.json().get("code")) == (status, code), response.text
    return check_problem(response)


def check_problem(response: "httpx.Response | RawResponse") -> Document:
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    body: Document = response.json()
    assert body.keys() - {"errors"} == {"type", "title", "status", "detail", "code", "request_id"}
    assert all(body.values())
    assert re.fullmatch(r"[a-z_]+", body["code"])
    assert body["type"] == f"urn:calotype:problem:{body['code']}"
    assert body["status"] == response.status_code
    assert body["request_id"] == response.headers["x-request-id"]
    for fault in body.get("errors", []):
        assert fault.keys() == {"field", "reason"}
        assert all(isinstance(value, str) for value in fault.values())
    if response.status_code == 401:
        assert "www-authenticate" in response.headers
    if response.status_code == 405:
        assert "allow" in response.headers
    if response.status_code in {429, 503}:
        assert int(response.headers["retry-after"]) > 0
    if response.status_code == 429:
        assert {"ratelimit", "ratelimit-policy"} <= response.headers.keys()
    return body


def _check(response: httpx.Response) -> None:
    assert response.headers.get("x-request-id")
    assert response.headers.get("x-content-type-options") == "nosniff"
    if response.status_code >= 400 and response.request.method != "HEAD":
        response.read()
        if response.request.url.path != "/health/ready":
            check_problem(response)


def _spelt(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def fetch(url: str, method: str = "GET", **headers: str) -> httpx.Response:
    """Ask as a browser does that was given a URL: nobody in particular."""
    return httpx.request(method, url, headers=_spelt(headers), verify=_NO_TLS, timeout=PATIENCE_S)


def working_url(api: Api, image_id: str, content: bytes) -> str:
    """Return a URL that opened the image, where one may live no longer than a slow machine takes to use it."""
    url = ""

    def works() -> bool:
        nonlocal url
        url = document(api.metadata(image_id))["presigned_url"]
        return fetch(url).content == content

    wait_until(works)
    return url


def answers(service: Service) -> bool:
    """Tell whether it is there; whether it is ready is another question."""
    with suppress(httpx.TransportError):
        return fetch(f"{service.base_url}/health/live").is_success
    return False


def readiness(service: Service, status: int) -> httpx.Response:
    """Ask whether the service is ready until the answer has that status: each is kept for a second."""
    deadline = time.monotonic() + PATIENCE_S
    while (response := fetch(f"{service.base_url}/health/ready")).status_code != status:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return response


def offered_name(response: httpx.Response) -> str:
    """Return the name under which a browser would save the body (RFC 6266)."""
    header = response.headers["content-disposition"]
    assert header.isascii()
    assert header.isprintable()
    extended = re.search(r"filename\*=UTF-8''([^; ]+)", header)
    if extended is not None:
        return unquote(extended[1], errors="strict")
    plain = re.fullmatch(r'(?:inline|attachment); filename="([^"\\]*)"', header)
    assert plain is not None, header
    return plain[1]


class RawResponse(NamedTuple):
    """An answer to bytes that no client would send."""

    status_code: int
    headers: httpx.Headers
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode(errors="replace")

    def json(self) -> Any:
        return httpx.Response(self.status_code, content=self.content).json()


def connection(service: Service, *, receive_buffer: int | None = None) -> socket.socket:
    with ExitStack() as unless_connected:
        raw = unless_connected.enter_context(socket.socket())
        if receive_buffer is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        raw.settimeout(PATIENCE_S)
        raw.connect(("127.0.0.1", service.port))
        unless_connected.pop_all()
        return raw


def answer_from(raw: socket.socket, method: str = "GET") -> RawResponse:
    response = http.client.HTTPResponse(raw, method=method)
    response.begin()
    with response:
        return RawResponse(response.status, httpx.Headers(response.getheaders()), response.read())


def exchange(service: Service, head: bytes, body: bytes = b"", *, method: str = "GET") -> RawResponse:
    """Send everything, and only then look at the answer: so do many simple clients."""
    with connection(service) as raw:
        raw.sendall(head.replace(b"\n", b"\r\n") + b"Connection: close\r\n\r\n" + body)
        return answer_from(raw, method)


def upload_head(user: str, length: int | None, *lines: str) -> bytes:
    """Return the beginning of an upload up to its last header, as `exchange` takes it."""
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return "\n".join(
        [f"POST {IMAGES} HTTP/1.1", "Host: x", f"X-User-ID: {user}", f"Content-Type: {FORM_TYPE}", framing, *lines, ""]
    ).encode()


class Footprint(NamedTuple):
    """What of a service can be seen on the machine: files, and files without a name that it holds open."""

    files: frozenset[str]
    unnamed: int


def footprint(service: Service) -> Footprint:
    root = service.data_dir.parent
    return Footprint(
        files_at_rest(service),
        sum(target.startswith(str(root)) and target.endswith(" (deleted)") for target in open_files(service)),
    )


# The catalog, the log, and what the workers count in: they come and go as the service likes.
_OWN_FILES = re.compile(r"catalog\.sqlite3|\.log$|/calotype-workers-")


def files_at_rest(service: Service) -> frozenset[str]:
    """Return the names of files, and of objects that are stored elsewhere; the service need not run."""
    root = service.data_dir.parent
    # Path.rglob fails where a folder goes away meanwhile, as those of swept images do; os.walk passes over it.
    names = {str((Path(folder) / name).relative_to(root)) for folder, _, files in os.walk(root) for name in files}
    objects = set() if service.account is None else service.account.stored()
    return frozenset(objects | {name for name in names if not _OWN_FILES.search(name)})


def open_files(service: Service) -> Iterable[str]:
    """Return what the service's processes hold open, sockets included."""
    for pid in processes(service):
        with suppress(FileNotFoundError, ProcessLookupError):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(FileNotFoundError):
                    yield str(descriptor.readlink())


def processes(service: Service) -> list[int]:
    """Return the ids of the service's processes: it leads a session of its own."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(status.rpartition(")")[2].split()[3]) == service.pid:
                found.append(int(entry.name))
    return found


def resident_bytes(service: Service) -> int:
    total = 0
    for pid in processes(service):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        total += 0 if match is None else int(match[1]) * 1024
    return total
