"""/objects: what signed URLs of the embedded default open. Nobody is asked who they are; the signature permits."""

from functools import partial
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from litestar import Request, route
from litestar.enums import HttpMethod
from litestar.types import ASGIApp

from adapters.http.conditions import Validators
from adapters.http.context import Context
from adapters.http.problems import Problem
from adapters.http.replies import content_reply, request_fields
from application.ports import Permit, SignedObjects
from domain.errors import NotFound

PATH = "/objects"


@route(f"{PATH}/{{key:path}}", http_method=[HttpMethod.GET, HttpMethod.HEAD])
async def read_object(request: Request[Any, Any, Any], context: Context, key: str) -> ASGIApp:
    """Give an object to whoever holds a URL that was signed for it."""
    del key  # in Litestar's form of it doubled and escaped slashes are lost
    await context.admit_address(request.scope)
    objects = context.signed_objects
    if objects is None:
        raise NotFound
    wanted = _key(request.scope["raw_path"])
    permit = objects.permitted(request.method, wanted, _parameters(request.scope["query_string"]))
    if permit is None:
        raise Problem("signature_refused", "Ask for a new URL.")
    return await _reply(request, context, objects, wanted, permit)


async def _reply(
    request: Request[Any, Any, Any], context: Context, objects: SignedObjects, key: str, permit: Permit
) -> ASGIApp:
    info = await context.bus.read(objects.head, key)
    return await content_reply(
        request_fields(request.scope),
        request.method,
        validators=Validators(permit.sha256, info.modified_at),
        size_bytes=info.size_bytes,
        media_type=info.media_type or "application/octet-stream",
        filename=key.rpartition("/")[2],
        download=permit.disposition == "attachment",
        open_body=lambda byte_range: context.bus.open(
            partial(objects.open, key, sha256=permit.sha256),
            byte_range,
            at_hand=partial(objects.open_at_hand, key, sha256=permit.sha256),
            size_bytes=info.size_bytes,
        ),
        pay=context.payer(request.scope),
        headers=[("Cache-Control", "private, max-age=300"), ("Cross-Origin-Resource-Policy", "cross-origin")],
    )


def _key(raw_path: bytes) -> str:
    try:
        return unquote_to_bytes(raw_path.partition(b"?")[0]).decode().removeprefix(f"{PATH}/")
    except UnicodeDecodeError as error:
        raise NotFound from error


def _parameters(query_string: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(query_string.decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=8)
    except ValueError:
        return {}
    parameters = dict(pairs)
    return parameters if len(parameters) == len(pairs) else {}
