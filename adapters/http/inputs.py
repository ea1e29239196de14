"""What comes over the wire, besides uploads: query parameters and JSON bodies to domain values."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self, TypeVar
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec
from litestar import Request

from adapters.http.digests import STATE_KEY, ContentDigest
from adapters.http.problems import Problem
from application.ports import ByOwner, ByTags, ByTitle, Filter
from domain.errors import Invalid, NotFound
from domain.image import MetadataChange, MetadataField
from domain.limits import PAGE_DEFAULT_ITEMS, PAGE_MAX_ITEMS
from domain.values import Description, ImageId, Title, parse_tags

V = TypeVar("V")

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
_BODY_MAX_BYTES = 256 * 1024
_PARAMETERS_MAX = 100
# UUID() itself takes braces, underscores and hyphens anywhere, which would give one image many addresses.
_IMAGE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)


class Query:
    """The query parameters of a request; those that nobody asked for are refused by `done`."""

    def __init__(self, query_string: bytes) -> None:
        """Parse ``a=1&b=2``; raise Problem for what is not UTF-8 behind the percent signs."""
        self._values: dict[str, list[str]] = {}
        if not query_string:  # as in most requests
            return
        try:
            pairs = parse_qsl(
                query_string.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_PARAMETERS_MAX
            )
        except ValueError as error:
            raise Problem("invalid_request", "The query string is malformed, or has too many parameters.") from error
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    def many(self, name: str) -> list[str]:
        """Take a parameter that may be repeated."""
        return self._values.pop(name, [])

    def one(self, name: str) -> str | None:
        """Take a parameter that may stand once; raise Invalid if it is repeated."""
        values = self.many(name)
        if len(values) > 1:
            raise Invalid(name, "was given more than once")
        return values[0] if values else None

    def choice(self, name: str, *choices: str) -> str | None:
        """Take a parameter that has one of a few values; raise Invalid for another."""
        value = self.one(name)
        if value is not None and value not in choices:
            raise Invalid(name, f"must be one of {', '.join(choices)}")
        return value

    def flag(self, name: str) -> bool:
        """Take a parameter that switches something on: ``1`` or ``true``; off with ``0``, ``false`` or without it."""
        return self.choice(name, "1", "true", "0", "false") in {"1", "true"}

    def done(self) -> None:
        """Raise Invalid if parameters are left over."""
        Invalid.raise_all([Invalid(name, "is not a parameter of this call") for name in self._values])


def parse_image_id(raw: str) -> ImageId:
    """Return the id; what is none can't be found either."""
    if _IMAGE_ID.fullmatch(raw) is None:
        raise NotFound
    return UUID(raw)


def parse_listing(query: Query) -> tuple[Filter, int, str | None]:
    """Return filter, limit and cursor of a listing; raise Invalid for anything else."""
    which = _parse_filter(query)
    limit, cursor = _parse_limit(query.one("limit")), query.one("cursor")
    query.done()
    return which, limit, cursor


def _parse_filter(query: Query) -> Filter:
    match query.choice("filter_by", "user", "tags", "title"):
        case "tags":
            tags = parse_tags(query.many("tags"))
            if not tags:
                raise Invalid("tags", "must name at least one tag")
            return ByTags(tags, "all" if query.choice("match", "any", "all") == "all" else "any")
        case "title":
            title = query.one("title")
            if title is None:
                raise Invalid("title", "must be given to filter by it")
            return ByTitle(Title(title))
        case _:
            return ByOwner()


def _parse_limit(raw: str | None) -> int:
    if raw is None:
        return PAGE_DEFAULT_ITEMS
    if not (raw.isascii() and raw.isdigit() and len(raw) <= len(str(PAGE_MAX_ITEMS))):
        raise Invalid("limit", f"must be a number from 1 to {PAGE_MAX_ITEMS}")
    return int(raw)


class BodyPieces:
    """The pieces of a request's body, none empty, for ``async for``.

    They come from the server's own events, since Litestar would answer a body that was cut off with a 500. Whoever
    reads to the end knows that the body is the one that was signed, if it was: so no body is read in another way.
    Whoever was told of a Problem reads no further.

    Iterating raises:
        Problem: it is longer than ``most`` bytes, ended before its time, or is not what its digest names.
    """

    def __init__(self, request: Request[Any, Any, Any], most: int) -> None:
        """Begin before the first."""
        self._receive = request.receive
        self._digest: ContentDigest | None = request.scope["state"].get(STATE_KEY)
        self._most = self._left = most
        self._has_more = True

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece."""
        while self._has_more:
            event = await self._receive()
            if event["type"] != "http.request":
                raise Problem("invalid_request", "The body ended before its time.")
            piece: bytes = event["body"]
            self._has_more = event.get("more_body", False)
            self._left -= len(piece)
            if self._left < 0:
                raise Problem("request_too_large", f"At most {self._most} bytes are read.")
            if piece:
                if self._digest is not None:
                    self._digest.update(piece)
                return piece
        if self._digest is not None:
            self._digest.check()
        raise StopAsyncIteration


async def skip_body(request: Request[Any, Any, Any]) -> None:
    """Read a body that has no meaning to its end, where one that was signed is found to be as it was, or not."""
    async for _ in BodyPieces(request, _BODY_MAX_BYTES):
        pass


async def read_json_object(request: Request[Any, Any, Any], *media_types: str) -> Mapping[str, object]:
    """Return the JSON object in the body.

    Raises:
        Problem: another content type, too long, broken, not an object, or with a field that stands there twice.
    """
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared not in media_types:
        raise Problem(
            "unsupported_media_type",
            f"Send {' or '.join(media_types)}.",
            headers=(("Accept", ", ".join(media_types)),),  # RFC 9110, section 15.5.16
        )
    body = b"".join([piece async for piece in BodyPieces(request, _BODY_MAX_BYTES)])
    try:
        value = msgspec.json.decode(body)
        # msgspec keeps the last of equal fields and says nothing. Numbers are left alone: Python refuses long ones.
        json.loads(body, object_pairs_hook=_each_once, parse_int=str, parse_float=str)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem("invalid_json", f"The body can't be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise Problem("invalid_json", "The body must be a JSON object.")
    return value


def _each_once(pairs: list[tuple[str, object]]) -> None:
    if len({name for name, _ in pairs}) < len(pairs):
        raise Problem("invalid_json", "A field is given more than once.")


def parse_replacement(fields: Mapping[str, object]) -> MetadataChange:
    """Return the change that a PUT body asks for: it replaces all three, so what it leaves out goes to its default."""
    return _parse_change(fields, reset=frozenset(_FIELDS.difference(fields)))


def parse_merge_patch(fields: Mapping[str, object]) -> MetadataChange:
    """Return the change of a merge patch (RFC 7396): what it leaves out stays, null goes back to the default."""
    given = {name: value for name, value in fields.items() if value is not None or name not in _FIELDS}
    return _parse_change(given, reset=frozenset(_FIELDS.intersection(fields).difference(given)))


def _parse_change(fields: Mapping[str, object], *, reset: frozenset[MetadataField]) -> MetadataChange:
    faults = [Invalid(name, "can't be changed, or does not exist") for name in fields if name not in _FIELDS]
    title = gathered(faults, Title, fields, "title")
    description = gathered(faults, Description, fields, "description")
    tags = gathered(faults, _json_tags, fields, "tags")
    Invalid.raise_all(faults)
    return MetadataChange(title=title, description=description, tags=tags, reset=reset)


_FIELDS: frozenset[MetadataField] = frozenset({"title", "description", "tags"})


def gathered(faults: list[Invalid], parse: Callable[[Any], V], fields: Mapping[str, object], name: str) -> V | None:
    """Parse a field if it is there; keep its fault, if any, so that all faults are told at once."""
    if name not in fields:
        return None
    try:
        return parse(fields[name])
    except Invalid as fault:
        faults.append(fault)
        return None


def _json_tags(raw: object) -> tuple[Any, ...]:
    if not isinstance(raw, list):
        raise Invalid("tags", "must be a list of texts")
    return parse_tags(raw)


def split_tags(values: Iterable[str]) -> list[str]:
    """Return the tags of a form: a field that stands once may hold several, separated by commas."""
    values = list(values)
    if len(values) == 1:
        return [tag for tag in values[0].split(",") if tag.strip()]
    return values
