"""Errors as problem documents (RFC 9457): the catalogue of codes, and the one table from errors to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
)

from domain.errors import (
    Conflict,
    Damaged,
    InTrash,
    Invalid,
    KeyReused,
    NotFound,
    Overloaded,
    PreconditionFailed,
    QuotaExceeded,
    TooLarge,
    Unavailable,
)

PROBLEM_MEDIA_TYPE = "application/problem+json"
_RETRY_AFTER_S = 1

# Stable names of everything that can go wrong: code -> (status, title). Clients may rely on both.
CATALOGUE: dict[str, tuple[int, str]] = {
    "invalid_input": (400, "The input breaks a rule"),
    "empty_file": (400, "The file is empty"),
    "unsupported_image": (400, "The file is not an image of an accepted format"),
    "unreadable_image": (400, "The image is broken or cut short"),
    "too_many_pixels": (400, "The image has too many pixels"),
    "too_much_metadata": (400, "The image has too much metadata"),
    "invalid_cursor": (400, "The cursor does not belong to this listing"),
    "invalid_idempotency_key": (400, "The idempotency key is malformed"),
    "invalid_json": (400, "The body is not the JSON that is expected"),
    "invalid_form": (400, "The body is not the form that is expected"),
    "invalid_precondition": (400, "A precondition header is malformed"),
    "invalid_request": (400, "The request is malformed"),
    "digest_mismatch": (400, "The body is not the one that its digest names"),
    "unauthenticated": (401, "The request does not say who is asking"),
    "invalid_user": (401, "The identity is malformed"),
    "invalid_token": (401, "The bearer token is refused"),
    "invalid_signature": (401, "The signature of the request is refused"),
    "signature_refused": (403, "The URL was changed or has expired"),
    "quota_exceeded": (403, "The upload does not fit into the owner's quota"),
    "not_found": (404, "There is no such image"),
    "no_such_route": (404, "There is nothing at this path"),
    "method_not_allowed": (405, "This path does not answer to this method"),
    "request_timeout": (408, "The request did not arrive in time"),
    "conflict": (409, "The present state does not allow this"),
    "image_in_trash": (409, "The image of this upload was deleted"),
    "precondition_failed": (412, "The image has changed"),
    "file_too_large": (413, "The file is too large"),
    "request_too_large": (413, "The request body is too large"),
    "unsupported_media_type": (415, "The request body has the wrong content type"),
    "range_not_satisfiable": (416, "The range lies outside the image"),
    "idempotency_key_reused": (422, "The idempotency key was used for another upload"),
    "rate_limited": (429, "More was asked for than the budget allows"),
    "internal_error": (500, "Something went wrong on our side"),
    "object_damaged": (500, "The stored image is damaged"),
    "overloaded": (503, "There is no room for more at present"),
    "unavailable": (503, "A store is unavailable"),
    "identity_unavailable": (503, "Nobody can tell at present who is asking"),
}

# Those who ask too much cost as little as can be: their bodies are not read, and the log has no trace of them.
_TURNED_AWAY = frozenset({"rate_limited", "overloaded"})


class FieldFault(msgspec.Struct, frozen=True, kw_only=True):
    """One of several things wrong with an input."""

    field: str
    reason: str


class ProblemDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem as RFC 9457 describes it, with a stable ``code`` and the request's id."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FieldFault] = []


@dataclass(eq=False)
class Problem(Exception):
    """Something that HTTP itself refuses; the core has no word for it."""

    code: str
    detail: str
    headers: tuple[tuple[str, str], ...] = ()


def problem_response(
    request: Request[Any, Any, Any],
    code: str,
    detail: str,
    *,
    headers: Sequence[tuple[str, str]] = (),
    faults: Sequence[Invalid] = (),
) -> Response[bytes]:
    """Return the response for one problem of the catalogue."""
    status, title = CATALOGUE[code]
    document = ProblemDocument(
        type=f"urn:calotype:problem:{code}",
        title=title,
        status=status,
        detail=detail,
        code=code,
        request_id=request_id_of(request),
        errors=[FieldFault(field=fault.field, reason=fault.reason) for fault in faults],
    )
    return Response(
        content=msgspec.json.encode(document),
        status_code=status,
        media_type=PROBLEM_MEDIA_TYPE,
        headers={"Cache-Control": "no-store", **dict(headers)},
    )


def request_id_of(request: Request[Any, Any, Any]) -> str:
    """Return the id that the edge gave to this request."""
    return str(request.scope.get("state", {}).get("request_id", ""))


@dataclass(frozen=True, slots=True)
class _Answer:
    code: str
    detail: str
    headers: Sequence[tuple[str, str]] = ()
    faults: Sequence[Invalid] = ()


def answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer any exception with its problem. What isn't known says nothing of the inside; the log has the trace."""
    answer = _answer(request, error)
    if answer.code in _TURNED_AWAY:
        request.scope["state"]["turned_away"] = True
    elif CATALOGUE[answer.code][0] >= 500:  # noqa: PLR2004 (the server's own errors)
        request.scope["state"]["error"] = error
    return problem_response(request, answer.code, answer.detail, headers=answer.headers, faults=answer.faults)


def _answer(request: Request[Any, Any, Any], error: Exception) -> _Answer:  # noqa: C901 (a table)
    match error:
        case Problem():
            answer = _Answer(error.code, error.detail, error.headers)
        case Invalid():
            answer = _Answer(error.code, "; ".join(str(fault) for fault in error.faults), faults=error.faults)
        case TooLarge():
            answer = _Answer("file_too_large", str(error))
        case QuotaExceeded():
            # Where something smaller may fit, it is the file that is at fault.
            faults = [Invalid("file", f"is too large: {error}")] if error.unit == "bytes" and error.room > 0 else []
            answer = _Answer("quota_exceeded", str(error), faults=faults)
        case NotFound():
            answer = _Answer("not_found", "It does not exist, or it is not yours.")
        case KeyReused():
            answer = _Answer("idempotency_key_reused", str(error))
        case InTrash():
            answer = _Answer("image_in_trash", str(error))
        case Conflict():
            answer = _Answer("conflict", str(error), _retry_after(error.retry_after_s))
        case PreconditionFailed():
            answer = _Answer("precondition_failed", str(error))
        case Damaged():
            answer = _Answer("object_damaged", "Its bytes are not what was stored; nothing was sent.")
        case Overloaded():
            answer = _Answer("overloaded", f"{str(error).capitalize()}.", _retry_after(_RETRY_AFTER_S))
        case Unavailable():
            answer = _Answer("unavailable", "Try again soon.", _retry_after(_RETRY_AFTER_S))
        case MethodNotAllowedException():
            allow = [(name, value) for name, value in (error.headers or {}).items() if name.lower() == "allow"]
            answer = _Answer("method_not_allowed", f"{request.method} is not allowed here.", allow)
        case NotFoundException():
            answer = _Answer("no_such_route", "Look at /docs for what there is.")
        case HTTPException(status_code=status) if 400 <= status < 500:  # noqa: PLR2004 (the client's errors)
            answer = _Answer("invalid_request", str(error.detail))
        case _:
            answer = _Answer("internal_error", "The log has the details under the request id.")
    return answer


def _retry_after(seconds: int | None) -> list[tuple[str, str]]:
    return [] if seconds is None else [("Retry-After", str(seconds))]
