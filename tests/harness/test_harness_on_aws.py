"""The same state machine over DynamoDB and S3, in process: moto has the state, and a restart finds it there."""

from contextlib import ExitStack

import pytest

from tests.harness.aws import aws_stores
from tests.harness.systems import BusSystem
from tests.harness.test_harness import run


class AwsSystem(BusSystem):
    """The bus on DynamoDB and S3."""

    def __init__(self) -> None:
        self._moto = ExitStack()
        super().__init__(self._moto.enter_context(aws_stores()))

    def close(self) -> None:
        super().close()
        self._moto.close()


def test_the_bus_on_dynamodb_and_s3_does_what_the_model_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")  # it is for the end-to-end tests
    run(AwsSystem, examples=2, steps=25)
