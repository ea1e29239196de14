"""What a peer has to know how to do to be measured. A row that it can't take part in, it says so."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import httpx

from bench.library import TOKEN_CHARS, Template, Words, newest
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


def content_check(content: bytes) -> Callable[[httpx.Response], None]:
    """Return the check of bytes."""

    def check(answer: httpx.Response) -> None:
        if answer.content != content:
            raise Wrong(f"{answer.url}: {len(answer.content)} bytes, and not those that were stored")

    return check
