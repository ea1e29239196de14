"""Replies of DynamoDB parsed by msgspec, in the place of botocore's parser.

botocore walks every reply along the service's model, which takes most of what a page costs. What the adapter reads has
nothing in it that the walk would change: an attribute arrives as ``{"S": ...}``, ``{"N": "..."}``, ``{"L": [...]}`` or
``{"M": {...}}`` and is handed on as that. Binary attributes (``B``, ``BS``) would stay in base64, but no item has one.
Errors and all other operations (the descriptions of tables have times in them) are still botocore's.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from botocore.parsers import JSONParser, ResponseParser, ResponseParserError, ResponseParserFactory

if TYPE_CHECKING:
    from botocore.model import Shape
    from botocore.session import Session

_REPLIES = frozenset(
    {
        "BatchGetItemOutput",
        "DeleteItemOutput",
        "GetItemOutput",
        "PutItemOutput",
        "QueryOutput",
        "ScanOutput",
        "TransactWriteItemsOutput",
        "UpdateItemOutput",
    }
)
_NO_SUCCESS = 300
_decode = msgspec.json.Decoder().decode


def parse_replies_fast(session: "Session") -> None:
    """Make the clients that a session creates from now on parse the replies named above by msgspec."""
    session.register_component("response_parser_factory", _Parsers())


class _Parsers(ResponseParserFactory):
    """Parsers hold no state of a reply, so one of each kind serves all threads."""

    def __init__(self) -> None:
        super().__init__()
        self._parsers: dict[str, ResponseParser] = {}

    def create_parser(self, protocol_name: str) -> ResponseParser:
        parser = self._parsers.get(protocol_name)
        if parser is None:
            parser = _FastJSONParser() if protocol_name == "json" else super().create_parser(protocol_name)
            self._parsers[protocol_name] = parser
        return parser


class _FastJSONParser(JSONParser):
    def parse(self, response: Mapping[str, Any], shape: "Shape") -> Any:
        if response["status_code"] >= _NO_SUCCESS or shape.name not in _REPLIES:
            return super().parse(response, shape)
        try:
            parsed = _decode(response["body"])
        except msgspec.DecodeError as error:
            raise ResponseParserError(f"DynamoDB's reply is no JSON: {error}") from error
        headers = {name.lower(): value for name, value in response["headers"].items()}
        parsed["ResponseMetadata"] = metadata = {"HTTPStatusCode": response["status_code"], "HTTPHeaders": headers}
        if (request_id := headers.get("x-amzn-requestid")) is not None:
            metadata["RequestId"] = request_id
        return parsed
