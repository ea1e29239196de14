"""Conditional requests and ranges: RFC 9110, sections 13 and 14, as pure functions of headers and validators."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Literal

from adapters.http.problems import Problem
from application.ports import ByteRange

# One element of a list, which may be empty (RFC 9110, section 5.6.1), with what ends it.
_ENTITY_TAG = re.compile(r'[ \t]*(?:(W/)?"([\x21\x23-\x7e\x80-\xff]*)")?[ \t]*(?:,|\Z)')
_RANGE = re.compile(r"bytes=\s*(\d{0,1000})-(\d{0,1000})\s*", re.IGNORECASE | re.ASCII)
_VERSION = re.compile(r"[1-9]\d{0,17}", re.ASCII)

Verdict = Literal["proceed", "not_modified", "failed"]


@dataclass(frozen=True, slots=True)
class Validators:
    """What a client may compare: a strong entity tag without its quotes, and when the content last changed.

    Without the time, preconditions on it are not for this resource (RFC 9110, section 13.1.3).
    """

    etag: str
    modified_at: datetime | None = None

    def headers(self) -> list[tuple[str, str]]:
        """Return ETag and, with a time, Last-Modified."""
        headers = [("ETag", f'"{self.etag}"')]
        if self.modified_at is not None:
            headers.append(("Last-Modified", format_datetime(self.modified_at.astimezone(UTC), usegmt=True)))
        return headers

    @property
    def last_modified(self) -> datetime | None:
        """The time as Last-Modified says it: in whole seconds."""
        return None if self.modified_at is None else self.modified_at.replace(microsecond=0)


def evaluate(headers: Mapping[str, str], validators: Validators) -> Verdict:
    """Decide by the preconditions, in the order of RFC 9110, section 13.2.2.

    For other methods than GET and HEAD "not_modified" is as good as "failed".
    """
    if (if_match := headers.get("if-match")) is not None:
        if not _matches(if_match, validators.etag, weak=False):
            return "failed"
    elif _changed_since(headers.get("if-unmodified-since"), validators) is True:
        return "failed"
    if (if_none_match := headers.get("if-none-match")) is not None:
        return "not_modified" if _matches(if_none_match, validators.etag, weak=True) else "proceed"
    if _changed_since(headers.get("if-modified-since"), validators) is False:
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
    return frozenset(int(tag) for weak, tag in tags if not weak and _VERSION.fullmatch(tag))


def _range_applies(if_range: str | None, validators: Validators) -> bool:
    if if_range is None:
        return True
    if '"' in if_range:
        return _entity_tags(if_range) == [(False, validators.etag)]
    date = _date(if_range)
    return date is not None and date == validators.last_modified


def _matches(value: str, etag: str, *, weak: bool) -> bool:
    if value.strip() == "*":
        return True
    return any(tag == etag and (weak or not is_weak) for is_weak, tag in _entity_tags(value) or [])


def _entity_tags(value: str) -> list[tuple[bool, str]] | None:
    """Return (is weak, tag) of each entity tag in a list; None when it is not such a list."""
    tags: list[tuple[bool, str]] = []
    at = 0
    while at < len(value):
        match = _ENTITY_TAG.match(value, at)
        if match is None:
            return None
        if match[2] is not None:
            tags.append((match[1] is not None, match[2]))
        at = match.end()
    return tags or None


def _changed_since(value: str | None, validators: Validators) -> bool | None:
    """Return whether the content changed after the date; None when there is no date, or nothing to compare it with."""
    since, modified_at = _date(value), validators.last_modified
    return None if since is None or modified_at is None else modified_at > since


def _date(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
