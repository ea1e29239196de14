"""What botocore's errors mean: the one table, and what it takes to read it."""

import re
from collections.abc import Mapping
from enum import Enum, auto
from json import JSONDecodeError
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ChecksumError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    ParamValidationError,
)
from botocore.exceptions import (
    ConnectionError as NotConnected,
)
from botocore.parsers import ResponseParserError

from adapters.dynamodb.items import Item

SDK_ERRORS = (ClientError, BotoCoreError, ResponseParserError, OSError, RuntimeError, JSONDecodeError)
"""Everything that a call of the client raises.

The last three come from refreshing credentials: a process that gives them can't be run or prints something else, or
what it gives has expired already.
"""


class Fault(Enum):
    """What a failed call means for the caller."""

    REFUSED = auto()
    """Nothing was done. Another try soon may succeed."""
    UNKNOWN = auto()
    """It may have been done. Another try may succeed, and has to reckon with the first."""
    DOWN = auto()
    """Nothing was done, and another try soon will fare no better: rights, credentials, a table that is not there."""
    BUG = auto()
    """The request itself is wrong. Not translated: nobody can do anything about it but mend the code."""


_CODES: Mapping[str, Fault] = {
    "InternalServerError": Fault.UNKNOWN,
    "InternalFailure": Fault.UNKNOWN,
    "ServiceUnavailable": Fault.UNKNOWN,
    "ServiceUnavailableException": Fault.UNKNOWN,
    "RequestTimeout": Fault.UNKNOWN,
    # The very request, by its token, is still running: it was sent before, and its reply was lost.
    "TransactionInProgressException": Fault.UNKNOWN,
    "ProvisionedThroughputExceededException": Fault.REFUSED,
    "RequestLimitExceeded": Fault.REFUSED,
    "ReplicatedWriteConflictException": Fault.REFUSED,
    "Throttling": Fault.REFUSED,
    "ThrottlingException": Fault.REFUSED,
    "TransactionConflictException": Fault.REFUSED,
    # Reasons of a cancelled transaction.
    "ProvisionedThroughputExceeded": Fault.REFUSED,
    "ThrottlingError": Fault.REFUSED,
    "TransactionConflict": Fault.REFUSED,
    "ItemCollectionSizeLimitExceeded": Fault.BUG,
    "ValidationError": Fault.BUG,
    # Requests that are wrong in themselves.
    "IdempotentParameterMismatchException": Fault.BUG,
    "SerializationException": Fault.BUG,
    "ValidationException": Fault.BUG,
}
_EXCEPTIONS: tuple[tuple[type[Exception], Fault], ...] = (
    (ParamValidationError, Fault.BUG),
    # Connections that could not be made are no better known: botocore may have lost a reply on a try before.
    (NotConnected, Fault.UNKNOWN),
    (HTTPClientError, Fault.UNKNOWN),
    (IncompleteReadError, Fault.UNKNOWN),
    (ChecksumError, Fault.UNKNOWN),
    (ResponseParserError, Fault.UNKNOWN),
    (BotoCoreError, Fault.DOWN),
    # Without credentials nothing was sent.
    (OSError, Fault.DOWN),
    (RuntimeError, Fault.DOWN),
    (JSONDecodeError, Fault.DOWN),
)
# ValidationException, too, says that an index is not there (yet): bootstrap is making it, or has not been run. The
# request is right, and works as soon as the index does.
_NO_INDEX = re.compile(r"does not have the specified index|backfilling global secondary index")
_HTTP_SERVER_ERRORS = 500
_CONDITION_FAILED = "ConditionalCheckFailed"


class ConditionFailed(Exception):
    """A conditional write found something else than its condition says; nothing was done by this try.

    Args:
        items: for each action of the write, in order, what was there where its condition failed; None where nothing
            was, or where it held.
        maybe_done: an earlier try of the same write may have been done, so that its own result failed the condition.
    """

    def __init__(self, items: tuple[Item | None, ...], *, maybe_done: bool) -> None:
        """Keep what was found."""
        super().__init__("a condition failed")
        self.items = items
        self.maybe_done = maybe_done


def fault_of(error: Exception) -> Fault:
    """Tell what an error of the client means. Failed conditions are not faults: ask `found_instead` first."""
    if isinstance(error, ClientError):
        return _fault_of_answer(error.response)
    return next(fault for kind, fault in _EXCEPTIONS if isinstance(error, kind))


def found_instead(error: Exception) -> tuple[Item | None, ...] | None:
    """Return what was there instead where conditions failed, one for each action; None when no condition failed.

    None, too, when an action in front of the first failed condition met a conflict: what it would have found comes
    first. A record that is there is no matter of quotas.
    """
    if not isinstance(error, ClientError):
        return None
    response: Mapping[str, Any] = error.response
    if response["Error"]["Code"] == "ConditionalCheckFailedException":
        return (response.get("Item") or None,)
    reasons = response.get("CancellationReasons", ())
    refusals = (code for reason in reasons if (code := reason.get("Code", "None")) != "None")
    if next(refusals, None) == _CONDITION_FAILED:
        return tuple(reason.get("Item") or None for reason in reasons)
    return None


def was_sent_before(error: Exception) -> bool:
    """Tell whether botocore's own retries sent the request more than once, so that a reply may have been lost."""
    return isinstance(error, ClientError) and error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0) > 0


def _fault_of_answer(response: Mapping[str, Any]) -> Fault:
    if _NO_INDEX.search(response["Error"].get("Message", "")):
        return Fault.DOWN
    codes = [response["Error"]["Code"]]
    codes += [code for reason in response.get("CancellationReasons", ()) if (code := reason.get("Code")) != "None"]
    faults = {_CODES[code] for code in codes if code in _CODES}
    for fault in (Fault.BUG, Fault.UNKNOWN, Fault.REFUSED):
        if fault in faults:
            return fault
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return Fault.UNKNOWN if status >= _HTTP_SERVER_ERRORS else Fault.DOWN
