"""The OpenAPI 3.1 document, made from the same structs and the same problem catalogue that answer requests."""

from collections import defaultdict
from typing import Any

import msgspec

from adapters.http.documents import (
    DeletedDocument,
    HealthDocument,
    ImageDocument,
    LimitsDocument,
    PageDocument,
)
from adapters.http.problems import CATALOGUE, PROBLEM_MEDIA_TYPE, ProblemDocument
from domain import limits as fixed

Json = dict[str, Any]

_STRUCTS = [ImageDocument, PageDocument, DeletedDocument, LimitsDocument, HealthDocument, ProblemDocument]
_REF = "#/components/schemas/{name}"


def openapi_document(version: str, servers: list[str]) -> Json:
    """Return the whole document as plain JSON values."""
    _, schemas = msgspec.json.schema_components(_STRUCTS, ref_template=_REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Calotype",
            "version": version,
            "description": "Stores people's images and gives them back: nothing acknowledged is lost.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": url} for url in servers],
        "security": [{"owner": []}],
        "tags": [
            {"name": "images", "description": "Upload, find, read, change, delete and restore."},
            {"name": "service", "description": "Limits, health and metrics."},
        ],
        "paths": {
            "/api/v1/images": {"post": _upload(), "get": _list()},
            "/api/v1/images/{image_id}": {
                "parameters": [_IMAGE_ID],
                "get": _content(),
                "head": _content_head(),
                "put": _revise(
                    "replaceMetadata", "Replace title, description and tags", "Replacement", ["application/json"]
                ),
                "patch": _revise(
                    "patchMetadata",
                    "Change some of title, description and tags (RFC 7396)",
                    "MergePatch",
                    ["application/merge-patch+json", "application/json"],
                ),
                "delete": _delete(),
            },
            "/api/v1/images/{image_id}/metadata": {"parameters": [_IMAGE_ID], "get": _metadata()},
            "/api/v1/images/{image_id}/restore": {"parameters": [_IMAGE_ID], "post": _restore()},
            "/api/v1/limits": {"get": _service("getLimits", "The limits in force", "LimitsDocument", {})},
            "/health/live": {"get": _service("getLiveness", "Is the process alive?", "HealthDocument", {})},
            "/health/ready": {
                "get": _service(
                    "getReadiness",
                    "Do both stores answer?",
                    "HealthDocument",
                    {"503": {"description": "A store is unavailable", "content": _json("HealthDocument")}},
                )
            },
            "/metrics": {
                "get": {
                    "operationId": "getMetrics",
                    "summary": "Metrics for Prometheus",
                    "tags": ["service"],
                    "security": [],
                    "responses": {
                        "200": {
                            "description": "The text exposition format",
                            "content": {"text/plain": {"schema": {"type": "string"}}},
                        }
                    },
                }
            },
        },
        "components": {
            "schemas": {**schemas, **_REQUEST_SCHEMAS},
            "securitySchemes": {
                "owner": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-User-ID",
                    "description": "The user, as set by the gateway in front.",
                }
            },
            "headers": _HEADERS,
        },
    }


def _upload() -> Json:
    return _operation(
        "uploadImage",
        "Upload an image",
        parameters=[
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "Makes the upload safe to repeat: the same key and body give the same answer again.",
                "schema": {
                    "type": "string",
                    "pattern": "^[!-~]+$",
                    "minLength": 1,
                    "maxLength": fixed.IDEMPOTENCY_KEY_MAX_CHARS,
                },
            }
        ],
        body={
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {"$ref": _REF.format(name="UploadForm")},
                    "encoding": {"tags": {"style": "form", "explode": True}},
                }
            },
        },
        answers={"201": _document("The image is stored", "ImageDocument", "Location", "ETag", "Idempotent-Replayed")},
        problems=[
            "invalid_input",
            "empty_file",
            "unsupported_image",
            "unreadable_image",
            "too_many_pixels",
            "invalid_form",
            "invalid_idempotency_key",
            "conflict",
            "image_in_trash",
            "file_too_large",
            "request_too_large",
            "unsupported_media_type",
            "idempotency_key_reused",
        ],
    )


def _list() -> Json:
    return _operation(
        "listImages",
        "List images, newest first",
        parameters=[
            _query(
                "filter_by", {"type": "string", "enum": ["user", "tags", "title"], "default": "user"}, "What to list"
            ),
            _query(
                "tags",
                {"type": "array", "items": {"type": "string"}, "maxItems": fixed.TAGS_MAX},
                "With filter_by=tags: repeated, one tag each",
            ),
            # No "default" to go by: Swagger UI would send it along with every filter, where it is refused.
            _query("match", {"type": "string", "enum": ["any", "all"]}, "With filter_by=tags; any, unless said"),
            _query("title", {"type": "string"}, "With filter_by=title: the whole title; case does not count"),
            _query(
                "limit",
                {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": fixed.PAGE_MAX_ITEMS,
                    "default": fixed.PAGE_DEFAULT_ITEMS,
                },
                "Images a page",
            ),
            _query("cursor", {"type": "string"}, "`next_cursor` of an earlier page of the same listing"),
        ],
        answers={"200": _document("One page", "PageDocument", "Link")},
        problems=["invalid_input", "invalid_cursor", "invalid_request"],
    )


def _content() -> Json:
    image: Json = {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}
    headers = ["ETag", "Last-Modified", "Accept-Ranges", "Content-Disposition"]
    return _operation(
        "readContent",
        "Download the original",
        parameters=[
            _query("download", {"type": "string", "enum": ["1", "true", "0", "false"]}, "1: answer as an attachment"),
            _header("Range"),
            _header("If-Range"),
            _header("If-None-Match"),
            _header("If-Modified-Since"),
            _header("If-Match"),
            _header("If-Unmodified-Since"),
        ],
        answers={
            "200": {"description": "The bytes as they were uploaded", "headers": _refs(*headers), **image},
            "206": {"description": "The range", "headers": _refs(*headers, "Content-Range"), **image},
            "304": {"description": "The client has it already", "headers": _refs("ETag")},
        },
        problems=["invalid_input", "invalid_request", "not_found", "precondition_failed", "range_not_satisfiable"],
    )


def _content_head() -> Json:
    operation = _content()
    operation["operationId"] = "headContent"
    operation["summary"] = "What a download would answer, without the bytes"
    for answer in operation["responses"].values():
        answer.pop("content", None)
    return operation


def _metadata() -> Json:
    return _operation(
        "readMetadata",
        "The document of an image",
        parameters=[_header("If-None-Match"), _header("If-Match")],
        answers={
            "200": _document("The document", "ImageDocument", "ETag"),
            "304": {"description": "The client has this version", "headers": _refs("ETag")},
        },
        problems=["invalid_input", "invalid_request", "not_found", "precondition_failed"],
    )


def _revise(operation_id: str, summary: str, schema: str, media_types: list[str]) -> Json:
    body = {"schema": {"$ref": _REF.format(name=schema)}}
    return _operation(
        operation_id,
        summary,
        parameters=[_header("If-Match")],
        body={"required": True, "content": dict.fromkeys(media_types, body)},
        answers={"200": _document("The image as it is now", "ImageDocument", "ETag")},
        problems=[
            "invalid_input",
            "invalid_json",
            "invalid_precondition",
            "invalid_request",
            "not_found",
            "precondition_failed",
            "request_too_large",
            "unsupported_media_type",
        ],
    )


def _delete() -> Json:
    return _operation(
        "deleteImage",
        "Move an image to the trash",
        parameters=[
            _query(
                "permanent",
                {"type": "string", "enum": ["1", "true", "0", "false"]},
                "true: due at once, and not to be restored",
            ),
            _header("If-Match"),
        ],
        answers={"200": _document("It is in the trash", "DeletedDocument")},
        problems=["invalid_input", "invalid_precondition", "invalid_request", "not_found", "precondition_failed"],
    )


def _restore() -> Json:
    return _operation(
        "restoreImage",
        "Bring an image back from the trash",
        answers={"200": _document("It is back, as it was", "ImageDocument", "ETag")},
        problems=["invalid_input", "invalid_request", "not_found"],
    )


def _service(operation_id: str, summary: str, schema: str, answers: Json) -> Json:
    return {
        "operationId": operation_id,
        "summary": summary,
        "tags": ["service"],
        "security": [],
        "responses": {"200": _document(summary, schema), **answers, **_problems(["internal_error"])},
    }


def _operation(
    operation_id: str,
    summary: str,
    *,
    answers: Json,
    problems: list[str],
    parameters: list[Json] | None = None,
    body: Json | None = None,
) -> Json:
    operation: Json = {"operationId": operation_id, "summary": summary, "tags": ["images"]}
    if parameters:
        operation["parameters"] = parameters
    if body is not None:
        operation["requestBody"] = body
    always = ["unauthenticated", "invalid_user", "internal_error", "object_damaged", "unavailable"]
    operation["responses"] = {**answers, **_problems([*problems, *always])}
    return operation


def _problems(codes: list[str]) -> Json:
    """Return one response a status, which names the codes that come with it."""
    by_status: dict[int, list[str]] = defaultdict(list)
    for code in codes:
        by_status[CATALOGUE[code][0]].append(code)
    return {
        str(status): {
            "description": "; ".join(f"`{code}`: {CATALOGUE[code][1]}" for code in codes),
            "headers": _refs("X-Request-ID", *(["Retry-After"] if status in {409, 503} else [])),
            "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": _REF.format(name="ProblemDocument")}}},
        }
        for status, codes in sorted(by_status.items())
    }


def _document(description: str, schema: str, *headers: str) -> Json:
    return {"description": description, "headers": _refs("X-Request-ID", *headers), "content": _json(schema)}


def _json(schema: str) -> Json:
    return {"application/json": {"schema": {"$ref": _REF.format(name=schema)}}}


def _refs(*names: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _query(name: str, schema: Json, description: str) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _header(name: str) -> Json:
    return {"name": name, "in": "header", "description": "RFC 9110", "schema": {"type": "string"}}


_IMAGE_ID = {"name": "image_id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}

_HEADERS = {
    name: {"description": description, "schema": {"type": "string"}}
    for name, description in {
        "X-Request-ID": "The request's id, as sent by the client or made here; the log has it too",
        "Location": "Where the image can be read",
        "ETag": "SHA-256 of the original for its bytes, the version for its document",
        "Last-Modified": "When the original was uploaded",
        "Accept-Ranges": "`bytes`",
        "Content-Range": "Which bytes of how many these are",
        "Content-Disposition": "How to show or save it, and its filename",
        "Link": '`rel="next"`: the next page',
        "Retry-After": "Seconds after which another try makes sense",
        "Idempotent-Replayed": "`true` when an earlier request with this key had done the work",
    }.items()
}

_TITLE = {"type": "string", "minLength": 1, "maxLength": fixed.TITLE_MAX_CHARS}
_DESCRIPTION = {"type": "string", "maxLength": fixed.DESCRIPTION_MAX_CHARS}
_TAGS = {
    "type": "array",
    "items": {"type": "string", "minLength": 1, "maxLength": fixed.TAG_MAX_CHARS},
    "maxItems": fixed.TAGS_MAX,
}

_REQUEST_SCHEMAS: Json = {
    "UploadForm": {
        "type": "object",
        "required": ["file"],
        "additionalProperties": False,
        "properties": {
            "file": {"type": "string", "format": "binary", "description": "The image; its name comes along"},
            "title": {**_TITLE, "description": "Default: the filename's stem"},
            "description": _DESCRIPTION,
            "tags": {**_TAGS, "description": "Repeated, or one field with commas"},
        },
    },
    "Replacement": {
        "type": "object",
        "additionalProperties": False,
        "description": "What is left out goes back to its default: the filename's stem, no description, no tags",
        "properties": {"title": _TITLE, "description": _DESCRIPTION, "tags": _TAGS},
    },
    "MergePatch": {
        "type": "object",
        "additionalProperties": False,
        "description": "What is left out stays; null goes back to the default",
        "properties": {
            "title": {**_TITLE, "type": ["string", "null"]},
            "description": {**_DESCRIPTION, "type": ["string", "null"]},
            "tags": {**_TAGS, "type": ["array", "null"]},
        },
    },
}
