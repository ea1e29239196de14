"""The same state machine over DynamoDB and S3, in process: moto has the state, and a restart finds it there."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from adapters.dynamodb import DynamoMetadata, Patience
from application.ports import Clock
from tests.harness.systems import BusSystem, Stores
from tests.harness.test_harness import run
from tests.integration.dynamodb_on_moto import dynamodb_on_moto
from tests.integration.s3_on_moto import BUCKET, objects_on, s3_on_moto


class AwsSystem(BusSystem):
    """The bus on DynamoDB and S3."""

    def __init__(self) -> None:
        self._moto = ExitStack()
        dynamo = self._moto.enter_context(dynamodb_on_moto())
        s3, _ = self._moto.enter_context(s3_on_moto())

        def old_versions() -> set[str]:
            page = s3.list_object_versions(Bucket=BUCKET)
            markers = {f"{each['Key']}, deleted" for each in page.get("DeleteMarkers", ())}
            old = {f"{each['Key']}, replaced" for each in page.get("Versions", ()) if not each["IsLatest"]}
            return markers | old

        @contextmanager
        def open_stores(clock: Clock) -> Iterator[Stores]:
            metadata = DynamoMetadata(dynamo.client, dynamo.tables, patience=Patience(deadline_s=60))
            yield Stores(metadata, objects_on(s3, clock), old_versions)

        super().__init__(open_stores)

    def close(self) -> None:
        super().close()
        self._moto.close()


def test_the_bus_on_dynamodb_and_s3_does_what_the_model_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")  # it is for the end-to-end tests
    run(AwsSystem, examples=4, steps=30)
