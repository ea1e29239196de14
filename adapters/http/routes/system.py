"""Limits, health and metrics."""

import asyncio
from collections.abc import Callable

from litestar import Router, route
from litestar.concurrency import sync_to_thread
from litestar.enums import HttpMethod
from litestar.types import ASGIApp

from adapters.http.context import Context
from adapters.http.documents import HealthDocument, limits_document
from adapters.http.replies import Reply, json_reply
from domain.errors import CalotypeError

_READ = [HttpMethod.GET, HttpMethod.HEAD]
_PROBE_TIMEOUT_S = 1.5


@route("/api/v1/limits", http_method=_READ)
async def limits(context: Context) -> ASGIApp:
    """Tell the limits in force."""
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
    names = list(context.probes)
    answers = await asyncio.gather(*(_probe(context.probes[name]) for name in names))
    well = all(answers)
    checks = {name: "ok" if answer else "unavailable" for name, answer in zip(names, answers, strict=True)}
    return json_reply(
        HealthDocument(status="ok" if well else "unavailable", checks=checks),
        status=200 if well else 503,
        headers=[] if well else [("Retry-After", "1")],
    )


@route("/metrics", http_method=_READ)
async def metrics(context: Context) -> ASGIApp:
    """Give the metrics of all workers to Prometheus."""
    page = await sync_to_thread(context.metrics)
    return Reply(200, [("Content-Type", page.content_type), ("Content-Length", str(len(page.body)))], page.body)


router = Router("/", route_handlers=[limits, live, ready, metrics])


async def _probe(ping: Callable[[], None]) -> bool:
    try:
        await asyncio.wait_for(sync_to_thread(ping), _PROBE_TIMEOUT_S)
    except (TimeoutError, CalotypeError):
        return False
    return True
