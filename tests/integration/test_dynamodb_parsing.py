"""Replies parsed by msgspec are those that botocore's own parser gives."""

import json
from typing import Any

import botocore.session
import pytest
from botocore.model import ServiceModel
from botocore.parsers import ResponseParserError, ResponseParserFactory
from hypothesis import given
from hypothesis import strategies as st

from adapters.dynamodb import parse_replies_fast
from entrypoints.aws import aws_session, dynamodb_client
from entrypoints.settings import Settings
from tests.integration.dynamodb_values import items, texts

SESSION = botocore.session.Session()
parse_replies_fast(SESSION)
FAST: ResponseParserFactory = SESSION.get_component("response_parser_factory")
MODEL = ServiceModel(SESSION.get_service_data("dynamodb"))
HEADERS = {"x-amzn-requestid": "ABC", "X-Amz-Crc32": "1"}

replies = {
    "GetItem": st.fixed_dictionaries({}, optional={"Item": items}),
    "Query": st.fixed_dictionaries(
        {"Items": st.lists(items, max_size=4), "Count": st.integers(0, 100), "ScannedCount": st.integers(0, 100)},
        optional={"LastEvaluatedKey": items},
    ),
    "BatchGetItem": st.fixed_dictionaries(
        {
            "Responses": st.dictionaries(texts, st.lists(items, max_size=3), max_size=2),
            "UnprocessedKeys": st.dictionaries(
                texts, st.builds(lambda keys: {"Keys": keys}, st.lists(items, min_size=1, max_size=2)), max_size=2
            ),
        }
    ),
    "UpdateItem": st.fixed_dictionaries({}, optional={"Attributes": items}),
    "DeleteItem": st.fixed_dictionaries({}, optional={"Attributes": items}),
    "PutItem": st.just({}),
    "TransactWriteItems": st.just({}),
    "Scan": st.fixed_dictionaries({"Items": st.lists(items, max_size=4), "Count": st.integers(0, 100)}),
}


def parsed(factory: ResponseParserFactory, operation: str, body: bytes, status: int = 200) -> Any:
    shape = MODEL.operation_model(operation).output_shape
    assert shape is not None
    response = {"status_code": status, "headers": HEADERS, "body": body, "context": {}}
    return factory.create_parser("json").parse(response, shape)


@pytest.mark.parametrize("operation", replies)
@given(data=st.data())
def test_a_reply_is_parsed_to_just_what_botocore_makes_of_it(operation: str, data: st.DataObject) -> None:
    body = json.dumps(data.draw(replies[operation])).encode()
    assert parsed(FAST, operation, body) == parsed(ResponseParserFactory(), operation, body)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b'{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException","message":"no"}'),
        (400, b'{"__type":"com.amazon.coral.validate#ValidationException","message":"what?"}'),
        (500, b"<html><body>away</body></html>"),
        (503, b""),
        (400, b"not JSON at all"),
    ],
)
def test_errors_are_parsed_by_botocore(status: int, body: bytes) -> None:
    assert parsed(FAST, "GetItem", body, status) == parsed(ResponseParserFactory(), "GetItem", body, status)


@pytest.mark.parametrize("body", [b"", b"<html></html>", b'{"Item": {"image_id": {"S": "'])
def test_a_success_that_is_no_json_is_an_unknown_outcome(body: bytes) -> None:
    with pytest.raises(ResponseParserError):
        parsed(FAST, "GetItem", body)


def test_times_and_all_else_are_left_to_botocore() -> None:
    body = b'{"Table":{"TableName":"t","CreationDateTime":1767225600.5}}'
    described = parsed(FAST, "DescribeTable", body)
    assert described == parsed(ResponseParserFactory(), "DescribeTable", body)
    assert described["Table"]["CreationDateTime"].year == 2026


@pytest.mark.parametrize(("parser", "fast"), [("msgspec", True), ("botocore", False)])
def test_a_setting_switches_back_to_botocores_parser(
    monkeypatch: pytest.MonkeyPatch, parser: str, *, fast: bool
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    settings = Settings(storage="aws", dynamodb_parser=parser)  # type: ignore[arg-type]
    client = dynamodb_client(aws_session(settings), settings)
    factory = client._endpoint._response_parser_factory  # type: ignore[attr-defined]
    assert (type(factory) is not ResponseParserFactory) is fast
    client.close()
