"""What is measured on AWS: Calotype's adapters, and the same calls in plain boto3; and a server for both.

Plain is what a team writes first: a client as boto3 makes it, TypeSerializer, TypeDeserializer, generate_presigned_url.
"""

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4

import boto3
from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.config import Config

from adapters.dynamodb import DynamoMetadata, Tables
from adapters.http.documents import Documents, to_json
from adapters.s3 import Presigner, S3Objects
from adapters.system import SystemClock
from application.ports import ByOwner, Filter, StoredObject
from application.queries.list_images import ImagePage
from bench.library import PAGE, READER
from domain.image import Image
from domain.reclaim import Reservation
from domain.values import Description, Filename, MediaType, Tag, Title, UserId
from entrypoints.aws import RECORDS, aws_session, dynamodb_client, s3_client
from entrypoints.settings import Settings
from tests.ministack import Account, Ministack

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

BUCKET = "image-uploads"
OWNER = UserId(READER)
ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    "AWS_REGION": "eu-central-1",
}
_NEWEST = ByOwner()
_PHOTO = bytes(range(256)) * 800  # 200 KB
_SHA256 = hashlib.sha256(_PHOTO).hexdigest()


class Clients(NamedTuple):
    """Calotype's own, and as boto3 makes them."""

    dynamodb: "DynamoDBClient"
    s3: "S3Client"
    plain_dynamodb: "DynamoDBClient"
    plain_s3: "S3Client"


def new_clients() -> Clients:
    """Return clients of what the environment names."""
    settings = Settings()
    session, plain = aws_session(settings), boto3.Session(region_name=ACCOUNT["AWS_REGION"])
    return Clients(
        dynamodb_client(session, settings, RECORDS),
        s3_client(session, settings),
        plain.client("dynamodb"),
        plain.client("s3", config=Config(signature_version="s3v4")),
    )


class Ours:
    """Calotype's adapters, up to the bytes of an answer."""

    def __init__(self, dynamodb: "DynamoDBClient", s3: "S3Client") -> None:
        """Take the clients; credentials are boto3's."""
        clock = SystemClock()
        credentials = boto3.Session().get_credentials()
        if credentials is None:
            raise RuntimeError("no credentials")
        self._store = DynamoMetadata(dynamodb, Tables())
        self._objects = S3Objects(s3, BUCKET, clock=clock, presigner=Presigner(s3, BUCKET, credentials, clock=clock))
        self._documents = Documents(
            lambda image, disposition: self._objects.signed_url(image, disposition=disposition, ttl_s=3600)
        )

    def page(self, which: Filter = _NEWEST) -> bytes:
        """List the newest."""
        page = self._store.page(OWNER, which, limit=PAGE)
        return to_json(self._documents.page(ImagePage(page.images, None)))

    def metadata(self, image_id: UUID) -> bytes:
        """Get one record."""
        return to_json(self._documents.image(self._store.get(OWNER, image_id)))

    def upload(self, image: Image) -> None:
        """Reserve, put and commit."""
        now = datetime.now(UTC)
        holder = uuid4()
        hour = timedelta(hours=1)
        reservation = Reservation(
            image_id=image.image_id,
            owner=OWNER,
            holder=holder,
            lease_until=now + hour,
            due=now + 2 * hour,
            size_bytes=len(_PHOTO),
        )
        self._store.reserve(reservation, at=now)
        self._objects.put(StoredObject.of(image), io.BytesIO(_PHOTO), deadline=now + hour)
        self._store.commit(image, holder=holder)


class Plain:
    """The same calls to the stores, as the tutorials write them."""

    def __init__(self, dynamodb: "DynamoDBClient", s3: "S3Client") -> None:
        """Take the clients."""
        self._dynamodb = dynamodb
        self._s3 = s3
        self._tables = Tables()
        self._serializer = TypeSerializer()
        self._deserializer = TypeDeserializer()

    def page(self) -> str:
        """List the newest."""
        reply = self._dynamodb.query(
            TableName=self._tables.metadata,
            IndexName="user_id-created_at-index",
            KeyConditionExpression="user_id = :owner",
            ExpressionAttributeValues={":owner": {"S": OWNER}},
            ScanIndexForward=False,
            Limit=PAGE,
        )
        return json.dumps({"items": [self._document(item) for item in reply["Items"]]}, default=_number)

    def metadata(self, image_id: UUID) -> str:
        """Get one record."""
        key: Any = {"image_id": {"S": str(image_id)}, "user_id": {"S": OWNER}}
        reply = self._dynamodb.get_item(TableName=self._tables.metadata, Key=key, ConsistentRead=True)
        return json.dumps(self._document(reply["Item"]), default=_number)

    def upload(self, image: Image) -> None:
        """Reserve, put and commit."""
        now = datetime.now(UTC).isoformat()
        image_id = str(image.image_id)
        entry = {"image_id": image_id, "user_id": OWNER, "shard": image_id[-1], "due": now, "lease_until": now}
        self._transact(
            {
                "ConditionCheck": {
                    "TableName": self._tables.metadata,
                    "Key": self._item({"image_id": image_id, "user_id": OWNER}),
                    "ConditionExpression": "attribute_not_exists(image_id)",
                }
            },
            {
                "Put": {
                    "TableName": self._tables.reclaim,
                    "Item": self._item(entry),
                    "ConditionExpression": "attribute_not_exists(image_id)",
                }
            },
        )
        self._s3.put_object(
            Bucket=BUCKET,
            Key=image.key,
            Body=io.BytesIO(_PHOTO),
            ContentType="image/jpeg",
            ChecksumAlgorithm="SHA256",
            IfNoneMatch="*",
            Metadata={"owner": OWNER, "image-id": image_id},
        )
        record = {
            "image_id": image_id,
            "user_id": OWNER,
            "s3_key": image.key,
            "filename": image.filename,
            "title": image.title,
            "owner_title": f"{OWNER}#{image.title.lower()}",
            "description": image.description,
            "tags": list(image.tags),
            "content_type": image.media_type.value,
            "size_bytes": image.size_bytes,
            "width": image.width,
            "height": image.height,
            "sha256": image.sha256,
            "created_at": now,
            "updated_at": now,
            "version": image.version,
        }
        self._transact(
            {
                "Delete": {
                    "TableName": self._tables.reclaim,
                    "Key": self._item({"image_id": image_id}),
                    "ConditionExpression": "attribute_exists(image_id)",
                }
            },
            {
                "Put": {
                    "TableName": self._tables.metadata,
                    "Item": self._item(record),
                    "ConditionExpression": "attribute_not_exists(image_id)",
                }
            },
            *(
                {
                    "Put": {
                        "TableName": self._tables.postings,
                        "Item": self._item({"posting": f"{OWNER}#tag#{tag}", "position": f"{now}#{image_id}"}),
                    }
                }
                for tag in image.tags
            ),
        )

    def _transact(self, *actions: Any) -> None:
        self._dynamodb.transact_write_items(TransactItems=actions, ClientRequestToken=str(uuid4()))

    def _item(self, values: Mapping[str, object]) -> dict[str, Any]:
        # A str of a class of its own is none for TypeSerializer's table, so texts are made plain.
        plain = {name: str(value) if isinstance(value, str) else value for name, value in values.items()}
        if "tags" in plain:
            plain["tags"] = [str(tag) for tag in plain["tags"]]  # type: ignore[attr-defined]
        return {name: self._serializer.serialize(value) for name, value in plain.items()}

    def _document(self, item: Mapping[str, Any]) -> dict[str, Any]:
        document = {name: self._deserializer.deserialize(value) for name, value in item.items()}
        parameters = {
            "Bucket": BUCKET,
            "Key": document["s3_key"],
            "ResponseContentType": document["content_type"],
            "ResponseContentDisposition": f'inline; filename="{document["filename"]}"',
        }
        document["presigned_url"] = self._s3.generate_presigned_url("get_object", Params=parameters, ExpiresIn=3600)
        return document


def _number(value: object) -> int:
    if not isinstance(value, Decimal):
        raise TypeError
    return int(value)


def an_image(number: int) -> Image:
    """Return the record of an image of 200 KB."""
    now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    return Image(
        image_id=UUID(int=number, version=4),
        owner=OWNER,
        filename=Filename("photo.jpg"),
        title=Title(f"Photo {number}"),
        description=Description("A view of the harbour, early in the morning."),
        tags=(Tag("harbour"), Tag("morning"), Tag("2026")),
        media_type=MediaType.JPEG,
        size_bytes=len(_PHOTO),
        width=4000,
        height=3000,
        sha256=_SHA256,
        created_at=now,
        updated_at=now,
        version=1,
        fingerprint=None,
    )


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables, and put back what was there."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


@contextlib.contextmanager
def on_ministack(folder: Path) -> Iterator[Ministack]:
    """Run ministack on a folder, and set the variables that lead there. It ends by SIGKILL."""
    with Ministack(folder) as server:
        variables = {
            **ACCOUNT,
            **server.root,
            "AWS_ENDPOINT_URL": server.url,
            "CALOTYPE_STORAGE": "aws",
            "CALOTYPE_BUCKET": BUCKET,
        }
        with environment(variables):
            yield server


def bootstrap(server: Ministack) -> None:
    """Make the tables and the bucket."""
    Account(BUCKET, "", {}, operator=server.root, root={}).bootstrap()
