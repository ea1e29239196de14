"""Conditional requests and ranges: RFC 9110, sections 13 and 14, as pure functions of headers and validators."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Literal

from adapters.http.problems import Problem
from application.ports import ByteRange

_ENTITY_TAG = re.compile(r'\s*(W/)?"([\x21\x23-\x7e\x80-\xff]*)"\s*')
_RANGE = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*", re.IGNORECASE)

Verdict = Literal["proceed", "not_modified", "failed"]


@dataclass(frozen=True, slots=True)
class Validators:
    """What a client may compare: a strong entity tag without its quotes, and when the content last changed."""

    etag: str
    modified_at: datetime

    def headers(self) -> list[tuple[str, str]]:
        """Return ETag and Last-Modified."""
        return [
            ("ETag", f'"{self.etag}"'),
            ("Last-Modified", format_datetime(self.modified_at.astimezone(UTC), usegmt=True)),
        ]


def evaluate(headers: Mapping[str, str], validators: Validators) -> Verdict:
    """Decide a GET or HEAD by its preconditions, in the order of RFC 9110, section 13.2.2."""
    modified_at = validators.modified_at.replace(microsecond=0)
    if (if_match := headers.get("if-match")) is not None:
        if not _matches(if_match, validators.etag, weak=False):
            return "failed"
    elif (since := _date(headers.get("if-unmodified-since"))) is not None and modified_at > since:
        return "failed"
    if (if_none_match := headers.get("if-none-match")) is not None:
        return "not_modified" if _matches(if_none_match, validators.etag, weak=True) else "proceed"
    if (since := _date(headers.get("if-modified-since"))) is not None and modified_at <= since:
        return "not_modified"
    return "proceed"


def requested_range(headers: Mapping[str, str], validators: Validators, size_bytes: int) -> ByteRange | None:
    """Return the one range that is asked for; None for the whole, also when several are asked for.

    Raises:
        Problem: 416, when the range lies outside.
    """
    value = headers.get("range")
    if value is None or not _range_applies(headers.get("if-range"), validators):
        return None
    match = _RANGE.fullmatch(value)
    if match is None or match[1] == match[2] == "":
        return None
    first, last = match[1], match[2]
    if first == "":
        start, stop = max(0, size_bytes - int(last)), size_bytes
    else:
        start, stop = int(first), size_bytes if last == "" else min(int(last) + 1, size_bytes)
        if last != "" and int(last) < int(first):
            return None
    if start >= stop:
        raise Problem(
            "range_not_satisfiable",
            f"The image has {size_bytes} bytes.",
            headers=(("Content-Range", f"bytes */{size_bytes}"),),
        )
    return ByteRange(start, stop)


def expected_versions(headers: Mapping[str, str]) -> frozenset[int] | None:
    """Return the versions that If-Match accepts; None for any.

    Raises:
        Problem: the header is not a list of entity tags.
    """
    value = headers.get("if-match")
    if value is None or value.strip() == "*":
        return None
    tags = _entity_tags(value)
    if tags is None:
        raise Problem("invalid_precondition", "If-Match must be * or a list of quoted entity tags.")
    return frozenset(int(tag) for weak, tag in tags if not weak and tag.isascii() and tag.isdigit() and len(tag) < 18)  # noqa: PLR2004


def _range_applies(if_range: str | None, validators: Validators) -> bool:
    if if_range is None:
        return True
    if '"' in if_range:
        return _entity_tags(if_range) == [(False, validators.etag)]
    return _date(if_range) == validators.modified_at.replace(microsecond=0)


def _matches(value: str, etag: str, *, weak: bool) -> bool:
    if value.strip() == "*":
        return True
    return any(tag == etag and (weak or not is_weak) for is_weak, tag in _entity_tags(value) or [])


def _entity_tags(value: str) -> list[tuple[bool, str]] | None:
    """Return (is weak, tag) of each entity tag in a list; None when it is not such a list."""
    tags: list[tuple[bool, str]] = []
    at = 0
    while match := _ENTITY_TAG.match(value, at):
        tags.append((match[1] is not None, match[2]))
        at = match.end()
        if at == len(value):
            return tags
        if value[at] != ",":
            return None
        at += 1
    return None


def _date(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
