"""Uploads: multipart bodies parsed and spooled in one pass, in bounded memory; what goes to a file is hashed, too."""

import hashlib
import re
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import unquote

from litestar import Request
from litestar.concurrency import sync_to_thread
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from adapters.http.authentication import header
from adapters.http.inputs import BodyPieces, gathered, split_tags
from adapters.http.intake import Arrival, Intake
from adapters.http.problems import Problem
from application.content import Content
from domain.errors import Invalid, TooLarge, Unavailable
from domain.values import Description, Filename, Tag, Title, UserId, parse_tags

R = TypeVar("R")

_BATCH_BYTES = 512 * 1024  # hashed and written at once, in a thread; smaller files never leave memory
_FIELD_MAX_BYTES = 64 * 1024
_PARTS_MAX = 64
_PART_HEADER_MAX_BYTES = 16 * 1024
_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"')
_EXTENDED_NAME = re.compile(
    r""";\s*filename\*\s*=\s*(?:(?P<charset>[^';\s]*)'[^';\s]*')?(?P<value>[^;\s"]+)""", re.IGNORECASE
)
_FORM_OVERHEAD_BYTES = 2 * 1024 * 1024
_FILE = "file"
_TEXT_FIELDS = frozenset({"title", "description", "tags"})


@dataclass(frozen=True, slots=True)
class UploadForm:
    """What a form held, parsed."""

    filename: Filename
    content: Content
    title: Title | None
    description: Description
    tags: tuple[Tag, ...]


async def received_upload(
    request: Request[Any, Any, Any],
    owner: UserId,
    store: Callable[[UploadForm], Awaitable[R]],
    *,
    intake: Intake,
    max_file_bytes: int,
    spool_dir: Path | None,
) -> R:
    """Receive a form, have it stored, and return what came of that. Then its file is gone.

    Raises:
        Overloaded, or Problem (429): there is no room for it, or its owner's budget does not allow it.
        Problem: not multipart, malformed, cut off, or with more around the file than a form needs.
        Invalid: no file, unknown or repeated fields, or fields that break a rule.
        TooLarge: the file is over the limit.
    """
    boundary = _boundary(header(request.scope, b"content-type") or "")
    body_max_bytes = max_file_bytes + _FORM_OVERHEAD_BYTES
    async with intake.upload(request.scope, owner, body_max_bytes=body_max_bytes) as arrival:
        spool = _Spool(spool_dir)
        try:
            form = _FormReader(spool, max_file_bytes)
            await _receive(BodyPieces(request, body_max_bytes), arrival, boundary, form)
            return await store(await form.finish())
        finally:
            spool.close()


def _boundary(content_type: str) -> str:
    media_type, options = parse_options_header(content_type)
    if media_type != "multipart/form-data":
        raise Problem("unsupported_media_type", "Send multipart/form-data.", (("Accept", "multipart/form-data"),))
    boundary = options.get("boundary", "")
    if not boundary:
        raise Problem("invalid_form", "The content type has no boundary.")
    return cast("str", boundary)


async def _receive(pieces: BodyPieces, arrival: Arrival, boundary: str, form: "_FormReader") -> None:
    try:
        with PushMultipartParser(
            boundary, max_segment_count=_PARTS_MAX, max_header_size=_PART_HEADER_MAX_BYTES
        ) as parser:
            async for chunk in pieces:
                await arrival.took(len(chunk))
                for event in parser.parse(chunk):
                    form.feed(event)
                if form.spool.pending_bytes >= _BATCH_BYTES:
                    await form.spool.flush()
    except MultipartError as error:
        # The first argument is the parser's sentence; a second one would be an exception from its inside.
        raise Problem("invalid_form", f"The form is malformed: {error.args[0]}.") from error


class _FormReader:
    """Takes the parser's events: the file's bytes to the spool, the words to memory."""

    def __init__(self, spool: "_Spool", max_file_bytes: int) -> None:
        self.spool = spool
        self.max_file_bytes = max_file_bytes
        self._words: dict[str, list[bytes]] = {}
        self._filename: Filename | None = None
        self._unknown: list[str] = []
        self._current: str | None = None

    def feed(self, event: MultipartSegment | bytes | bytearray | None) -> None:
        """Take a part's beginning, a piece of it, or (None) its end."""
        if event is None:
            self._current = None
        elif isinstance(event, MultipartSegment):
            self._begin(event)
        elif self._current == _FILE:
            self.spool.add(event)
            if self.spool.size_bytes > self.max_file_bytes:
                raise TooLarge(self.max_file_bytes)
        elif self._current is not None:
            self._add_words(self._current, event)

    def _begin(self, part: MultipartSegment) -> None:
        self._current = part.name
        if part.name == _FILE:
            if self._filename is not None:
                raise Problem("invalid_form", "There is more than one file.")
            self._filename = Filename(_filename(part))
        elif part.name in _TEXT_FIELDS:
            self._words.setdefault(part.name, []).append(b"")
        else:
            self._unknown.append(part.name)
            self._current = None

    def _add_words(self, name: str, piece: bytes | bytearray) -> None:
        words = self._words[name]
        words[-1] += piece
        if len(words[-1]) > _FIELD_MAX_BYTES:
            raise Problem("invalid_form", f"The field {name} is longer than {_FIELD_MAX_BYTES} bytes.")

    async def finish(self) -> UploadForm:
        """Return the form; raise Invalid with everything that is wrong with it."""
        faults = [Invalid(name, "is not a field of this form") for name in dict.fromkeys(self._unknown)]
        if self._filename is None:
            faults.append(Invalid(_FILE, "is missing"))
        fields = {name: self._text(faults, name) for name in ("title", "description") if name in self._words}
        texts: dict[str, object] = {name: text for name, text in fields.items() if text is not None}
        if "tags" in self._words:
            texts["tags"] = split_tags(_decoded(faults, "tags", self._words["tags"]))
        title = gathered(faults, Title, texts, "title")
        description = gathered(faults, Description, texts, "description")
        tags = gathered(faults, parse_tags, texts, "tags")
        Invalid.raise_all(faults)
        content = await self.spool.content()
        return UploadForm(self._filename or Filename(""), content, title, description or Description(""), tags or ())

    def _text(self, faults: list[Invalid], name: str) -> str | None:
        values = _decoded(faults, name, self._words[name])
        if len(self._words[name]) > 1:
            faults.append(Invalid(name, "was given more than once"))
            return None
        return values[0] if values else None


def _decoded(faults: list[Invalid], name: str, values: list[bytes]) -> list[str]:
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError:
        faults.append(Invalid(name, "must be UTF-8"))
        return []


def _filename(part: MultipartSegment) -> str:
    """Return the name as sent, also in the form ``filename*=UTF-8''...`` that RFC 7578 forbids and some clients use."""
    outside_quotes = _QUOTED.sub('""', str(part.header("Content-Disposition", "")))
    if (match := _EXTENDED_NAME.search(outside_quotes)) is None:
        return str(part.filename or "")
    return unquote(match["value"], _charset(match["charset"] or ""), errors="replace")


def _charset(name: str) -> str:
    # The two that everybody has to know (RFC 8187, section 3.2.1).
    return "iso-8859-1" if name.lower() == "iso-8859-1" else "utf-8"


@dataclass(slots=True)
class _Spool:
    """A file in the making: small ones stay in memory, others go to an unnamed temporary file."""

    folder: Path | None
    size_bytes: int = 0
    pending_bytes: int = 0
    _pending: list[bytes | bytearray] = field(default_factory=list)
    _digest: Any = field(default_factory=hashlib.sha256)
    _file: BinaryIO | None = None

    def add(self, piece: bytes | bytearray) -> None:
        """Keep a piece until the next flush."""
        self._pending.append(piece)
        self.pending_bytes += len(piece)
        self.size_bytes += len(piece)

    async def flush(self) -> None:
        """Hash and write what is kept, in a thread."""
        await sync_to_thread(self._write)

    async def content(self) -> Content:
        """Return the whole, ready to be read from its start."""
        if self._file is None:
            return Content.of(self._taken())
        await self.flush()
        self._file.seek(0)
        return Content(self._file, self.size_bytes, self._digest.hexdigest)

    def _taken(self) -> bytes:
        batch = b"".join(self._pending)
        self._pending.clear()
        self.pending_bytes = 0
        return batch

    def _write(self) -> None:
        batch = self._taken()
        self._digest.update(batch)
        try:
            if self._file is None:
                # Unnamed where the system can (O_TMPFILE): nothing to clean up, whenever the process dies.
                self._file = cast("BinaryIO", tempfile.TemporaryFile(dir=self.folder))  # noqa: SIM115 (close() is below)
            self._file.write(batch)
            # Of the last few bytes a full disk would be heard only when somebody reads them.
            self._file.flush()
        except OSError as error:
            raise Unavailable("the upload can't be spooled") from error

    def close(self) -> None:
        """Let go of the file. It is gone even if bytes are left that the disk has no room for."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
