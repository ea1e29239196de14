"""What a peer has to know how to do to be measured. A row that it can't take part in, it says so."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import httpx

from bench.library import ONE_IN_10, READER, TOKEN_CHARS, UPLOADER, Template, Words, jpeg_template, newest, sampled
from bench.processes import Server
from bench.wrk import Ask, Upload, Wrong


class CannotDo(Exception):
    """The peer has no such thing; the message says why."""


class Seedable(Protocol):
    """What can be filled with a library, in a folder that is kept."""

    def schema(self) -> str:
        """Return what a seeded folder depends on: one that was seeded under another is of no use."""
        ...

    def seed(self, folder: Path, size: int) -> None:
        """Fill a folder with a library; the folder is there and empty. It ends with nothing running."""
        ...


class Peer(Seedable, Protocol):
    """A program that keeps people's images."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def setting(self) -> str:
        """How it was set up, in a sentence."""
        ...

    @property
    def largest(self) -> int | None:
        """The largest library it is measured with, if there is such a limit."""
        ...

    def version(self) -> str:
        """Return its version and those of what matters below it."""
        ...

    def copy(self, seeded: Path, folder: Path, size: int) -> None:
        """Make a folder that one run may change."""
        ...

    def library(self, folder: Path, size: int) -> "Library":
        """Return a library that was seeded."""
        ...


class Library(Protocol):
    """A peer over one seeded folder. What it is asked comes back as what to send."""

    server: Server

    def start(self) -> float:
        """Start the server, and return the seconds to its first page."""
        ...

    def sign_in(self, *, stores: bool) -> None:
        """Get what the requests need; if it ``stores``, also put in the pictures that will be downloaded."""
        ...

    def page(self, *, tags: tuple[str, ...] = (), title: str | None = None) -> Ask:
        """The newest 50 that have all the tags, or the title."""
        ...

    def metadata(self) -> Ask:
        """What is known of an image, by id."""
        ...

    def upload(self, size_bytes: int) -> Ask:
        """A new image."""
        ...

    def download(self, size_bytes: int) -> Ask:
        """The bytes of an image, to its owner."""
        ...

    def not_modified(self, size_bytes: int) -> Ask:
        """The same of one who has them."""
        ...

    def one_byte(self, size_bytes: int) -> Ask:
        """One byte out of the middle."""
        ...


class Stored(NamedTuple):
    """Pictures that were uploaded to be downloaded: what the peer calls them, and the bytes of the first."""

    names: tuple[str, ...]
    content: bytes


DOWNLOADED = {200_000: 50, 5_000_000: 4}
"""How many pictures of which size take turns."""
UPLOADED_TAGS = ["trip", ONE_IN_10]


@dataclass(kw_only=True)
class HeaderLibrary:
    """A Library that is told the owner in ``X-User-ID``."""

    server: Server
    size: int
    page_path: Callable[[tuple[str, ...], str | None], str]
    """Of the page with these tags and this title."""
    record_path: Callable[[int], str]
    """Of what is known of the picture with this number."""
    original_path: Callable[[str], str]
    """Of the bytes of an uploaded picture, by what the peer calls it."""
    upload_path: str
    more_fields: Sequence[tuple[str, str]] = ()
    """What the form has besides title, tags and file."""
    id_field: str
    """Where the answer to an upload tells what the peer calls it."""
    is_upload: Callable[[Any, int], bool]
    """Whether that answer tells the size, and UPLOADED_TAGS."""
    read_words: Callable[[httpx.Response], list[Words]]
    no_ranges: str | None = None
    """Why it can't send one byte."""
    _stored: dict[int, Stored] = field(default_factory=dict, init=False)

    def start(self) -> float:
        """See Library."""
        ask = self.page()
        return self.server.start(ask.paths[0], ask.headers)

    def sign_in(self, *, stores: bool) -> None:
        """See Library."""
        if stores:
            self._stored = stored_pictures(
                self.server.url, self.upload, lambda answer: str(answer.json()[self.id_field])
            )

    def page(self, *, tags: tuple[str, ...] = (), title: str | None = None) -> Ask:
        """See Library."""
        check = page_check(self.read_words, self.size, tags=tags, title=title)
        return Ask((self.page_path(tags, title),), 200, check, _as(READER))

    def metadata(self) -> Ask:
        """See Library."""
        photos = sampled(self.size)
        paths = tuple(self.record_path(each.number) for each in photos)
        return Ask(paths, 200, title_check(photos[0].title), _as(READER))

    def upload(self, size_bytes: int) -> Ask:
        """See Library."""
        fields = [("title", "A bridge"), ("tags", ",".join(UPLOADED_TAGS)), *self.more_fields]
        headers, body = multipart(fields, file="file", picture=jpeg_template(size_bytes))

        def check(answer: httpx.Response) -> None:
            if not self.is_upload(answer.json(), size_bytes):
                raise Wrong("not what was uploaded")

        return Ask((self.upload_path,), 201, check, {**_as(UPLOADER), **headers}, body)

    def download(self, size_bytes: int) -> Ask:
        """See Library."""
        return Ask(self._originals(size_bytes), 200, content_check(self._stored[size_bytes].content), _as(UPLOADER))

    def not_modified(self, size_bytes: int) -> Ask:
        """See Library."""
        path = self._originals(size_bytes)[0]
        whole = httpx.get(self.server.url + path, headers=_as(UPLOADER))
        return Ask((path,), 304, content_check(b""), {**_as(UPLOADER), "If-None-Match": whole.headers["ETag"]})

    def one_byte(self, size_bytes: int) -> Ask:
        """See Library."""
        if self.no_ranges:
            raise CannotDo(self.no_ranges)
        middle = size_bytes // 2
        check = content_check(self._stored[size_bytes].content[middle : middle + 1])
        return Ask(self._originals(size_bytes), 206, check, {**_as(UPLOADER), "Range": f"bytes={middle}-{middle}"})

    def _originals(self, size_bytes: int) -> tuple[str, ...]:
        return tuple(self.original_path(name) for name in self._stored[size_bytes].names)


def _as(user: str) -> dict[str, str]:
    return {"X-User-ID": user}


def stored_pictures(url: str, upload: Callable[[int], Ask], name: Callable[[httpx.Response], str]) -> dict[int, Stored]:
    """Upload the pictures that will be downloaded. ``name`` reads an answer."""
    stored = {}
    with httpx.Client(base_url=url, timeout=60) as client:
        for size_bytes, count in DOWNLOADED.items():
            ask, names = upload(size_bytes), []
            if ask.upload is None:
                raise RuntimeError("an upload has a body")
            for number in range(count):
                body = ask.upload.body(f"{number:0{TOKEN_CHARS}d}")
                answer = client.post(ask.paths[0], headers=dict(ask.headers), content=body)
                if answer.status_code != ask.status:
                    raise Wrong(f"POST {ask.paths[0]}: {answer.status_code} {answer.text[:500]}")
                names.append(name(answer))
            stored[size_bytes] = Stored(tuple(names), ask.upload.picture.filled(f"{0:0{TOKEN_CHARS}d}"))
    return stored


def multipart(fields: Sequence[tuple[str, str]], *, file: str, picture: Template) -> tuple[dict[str, str], Upload]:
    """Return the headers and body of a form: these fields, then the picture in the field ``file``."""
    boundary = "------------------------c41071f3"
    before = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields
    )
    before += (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{file}"; filename="photo.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    after = f"\r\n--{boundary}--\r\n"
    return (
        {"Content-Type": f"multipart/form-data; boundary={boundary}"},
        Upload(before.encode(), picture, after.encode()),
    )


def page_check(
    read: Callable[[httpx.Response], list[Words]], size: int, *, tags: tuple[str, ...] = (), title: str | None = None
) -> Callable[[httpx.Response], None]:
    """Return the check of a page: the pictures that must be on it, in order, each with its title and tags."""
    expected = newest(size, tags=tags, title=title)

    def check(answer: httpx.Response) -> None:
        got = [Words(words.title, tuple(sorted(words.tags))) for words in read(answer)]
        if got != [Words(words.title, tuple(sorted(words.tags))) for words in expected]:
            raise Wrong(f"{answer.url}: not the page it should be, but {got[:3]}... ({len(got)} of {len(expected)})")

    return check


def words_of_items(answer: httpx.Response) -> list[Words]:
    """Read a page of ``items``, each with its title and tags."""
    return [Words(each["title"], tuple(each["tags"])) for each in answer.json()["items"]]


def title_check(title: str) -> Callable[[httpx.Response], None]:
    """Return the check of what is known of an image."""

    def check(answer: httpx.Response) -> None:
        if answer.json()["title"] != title:
            raise Wrong("not the metadata of that image")

    return check


def content_check(content: bytes) -> Callable[[httpx.Response], None]:
    """Return the check of bytes."""

    def check(answer: httpx.Response) -> None:
        if answer.content != content:
            raise Wrong(f"{answer.url}: {len(answer.content)} bytes, and not those that were stored")

    return check
