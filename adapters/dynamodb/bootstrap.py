"""The tables' wanted state, aspect by aspect: what `calotype bootstrap` compares and provides.

Nothing here deletes. A table or an index with other keys is left to a person, and a protection that somebody has
switched on stays on.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from adapters.dynamodb.tables import Tables, definitions
from application.provisioning import Aspect, InMotion, Refused, State, Unsupported
from domain.errors import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import CreateTableInputTypeDef, TableDescriptionTypeDef

_IN_MOTION = frozenset(
    {
        "ResourceInUseException",  # being created or changed
        "LimitExceededException",  # too many such changes at once, to one table or in the account
        "TableInUseException",
        "ContinuousBackupsUnavailableException",  # still being prepared for a new table
        "ThrottlingException",
    }
)
_UNSUPPORTED = frozenset({"UnknownOperationException", "NotImplemented", "InvalidAction"})


def table_aspects(
    client: "DynamoDBClient", tables: Tables, *, deletion_protection: bool
) -> Iterator[tuple[Aspect, ...]]:
    """Return what is to be true of each table; of each, that it exists comes first.

    Args:
        client: with any configuration.
        tables: the tables' names.
        deletion_protection: switch it on. If not, it stays as it is.
    """
    for definition in definitions(tables):
        table = _Table(client, definition, deletion_protection=deletion_protection)
        yield (
            table,
            *(_Index(table, index) for index in definition.get("GlobalSecondaryIndexes", ())),
            _BillingMode(table),
            _Encryption(table),
            _PointInTimeRecovery(table),
            *((_DeletionProtection(table),) if deletion_protection else ()),
        )


@dataclass(frozen=True, slots=True)
class _Table:
    """It exists, with its keys."""

    client: "DynamoDBClient"
    definition: "CreateTableInputTypeDef"
    deletion_protection: bool

    @property
    def name(self) -> str:
        return self.definition["TableName"]

    @property
    def what(self) -> str:
        return f"table {self.name}"

    @property
    def wanted(self) -> State:
        return _keys(self.definition["KeySchema"], self.definition["AttributeDefinitions"])

    def read(self) -> State:
        try:
            found = self.describe()
        except _Absent:
            return None
        keys = _keys(found["KeySchema"], found["AttributeDefinitions"])
        if keys != self.wanted:
            raise Refused(
                f"has the keys {keys} and not {self.wanted}; keys can't be changed, and nothing is deleted here"
            )
        _check_ready(f"table {self.name}", found["TableStatus"])
        return keys

    def write(self) -> None:
        request: CreateTableInputTypeDef = {**self.definition, "DeletionProtectionEnabled": self.deletion_protection}
        with _translated():
            self.client.create_table(**request)

    def describe(self) -> "TableDescriptionTypeDef":
        with _translated():
            return self.client.describe_table(TableName=self.name)["Table"]

    def update(self, **change: Any) -> None:
        with _translated():
            self.client.update_table(TableName=self.name, **change)


@dataclass(frozen=True, slots=True)
class _Index:
    """It exists, with its keys and its projection."""

    table: _Table
    definition: Mapping[str, Any]

    @property
    def what(self) -> str:
        return f"{self.table.what}: index {self.definition['IndexName']}"

    @property
    def wanted(self) -> State:
        return _shape(self.definition, self.table.definition["AttributeDefinitions"])

    def read(self) -> State:
        description = self.table.describe()
        for found in description.get("GlobalSecondaryIndexes", ()):
            if found["IndexName"] == self.definition["IndexName"]:
                shape = _shape(found, description["AttributeDefinitions"])
                if shape != self.wanted:
                    raise Refused(f"is {shape} and not {self.wanted}; delete it yourself, and run this again")
                _check_ready("the index", found["IndexStatus"])
                return shape
        return None

    def write(self) -> None:
        present = self.table.describe()["AttributeDefinitions"]
        known = {each["AttributeName"] for each in present}
        new = {key["AttributeName"] for key in self.definition["KeySchema"]} - known
        # Those of keys to come would be refused as unused, and some servers forget those that are not repeated.
        attributes = [
            *present,
            *(e for e in self.table.definition["AttributeDefinitions"] if e["AttributeName"] in new),
        ]
        self.table.update(AttributeDefinitions=attributes, GlobalSecondaryIndexUpdates=[{"Create": self.definition}])


@dataclass(frozen=True, slots=True)
class _BillingMode:
    table: _Table
    wanted: State = "PAY_PER_REQUEST"

    @property
    def what(self) -> str:
        return f"{self.table.what}: billing mode"

    def read(self) -> State:
        # A table that was always provisioned has no summary.
        return self.table.describe().get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED")

    def write(self) -> None:
        self.table.update(BillingMode="PAY_PER_REQUEST")


@dataclass(frozen=True, slots=True)
class _Encryption:
    """With a KMS key: the account's own for DynamoDB, or whichever an operator has chosen."""

    table: _Table
    wanted: State = "KMS"

    @property
    def what(self) -> str:
        return f"{self.table.what}: encryption"

    def read(self) -> State:
        found = self.table.describe().get("SSEDescription", {})
        status = found.get("Status", "DISABLED")
        _check_ready("encryption", "ACTIVE" if status in {"ENABLED", "DISABLED"} else status)
        return found.get("SSEType", "KMS") if status == "ENABLED" else "a key of DynamoDB's own"

    def write(self) -> None:
        self.table.update(SSESpecification={"Enabled": True})


@dataclass(frozen=True, slots=True)
class _PointInTimeRecovery:
    table: _Table
    wanted: State = True

    @property
    def what(self) -> str:
        return f"{self.table.what}: point-in-time recovery"

    def read(self) -> State:
        with _translated():
            answer = self.table.client.describe_continuous_backups(TableName=self.table.name)
        recovery = answer["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
        return recovery.get("PointInTimeRecoveryStatus") == "ENABLED"

    def write(self) -> None:
        with _translated():
            self.table.client.update_continuous_backups(
                TableName=self.table.name,
                PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True},
            )


@dataclass(frozen=True, slots=True)
class _DeletionProtection:
    table: _Table
    wanted: State = True

    @property
    def what(self) -> str:
        return f"{self.table.what}: deletion protection"

    def read(self) -> State:
        return self.table.describe().get("DeletionProtectionEnabled", False)

    def write(self) -> None:
        self.table.update(DeletionProtectionEnabled=True)


class _Absent(InMotion):
    """There is no such table; or not yet, to a read from a copy that lags."""


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what the client raises into the errors of provisioning: the one table."""
    try:
        yield
    except ClientError as error:
        raise _meaning(error)(str(error)) from error
    except BotoCoreError as error:
        raise Unavailable(str(error)) from error


def _meaning(error: ClientError) -> Callable[[str], Exception]:
    code = error.response["Error"]["Code"]
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "ResourceNotFoundException":
        return _Absent
    if code in _IN_MOTION:
        return InMotion
    if code in _UNSUPPORTED or status == HTTPStatus.NOT_IMPLEMENTED:
        return Unsupported
    return Unavailable if status >= HTTPStatus.INTERNAL_SERVER_ERROR else Refused


def _check_ready(what: str, status: str) -> None:
    if status != "ACTIVE":
        raise InMotion(f"{what} is {status}")


def _shape(index: Mapping[str, Any], attributes: Sequence[Mapping[str, Any]]) -> State:
    return {**_keys(index["KeySchema"], attributes), "projection": index["Projection"]["ProjectionType"]}


def _keys(schema: Sequence[Mapping[str, Any]], attributes: Sequence[Mapping[str, Any]]) -> dict[str, State]:
    """Return, for each attribute of a key, its part in the key and its type: ``{"image_id": "HASH S"}``."""
    types = {each["AttributeName"]: each["AttributeType"] for each in attributes}
    return {key["AttributeName"]: f"{key['KeyType']} {types.get(key['AttributeName'], '?')}" for key in schema}
