"""A tiny stand-in for the HTTP API, which the client's tests can make fail in any way.

It keeps what is uploaded in memory, by idempotency key. An answer put in `next_answers` is given instead of its own.
"""

import hashlib
import io
import json
import re
import socket
import struct
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from multipart import MultipartParser, parse_options_header


@dataclass(kw_only=True)
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None  # of the body's bytes; the connection is reset then


@dataclass(kw_only=True)
class Seen:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    form: dict[str, list[str]] = field(default_factory=dict)
    filename: str = ""
    content: bytes = b""


def json_answer(document: object, status: int = 200, **headers: str) -> Answer:
    return Answer(
        status=status, body=json.dumps(document).encode(), headers={"Content-Type": "application/json"} | headers
    )


def problem(status: int, code: str, detail: str = "", **more: Any) -> Answer:
    headers = more.pop("headers", {})
    document = {"type": f"urn:x:{code}", "title": code, "status": status, "detail": detail, "code": code, **more}
    return Answer(
        status=status,
        body=json.dumps(document).encode(),
        headers={"Content-Type": "application/problem+json", **headers},
    )


@dataclass
class CliServer:
    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    next_answers: deque[Answer | Callable[[Seen], Answer]] = field(default_factory=deque)
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    trashed_keys: set[str] = field(default_factory=set)
    silent: bool = False
    arrived: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    most_at_once: int = 0
    _at_once: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, seen: Seen) -> Answer:
        with self._lock:
            self.seen.append(seen)
            special = self.next_answers.popleft() if self.next_answers else None
        if special is not None:
            return special(seen) if callable(special) else special
        image_id = seen.path.removeprefix("/api/v1/images").strip("/")
        if not image_id:
            return self._upload(seen) if seen.method == "POST" else self._list(seen)
        if image_id not in self.images:
            return problem(404, "not_found", "It does not exist, or it is not yours.")
        return self._delete(image_id) if seen.method == "DELETE" else self._content(seen, image_id)

    def _upload(self, seen: Seen) -> Answer:
        key = seen.headers["idempotency-key"]
        if key in self.trashed_keys:
            return problem(409, "image_in_trash", "The image of this upload is in the trash.")
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        time.sleep(0.01)
        with self._lock:
            self._at_once -= 1
            for image in self.images.values():
                if image["key"] == key:
                    return json_answer(image, 201, **{"Idempotent-Replayed": "true"})
            image = self.add(seen.content, filename=seen.filename, key=key, tags=seen.form.get("tags", []))
        return json_answer(image, 201)

    def add(
        self, content: bytes, *, filename: str = "cat.jpg", key: str = "", tags: tuple[str, ...] | list[str] = ()
    ) -> dict[str, Any]:
        image: dict[str, Any] = {
            "image_id": str(uuid.uuid4()),
            "user_id": "ann",
            "s3_key": "k",
            "filename": filename,
            "title": filename.rpartition(".")[0] or filename,
            "description": "",
            "tags": list(tags),
            "content_type": "image/jpeg",
            "size_bytes": len(content),
            "width": 3,
            "height": 2,
            "sha256": hashlib.sha256(content).hexdigest(),
            "created_at": "2024-01-04T10:30:00.000000",
            "updated_at": "2024-01-04T10:30:00.000000",
            "version": 1,
            "presigned_url": "http://x/",
            "presigned_url_expires_at": "2024-01-04T11:30:00.000000",
            "key": key,
        }
        self.images[image["image_id"]] = image
        self.contents[image["image_id"]] = content
        return image

    def _list(self, seen: Seen) -> Answer:
        start, limit = int(seen.query.get("cursor", ["0"])[0]), int(seen.query["limit"][0])
        images = list(reversed(self.images.values()))
        more = len(images) > start + limit
        return json_answer(
            {"items": images[start : start + limit], "next_cursor": str(start + limit) if more else None}
        )

    def _content(self, seen: Seen, image_id: str) -> Answer:
        content, image = self.contents[image_id], self.images[image_id]
        headers = {
            "ETag": f'"{image["sha256"]}"',
            "Content-Type": "image/jpeg",
            "Content-Disposition": f'inline; filename="{image["filename"]}"',
        }
        if (range_ := re.fullmatch(r"bytes=(\d+)-", seen.headers.get("range", ""))) is None:
            return Answer(body=content, headers=headers)
        start = int(range_[1])
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return Answer(status=206, body=content[start:], headers=headers)

    def _delete(self, image_id: str) -> Answer:
        del self.images[image_id]
        return json_answer(
            {"image_id": image_id, "deleted_at": "2024-01-04T10:30:00", "restorable_until": "2024-02-03T10:30:00"}
        )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def state(self) -> CliServer:
        assert isinstance(self.server, _Server)
        return self.server.state

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        seen = Seen(
            method=self.command,
            path=parts.path,
            query=parse_qs(parts.query),
            headers={name.lower(): value for name, value in self.headers.items()},
        )
        if self.command == "POST" and not self._receive(seen):
            self.close_connection = True
            return
        self.state.arrived.set()
        if self.state.silent:
            self.state.over.wait()
        self._give(self.state.answer(seen))

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815 (http.server's names)

    def _receive(self, seen: Seen) -> bool:
        """Read the form; return whether it came whole."""
        length = int(seen.headers["content-length"])
        boundary = parse_options_header(seen.headers["content-type"])[1]["boundary"]
        body = self.rfile.read(length)
        if len(body) < length:
            return False
        for part in MultipartParser(io.BytesIO(body), boundary, length, spool_limit=length, memory_limit=2 * length):
            if part.name == "file":
                seen.filename, seen.content = part.filename or "", part.raw
            else:
                seen.form.setdefault(part.name, []).append(part.value)
        return True

    def _give(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body[: answer.cut_after])
        if answer.cut_after is not None:
            time.sleep(0.05)  # so that what was sent is read before it is cut
            # A lingering time of nothing makes the close a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, state: CliServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.state = state

    def handle_error(self, *_: object) -> None:
        pass

    def shutdown_request(self, request: Any) -> None:
        self.close_request(request)


@contextmanager
def running_server() -> Iterator[CliServer]:
    state = CliServer()
    with _Server(state) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield state
        state.over.set()
        server.shutdown()
        thread.join()
