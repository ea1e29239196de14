"""The ASGI application of one worker process, with its periodic sweep."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

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
    bus, stores, metrics = container.bus(), container.stores(), container.metrics()
    context = Context(
        bus=AsyncBus(bus, reads_inline=stores.reads_inline),
        documents=Documents(
            lambda image, disposition: stores.objects.signed_url(
                image, disposition=disposition, ttl_s=settings.presign_ttl_s
            )
        ),
        authenticator=HeaderAuthenticator(),
        limits=settings.limits,
        presign_ttl_s=settings.presign_ttl_s,
        trash_retention_s=settings.trash_retention_s,
        public_path=urlsplit(settings.base_url).path,
        signed_objects=stores.signed_objects,
        spool_dir=stores.spool_dir,
        probes={"metadata": stores.metadata.ping, "objects": stores.objects.ping},
        metrics=lambda: MetricsPage(*metrics.page()),
    )

    @contextlib.asynccontextmanager
    async def closing(_: Litestar) -> AsyncIterator[None]:
        yield
        stores.close()

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
        except Exception:  # noqa: BLE001 (see below)
            # A bug, told with its trace; without this it would end all sweeping, and nobody would see.
            _log.exception("sweep_failed")
            continue
        if report.images or report.uploads or report.failed:
            _log.info("swept", images=report.images, uploads=report.uploads, failed=report.failed, reason=report.reason)
