import pytest
from botocore.exceptions import ClientError

from adapters.dynamodb.errors import Fault, fault_of, found_instead


def _refused(message: str) -> ClientError:
    error = {"Code": "ValidationException", "Message": message}
    return ClientError({"Error": error, "ResponseMetadata": {"HTTPStatusCode": 400}}, "Query")  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    "message",
    [
        "The table does not have the specified index: title-created_at-index",
        "Cannot read from backfilling global secondary index: title-created_at-index",
    ],
)
def test_an_index_that_is_still_being_made_is_a_store_that_is_away(message: str) -> None:
    assert fault_of(_refused(message)) is Fault.DOWN


def test_any_other_request_that_does_not_fit_is_a_bug_of_ours() -> None:
    assert fault_of(_refused("Query condition missed key schema element: user_id")) is Fault.BUG


def _cancelled(*codes: str) -> ClientError:
    reasons = [
        {"Code": code, **({"Item": {"at": {"N": str(at)}}} if code != "None" else {})} for at, code in enumerate(codes)
    ]
    response = {"Error": {"Code": "TransactionCanceledException"}, "CancellationReasons": reasons}
    return ClientError(response, "TransactWriteItems")  # type: ignore[arg-type]


def test_a_failed_condition_tells_what_was_there_if_all_in_front_of_it_was_looked_at() -> None:
    assert found_instead(_cancelled("None", "ConditionalCheckFailed", "TransactionConflict")) == (
        None,
        {"at": {"N": "1"}},
        {"at": {"N": "2"}},
    )
    for codes in (("None", "TransactionConflict", "ConditionalCheckFailed"), ("TransactionConflict", "None")):
        assert found_instead(_cancelled(*codes)) is None
        assert fault_of(_cancelled(*codes)) is Fault.REFUSED
