"""Where requests go when nobody looks at the tables in them: where botocore would send them."""

from typing import TYPE_CHECKING, Any, cast

import botocore.session
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config

from adapters.dynamodb import resolve_endpoints_fast
from entrypoints.aws import aws_session, dynamodb_client
from entrypoints.settings import Settings

if TYPE_CHECKING:
    from botocore.session import Session
    from mypy_boto3_dynamodb import DynamoDBClient

TRANSACTION: Any = [
    {"Put": {"TableName": "images-metadata", "Item": {"image_id": {"S": "1"}}}},
    {"Delete": {"TableName": "images-reclaim", "Key": {"image_id": {"S": "1"}}}},
]


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)


def sent_to(client: "DynamoDBClient") -> str:
    """Return the URL that a transaction goes to; nothing leaves this process."""
    urls = []

    def answer(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        urls.append(request.url)
        return AWSResponse(request.url, 200, HTTPHeaders(), _Nothing())

    client.meta.events.register("before-send.dynamodb", answer)  # type: ignore[arg-type]
    client.transact_write_items(TransactItems=TRANSACTION)
    client.close()
    return urls[0]


class _Nothing:
    def stream(self, **_: object) -> list[bytes]:
        return [b"{}"]


def client_of(session: "Session", **config: Any) -> "DynamoDBClient":
    return cast("DynamoDBClient", session.create_client("dynamodb", config=Config(**config)))


@pytest.mark.parametrize("region", ["eu-central-1", "us-gov-west-1", "cn-north-1"])
@pytest.mark.parametrize("config", [{}, {"use_fips_endpoint": True}, {"use_dualstack_endpoint": True}])
@pytest.mark.parametrize("account_id", [None, "123456789012"])
def test_a_transaction_goes_where_botocore_sends_it(
    monkeypatch: pytest.MonkeyPatch, region: str, config: dict[str, Any], account_id: str | None
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    if account_id is not None:
        monkeypatch.setenv("AWS_ACCOUNT_ID", account_id)
    plain, fast = botocore.session.Session(), botocore.session.Session()
    resolve_endpoints_fast(fast)
    assert sent_to(client_of(fast, **config)) == sent_to(client_of(plain, **config))


def test_our_clients_gather_no_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    settings = Settings(storage="aws")
    ours, plain = dynamodb_client(aws_session(settings), settings), botocore.session.Session()
    assert gathering(ours.meta.service_model.operation_model) == []
    assert gathering(client_of(plain, region_name="eu-central-1").meta.service_model.operation_model) != []
    ours.close()


def gathering(operation: Any) -> list[str]:
    names = ["TransactWriteItems", "BatchGetItem", "Query"]
    return [name for name in names if operation(name).operation_context_parameters]
