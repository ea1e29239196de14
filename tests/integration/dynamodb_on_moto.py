"""DynamoDB in process: moto behind a wire that counts requests and fails them as a test says."""

import json
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import boto3
import botocore.session
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError
from moto import mock_aws
from moto.core.botocore_stubber import MockRawResponse
from moto.core.models import botocore_stubber

from adapters.dynamodb import DynamoMetadata, Patience, Tables, definitions, send_items_as_they_are

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Go = Callable[[], AWSResponse]
Fault = Callable[[AWSPreparedRequest, Go], AWSResponse]
"""What happens to one request instead of, before or after its going through."""


@dataclass
class Waits:
    """A time that passes only while somebody waits."""

    passed_s: float = 0.0

    def sleep(self, seconds: float) -> None:
        self.passed_s += seconds

    def patience(self, *, deadline_s: float = 4.0) -> Patience:
        return Patience(deadline_s=deadline_s, sleep=self.sleep, monotonic=lambda: self.passed_s)


@dataclass
class Wire:
    """Stands between the client and moto.

    moto checks conditions and writes in separate steps, and is not safe to call from several threads. One request at
    a time gives its requests what DynamoDB promises of each: that it is atomic.
    """

    sent: list[str] = field(default_factory=list)
    faults: dict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    always: dict[str, Fault] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def next(self, operation: str, *faults: Fault) -> None:
        """Let the next requests of this operation meet these faults, one each."""
        self.faults[operation].extend(faults)

    def __call__(self, request: AWSPreparedRequest, **_: object) -> AWSResponse:
        operation = _text(request.headers["X-Amz-Target"]).partition(".")[2]

        def go() -> AWSResponse:
            response = botocore_stubber("before-send", request)
            assert response is not None, "moto is not on"
            return response

        with self._lock:
            self.sent.append(operation)
            queue = self.faults[operation]
            fault = queue.popleft() if queue else self.always.get(operation)
            return go() if fault is None else fault(request, go)


@dataclass(frozen=True)
class Dynamo:
    """The adapter, and what it stands on."""

    client: "DynamoDBClient"
    tables: Tables
    wire: Wire
    metadata: DynamoMetadata


@contextmanager
def dynamodb_on_moto(*, patience: Patience | None = None, attempts: int = 1) -> Iterator[Dynamo]:
    """Give an adapter on new, empty tables; ``attempts`` is how often botocore itself sends a request."""
    with mock_aws():
        client: DynamoDBClient = _session().client(
            "dynamodb",
            region_name="eu-central-1",
            config=Config(retries={"mode": "standard", "total_max_attempts": attempts}),
        )
        tables = Tables(prefix="test-")
        for definition in definitions(tables):
            client.create_table(**definition)
        wire = Wire()
        # In moto's place, not before it: botocore calls every handler, and takes the first answer.
        client.meta.events.unregister("before-send", cast("Any", botocore_stubber))
        client.meta.events.register("before-send.dynamodb", cast("Any", wire))
        yield Dynamo(client, tables, wire, DynamoMetadata(client, tables, patience=patience))


@cache
def _session() -> boto3.session.Session:
    # Made once, because it reads the service's model from disk. Requests are put together as in production.
    session = botocore.session.Session()
    send_items_as_they_are(session)
    return boto3.session.Session("testing", "testing", botocore_session=session)


# ---- faults


def lose_the_reply(request: AWSPreparedRequest, go: Go) -> AWSResponse:
    go()
    raise ReadTimeoutError(endpoint_url=request.url)


def never_arrive(request: AWSPreparedRequest, go: Go) -> AWSResponse:
    del go
    raise ReadTimeoutError(endpoint_url=request.url)


def meet_nobody(request: AWSPreparedRequest, go: Go) -> AWSResponse:
    del go
    raise EndpointConnectionError(endpoint_url=request.url)


def refuse(code: str, *reasons: str, status: int = 400) -> Fault:
    body: dict[str, Any] = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": code}
    if reasons:
        body["CancellationReasons"] = [{"Code": reason} for reason in reasons]

    def fault(request: AWSPreparedRequest, go: Go) -> AWSResponse:
        del go
        return _response(request, status, body)

    return fault


def after(interference: Callable[[], object]) -> Fault:
    """Let somebody else do something, and then the request go through."""

    def fault(request: AWSPreparedRequest, go: Go) -> AWSResponse:
        del request
        interference()
        return go()

    return fault


def edit(change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Fault:
    """Let the request go through, and change its answer; ``change`` is given the request's body and the answer's."""

    def fault(request: AWSPreparedRequest, go: Go) -> AWSResponse:
        response = go()
        body = json.loads(response.content)
        change(json.loads(_text(request.body)), body)
        return _response(request, 200, body)

    return fault


def _response(request: AWSPreparedRequest, status: int, body: dict[str, Any]) -> AWSResponse:
    return AWSResponse(request.url, status, HTTPHeaders(), MockRawResponse(json.dumps(body)))


def _text(raw: Any) -> str:
    return raw.decode() if isinstance(raw, bytes) else str(raw)
