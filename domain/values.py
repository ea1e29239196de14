"""Values, parsed once at the edge and valid ever after.

Each is a ``str`` whose constructor is its parser: it normalises, or raises `Invalid`. Parsing a parsed value
gives the same value, so a constructor may be applied again without harm.
"""

import re
import unicodedata
from collections.abc import Iterable
from enum import StrEnum
from typing import Self
from uuid import UUID

from domain.errors import Invalid
from domain.limits import (
    DESCRIPTION_MAX_CHARS,
    FILENAME_MAX_BYTES,
    IDEMPOTENCY_KEY_MAX_CHARS,
    TAG_MAX_CHARS,
    TAGS_MAX,
    TITLE_MAX_CHARS,
    USER_ID_MAX_CHARS,
)

ImageId = UUID

_USER_ID = re.compile(rf"[A-Za-z0-9._@:|-]{{1,{USER_ID_MAX_CHARS}}}")
_IDEMPOTENCY_KEY = re.compile(rf"[\x21-\x7e]{{1,{IDEMPOTENCY_KEY_MAX_CHARS}}}")

_CONTROL = r"\x00-\x1f\x7f-\x9f"  # Unicode's category Cc
_CONTROLS = re.compile(f"[{_CONTROL}]")
# Marks that reorder the text around them: they let `gpj.exe` show as `exe.jpg` (Unicode TR 36, section 2.1).
_BIDI_CONTROL = r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
# Unicode 23.7. XML, which S3 speaks, can't carry all of them.
_NONCHARACTER = r"\ufdd0-\ufdef" + "".join(rf"\U{plane:04x}fffe\U{plane:04x}ffff" for plane in range(17))
# Those, surrogates, and the separators of lines and paragraphs.
_UNPRINTABLE = re.compile(rf"[{_CONTROL}{_BIDI_CONTROL}{_NONCHARACTER}\ud800-\udfff\u2028\u2029]")
# Device names that Windows keeps for itself, with any extension.
_RESERVED_STEM = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])", re.IGNORECASE)
_NAMELESS = "image"


class UserId(str):
    """The owner an image belongs to: 1-128 of ASCII letters, digits and ``._@:-|``."""

    __slots__ = ()

    def __new__(cls, raw: str) -> Self:
        """Parse; raise Invalid otherwise."""
        if not _USER_ID.fullmatch(raw):
            raise Invalid("user_id", f"must be 1-{USER_ID_MAX_CHARS} letters, digits or ._@:-|", code="invalid_user")
        return super().__new__(cls, raw)


class Title(str):
    """What an image is called: NFC, trimmed, 1-200 characters, no control characters."""

    __slots__ = ()

    def __new__(cls, raw: str) -> Self:
        """Parse; raise Invalid otherwise."""
        text = _normal("title", raw).strip()
        if not 1 <= len(text) <= TITLE_MAX_CHARS:
            raise Invalid("title", f"must have 1-{TITLE_MAX_CHARS} characters")
        if _CONTROLS.search(text):
            raise Invalid("title", "must not contain control characters")
        return super().__new__(cls, text)

    @classmethod
    def from_filename(cls, filename: "Filename") -> Self:
        """Return the default title: the filename's stem."""
        text = unicodedata.normalize("NFC", filename.stem).strip()[:TITLE_MAX_CHARS].strip()
        return cls(text or _NAMELESS)

    @property
    def folded(self) -> str:
        """The form in which titles are compared: case does not count."""
        return fold(self)


class Description(str):
    """Free text beside an image: NFC, at most 5,000 characters."""

    __slots__ = ()

    def __new__(cls, raw: str) -> Self:
        """Parse; raise Invalid otherwise."""
        text = _normal("description", raw)
        if len(text) > DESCRIPTION_MAX_CHARS:
            raise Invalid("description", f"must have at most {DESCRIPTION_MAX_CHARS} characters")
        return super().__new__(cls, text)


class Tag(str):
    """One word to find an image by: NFC, trimmed, case-folded, 1-64 characters."""

    __slots__ = ()

    def __new__(cls, raw: str) -> Self:
        """Parse; raise Invalid otherwise."""
        text = fold(_normal("tags", raw)).strip()
        if not 1 <= len(text) <= TAG_MAX_CHARS:
            raise Invalid("tags", f"must have 1-{TAG_MAX_CHARS} characters each")
        return super().__new__(cls, text)


def parse_tags(raw: Iterable[str]) -> tuple[Tag, ...]:
    """Return the tags in their order, the first of equals kept; raise Invalid past 30."""
    if isinstance(raw, str):
        raise Invalid("tags", "must be a list")
    tags = tuple(dict.fromkeys(Tag(each) for each in raw))
    if len(tags) > TAGS_MAX:
        raise Invalid("tags", f"must be at most {TAGS_MAX}")
    return tags


class Filename(str):
    """The name a file came with, made safe: cleaned, never refused.

    Path parts, control and direction marks, and names that a system reserves are removed; the rest stays as it
    was sent. 1-255 bytes of UTF-8; the extension survives the cut.
    """

    __slots__ = ()

    def __new__(cls, raw: str) -> Self:
        """Clean the name; any string gives a filename."""
        last = raw.replace("\\", "/").rpartition("/")[2]
        text = _cut(_without_tail(_UNPRINTABLE.sub("", last).lstrip()))
        # Only the name that is left can tell: a cut may bring a reserved one to light.
        stem, dot, suffix = text.partition(".")
        if _RESERVED_STEM.fullmatch(stem.strip()):
            text = _cut(f"{_NAMELESS}{dot}{suffix}")
        return super().__new__(cls, text or _NAMELESS)

    @property
    def stem(self) -> str:
        """The name without its last extension; a leading dot starts no extension."""
        stem, dot, _ = self.rpartition(".")
        return stem if dot and stem else str(self)


class IdempotencyKey(str):
    """A client's name for one attempt to upload: 1-255 printable ASCII characters without spaces."""

    __slots__ = ()

    def __new__(cls, raw: str) -> Self:
        """Parse; raise Invalid otherwise."""
        if not _IDEMPOTENCY_KEY.fullmatch(raw):
            raise Invalid(
                "Idempotency-Key",
                f"must be 1-{IDEMPOTENCY_KEY_MAX_CHARS} printable ASCII characters without spaces",
                code="invalid_idempotency_key",
            )
        return super().__new__(cls, raw)


class MediaType(StrEnum):
    """The formats that are stored. Nothing that can run script is among them."""

    JPEG = "image/jpeg"
    PNG = "image/png"
    GIF = "image/gif"
    WEBP = "image/webp"
    AVIF = "image/avif"
    HEIC = "image/heic"
    TIFF = "image/tiff"
    BMP = "image/bmp"

    @classmethod
    def sniff(cls, head: bytes) -> "MediaType | None":
        """Tell the format by the first bytes (64 are enough), or None. Says nothing of the rest of the file.

        Signatures as in the WHATWG MIME Sniffing standard; AVIF and HEIC by the brands of ISO 23008-12's ``ftyp``.
        """
        for signature, media_type in _SIGNATURES:
            if head.startswith(signature):
                return media_type
        if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            return cls.WEBP
        if head[4:8] == b"ftyp":
            end = min(int.from_bytes(head[:4], "big"), len(head))
            brands = {head[at : at + 4] for at in (8, *range(16, end - 3, 4))}
            if brands & {b"avif", b"avis"}:
                return cls.AVIF
            if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}:
                return cls.HEIC
        return None


_SIGNATURES = (
    (b"\xff\xd8\xff", MediaType.JPEG),
    (b"\x89PNG\r\n\x1a\n", MediaType.PNG),
    (b"GIF87a", MediaType.GIF),
    (b"GIF89a", MediaType.GIF),
    (b"II*\x00", MediaType.TIFF),
    (b"MM\x00*", MediaType.TIFF),
    (b"BM", MediaType.BMP),
)


def fold(text: str) -> str:
    """Return the form in which texts are equal whatever their case (Unicode 3.13, D145), in NFC."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def _normal(field: str, raw: object) -> str:
    if not isinstance(raw, str):
        raise Invalid(field, "must be text")
    try:
        raw.encode()
    except UnicodeEncodeError as error:
        raise Invalid(field, "must be valid Unicode") from error
    return unicodedata.normalize("NFC", raw)


def _cut(name: str) -> str:
    if len(name.encode()) <= FILENAME_MAX_BYTES:
        return name
    stem, dot, suffix = name.rpartition(".")
    ending = dot + suffix if stem and len((dot + suffix).encode()) <= FILENAME_MAX_BYTES // 4 else ""
    room = FILENAME_MAX_BYTES - len(ending.encode())
    body = name if not ending else stem
    cut = body.encode()[:room].decode(errors="ignore")
    return _without_tail(cut) + ending


def _without_tail(name: str) -> str:
    # Dots and white space at the end, which some systems drop. By hand, since a pattern anchored at the end takes
    # quadratic time on a long run of spaces.
    end = len(name)
    while end and (name[end - 1] == "." or name[end - 1].isspace()):
        end -= 1
    return name[:end]
