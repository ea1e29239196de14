"""What a request costs our own processor on AWS: Calotype's adapters against plain boto3, both given canned replies.

The replies come from a hook of botocore's in front of the network, so all that either side does is counted (making
the request, signing it, parsing the reply, making the document), and nothing that the network or a store does.
Plain is what a team writes first: a client as boto3 makes it, TypeSerializer, TypeDeserializer, generate_presigned_url.
"""

import contextlib
import hashlib
import io
import itertools
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4

import boto3
import msgspec
from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config

from adapters.dynamodb import DynamoMetadata, Tables
from adapters.dynamodb.items import record_item
from adapters.http.documents import Documents
from adapters.s3 import Presigner, S3Objects
from adapters.system import SystemClock
from application.ports import ByOwner, StoredObject
from application.queries.list_images import ImagePage
from bench.table import markdown
from domain.image import Image
from domain.reclaim import Reservation
from domain.values import Description, Filename, MediaType, Tag, Title, UserId
from entrypoints.aws import RECORDS, aws_session, dynamodb_client, s3_client
from entrypoints.settings import Settings
from tests.ministack import Account, Ministack

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

_ROUNDS = 15
_PAGE = 50
_BUCKET = "image-uploads"
_OWNER = UserId("ada")
_PHOTO = bytes(range(256)) * 800  # 200 KB
_SHA256 = hashlib.sha256(_PHOTO).hexdigest()
_LATENCY_S, _IN_FLIGHT, _SECONDS = 0.02, 64, 4.0
_ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    "AWS_REGION": "eu-central-1",
}


class Row(NamedTuple):
    """One thing done both ways, how often a round, and the ratio that is wanted."""

    name: str
    ours: Callable[[], object]
    plain: Callable[[], object]
    times: int
    target: float | None


def measure(folder: Path) -> str:
    """Return three tables: processor time a request, the same against a real server, and 64 requests in flight."""
    with _environment(_ACCOUNT):
        costs, throughput = _costs(), _throughput()
    return f"{costs}\n{_end_to_end(folder)}\n{throughput}"


# ---- canned replies


def _costs() -> str:
    images = [_image(number) for number in range(_PAGE)]
    replies = {
        "Query": {"Items": [record_item(image) for image in images], "Count": _PAGE, "ScannedCount": _PAGE},
        "GetItem": {"Item": record_item(images[0])},
        "TransactWriteItems": {},
    }
    clients = _clients()
    for client in (clients.dynamodb, clients.plain_dynamodb):
        canned = _Canned(client)
        for operation, reply in replies.items():
            canned.answer(operation, reply)
    for s3 in (clients.s3, clients.plain_s3):
        _Canned(s3).answer("PutObject", None)
    ours, plain = _sides(clients, "image-uploads", Tables())
    rows = [
        Row(f"list page of {_PAGE}", ours.page, plain.page, 20, 0.35),
        Row("metadata by id", lambda: ours.metadata(images[0]), lambda: plain.metadata(images[0]), 100, 0.7),
        Row("upload 200 KB: its three calls", lambda: ours.upload(images[0]), lambda: plain.upload(images[0]), 40, 0.8),
    ]
    return _table("Client CPU on AWS, canned replies", rows, time.process_time)


# ---- a server that speaks AWS


def _end_to_end(folder: Path) -> str:
    with Ministack(folder / "aws") as server:
        environment = {
            **_ACCOUNT,
            **server.root,
            "AWS_ENDPOINT_URL": server.url,
            "CALOTYPE_STORAGE": "aws",
            "CALOTYPE_BUCKET": _BUCKET,
        }
        Account(_BUCKET, "", environment, operator=server.root, root=environment).bootstrap()
        with _environment(environment):
            ours, plain = _sides(_clients(), _BUCKET, Tables())
            numbers = itertools.count()
            for _ in range(_PAGE):
                ours.upload(_image(next(numbers)))
            first = _image(0)
            rows = [
                Row(f"list page of {_PAGE}", ours.page, plain.page, 10, 0.35),
                Row("metadata by id", lambda: ours.metadata(first), lambda: plain.metadata(first), 40, 0.7),
                Row(
                    "upload 200 KB: its three calls",
                    lambda: ours.upload(_image(next(numbers))),
                    lambda: plain.upload(_image(next(numbers))),
                    10,
                    0.8,
                ),
            ]
            cpu = _table("End to end on ministack over loopback: client CPU", rows, time.process_time)
            no_target = [row._replace(target=None) for row in rows]
            return cpu + "\n" + _table("The same: elapsed time, most of it the server's", no_target, time.perf_counter)


def _table(title: str, rows: Sequence[Row], now: Callable[[], float]) -> str:
    lines = []
    for row in rows:
        row.ours()
        row.plain()
        us: dict[str, list[float]] = {"ours": [], "plain": []}
        for _ in range(_ROUNDS):
            us["ours"].append(_us_each(row.ours, row.times, now))
            us["plain"].append(_us_each(row.plain, row.times, now))
        ratios = sorted(mine / theirs for mine, theirs in zip(us["ours"], us["plain"], strict=True))
        middle = statistics.median(ratios)
        lines.append(
            [
                row.name,
                *(f"{statistics.median(us[who]):,.0f}" for who in ("ours", "plain")),
                f"{ratios[0]:.2f}, {middle:.2f}, {ratios[-1]:.2f}",
                "" if row.target is None else f"<= {row.target}: {'met' if middle <= row.target else 'not met'}",
            ]
        )
    return markdown(
        f"{title} (median of {_ROUNDS} interleaved rounds, {datetime.now(UTC):%Y-%m-%d})",
        ["request", "Calotype, us", "plain boto3, us", "ratio: min, median, max", "target"],
        lines,
    )


def _us_each(call: Callable[[], object], times: int, now: Callable[[], float]) -> float:
    begun = now()
    for _ in range(times):
        call()
    return (now() - begun) / times * 1e6


# ---- many in flight


def _throughput() -> str:
    ideal = _IN_FLIGHT / _LATENCY_S
    lines = []
    for processes in (1, 2):
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            threads = _IN_FLIGHT // processes
            # Once for the imports and the first of everything, then for the record.
            list(pool.map(_asked, [threads] * processes, [0.5] * processes))
            results = list(pool.map(_asked, [threads] * processes, [_SECONDS] * processes))
        each_s = sum(result.rate for result in results)
        cpu_us = statistics.mean(result.cpu_us for result in results)
        lines.append(
            [
                f"{processes} x {threads}",
                f"{ideal:,.0f}",
                f"{each_s:,.0f}",
                f"{cpu_us:,.0f}",
                f"{each_s / ideal:.2f}",
                f">= 0.9: {'met' if each_s / ideal >= 0.9 else 'not met'}",  # noqa: PLR2004 (the target)
            ]
        )
    return markdown(
        f"{_IN_FLIGHT} requests in flight, metadata by id, a store that takes {_LATENCY_S * 1000:.0f} ms",
        ["processes x threads", "ideal, 1/s", "reached, 1/s", "CPU us a request", "of the ideal", "target"],
        lines,
    )


class _Rate(NamedTuple):
    rate: float
    cpu_us: float


def _asked(threads: int, seconds: float) -> _Rate:
    """Ask for metadata by id from so many threads of this process."""
    with _environment(_ACCOUNT):
        settings = Settings(threads=threads)
        client = dynamodb_client(aws_session(settings), settings, RECORDS)
    image = _image(0)
    _Canned(client, latency_s=_LATENCY_S).answer("GetItem", {"Item": record_item(image)})
    store = DynamoMetadata(client, Tables())
    until = time.monotonic() + seconds

    def ask(_: int) -> int:
        asked = 0
        while time.monotonic() < until:
            store.get(_OWNER, image.image_id)
            asked += 1
        return asked

    cpu_s, begun = time.process_time(), time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        asked = sum(pool.map(ask, range(threads)))
    took_s = time.monotonic() - begun
    return _Rate(asked / took_s, (time.process_time() - cpu_s) / asked * 1e6)


# ---- both sides


class _Clients(NamedTuple):
    dynamodb: "DynamoDBClient"
    s3: "S3Client"
    plain_dynamodb: "DynamoDBClient"
    plain_s3: "S3Client"


def _clients() -> _Clients:
    settings = Settings()
    session, plain = aws_session(settings), boto3.Session(region_name=_ACCOUNT["AWS_REGION"])
    return _Clients(
        dynamodb_client(session, settings, RECORDS),
        s3_client(session, settings),
        plain.client("dynamodb"),
        plain.client("s3", config=Config(signature_version="s3v4")),
    )


def _sides(clients: _Clients, bucket: str, tables: Tables) -> "tuple[_Ours, _Plain]":
    return (
        _Ours(clients.dynamodb, clients.s3, bucket, tables),
        _Plain(clients.plain_dynamodb, clients.plain_s3, bucket, tables),
    )


class _Ours:
    def __init__(self, dynamodb: "DynamoDBClient", s3: "S3Client", bucket: str, tables: Tables) -> None:
        clock = SystemClock()
        credentials = boto3.Session().get_credentials()
        if credentials is None:
            raise RuntimeError("no credentials")
        self._store = DynamoMetadata(dynamodb, tables)
        self._objects = S3Objects(s3, bucket, clock=clock, presigner=Presigner(s3, bucket, credentials, clock=clock))
        self._documents = Documents(
            lambda image, disposition: self._objects.signed_url(image, disposition=disposition, ttl_s=3600)
        )
        self._encoder = msgspec.json.Encoder(enc_hook=str)

    def page(self) -> bytes:
        page = self._store.page(_OWNER, ByOwner(), limit=_PAGE)
        return self._encoder.encode(self._documents.page(ImagePage(page.images, None)))

    def metadata(self, image: Image) -> bytes:
        return self._encoder.encode(self._documents.image(self._store.get(_OWNER, image.image_id)))

    def upload(self, image: Image) -> None:
        now = datetime.now(UTC)
        holder = uuid4()
        hour = timedelta(hours=1)
        reservation = Reservation(
            image_id=image.image_id,
            owner=_OWNER,
            holder=holder,
            lease_until=now + hour,
            due=now + 2 * hour,
            size_bytes=len(_PHOTO),
        )
        self._store.reserve(reservation, at=now)
        target = StoredObject(
            key=image.key,
            media_type=image.media_type,
            size_bytes=len(_PHOTO),
            sha256=_SHA256,
            owner=_OWNER,
            image_id=image.image_id,
        )
        self._objects.put(target, io.BytesIO(_PHOTO), deadline=now + hour)
        self._store.commit(image, holder=holder)


class _Plain:
    """The same calls to the stores, as the tutorials write them."""

    def __init__(self, dynamodb: "DynamoDBClient", s3: "S3Client", bucket: str, tables: Tables) -> None:
        self._dynamodb = dynamodb
        self._s3 = s3
        self._bucket = bucket
        self._tables = tables
        self._serializer = TypeSerializer()
        self._deserializer = TypeDeserializer()

    def page(self) -> str:
        reply = self._dynamodb.query(
            TableName=self._tables.metadata,
            IndexName="user_id-created_at-index",
            KeyConditionExpression="user_id = :owner",
            ExpressionAttributeValues={":owner": {"S": _OWNER}},
            ScanIndexForward=False,
            Limit=_PAGE,
        )
        return json.dumps({"items": [self._document(item) for item in reply["Items"]]}, default=_number)

    def metadata(self, image: Image) -> str:
        key: Any = {"image_id": {"S": str(image.image_id)}, "user_id": {"S": _OWNER}}
        reply = self._dynamodb.get_item(TableName=self._tables.metadata, Key=key, ConsistentRead=True)
        return json.dumps(self._document(reply["Item"]), default=_number)

    def upload(self, image: Image) -> None:
        now = datetime.now(UTC).isoformat()
        image_id = str(image.image_id)
        entry = {"image_id": image_id, "user_id": _OWNER, "shard": image_id[-1], "due": now, "lease_until": now}
        self._transact(
            {
                "ConditionCheck": {
                    "TableName": self._tables.metadata,
                    "Key": self._item({"image_id": image_id, "user_id": _OWNER}),
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
            Bucket=self._bucket,
            Key=image.key,
            Body=io.BytesIO(_PHOTO),
            ContentType="image/jpeg",
            ChecksumAlgorithm="SHA256",
            IfNoneMatch="*",
            Metadata={"owner": _OWNER, "image-id": image_id},
        )
        record = {
            "image_id": image_id,
            "user_id": _OWNER,
            "s3_key": image.key,
            "filename": image.filename,
            "title": image.title,
            "owner_title": f"{_OWNER}#{image.title.lower()}",
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
                        "Item": self._item({"posting": f"{_OWNER}#tag#{tag}", "position": f"{now}#{image_id}"}),
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
            "Bucket": self._bucket,
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


def _image(number: int) -> Image:
    now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    return Image(
        image_id=UUID(int=number, version=4),
        owner=_OWNER,
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


# ---- canned replies


class _Canned:
    """Answers for the network, in front of it, after having read what would have been sent."""

    def __init__(self, client: "DynamoDBClient | S3Client", *, latency_s: float = 0) -> None:
        self._replies: dict[str, bytes] = {}
        self._latency_s = latency_s
        service = client.meta.service_model.service_name
        client.meta.events.register(f"before-send.{service}", self._reply)  # type: ignore[arg-type]  # it may answer

    def answer(self, operation: str, reply: object) -> None:
        self._replies[operation] = b"" if reply is None else json.dumps(reply).encode()

    def _reply(self, request: AWSPreparedRequest, event_name: str, **_: object) -> AWSResponse:
        body: Any = request.body
        while hasattr(body, "read") and body.read(64 * 1024):
            pass
        if self._latency_s:
            time.sleep(self._latency_s)
        reply = self._replies[event_name.rpartition(".")[2]]
        headers: Any = {
            "Content-Type": "application/x-amz-json-1.0",
            "Content-Length": str(len(reply)),
            "x-amzn-RequestId": "4KBNVRGD25RG1KEO9UT4V3FQDJVV4KQNSO5AEMVJF66Q9ASUAAJG",
            "ETag": '"d41d8cd98f00b204e9800998ecf8427e"',
        }
        return AWSResponse(request.url, 200, headers, _Raw(reply))


class _Raw(io.BytesIO):
    def stream(self, amount: int = 64 * 1024, **_: object) -> Iterator[bytes]:
        while piece := self.read(amount):
            yield piece


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
