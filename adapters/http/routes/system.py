"""Limits, health and metrics."""

from typing import Any

from litestar import Request, Router, route
from litestar.concurrency import sync_to_thread
from litestar.enums import HttpMethod
from litestar.types import ASGIApp

from adapters.http.context import Context
from adapters.http.documents import HealthDocument, limits_document
from adapters.http.replies import Reply, json_reply

_READ = [HttpMethod.GET, HttpMethod.HEAD]


@route("/api/v1/limits", http_method=_READ)
async def limits(request: Request[Any, Any, Any], context: Context) -> ASGIApp:
    """Tell the limits in force."""
    await context.admit_address(request.scope)
    return json_reply(
        limits_document(
            context.limits, presign_ttl_s=context.presign_ttl_s, trash_retention_s=context.trash_retention_s
        )
    )


@route("/health/live", http_method=_READ)
async def live() -> ASGIApp:
    """Say that the process answers."""
    return json_reply(HealthDocument(status="ok", checks={}))


@route("/health/ready", http_method=_READ)
async def ready(context: Context) -> ASGIApp:
    """Say whether both stores answer, each within a short time."""
    answers = await context.probes.answers()
    well = all(answers.values())
    checks = {name: "ok" if answer else "unavailable" for name, answer in answers.items()}
    return json_reply(
        HealthDocument(status="ok" if well else "unavailable", checks=checks),
        status=200 if well else 503,
        headers=[] if well else [("Retry-After", "1")],
    )


@route("/metrics", http_method=_READ)
async def metrics(request: Request[Any, Any, Any], context: Context) -> ASGIApp:
    """Give the metrics of all workers to Prometheus."""
    await context.admit_address(request.scope)
    page = await sync_to_thread(context.metrics)
    return Reply(200, [("Content-Type", page.content_type), ("Content-Length", str(len(page.body)))], page.body)


router = Router("/", route_handlers=[limits, live, ready, metrics])
