"""Records, postings and reclaim entries in three DynamoDB tables."""

from adapters.dynamodb.audit import DynamoRecordAudit
from adapters.dynamodb.endpoints import resolve_endpoints_fast
from adapters.dynamodb.metadata import DynamoMetadata
from adapters.dynamodb.parsing import parse_replies_fast
from adapters.dynamodb.retrying import Patience
from adapters.dynamodb.serializing import send_items_as_they_are
from adapters.dynamodb.tables import Tables, definitions

__all__ = [
    "DynamoMetadata",
    "DynamoRecordAudit",
    "Patience",
    "Tables",
    "definitions",
    "parse_replies_fast",
    "resolve_endpoints_fast",
    "send_items_as_they_are",
]
