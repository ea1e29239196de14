"""The OpenAPI 3.1 document, made from the same structs and the same problem catalogue that answer requests."""

from collections import defaultdict
from typing import Any, NamedTuple

import msgspec

from adapters.http.authentication import Scheme
from adapters.http.documents import (
    DeletedDocument,
    HealthDocument,
    ImageDocument,
    LimitsDocument,
    PageDocument,
)
from adapters.http.problems import CATALOGUE, PROBLEM_MEDIA_TYPE, ProblemDocument
from domain import limits as fixed
from domain.values import MediaType

Json = dict[str, Any]

_STRUCTS = [ImageDocument, PageDocument, DeletedDocument, LimitsDocument, HealthDocument, ProblemDocument]
_REF = "#/components/schemas/{name}"


def openapi_document(version: str, servers: list[str], *, signs_urls: bool = True, identity: Scheme = "header") -> Json:
    """Return the whole document as plain JSON values.

    Args:
        version: of the service.
        servers: URLs that the paths come behind.
        signs_urls: whether presigned URLs point at this service, so that it answers them too.
        identity: by what requests say who is asking.
    """
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
        "security": [{name: [] for name in _IDENTITY[identity]}],
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
            **(_SIGNED_OBJECT if signs_urls else {}),
            "/api/v1/limits": {
                "get": _service("getLimits", "The limits in force", "LimitsDocument", {}, "rate_limited")
            },
            "/health/live": {"get": _service("getLiveness", "Is the process alive?", "HealthDocument", {})},
            "/health/ready": {
                "get": _service(
                    "getReadiness",
                    "Do both stores answer?",
                    "HealthDocument",
                    {"503": _document("A store is unavailable", "HealthDocument", "RetryAfter")},
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
                            "headers": _refs("RequestId"),
                            "content": {"text/plain": {"schema": {"type": "string"}}},
                        },
                        **_problems(["rate_limited", "internal_error"]),
                    },
                }
            },
        },
        "components": {
            "schemas": {**schemas, **_REQUEST_SCHEMAS},
            "securitySchemes": _IDENTITY[identity],
            "headers": {
                component: {"description": header.description, "required": header.required, "schema": header.schema}
                for component, header in _HEADERS.items()
            },
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
                    "encoding": {
                        "file": {"contentType": ", ".join(MediaType)},
                        "tags": {"style": "form", "explode": True},
                    },
                }
            },
        },
        answers={
            "201": _document(
                "The image is stored",
                "ImageDocument",
                "Location",
                "VersionTag",
                "IdempotentReplayed",
                links=_links(
                    "readContent",
                    "headContent",
                    "readMetadata",
                    "patchMetadata",
                    "replaceMetadata",
                    "deleteImage",
                ),
            )
        },
        problems=[
            "invalid_input",
            "empty_file",
            "unsupported_image",
            "unreadable_image",
            "too_many_pixels",
            "too_much_metadata",
            "invalid_form",
            "invalid_idempotency_key",
            "conflict",
            "image_in_trash",
            "quota_exceeded",
            "file_too_large",
            "request_too_large",
            "unsupported_media_type",
            "idempotency_key_reused",
            "digest_mismatch",
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
                _TAGS,
                "With filter_by=tags: repeated, one tag each",
            ),
            # No "default" to go by: Swagger UI would send it along with every filter, where it is refused.
            _query("match", {"type": "string", "enum": ["any", "all"]}, "With filter_by=tags; any, unless said"),
            _query("title", _TITLE, "With filter_by=title: the whole title; case does not count"),
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
            _query(
                "cursor",
                {"type": "string", "pattern": "^[A-Za-z0-9_-]{44}$"},
                "`next_cursor` of an earlier page of the same listing",
            ),
        ],
        answers={
            "200": _document(
                "One page",
                "PageDocument",
                "Link",
                links={
                    "nextPage": {
                        "operationId": "listImages",
                        "description": "With the same filter; the last page has no cursor",
                        "parameters": {"cursor": "$response.body#/next_cursor"},
                    }
                },
            )
        },
        problems=["invalid_input", "invalid_cursor", "invalid_request"],
    )


def _content() -> Json:
    return _operation(
        "readContent",
        "Download the original",
        parameters=[
            _query("download", _FLAG, "1: answer as an attachment"),
            *(_header(name) for name in _READING),
        ],
        answers=_bytes(),
        problems=["invalid_input", "invalid_request", "not_found", "precondition_failed", "range_not_satisfiable"],
    )


def _bytes() -> Json:
    """Return the answers that give an original."""
    image: Json = {
        "content": {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in MediaType}
    }
    headers = ["RequestId", "ContentTag", "LastModified", "AcceptRanges", "ContentDisposition"]
    return {
        "200": {"description": "The bytes as they were uploaded", "headers": _refs(*headers), **image},
        "206": {"description": "The range", "headers": _refs(*headers, "ContentRange"), **image},
        "304": {"description": "The client has it already", "headers": _refs("RequestId", "ContentTag")},
    }


def _content_head() -> Json:
    operation = _content()
    operation["operationId"] = "headContent"
    operation["summary"] = "What a download would answer, without the bytes"
    for status in ("206", "416"):  # ranges are for GET alone (RFC 9110, section 14.2)
        del operation["responses"][status]
    for answer in operation["responses"].values():
        answer.pop("content", None)
    return operation


def _metadata() -> Json:
    return _operation(
        "readMetadata",
        "The document of an image",
        parameters=[_header("If-None-Match"), _header("If-Match")],
        answers={
            "200": _document(
                "The document",
                "ImageDocument",
                "VersionTag",
                links=_links("readContent")
                | _links("patchMetadata", "replaceMetadata", "deleteImage", if_match="$response.header.ETag"),
            ),
            "304": {"description": "The client has this version", "headers": _refs("RequestId", "VersionTag")},
        },
        problems=["invalid_input", "invalid_request", "not_found", "precondition_failed"],
    )


def _revise(operation_id: str, summary: str, schema: str, media_types: list[str]) -> Json:
    body = {"schema": {"$ref": _REF.format(name=schema)}}
    return _operation(
        operation_id,
        summary,
        parameters=[_IF_MATCH],
        body={"required": True, "content": dict.fromkeys(media_types, body)},
        answers={"200": _document("The image as it is now", "ImageDocument", "VersionTag")},
        problems=[
            "invalid_input",
            "invalid_json",
            "invalid_precondition",
            "invalid_request",
            "not_found",
            "precondition_failed",
            "request_too_large",
            "unsupported_media_type",
            "digest_mismatch",
        ],
    )


def _delete() -> Json:
    return _operation(
        "deleteImage",
        "Move an image to the trash",
        parameters=[
            _query(
                "permanent",
                _FLAG,
                "true: due at once, and not to be restored",
            ),
            _IF_MATCH,
        ],
        answers={"200": _document("It is in the trash", "DeletedDocument", links=_links("restoreImage"))},
        problems=["invalid_input", "invalid_precondition", "invalid_request", "not_found", "precondition_failed"],
    )


def _restore() -> Json:
    return _operation(
        "restoreImage",
        "Bring an image back from the trash",
        answers={
            "200": _document(
                "It is back, as it was", "ImageDocument", "VersionTag", links=_links("readMetadata", "deleteImage")
            )
        },
        problems=[
            "invalid_input",
            "invalid_request",
            "not_found",
            "request_too_large",
            "digest_mismatch",
        ],
    )


def _service(operation_id: str, summary: str, schema: str, answers: Json, *problems: str) -> Json:
    return {
        "operationId": operation_id,
        "summary": summary,
        "tags": ["service"],
        "security": [],
        "responses": {"200": _document(summary, schema), **answers, **_problems([*problems, "internal_error"])},
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
    always = [
        "unauthenticated",
        "invalid_user",
        "invalid_token",
        "invalid_signature",
        "internal_error",
        "object_damaged",
        "unavailable",
        "overloaded",
        "identity_unavailable",
        "rate_limited",
    ]
    if operation_id in _READS_A_BODY:
        always.append("request_timeout")
    operation["responses"] = {**answers, **_problems([*problems, *always])}
    return operation


def _problems(codes: list[str]) -> Json:
    """Return one response a status, which names the codes that come with it, and has no other."""
    by_status: dict[int, list[str]] = defaultdict(list)
    for code in codes:
        by_status[CATALOGUE[code][0]].append(code)
    return {
        str(status): {
            "description": "; ".join(f"`{code}`: {CATALOGUE[code][1]}" for code in codes),
            "headers": _refs("RequestId", *_PROBLEM_HEADERS.get(status, ())),
            "content": {
                PROBLEM_MEDIA_TYPE: {
                    "schema": {
                        "allOf": [{"$ref": _REF.format(name="ProblemDocument")}],
                        "properties": {"status": {"const": status}, "code": {"enum": codes}},
                    }
                }
            },
        }
        for status, codes in sorted(by_status.items())
    }


def _document(description: str, schema: str, *headers: str, links: Json | None = None) -> Json:
    return {
        "description": description,
        "headers": _refs("RequestId", *headers),
        "content": _json(schema),
        **({"links": links} if links else {}),
    }


def _links(*operation_ids: str, **headers: str) -> Json:
    """Return links to what can be done next with the image that the answer is about."""
    parameters = {f"header.{name.replace('_', '-').title()}": value for name, value in headers.items()}
    return {
        operation_id: {
            "operationId": operation_id,
            "parameters": {"image_id": "$response.body#/image_id", **parameters},
        }
        for operation_id in operation_ids
    }


def _json(schema: str) -> Json:
    return {"application/json": {"schema": {"$ref": _REF.format(name=schema)}}}


def _refs(*names: str) -> Json:
    return {_HEADERS[name].name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _query(name: str, schema: Json, description: str) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _header(name: str) -> Json:
    return {"name": name, "in": "header", "description": "RFC 9110", "schema": {"type": "string"}}


def _in_header(name: str, description: str) -> Json:
    return {"type": "apiKey", "in": "header", "name": name, "description": description}


_OWNER = _in_header("X-User-ID", "The user, as set by the gateway in front.")
# What a request has to carry, all of it.
_IDENTITY: dict[Scheme, Json] = {
    "header": {"owner": _OWNER},
    "gateway": {
        "owner": _OWNER,
        "gateway": _in_header("X-Gateway-Secret", "What shows that a request comes through the gateway."),
    },
    "jwt": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
    "signature": {
        "signatureInput": _in_header("Signature-Input", "What is signed, when, and with which key (RFC 9421)."),
        "signature": _in_header("Signature", "HMAC-SHA256 over it (RFC 9421)."),
    },
}

_IMAGE_ID = {"name": "image_id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
_READS_A_BODY = {"uploadImage", "replaceMetadata", "patchMetadata", "restoreImage"}
_FLAG = {"type": "string", "enum": ["1", "true", "0", "false"]}
_READING = ("Range", "If-Range", "If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since")
_TAG = '(W/)?"[!#-~]*"'  # RFC 9110, section 8.8.3
_IF_MATCH: Json = {
    "name": "If-Match",
    "in": "header",
    "description": "The ETag of the document that you mean to change; 412 if it is at another version by now",
    "schema": {"type": "string", "pattern": rf"^(\*|{_TAG}([ \t]*,[ \t]*{_TAG})*)$"},
}


class _Header(NamedTuple):
    name: str
    description: str
    schema: Json
    required: bool = True


def _text(pattern: str) -> Json:
    return {"type": "string", "pattern": pattern}


_HEADERS = {
    "RequestId": _Header(
        "X-Request-ID",
        "The request's id, as sent by the client or made here; the log has it too",
        _text("^[A-Za-z0-9._:-]{1,128}$"),
    ),
    "Location": _Header("Location", "Where the image can be read", {"type": "string", "format": "uri-reference"}),
    "ContentTag": _Header("ETag", "The SHA-256 of the original", _text('^"[0-9a-f]{64}"$')),
    "VersionTag": _Header("ETag", "The version of the document", _text('^"[1-9][0-9]*"$')),
    "LastModified": _Header("Last-Modified", "When the original was uploaded", _text("^[A-Z][a-z]{2}, .* GMT$")),
    "AcceptRanges": _Header("Accept-Ranges", "Ranges are in bytes", {"const": "bytes"}),
    "ContentRange": _Header(
        "Content-Range", "Which bytes of how many these are", _text("^bytes [0-9]+-[0-9]+/[0-9]+$")
    ),
    "UnsatisfiedRange": _Header("Content-Range", "How many bytes there are", _text(r"^bytes \*/[0-9]+$")),
    "ContentDisposition": _Header(
        "Content-Disposition", "How to show or save it, and its filename", _text("^(inline|attachment);")
    ),
    "Link": _Header("Link", "The next page, if there is one", _text('^<.+>; rel="next"$'), required=False),
    "RetryAfter": _Header(
        "Retry-After", "Seconds after which another try makes sense", {"type": "integer", "minimum": 1}
    ),
    "RetryAfterIfAny": _Header(
        "Retry-After", "Seconds, if waiting may help", {"type": "integer", "minimum": 1}, required=False
    ),
    "IdempotentReplayed": _Header(
        "Idempotent-Replayed", "An earlier request with this key had done the work", {"const": "true"}, required=False
    ),
    "RateLimitPolicy": _Header(
        "RateLimit-Policy", "The budget that is used up (draft-ietf-httpapi-ratelimit-headers)", {"type": "string"}
    ),
    "RateLimit": _Header("RateLimit", "What is left of it, and until when", {"type": "string"}),
    "Challenge": _Header("WWW-Authenticate", "How to say who is asking", {"type": "string", "minLength": 1}),
    "Accept": _Header("Accept", "The content types that are taken", {"type": "string", "minLength": 1}),
}
_PROBLEM_HEADERS = {
    401: ("Challenge",),
    409: ("RetryAfterIfAny",),
    415: ("Accept",),
    416: ("UnsatisfiedRange",),
    429: ("RetryAfter", "RateLimitPolicy", "RateLimit"),
    503: ("RetryAfter",),
}

# What is trimmed away, spelt out: what \s stands for differs between Python and JSON Schema (ECMA-262).
_BLANK = r"\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_CONTROL = r"\x00-\x1f\x7f-\x9f"
_TITLE = {
    "type": "string",
    "minLength": 1,
    "maxLength": fixed.TITLE_MAX_CHARS,
    "pattern": rf"^[^{_CONTROL}]*[^{_CONTROL}{_BLANK}][^{_CONTROL}]*$",
}
_DESCRIPTION = {"type": "string", "maxLength": fixed.DESCRIPTION_MAX_CHARS}
_TAGS = {
    "type": "array",
    "items": {"type": "string", "minLength": 1, "maxLength": fixed.TAG_MAX_CHARS, "pattern": f"[^{_BLANK}]"},
    "maxItems": fixed.TAGS_MAX,
}

# The key of an object is images/{image_id}/{filename}; no path of OpenAPI could say so with one parameter.
_SIGNED_OBJECT: Json = {
    "/objects/images/{image_id}/{filename}": {
        "parameters": [
            _IMAGE_ID,
            {"name": "filename", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}},
        ],
        "get": {
            "operationId": "readSigned",
            "summary": "What a presigned URL gives",
            "description": "Whoever has the URL has the image, until it expires. A changed one is refused.",
            "tags": ["images"],
            "security": [],
            "parameters": [
                {**_query("expires", {"type": "integer"}, "Unix seconds"), "required": True},
                {
                    **_query("disposition", {"type": "string", "enum": ["inline", "attachment"]}, "How it is shown"),
                    "required": True,
                },
                {**_query("signature", _text("^[0-9a-f]{128}$"), "Over all the rest"), "required": True},
                *(_header(name) for name in _READING),
            ],
            "responses": {
                **_bytes(),
                **_problems(
                    [
                        "signature_refused",
                        "not_found",
                        "precondition_failed",
                        "range_not_satisfiable",
                        "internal_error",
                        "object_damaged",
                        "unavailable",
                        "overloaded",
                        "rate_limited",
                    ]
                ),
            },
        },
    }
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
