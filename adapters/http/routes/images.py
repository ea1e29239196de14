"""/api/v1/images: upload, list, read, change, delete and restore."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from litestar import Request, Router, delete, patch, post, put, route
from litestar.enums import HttpMethod
from litestar.types import ASGIApp

from adapters.http.authentication import header
from adapters.http.conditions import Validators, evaluate, expected_versions
from adapters.http.context import Context
from adapters.http.documents import deleted_document
from adapters.http.inputs import (
    JSON,
    MERGE_PATCH,
    Query,
    parse_image_id,
    parse_listing,
    parse_merge_patch,
    parse_replacement,
    read_json_object,
    skip_body,
)
from adapters.http.replies import Reply, content_reply, json_reply, request_fields
from adapters.http.uploads import UploadForm, received_upload
from application.commands.delete_image import DeleteImage
from application.commands.restore_image import RestoreImage
from application.commands.revise_metadata import ReviseMetadata
from application.commands.upload_image import UploadedImage, UploadImage
from application.ports import ByOwner, ByTags, ByTitle, Filter
from application.queries.get_image import GetImage
from application.queries.list_images import ListImages
from application.queries.read_content import ReadContent
from domain.errors import PreconditionFailed
from domain.image import Image, MetadataChange
from domain.values import IdempotencyKey, ImageId, UserId

PATH = "/api/v1/images"
_READ = [HttpMethod.GET, HttpMethod.HEAD]


@post("/")
async def upload(request: Request[Any, Any, Any], owner: UserId, context: Context) -> ASGIApp:
    """Store an image."""
    Query(request.scope["query_string"]).done()
    raw_key = header(request.scope, b"idempotency-key")
    key = None if raw_key is None else IdempotencyKey(raw_key)

    async def store(form: UploadForm) -> UploadedImage:
        return await context.bus.execute(
            UploadImage(
                owner=owner,
                filename=form.filename,
                content=form.content,
                title=form.title,
                description=form.description,
                tags=form.tags,
                idempotency_key=key,
            )
        )

    uploaded = await received_upload(
        request,
        owner,
        store,
        intake=context.intake,
        max_file_bytes=context.limits.max_upload_bytes,
        spool_dir=context.spool_dir,
    )
    headers = [("Location", f"{context.public_path}{PATH}/{uploaded.image.image_id}"), _version_tag(uploaded.image)]
    if uploaded.replayed:
        headers.append(("Idempotent-Replayed", "true"))
    return json_reply(context.documents.new(uploaded.image), status=201, headers=headers)


@route("/", http_method=_READ)
async def list_images(request: Request[Any, Any, Any], owner: UserId, context: Context) -> ASGIApp:
    """List an owner's images, newest first."""
    which, limit, cursor = parse_listing(Query(request.scope["query_string"]))
    page = await context.bus.ask(ListImages(owner=owner, which=which, limit=limit, cursor=cursor))
    headers = []
    if page.next_cursor is not None:
        following = context.public_path + _next_path(which, limit, page.next_cursor)
        headers.append(("Link", f'<{following}>; rel="next"'))
    return json_reply(context.documents.page(page), headers=headers)


@route("/{image_id:str}", http_method=_READ)
async def read_content(request: Request[Any, Any, Any], owner: UserId, context: Context, image_id: str) -> ASGIApp:
    """Give the original back, or a range of it."""
    query = Query(request.scope["query_string"])
    download = query.flag("download")
    query.done()
    content = await context.bus.ask(ReadContent(owner=owner, image_id=parse_image_id(image_id)))
    image = content.image
    return await content_reply(
        request_fields(request.scope),
        request.method,
        validators=Validators(image.sha256, image.created_at),
        size_bytes=image.size_bytes,
        media_type=image.media_type,
        filename=image.filename,
        download=download,
        open_body=lambda byte_range: context.bus.open(
            content.open, byte_range, at_hand=content.open_at_hand, size_bytes=image.size_bytes
        ),
        pay=context.payer(request.scope),
        # Revalidated each time: a browser that two owners share must not show one's image to the other.
        headers=[("Cache-Control", "private, no-cache"), ("Vary", "X-User-ID, Authorization, Signature-Input")],
    )


@route("/{image_id:str}/metadata", http_method=_READ)
async def read_metadata(request: Request[Any, Any, Any], owner: UserId, context: Context, image_id: str) -> ASGIApp:
    """Give the document of an image."""
    Query(request.scope["query_string"]).done()
    image = await context.bus.ask(GetImage(owner=owner, image_id=parse_image_id(image_id)))
    match evaluate(request_fields(request.scope), Validators(str(image.version))):
        case "not_modified":
            return Reply(304, [_version_tag(image), ("Cache-Control", "private, no-cache")])
        case "failed":
            raise PreconditionFailed(f"the image is at version {image.version}")
        case "proceed":
            return json_reply(context.documents.image(image), headers=[_version_tag(image)])


@put("/{image_id:str}")
async def replace_metadata(request: Request[Any, Any, Any], owner: UserId, context: Context, image_id: str) -> ASGIApp:
    """Replace title, description and tags."""
    fields = await read_json_object(request, JSON)
    return await _revise(request, owner, context, parse_image_id(image_id), lambda: parse_replacement(fields))


@patch("/{image_id:str}")
async def patch_metadata(request: Request[Any, Any, Any], owner: UserId, context: Context, image_id: str) -> ASGIApp:
    """Change some of title, description and tags."""
    fields = await read_json_object(request, MERGE_PATCH, JSON)
    return await _revise(request, owner, context, parse_image_id(image_id), lambda: parse_merge_patch(fields))


@delete("/{image_id:str}", status_code=200)
async def delete_image(request: Request[Any, Any, Any], owner: UserId, context: Context, image_id: str) -> ASGIApp:
    """Move an image to the trash, or delete it for good."""
    query = Query(request.scope["query_string"])
    permanent = query.flag("permanent")
    query.done()
    wanted = parse_image_id(image_id)
    trashed = await context.bus.execute(
        DeleteImage(
            owner=owner,
            image_id=wanted,
            permanent=permanent,
            expected_version=await _expected_version(request, owner, context, wanted),
        )
    )
    return json_reply(deleted_document(trashed))


@post("/{image_id:str}/restore", status_code=200)
async def restore_image(request: Request[Any, Any, Any], owner: UserId, context: Context, image_id: str) -> ASGIApp:
    """Bring an image back from the trash."""
    Query(request.scope["query_string"]).done()
    await skip_body(request)
    image = await context.bus.execute(RestoreImage(owner=owner, image_id=parse_image_id(image_id)))
    return json_reply(context.documents.image(image), headers=[_version_tag(image)])


# Litestar's own answers know only one of several handlers of a path.
@route("/", http_method=HttpMethod.OPTIONS)
async def list_options() -> ASGIApp:
    """Tell the methods."""
    return Reply(204, [("Allow", "GET, HEAD, OPTIONS, POST")])


@route("/{image_id:str}", http_method=HttpMethod.OPTIONS)
async def image_options(image_id: str) -> ASGIApp:
    """Tell the methods."""
    del image_id
    return Reply(204, [("Allow", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT")])


router = Router(
    PATH,
    route_handlers=[
        list_options,
        image_options,
        upload,
        list_images,
        read_content,
        read_metadata,
        replace_metadata,
        patch_metadata,
        delete_image,
        restore_image,
    ],
)


async def _revise(
    request: Request[Any, Any, Any],
    owner: UserId,
    context: Context,
    image_id: ImageId,
    parse: Callable[[], MetadataChange],
) -> ASGIApp:
    Query(request.scope["query_string"]).done()
    image = await context.bus.execute(
        ReviseMetadata(
            owner=owner,
            image_id=image_id,
            change=parse(),
            expected_version=await _expected_version(request, owner, context, image_id),
        )
    )
    return json_reply(context.documents.image(image), headers=[_version_tag(image)])


async def _expected_version(
    request: Request[Any, Any, Any], owner: UserId, context: Context, image_id: ImageId
) -> int | None:
    """Return the one version that the preconditions leave; of several, the one that the image is at now."""
    versions = expected_versions(request.headers)
    if "if-none-match" not in request.headers:
        if versions is None:
            return None
        if len(versions) == 1:
            return next(iter(versions))
    image = await context.bus.ask(GetImage(owner=owner, image_id=image_id))
    if evaluate(request.headers, Validators(str(image.version))) != "proceed":
        raise PreconditionFailed(f"the image is at version {image.version}")
    return image.version


def _version_tag(image: Image) -> tuple[str, str]:
    return ("ETag", f'"{image.version}"')


def _next_path(which: Filter, limit: int, cursor: str) -> str:
    question: list[tuple[str, str]] = []
    match which:
        case ByOwner():
            pass
        case ByTags(tags, match):
            question = [("filter_by", "tags"), *(("tags", tag) for tag in tags), ("match", match)]
        case ByTitle(title):
            question = [("filter_by", "title"), ("title", title)]
    parameters = urlencode([*question, ("limit", str(limit)), ("cursor", cursor)])
    return f"{PATH}?{parameters}"
