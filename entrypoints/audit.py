"""The audit's own bus: it stands on ports that no request may use, and knows no other commands."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from adapters.system import RandomIds, SystemClock
from application.bus import Bus
from application.commands.purge_quarantine import PurgeQuarantine, PurgeQuarantineHandler
from application.commands.repair import Repair, RepairHandler
from application.ports import Clock, Ids, ObjectAudit, ObjectStore, RecordAudit
from application.queries.audit import Audit, AuditHandler
from domain.errors import NotFound
from entrypoints.settings import Settings
from entrypoints.stores import CATALOG_NAME, OBJECTS_NAME, open_stores


def audit_bus(*, records: RecordAudit, stored: ObjectAudit, objects: ObjectStore, clock: Clock, ids: Ids) -> Bus:
    """Return a bus that knows Audit, Repair and PurgeQuarantine, over any adapters."""
    return Bus(
        commands={
            Repair: RepairHandler(records=records, stored=stored, clock=clock, ids=ids),
            PurgeQuarantine: PurgeQuarantineHandler(stored=stored, clock=clock),
        },
        queries={Audit: AuditHandler(records=records, stored=stored, objects=objects)},
    )


@contextmanager
def open_audit(settings: Settings) -> Iterator[tuple[Bus, RecordAudit]]:
    """Give the bus over the stores that the settings name, and the records for their estimate.

    Raises:
        NotFound: there is no such store. Nothing is made: a mistyped folder must not audit clean.
        Unavailable: the stores can't be opened.
    """
    clock, ids = SystemClock(), RandomIds()
    if settings.storage == "embedded" and not (settings.data_path / CATALOG_NAME).is_file():
        raise NotFound(f"there is no catalog in {settings.data_path}")
    with ExitStack() as stack:
        stores = open_stores(settings, clock)
        stack.callback(stores.close)
        records, stored = _audits(settings, clock, stack)
        yield audit_bus(records=records, stored=stored, objects=stores.objects, clock=clock, ids=ids), records


def _audits(settings: Settings, clock: Clock, stack: ExitStack) -> tuple[RecordAudit, ObjectAudit]:
    return (_aws_audits if settings.storage == "aws" else _embedded_audits)(settings, clock, stack)


def _aws_audits(settings: Settings, clock: Clock, stack: ExitStack) -> tuple[RecordAudit, ObjectAudit]:
    # An SDK takes a third of a second to import: only where it is used.
    from adapters.dynamodb import DynamoRecordAudit, Tables  # noqa: PLC0415
    from adapters.s3 import S3ObjectAudit  # noqa: PLC0415
    from entrypoints.aws import aws_session, dynamodb_client, s3_client  # noqa: PLC0415

    session = aws_session(settings)
    s3, dynamodb = s3_client(session, settings), dynamodb_client(session, settings)
    for client in (s3, dynamodb):
        stack.callback(client.close)
    return DynamoRecordAudit(dynamodb, Tables(settings.table_prefix)), S3ObjectAudit(s3, settings.bucket, clock)


def _embedded_audits(settings: Settings, clock: Clock, stack: ExitStack) -> tuple[RecordAudit, ObjectAudit]:
    from adapters.filesystem import FilesystemObjectAudit  # noqa: PLC0415 (as above)
    from adapters.sqlite import SqliteRecordAudit  # noqa: PLC0415

    records = stack.enter_context(SqliteRecordAudit(settings.data_path / CATALOG_NAME))
    return records, FilesystemObjectAudit(settings.data_path / OBJECTS_NAME, clock=clock)
