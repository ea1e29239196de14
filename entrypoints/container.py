"""The wiring: which adapter stands behind which port. The one place that knows dependency-injector.

Everything is built once, eagerly, in the main thread: the container's plain Singleton is not thread-safe.
"""

from collections.abc import Sequence
from datetime import timedelta

from dependency_injector import containers, providers

from adapters.events import SubscribedEvents, Subscription
from adapters.imaging import BoundedInspector, PillowInspector
from adapters.observability.messages import log_message
from adapters.observability.metrics import Metrics
from adapters.system import RandomIds, SystemClock
from application.bus import Bus, Middleware
from application.commands.delete_image import DeleteImage, DeleteImageHandler
from application.commands.restore_image import RestoreImage, RestoreImageHandler
from application.commands.revise_metadata import ReviseMetadata, ReviseMetadataHandler
from application.commands.sweep import Sweep, SweepHandler
from application.commands.upload_image import UploadImage, UploadImageHandler
from application.ports import (
    Clock,
    EventPublisher,
    Ids,
    ImageInspector,
    MetadataReader,
    MetadataStore,
    ObjectStore,
)
from application.publishing import PublishEvents
from application.queries.get_image import GetImage, GetImageHandler
from application.queries.get_usage import GetUsage, GetUsageHandler
from application.queries.list_images import ListImages, ListImagesHandler
from application.queries.read_content import ReadContent, ReadContentHandler
from entrypoints.settings import Settings
from entrypoints.stores import open_stores


def build_bus(  # noqa: PLR0913 (one argument a port)
    *,
    settings: Settings,
    metadata: MetadataStore,
    records: MetadataReader,
    objects: ObjectStore,
    inspector: ImageInspector,
    clock: Clock,
    ids: Ids,
    publisher: EventPublisher,
    middleware: Sequence[Middleware] = (),
) -> Bus:
    """Return a bus that knows every command and query, over any adapters."""
    upload = UploadImageHandler(
        metadata=metadata,
        objects=objects,
        inspector=inspector,
        clock=clock,
        ids=ids,
        limits=settings.limits,
        reservation_ttl=timedelta(seconds=settings.reservation_ttl_s),
    )
    delete = DeleteImageHandler(metadata=metadata, clock=clock, retention=timedelta(seconds=settings.trash_retention_s))
    return Bus(
        commands={
            UploadImage: upload,
            ReviseMetadata: ReviseMetadataHandler(metadata=metadata, clock=clock),
            DeleteImage: delete,
            RestoreImage: RestoreImageHandler(metadata=metadata, clock=clock),
            Sweep: SweepHandler(metadata=metadata, objects=objects, clock=clock, ids=ids),
        },
        queries={
            GetImage: GetImageHandler(records=records),
            GetUsage: GetUsageHandler(records=records),
            ReadContent: ReadContentHandler(records=records, objects=objects),
            ListImages: ListImagesHandler(records=records),
        },
        middleware=[*middleware, PublishEvents(publisher)],
    )


class Container(containers.DeclarativeContainer):
    """Objects that live as long as the process."""

    settings = providers.Dependency(instance_of=Settings)
    subscriptions: providers.Dependency[Sequence[Subscription]] = providers.Dependency(default=())

    clock = providers.Singleton(SystemClock)
    ids = providers.Singleton(RandomIds)
    inspector = providers.Singleton(
        BoundedInspector, providers.Singleton(PillowInspector), most_bytes=settings.provided.max_bytes_in_inspection
    )
    publisher = providers.Singleton(SubscribedEvents, subscriptions)
    metrics = providers.Singleton(Metrics)

    stores = providers.Singleton(open_stores, settings, clock)
    middleware = providers.List(providers.Object(log_message))

    bus = providers.Singleton(
        build_bus,
        settings=settings,
        metadata=stores.provided.metadata,
        records=stores.provided.metadata,
        objects=stores.provided.objects,
        inspector=inspector,
        clock=clock,
        ids=ids,
        publisher=publisher,
        middleware=middleware,
    )
