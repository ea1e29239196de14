"""What Schemathesis can't know of this API: whole images, and which refusals of sound requests are right.

It loads this file by itself (schemathesis.toml). What every operation answered goes to the file that `ANSWERED` names,
so that the test can tell what was never asked.
"""

import atexit
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unicodedata import normalize
from urllib.parse import parse_qsl, unquote, urlsplit
from zlib import crc32

import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, HookContext, Response
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.openapi.checks import RejectedPositiveData, UseAfterFree

from domain.values import fold
from tests import pictures

# Sound requests that are refused by what is stored, which no schema knows.
_BY_STATE = {
    "idempotency_key_reused",
    "image_in_trash",
    "invalid_cursor",
    "precondition_failed",
    "range_not_satisfiable",
}
_OF_FILTERS: dict[str, set[str]] = {"user": set(), "tags": {"tags", "match"}, "title": {"title"}}
_NEEDED_BY = {"tags": "tags", "title": "title"}
# Instead of random text, which these headers would be ignored or refused for; of a header's pattern Schemathesis takes
# no notice in its coverage phase. What a link brought along stays.
_TELLING = {
    "Range": ("bytes=0-9", "bytes=-5", "bytes=100000-", "lines=1-2"),
    "If-None-Match": ("*", '"1", W/"2"'),
    "If-Match": ("*", '"1"', '"1", "2"', 'W/"1"'),
}
_ENTITY_TAG = re.compile('"[0-9a-f]+"')

_answered: dict[str, set[int]] = defaultdict(set)
_signed_urls: list[str] = []
_trashed: list[str] = []
_restored: set[str] = set()

for _media_type, _picture in pictures.EVERY_FORMAT.items():
    schemathesis.openapi.media_type(_media_type, st.sampled_from([_picture(8, 8, seed=seed) for seed in range(2)]))


@schemathesis.hook
def filter_case(_: HookContext, case: Case[Any]) -> bool:
    """Leave out words that get shorter or longer when they are trimmed or folded, which no schema can say."""
    return all(
        len(text) == len(fold(text)) == len(normalize("NFC", text)) and text.strip() in {text, ""}
        for text in _words(case)
    )


@schemathesis.hook
def map_case(_: HookContext, case: Case[Any]) -> Case[Any]:
    """Put right what no schema can say: parameters that belong to one filter only, signatures, what is in the trash."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return case
    match case.operation.definition.raw.get("operationId"):
        case "listImages":
            which = str(case.query.get("filter_by", "user"))
            if which in _NEEDED_BY and not case.query.get(_NEEDED_BY[which]):
                which = "user"
            foreign = {"tags", "match", "title"} - _OF_FILTERS[which]
            kept = {name: value for name, value in case.query.items() if name not in foreign}
            case.query = kept | ({"filter_by": which} if "filter_by" in kept else {})
        case "readSigned" if _signed_urls:
            url = urlsplit(_signed_urls[-1])
            image_id, filename = unquote(url.path).split("/")[-2:]
            case.path_parameters = {"image_id": image_id, "filename": filename}
            case.query = dict(parse_qsl(url.query))
        case "restoreImage" if _trashed and case.path_parameters["image_id"] not in _trashed:
            case.path_parameters = {"image_id": _trashed.pop()}
    for name, telling in _TELLING.items():
        value = case.headers.get(name)
        if value is not None and not _ENTITY_TAG.fullmatch(value):
            case.headers[name] = telling[crc32(value.encode()) % len(telling)]
    return case


@schemathesis.hook
def after_call(_: HookContext, case: Case[Any], response: Response) -> None:
    """Note what was answered."""
    name = case.operation.definition.raw.get("operationId")
    _answered[str(name)].add(response.status_code)
    match name, response.status_code:
        case "uploadImage", 201:
            _signed_urls.append(response.json()["presigned_url"])
        case "restoreImage", 200:
            _restored.add(case.path_parameters["image_id"])
        case "deleteImage", 200:
            _restored.discard(case.path_parameters["image_id"])
            if case.query.get("permanent", "0") in {"0", "false"}:
                _trashed.append(case.path_parameters["image_id"])
        case _:
            pass


@schemathesis.hook
def filter_failure(_: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:
    """Let pass what is right all the same."""
    match failure:
        case RejectedPositiveData():
            # To HEAD the code is not sent.
            return response.status_code != 412 and response.json()["code"] not in _BY_STATE
        case AcceptedNegativeData():
            return not (case.media_type == "multipart/form-data" and _is_other_as_text(case.body))
        case UseAfterFree():
            return case.path_parameters["image_id"] not in _restored
        case _:
            return True


def _is_other_as_text(form: object) -> bool:
    """Tell whether a form is sound as it is sent: words whatever the type, nothing of an empty list, tags in one."""
    if not isinstance(form, dict):
        return False
    fields = {name: _listed(form[name]) for name in ("title", "description", "tags") if name in form}
    if any(not isinstance(text, str) for value in fields.values() for text in value or [None]):
        return True
    match fields.get("tags"):
        case [str(alone)]:
            return alone.strip() == "" or "," in alone  # a field that stands once is split at its commas
        case _:
            return False


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _words(case: Case[Any]) -> Iterator[str]:
    for part in (case.query, case.body):
        if isinstance(part, dict):
            for name in ("title", "description", "tags"):
                yield from (text for text in _listed(part.get(name)) if isinstance(text, str))


def _report() -> None:
    report: dict[str, Any] = {name: sorted(statuses) for name, statuses in _answered.items()}
    Path(os.environ["ANSWERED"]).write_text(json.dumps(report))


atexit.register(_report)
