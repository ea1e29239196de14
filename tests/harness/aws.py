"""DynamoDB and S3 in process, as stores of the harness."""

from collections.abc import Iterator
from contextlib import contextmanager

from adapters.dynamodb import DynamoMetadata, DynamoRecordAudit, Patience
from application.ports import Clock
from tests.harness.systems import OpenStores, Stores
from tests.integration.dynamodb_on_moto import dynamodb_on_moto
from tests.integration.s3_on_moto import BUCKET, objects_on, s3_on_moto


@contextmanager
def aws_stores() -> Iterator[OpenStores]:
    """Give new, empty stores. Set AWS_IGNORE_CONFIGURED_ENDPOINT_URLS before: that is for the end-to-end tests."""
    with dynamodb_on_moto() as dynamo, s3_on_moto() as (s3, _):

        def old_versions() -> set[str]:
            page = s3.list_object_versions(Bucket=BUCKET)
            markers = {f"{each['Key']}, deleted" for each in page.get("DeleteMarkers", ())}
            old = {f"{each['Key']}, replaced" for each in page.get("Versions", ()) if not each["IsLatest"]}
            return markers | old

        @contextmanager
        def open_stores(clock: Clock) -> Iterator[Stores]:
            metadata = DynamoMetadata(dynamo.client, dynamo.tables, patience=Patience(deadline_s=60))
            audit = DynamoRecordAudit(dynamo.client, dynamo.tables)
            yield Stores(metadata, objects_on(s3, clock), old_versions, audit.miscounts)

        yield open_stores
