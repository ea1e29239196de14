"""The three tables: their names, keys and indexes, as plain data that bootstrap and tests create them from.

Sizes against the limits (2,048 bytes a partition key, 1,024 a sort key): a posting has at most 128 + 5 + 64 * 4 = 389
bytes. An owner_title has at most 128 + 1 + 200 * 9: no character of a title, decomposed and case-folded, has more than
9 bytes (three Hangul jamo). Sort keys are ASCII of fixed length. So no key needs to be cut or hashed.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import CreateTableInputTypeDef

OWNER_INDEX = "user_id-created_at-index"
TITLE_INDEX = "title-created_at-index"
DUE_INDEX = "shard-due-index"

SHARDS = tuple("0123456789abcdef")
"""Over how many partitions the due index spreads: one alone takes 1,000 writes a second, and every upload is two."""


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables' names, with a prefix that lets several installations share an account and region."""

    prefix: str = ""

    @property
    def metadata(self) -> str:
        """Records, by image and owner."""
        return f"{self.prefix}images-metadata"

    @property
    def postings(self) -> str:
        """The inverted index: one row for each tag of each image."""
        return f"{self.prefix}images-postings"

    @property
    def reclaim(self) -> str:
        """Reservations and trashed records, by image."""
        return f"{self.prefix}images-reclaim"


def definitions(tables: Tables) -> "tuple[CreateTableInputTypeDef, ...]":
    """Return what CreateTable takes for each table. Point-in-time recovery is a call of its own, and not in here."""
    return (
        {
            "TableName": tables.metadata,
            "AttributeDefinitions": [
                {"AttributeName": "image_id", "AttributeType": "S"},
                {"AttributeName": "user_id", "AttributeType": "S"},
                {"AttributeName": "created_at", "AttributeType": "S"},
                {"AttributeName": "owner_title", "AttributeType": "S"},
            ],
            "KeySchema": [
                {"AttributeName": "image_id", "KeyType": "HASH"},
                {"AttributeName": "user_id", "KeyType": "RANGE"},
            ],
            "GlobalSecondaryIndexes": [
                {
                    "IndexName": OWNER_INDEX,
                    "KeySchema": [
                        {"AttributeName": "user_id", "KeyType": "HASH"},
                        {"AttributeName": "created_at", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "ALL"},
                },
                {
                    "IndexName": TITLE_INDEX,
                    "KeySchema": [
                        {"AttributeName": "owner_title", "KeyType": "HASH"},
                        {"AttributeName": "created_at", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "ALL"},
                },
            ],
            "BillingMode": "PAY_PER_REQUEST",
            "SSESpecification": {"Enabled": True},
        },
        {
            "TableName": tables.postings,
            "AttributeDefinitions": [
                {"AttributeName": "posting", "AttributeType": "S"},
                {"AttributeName": "position", "AttributeType": "S"},
            ],
            "KeySchema": [
                {"AttributeName": "posting", "KeyType": "HASH"},
                {"AttributeName": "position", "KeyType": "RANGE"},
            ],
            "BillingMode": "PAY_PER_REQUEST",
            "SSESpecification": {"Enabled": True},
        },
        {
            "TableName": tables.reclaim,
            "AttributeDefinitions": [
                {"AttributeName": "image_id", "AttributeType": "S"},
                {"AttributeName": "shard", "AttributeType": "S"},
                {"AttributeName": "due", "AttributeType": "S"},
            ],
            "KeySchema": [{"AttributeName": "image_id", "KeyType": "HASH"}],
            "GlobalSecondaryIndexes": [
                {
                    "IndexName": DUE_INDEX,
                    "KeySchema": [
                        {"AttributeName": "shard", "KeyType": "HASH"},
                        {"AttributeName": "due", "KeyType": "RANGE"},
                    ],
                    # The sweeper reads ids here and claims on the item: a whole trashed record would be written twice.
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                },
            ],
            "BillingMode": "PAY_PER_REQUEST",
            "SSESpecification": {"Enabled": True},
        },
    )
