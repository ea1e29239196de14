"""What no upload and no download on this server can do without, as an ASGI application that does nothing else.

    POST /received    read the body, and answer
    POST /synced      and: one SHA-256; the file, its folders and two commits on the disk, in the protocol's order
    POST /kept        and: the protocol by Calotype's own stores, from reservation to record
    POST /checked     and: the form parsed by its library, and the picture by Calotype's inspector
    GET /file/{n}     give the server the path of a file
    GET /memory/{n}   bytes that were read once, for all: what the server takes for sending them

All stores commit in groups and take turns with the other worker, as Calotype does. Everything is one owner's, whom
nobody asks; there are no quotas, documents and logs, and an answer says only how many bytes were kept.
"""
# ruff: noqa: PTH102, PTH108 (what is measured: no more than system calls)

import asyncio
import os
import sqlite3
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

from multipart import MultipartSegment, PushMultipartParser, parse_options_header

from adapters.filesystem.objects import FilesystemObjects
from adapters.imaging.inspector import PillowInspector
from adapters.sqlite.metadata import SqliteMetadata
from adapters.sqlite.session import Session
from adapters.system import SystemClock
from application.content import HashedBytes
from application.ports import StoredObject
from domain.image import Image
from domain.limits import Limits
from domain.reclaim import Reservation
from domain.values import Description, Filename, MediaType, Tag, Title, UserId

_HEX = "0123456789abcdef"
_OWNER = UserId("grace")


class Disk:
    """A file and two rows for each upload: the system calls and statements that its durability takes, and no more."""

    def __init__(self, root: Path) -> None:
        """Make the folders and the tables."""
        self._root = str(root)
        for name in (f"{a}/{b}/{kind}" for a in _HEX for b in _HEX for kind in ("images", "partial")):
            (root / name).mkdir(parents=True, exist_ok=True)
        self._session = Session(root / "floor.sqlite3", timeout_s=5)
        self._session.write(_make_tables)

    def keep(self, content: HashedBytes) -> None:
        """Keep a file's bytes."""
        name, sha256 = uuid.uuid4().hex, content.sha256()
        self._session.write(lambda db: db.execute("INSERT INTO reclaim VALUES (?, ?)", (name, 1)))
        slot = f"{self._root}/{name[0]}/{name[1]}"
        partial, folder = f"{slot}/partial/{name}", f"{slot}/images/{name}"
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(descriptor, content.data)
        os.fsync(descriptor)
        os.close(descriptor)
        os.mkdir(folder)
        os.link(partial, f"{folder}/photo.jpg")
        for each in (folder, f"{slot}/images"):
            descriptor = os.open(each, os.O_RDONLY | os.O_DIRECTORY)
            os.fsync(descriptor)
            os.close(descriptor)
        os.unlink(partial)

        def commit(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM reclaim WHERE id = ?", (name,))
            db.execute("INSERT INTO images VALUES (?, ?, ?)", (name, sha256, len(content.data)))

        self._session.write(commit)


def _make_tables(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE IF NOT EXISTS reclaim (id TEXT PRIMARY KEY, due INTEGER)")
    db.execute("CREATE TABLE IF NOT EXISTS images (id TEXT PRIMARY KEY, sha256 TEXT, size_bytes INTEGER)")


class Stores:
    """Calotype's own stores, and the protocol's three calls."""

    def __init__(self, root: Path) -> None:
        """Open them."""
        root.mkdir(exist_ok=True)
        self._clock = SystemClock()
        self._records = SqliteMetadata(root / "catalog.sqlite3")
        self._objects = FilesystemObjects(root / "objects", clock=self._clock, public_url="http://x", secret=b"s" * 32)

    def keep(self, content: HashedBytes) -> None:
        """Reserve, put, commit."""
        now = self._clock.now()
        image = Image(
            image_id=uuid.uuid4(),
            owner=_OWNER,
            filename=Filename("photo.jpg"),
            title=Title("A bridge"),
            description=Description(""),
            tags=(Tag("trip"), Tag("place-3")),
            media_type=MediaType.JPEG,
            size_bytes=len(content.data),
            width=1,
            height=1,
            sha256=content.sha256(),
            created_at=now,
            updated_at=now,
        )
        reservation = Reservation(
            image_id=image.image_id,
            owner=_OWNER,
            holder=uuid.uuid4(),
            lease_until=now + timedelta(minutes=1),
            due=now + timedelta(hours=1),
            size_bytes=len(content.data),
        )
        self._records.reserve(reservation, at=now)
        self._objects.put(StoredObject.of(image), content, deadline=reservation.lease_until)
        self._records.commit(image, holder=reservation.holder)


class Checked(Stores):
    """The same, for pictures alone."""

    def __init__(self, root: Path) -> None:
        """Open them."""
        super().__init__(root)
        self._inspector = PillowInspector()

    def keep(self, content: HashedBytes) -> None:
        """Inspect the picture first."""
        self._inspector.inspect(content, limits=Limits())
        content.seek(0)
        super().keep(content)


class Floor:
    """The application. Its folder, and that of the files to send, come from the environment."""

    def __init__(self) -> None:
        """Open all of it, in each worker."""
        root = Path(os.environ["FLOOR_FOLDER"])
        files = Path(os.environ["FLOOR_FILES"]).iterdir()
        self._files = {f"/file/{each.name}": (str(each), each.stat().st_size) for each in files}
        self._memory = {
            path.replace("file", "memory"): Path(file).read_bytes() for path, (file, _) in self._files.items()
        }
        self._keep: dict[str, Callable[[HashedBytes], None]] = {
            "/synced": Disk(root / "disk").keep,
            "/kept": Stores(root / "stores").keep,
            "/checked": Checked(root / "checked").keep,
        }
        self._threads = ThreadPoolExecutor(32)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        path = scope["path"]
        if scope["method"] == "POST":
            body = await _body(receive, int(dict(scope["headers"])[b"content-length"]))
            content = _parsed(body, scope) if path == "/checked" else _cut_out(body)
            if keep := self._keep.get(path):
                await asyncio.get_running_loop().run_in_executor(self._threads, keep, HashedBytes(content))
            await _start(send, 201, len(told := b'{"size_bytes": %d}' % len(content)))
            await send({"type": "http.response.body", "body": told})
        elif path in self._files:
            file, length = self._files[path]
            await _start(send, 200, length)
            await send({"type": "http.response.pathsend", "path": file})
        else:
            sent = self._memory.get(path, b"")
            await _start(send, 200, len(sent))
            await send({"type": "http.response.body", "body": sent})


def _cut_out(body: bytes) -> bytes:
    return body[body.index(b"image/jpeg\r\n\r\n") + 14 : body.rindex(b"\r\n--")]


def _parsed(body: bytes, scope: Any) -> bytes:
    _, options = parse_options_header(dict(scope["headers"])[b"content-type"].decode())
    pieces, name = [], None
    with PushMultipartParser(options["boundary"]) as parser:
        for event in parser.parse(body):
            if isinstance(event, MultipartSegment):
                name = event.name
            elif event and name == "file":
                pieces.append(event)
    return b"".join(pieces)


async def _body(receive: Any, length: int) -> bytes:
    pieces: list[bytes] = []
    while sum(map(len, pieces)) < length:
        pieces.append((await receive())["body"])
    return b"".join(pieces)


async def _start(send: Any, status: int, length: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"%d" % length)]})
