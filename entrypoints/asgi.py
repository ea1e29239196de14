"""The ASGI application of one worker process, with its periodic sweep."""

import asyncio
import contextlib
import gc
import random
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import structlog
from litestar import Litestar
from litestar.concurrency import set_asyncio_executor, sync_to_thread

from adapters.http.app import create_app
from adapters.http.async_bus import AsyncBus
from adapters.http.context import Context, MetricsPage
from adapters.http.documents import Documents
from adapters.http.edge import Edge
from adapters.http.intake import Intake
from adapters.http.probes import Probes
from adapters.http.throttle import ThrottledAuthenticator
from adapters.observability.logging import configure_logging
from adapters.observability.metrics import Metrics
from adapters.observability.requests import RequestLog, bind_request
from application.bus import Bus
from application.commands.sweep import Sweep, SweepReport
from domain.errors import CalotypeError
from entrypoints.container import Container
from entrypoints.identity import open_identity
from entrypoints.listener import give_up_on_stalled_clients
from entrypoints.rate_limits import open_limiting
from entrypoints.settings import Settings, load_settings

_log = structlog.get_logger("calotype.sweeper")
# At 10 ms a call, those who wait last wait for 0.15 seconds.
_WAITING_CALLS_A_THREAD = 15
_COUNT_EVERY_S = 1
_LAST_SWEEP_S = 3  # of the seconds that a worker has to end


def create() -> Edge:
    """Return the application that the environment describes. Called once in each worker, before its loop runs."""
    settings = load_settings()
    configure_logging(settings.log_format, settings.log_level)
    container = Container(settings=settings)
    metrics = container.metrics()
    container.middleware.add_args(metrics)
    application = create_application(container, settings)
    # What is there by now stays. Else all of it is gone through now and then, for 80 ms in the middle of a request.
    gc.freeze()
    return application


def create_application(container: Container, settings: Settings) -> Edge:
    """Return the application over the container's objects."""
    bus, stores, metrics = container.bus(), container.stores(), container.metrics()
    threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="calotype")
    set_asyncio_executor(threads)  # for all else that blocks
    identity = open_identity(settings)
    limiting = open_limiting(settings, fell_back=metrics.rate_limit_fallbacks.inc)
    throttle = None if limiting is None else limiting.throttle
    authenticator = identity.authenticator
    context = Context(
        bus=AsyncBus(
            bus,
            threads,
            reads_inline=stores.reads_inline,
            most_calls=settings.threads * (1 + _WAITING_CALLS_A_THREAD),
        ),
        documents=Documents(
            lambda image, disposition: stores.objects.signed_url(
                image, disposition=disposition, ttl_s=settings.presign_ttl_s
            )
        ),
        authenticator=authenticator if throttle is None else ThrottledAuthenticator(authenticator, throttle),
        limits=settings.limits,
        presign_ttl_s=settings.presign_ttl_s,
        trash_retention_s=settings.trash_retention_s,
        public_path=urlsplit(settings.base_url).path,
        signed_objects=stores.signed_objects,
        spool_dir=stores.spool_dir,
        throttle=throttle,
        intake=Intake(
            most_uploads=settings.max_concurrent_uploads,
            most_bytes=settings.max_bytes_in_flight,
            throttle=throttle,
        ),
        probes=Probes({"metadata": stores.metadata.ping, "objects": stores.objects.ping}),
        metrics=lambda: MetricsPage(*metrics.page()),
    )

    @contextlib.asynccontextmanager
    async def closing(_: Litestar) -> AsyncIterator[None]:
        with contextlib.closing(stores), contextlib.closing(identity):
            yield

    request_log = RequestLog()

    @contextlib.asynccontextmanager
    async def logging(_: Litestar) -> AsyncIterator[None]:
        try:
            yield
        finally:
            request_log.write()

    @contextlib.asynccontextmanager
    async def giving_up(_: Litestar) -> AsyncIterator[None]:
        task = asyncio.create_task(give_up_on_stalled_clients(settings.port, settings.stall_timeout_s))
        try:
            yield
        finally:
            task.cancel()

    @contextlib.asynccontextmanager
    async def sweeping(_: Litestar) -> AsyncIterator[None]:
        task = asyncio.create_task(_sweep_forever(bus, settings.sweep_interval_s))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @contextlib.asynccontextmanager
    async def counting(_: Litestar) -> AsyncIterator[None]:
        task = asyncio.create_task(_count_forever(metrics))
        try:
            yield
        finally:
            task.cancel()
            metrics.count()

    return create_app(
        context,
        started=[bind_request],
        observers=[metrics.observe_request, request_log],
        lifespan=[
            closing,
            logging,
            giving_up,
            *([counting] if metrics.is_shared else []),  # ends behind the sweeps, which count too
            sweeping,
            *identity.lifespan,
            *([] if limiting is None else [limiting.closing]),
        ],
        browser_origins=settings.browser_origins,
        hsts_s=settings.hsts_s,
        stall_timeout_s=settings.stall_timeout_s,
    )


async def _count_forever(metrics: Metrics) -> None:
    while True:
        await asyncio.sleep(_COUNT_EVERY_S)
        try:
            metrics.count()
        except OSError as error:  # the disk that the workers share is full
            structlog.get_logger("calotype.metrics").warning("metrics_not_counted", reason=str(error))


async def _sweep(bus: Bus) -> SweepReport:
    """Sweep once. If that is cancelled it ends first, or nearly: its thread can't be stopped, and needs the stores."""
    sweep = asyncio.create_task(sync_to_thread(bus.execute, Sweep()))
    try:
        return await asyncio.shield(sweep)
    except asyncio.CancelledError:
        await asyncio.wait([sweep], timeout=_LAST_SWEEP_S)
        sweep.cancel()
        raise


async def _sweep_forever(bus: Bus, interval_s: int) -> None:
    while True:
        # Spread over the interval, so that the workers of one service don't all sweep at once.
        await asyncio.sleep(interval_s * random.uniform(0.5, 1.0))  # noqa: S311 (no secret)
        try:
            report = await _sweep(bus)
        except CalotypeError as error:
            _log.warning("sweep_failed", reason=str(error))
            continue
        except Exception:  # noqa: BLE001 (see below)
            # A bug, told with its trace; without this it would end all sweeping, and nobody would see.
            _log.exception("sweep_failed")
            continue
        if report.images or report.uploads or report.failed:
            _log.info("swept", images=report.images, uploads=report.uploads, failed=report.failed, reason=report.reason)
