"""Requests with items that nobody looks through: what botocore would send."""

import json
from typing import TYPE_CHECKING, Any, cast

import botocore.session
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from hypothesis import given
from hypothesis import strategies as st

from adapters.dynamodb import send_items_as_they_are
from entrypoints.aws import aws_session, dynamodb_client
from entrypoints.settings import Settings
from tests.integration.dynamodb_values import attributes, items, texts

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

TABLE = st.just("images-metadata")
values = st.dictionaries(texts, attributes, min_size=1, max_size=3)
condition = {"ConditionExpression": st.just("attribute_not_exists(image_id)"), "ExpressionAttributeValues": values}
put = st.fixed_dictionaries({"TableName": TABLE, "Item": items}, optional=condition)
delete = st.fixed_dictionaries({"TableName": TABLE, "Key": items}, optional=condition)
update = st.fixed_dictionaries(
    {"TableName": TABLE, "Key": items, "UpdateExpression": st.just("SET a = :a")}, optional=condition
)
keys = st.fixed_dictionaries({"Keys": st.lists(items, min_size=1, max_size=3), "ConsistentRead": st.booleans()})
writes = st.one_of(
    st.builds(lambda item: {"PutRequest": {"Item": item}}, items),
    st.builds(lambda key: {"DeleteRequest": {"Key": key}}, items),
)
actions = st.one_of(
    st.builds(lambda each: {"Put": each}, put),
    st.builds(lambda each: {"Delete": each}, delete),
    st.builds(lambda each: {"Update": each}, update),
    st.builds(lambda each: {"ConditionCheck": each}, delete),
)
requests = st.one_of(
    st.tuples(st.just("put_item"), put),
    st.tuples(st.just("delete_item"), delete),
    st.tuples(st.just("update_item"), update),
    st.tuples(st.just("get_item"), st.fixed_dictionaries({"TableName": TABLE, "Key": items})),
    st.tuples(
        st.just("query"),
        st.fixed_dictionaries(
            {"TableName": TABLE, "ExpressionAttributeValues": values},
            optional={"Limit": st.integers(1, 9), "ExclusiveStartKey": items},
        ),
    ),
    st.tuples(st.just("batch_get_item"), st.builds(lambda each: {"RequestItems": {"images-metadata": each}}, keys)),
    st.tuples(
        st.just("batch_write_item"),
        st.builds(lambda each: {"RequestItems": {"images-metadata": each}}, st.lists(writes, min_size=1, max_size=3)),
    ),
    st.tuples(
        st.just("transact_write_items"),
        st.builds(
            lambda each: {"TransactItems": each, "ClientRequestToken": "1"}, st.lists(actions, min_size=1, max_size=4)
        ),
    ),
)


class Line:
    """A client, and the body of what it sent last; nothing leaves this process."""

    def __init__(self, *, as_they_are: bool) -> None:
        session = botocore.session.Session()
        if as_they_are:
            send_items_as_they_are(session)
        config = Config(region_name="eu-central-1", parameter_validation=False)
        self.client = cast(
            "DynamoDBClient",
            session.create_client("dynamodb", config=config, aws_access_key_id="key", aws_secret_access_key="secret"),
        )
        self.client.meta.events.register("before-send.dynamodb", self._answer)  # type: ignore[arg-type]
        self.sent: Any = None

    def _answer(self, request: AWSPreparedRequest, **_: object) -> AWSResponse:
        self.sent = json.loads(cast("bytes", request.body))
        return AWSResponse(request.url, 200, HTTPHeaders(), _Nothing())


class _Nothing:
    def stream(self, **_: object) -> list[bytes]:
        return [b"{}"]


OURS, PLAIN = Line(as_they_are=True), Line(as_they_are=False)


@given(request=requests)
def test_what_is_sent_is_what_botocore_would_send(request: tuple[str, dict[str, Any]]) -> None:
    operation, parameters = request
    for line in (OURS, PLAIN):
        getattr(line.client, operation)(**parameters)
    assert OURS.sent == PLAIN.sent


def test_our_clients_look_through_no_items(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("REGION", "eu-central-1"), ("ACCESS_KEY_ID", "key"), ("SECRET_ACCESS_KEY", "secret")):
        monkeypatch.setenv(f"AWS_{name}", value)
    settings = Settings(storage="aws")
    ours = dynamodb_client(aws_session(settings), settings)
    for name in ("AttributeValue", "TransactWriteItem", "WriteRequest"):
        assert ours.meta.service_model.shape_for(name).metadata["document"]
    ours.close()
