"""The ASGI application of one worker process, with its periodic sweep."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import structlog
from litestar import Litestar
from litestar.concurrency import set_asyncio_executor, sync_to_thread

from adapters.http.app import create_app
from adapters.http.async_bus import AsyncBus
from adapters.http.authentication import HeaderAuthenticator
from adapters.http.context import Context, MetricsPage
from adapters.http.documents import Documents
from adapters.http.edge import Edge
from adapters.observability.logging import configure_logging
from adapters.observability.requests import bind_request, log_request
from application.bus import Bus
from application.commands.sweep import Sweep
from domain.errors import CalotypeError
from entrypoints.container import Container
from entrypoints.settings import Settings, load_settings

_log = structlog.get_logger("calotype.sweeper")


def create() -> Edge:
    """Return the application that the environment describes. Called once in each worker, before its loop runs."""
    settings = load_settings()
    configure_logging(settings.log_format, settings.log_level)
    set_asyncio_executor(ThreadPoolExecutor(settings.threads, thread_name_prefix="calotype"))
    container = Container(settings=settings)
    metrics = container.metrics()
    container.middleware.add_args(metrics)
    return create_application(container, settings)


def create_application(container: Container, settings: Settings) -> Edge:
    """Return the application over the container's objects."""
    bus, objects, metadata, metrics = (
        container.bus(),
        container.objects(),
        container.metadata(),
        container.metrics(),
    )
    context = Context(
        # A read of SQLite or of a local file takes less time than handing it to a thread.
        bus=AsyncBus(bus, reads_inline=True),
        documents=Documents(
            lambda image, disposition: objects.signed_url(image, disposition=disposition, ttl_s=settings.presign_ttl_s)
        ),
        authenticator=HeaderAuthenticator(),
        limits=settings.limits,
        presign_ttl_s=settings.presign_ttl_s,
        trash_retention_s=settings.trash_retention_s,
        signed_objects=objects,
        spool_dir=settings.data_path,
        probes={"metadata": metadata.ping, "objects": objects.ping},
        metrics=lambda: MetricsPage(*metrics.page()),
    )

    @contextlib.asynccontextmanager
    async def closing(_: Litestar) -> AsyncIterator[None]:
        yield
        metadata.close()

    @contextlib.asynccontextmanager
    async def sweeping(_: Litestar) -> AsyncIterator[None]:
        task = asyncio.create_task(_sweep_forever(bus, settings.sweep_interval_s))
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    return create_app(
        context,
        started=[bind_request],
        observers=[log_request, metrics.observe_request],
        lifespan=[closing, sweeping],
    )


async def _sweep_forever(bus: Bus, interval_s: int) -> None:
    while True:
        # Spread over the interval, so that the workers of one service don't all sweep at once.
        await asyncio.sleep(interval_s * random.uniform(0.5, 1.0))  # noqa: S311 (no secret)
        try:
            report = await sync_to_thread(bus.execute, Sweep())
        except CalotypeError as error:
            _log.warning("sweep_failed", reason=str(error))
            continue
        if report.images or report.uploads or report.failed:
            _log.info("swept", images=report.images, uploads=report.uploads, failed=report.failed)
