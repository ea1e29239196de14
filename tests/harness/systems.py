"""The systems under test. Each is one small class that speaks the model's words; a new level is one more.

`BusSystem` is the bus over any stores: another adapter is another `OpenStores`. `HttpSystem` is a real server.
"""

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import httpx

from adapters.events import SubscribedEvents
from adapters.filesystem import FilesystemObjects, load_secret
from adapters.filesystem.disk import Disk
from adapters.imaging import BoundedInspector, PillowInspector
from adapters.memory import FixedClock, MemoryMetadata, MemoryObjects
from adapters.sqlite import SqliteMetadata, SqliteRecordAudit
from adapters.system import RandomIds, SystemClock
from application.bus import Bus
from application.commands.delete_image import DeleteImage
from application.commands.restore_image import RestoreImage
from application.commands.revise_metadata import ReviseMetadata
from application.commands.sweep import Sweep, SweepReport
from application.commands.upload_image import UploadImage
from application.content import Content
from application.ports import ByOwner, ByTags, ByteRange, ByTitle, Clock, Filter, Ids, Miscount, ObjectStore
from application.queries.get_image import GetImage
from application.queries.list_images import ListImages
from application.queries.read_content import ReadContent
from domain.errors import (
    CalotypeError,
    Conflict,
    InTrash,
    Invalid,
    KeyReused,
    NotFound,
    PreconditionFailed,
    QuotaExceeded,
    TooLarge,
)
from domain.image import Image, MetadataChange
from domain.quota import Quota, Usage
from domain.reclaim import TrashedImage
from domain.values import Description, Filename, IdempotencyKey, ImageId, Title, UserId, parse_tags
from entrypoints.container import build_bus
from entrypoints.settings import Settings
from tests.builders import Catalog
from tests.harness.model import Change, Deleted, Form, Page, Shown, Uploaded
from tests.service import Service
from tests.waiting import PATIENCE_S

RETENTION = timedelta(days=30)
MAX_UPLOAD_BYTES = 700_000
NAMES = ("ann", "bob", "cy")
# Met now and then: by whoever uploads most, and by a second large picture.
QUOTA = Quota(images=9, size_bytes=MAX_UPLOAD_BYTES)
_SETTINGS = Settings(
    trash_retention_s=int(RETENTION.total_seconds()),
    max_upload_bytes=MAX_UPLOAD_BYTES,
    quota_images=QUOTA.images,
    quota_bytes=QUOTA.size_bytes,
)
_FAR = datetime(9999, 1, 1, tzinfo=UTC)


class System(Protocol):
    """What the rules drive. Refusals are the errors of the domain, whatever the level."""

    owners: Sequence[UserId]
    moves_time: bool
    """Whether `advance` works; else the time is the machine's own."""
    reopens_in_ten: int
    """How many of ten asked-for reopenings to carry out: all where that is cheap."""

    def now(self) -> datetime: ...
    def advance(self, step: timedelta) -> None: ...
    def upload(self, owner: UserId, form: Form) -> Uploaded: ...
    def revise(self, owner: UserId, image_id: ImageId, change: Change, expected_version: int | None) -> Shown: ...
    def delete(
        self, owner: UserId, image_id: ImageId, *, permanent: bool = False, expected_version: int | None = None
    ) -> Deleted: ...
    def restore(self, owner: UserId, image_id: ImageId) -> Shown: ...
    def get(self, owner: UserId, image_id: ImageId) -> Shown: ...
    def read(self, owner: UserId, image_id: ImageId, part: range | None) -> bytes: ...
    def page(self, owner: UserId, which: Filter, limit: int, cursor: str | None) -> Page: ...
    def sweep(self) -> SweepReport: ...
    def reopen(self, *, gently: bool) -> None: ...
    def stored(self) -> set[str]:
        """The keys of all objects, and whatever else lies among them."""

    def reclaimable(self) -> set[ImageId]:
        """The ids of all reclaim entries, due or not."""

    def usage(self, owner: UserId) -> Usage:
        """What is recorded of an owner."""

    def miscounts(self) -> list[Miscount]:
        """The owners of whom something else is recorded than is stored."""

    def close(self) -> None: ...


# ---- the bus over any stores


@dataclass(frozen=True)
class Stores:
    """An adapter of each side. ``debris`` names what lies in the object store and is no object."""

    metadata: Catalog
    objects: ObjectStore
    debris: Callable[[], set[str]] = set
    miscounts: Callable[[], Iterable[Miscount]] = list
    """Empty by itself where usage is counted anew each time."""

    def stored(self) -> set[str]:
        return {info.key for info in self.objects.list_prefix()} | self.debris()

    def reclaimable(self) -> set[ImageId]:
        return set(self.metadata.due(_FAR))

    def bus(self, clock: Clock, ids: Ids) -> Bus:
        return build_bus(
            settings=_SETTINGS,
            metadata=self.metadata,
            records=self.metadata,
            objects=self.objects,
            inspector=BoundedInspector(PillowInspector(), most_bytes=10**9),
            clock=clock,
            ids=ids,
            publisher=SubscribedEvents([]),
        )


OpenStores = Callable[[Clock], AbstractContextManager[Stores]]
"""Opens the same stores each time it is called."""


def memory_stores(
    new_metadata: Callable[[], Catalog] = MemoryMetadata, new_objects: Callable[[Clock], ObjectStore] = MemoryObjects
) -> OpenStores:
    kept: list[Stores] = []

    @contextmanager
    def open_stores(clock: Clock) -> Iterator[Stores]:
        if not kept:
            kept.append(Stores(new_metadata(), new_objects(clock)))
        yield kept[0]

    return open_stores


class _Unsynced(Disk):
    def sync(self, descriptor: int) -> None:
        """Don't wait for the disk."""


def embedded_stores(folder: Path, *, synced: bool = True) -> OpenStores:
    """Without ``synced`` a power cut would lose things: for harnesses that cut none, and have no time."""

    @contextmanager
    def open_stores(clock: Clock) -> Iterator[Stores]:
        folder.mkdir(exist_ok=True)
        objects = FilesystemObjects(
            folder / "objects",
            clock=clock,
            public_url="http://test",
            secret=load_secret(folder / "secret"),
            disk=Disk() if synced else _Unsynced(),
        )
        catalog = folder / "catalog.sqlite3"
        with SqliteMetadata(catalog) as metadata, SqliteRecordAudit(catalog) as audit:
            if not synced:
                metadata._writer.fetch("PRAGMA synchronous = OFF")

            def debris() -> set[str]:
                return {str(path) for path in folder.glob("objects/*/*/partial/*")}

            yield Stores(metadata, objects, debris, audit.miscounts)

    return open_stores


@dataclass
class _ScatteredIds:
    """Ids that are the same in every run and come in no order."""

    given: int = 0

    def new(self) -> UUID:
        self.given += 1
        return uuid.uuid5(uuid.NAMESPACE_OID, str(self.given))


@dataclass
class BusSystem:
    """The bus over some stores, with a clock that stands still until it is moved."""

    open_stores: OpenStores
    owners: Sequence[UserId] = tuple(map(UserId, NAMES))
    moves_time: bool = True
    reopens_in_ten: int = 10
    _clock: FixedClock = field(default_factory=FixedClock)
    _ids: _ScatteredIds = field(default_factory=_ScatteredIds)

    def __post_init__(self) -> None:
        self._opened = ExitStack()
        self._open()

    def _open(self) -> None:
        self._stores = self._opened.enter_context(self.open_stores(self._clock))
        self._bus = self._stores.bus(self._clock, self._ids)

    def now(self) -> datetime:
        return self._clock.now()

    def advance(self, step: timedelta) -> None:
        self._clock.advance(step)

    def upload(self, owner: UserId, form: Form) -> Uploaded:
        uploaded = self._bus.execute(
            UploadImage(
                owner=owner,
                filename=Filename(form.filename),
                content=Content.of(form.picture.data),
                title=None if form.title is None else Title(form.title),
                description=Description(form.description),
                tags=parse_tags(form.tags),
                idempotency_key=None if form.key is None else IdempotencyKey(form.key),
            )
        )
        return Uploaded(_shown(uploaded.image), uploaded.replayed)

    def revise(self, owner: UserId, image_id: ImageId, change: Change, expected_version: int | None) -> Shown:
        return _shown(
            self._bus.execute(
                ReviseMetadata(
                    owner=owner, image_id=image_id, change=_metadata_change(change), expected_version=expected_version
                )
            )
        )

    def delete(
        self, owner: UserId, image_id: ImageId, *, permanent: bool = False, expected_version: int | None = None
    ) -> Deleted:
        trashed: TrashedImage = self._bus.execute(
            DeleteImage(owner=owner, image_id=image_id, permanent=permanent, expected_version=expected_version)
        )
        return Deleted(trashed.image.image_id, trashed.deleted_at, trashed.due)

    def restore(self, owner: UserId, image_id: ImageId) -> Shown:
        return _shown(self._bus.execute(RestoreImage(owner=owner, image_id=image_id)))

    def get(self, owner: UserId, image_id: ImageId) -> Shown:
        return _shown(self._bus.ask(GetImage(owner=owner, image_id=image_id)))

    def read(self, owner: UserId, image_id: ImageId, part: range | None) -> bytes:
        content = self._bus.ask(ReadContent(owner=owner, image_id=image_id))
        with closing(content.open(None if part is None else ByteRange(part.start, part.stop))) as body:
            return body.read()

    def page(self, owner: UserId, which: Filter, limit: int, cursor: str | None) -> Page:
        page = self._bus.ask(ListImages(owner=owner, which=which, limit=limit, cursor=cursor))
        return Page(tuple(map(_shown, page.images)), page.next_cursor is not None, page.next_cursor)

    def sweep(self) -> SweepReport:
        return self._bus.execute(Sweep())

    def reopen(self, *, gently: bool) -> None:
        del gently
        self._opened.close()
        self._open()

    def stored(self) -> set[str]:
        return self._stores.stored()

    def reclaimable(self) -> set[ImageId]:
        return self._stores.reclaimable()

    def usage(self, owner: UserId) -> Usage:
        return self._stores.metadata.usage(owner)

    def miscounts(self) -> list[Miscount]:
        return list(self._stores.miscounts())

    def close(self) -> None:
        self._opened.close()


def _shown(image: Image) -> Shown:
    return Shown(
        image_id=image.image_id,
        owner=image.owner,
        key=image.key,
        filename=image.filename,
        title=image.title,
        description=image.description,
        tags=image.tags,
        media_type=image.media_type,
        size_bytes=image.size_bytes,
        width=image.width,
        height=image.height,
        sha256=image.sha256,
        created_at=image.created_at,
        updated_at=image.updated_at,
        version=image.version,
    )


def _metadata_change(change: Change) -> MetadataChange:
    title, description, tags = (change.fields.get(name) for name in ("title", "description", "tags"))
    named = {"title", "description", "tags"} if change.way == "put" else set(change.fields)
    return MetadataChange(
        title=Title(title) if isinstance(title, str) else None,
        description=Description(description) if isinstance(description, str) else None,
        tags=parse_tags(tags) if isinstance(tags, list) else None,
        reset=frozenset(name for name in named if change.fields.get(name) is None),  # type: ignore[misc]
    )


# ---- HTTP


_REFUSALS: dict[tuple[int, str], type[CalotypeError]] = {
    (404, "not_found"): NotFound,
    (409, "conflict"): Conflict,
    (409, "image_in_trash"): InTrash,
    (412, "precondition_failed"): PreconditionFailed,
    (422, "idempotency_key_reused"): KeyReused,
}


class HttpSystem:
    """A server that many examples share, each with owners of its own.

    Sweeps are this process's, over the same data folder, so that what is collected when is known: start the server
    with `SERVER_SETTINGS`, which tell its own sweeper to stay away.
    """

    moves_time = False
    reopens_in_ten = 1

    def __init__(self, service: Service) -> None:
        self.owners: Sequence[UserId] = tuple(UserId(f"{name}.{uuid.uuid4().hex[:8]}") for name in NAMES)
        self._service = service
        # A connection for each request, so that every worker gets some.
        self._client = httpx.Client(
            base_url=service.base_url, timeout=PATIENCE_S, limits=httpx.Limits(max_keepalive_connections=0)
        )
        self._opened = ExitStack()
        clock = SystemClock()
        self._stores = self._opened.enter_context(embedded_stores(service.data_dir)(clock))
        self._sweeper = self._stores.bus(clock, RandomIds())
        # What an example that failed has left is not this one's.
        self.sweep()
        self._foreign = self._stores.stored(), self._stores.reclaimable()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def advance(self, step: timedelta) -> None:
        raise NotImplementedError(step)

    def upload(self, owner: UserId, form: Form) -> Uploaded:
        words = {"title": form.title, "description": form.description or None, "tags": list(form.tags) or None}
        response = self._ask(
            "POST",
            "",
            owner,
            files={"file": (form.filename, form.picture.data, "application/octet-stream")},
            data={name: value for name, value in words.items() if value is not None},
            headers={} if form.key is None else {"Idempotency-Key": form.key},
        )
        assert response.status_code == 201
        image = _of_document(response.json())
        assert response.headers["Location"] == f"/api/v1/images/{image.image_id}"
        assert response.headers["ETag"] == f'"{image.version}"'
        return Uploaded(image, response.headers.get("Idempotent-Replayed") == "true")

    def revise(self, owner: UserId, image_id: ImageId, change: Change, expected_version: int | None) -> Shown:
        response = self._ask(
            change.way.upper(), f"/{image_id}", owner, json=change.fields, headers=_if_match(expected_version)
        )
        image = _of_document(response.json())
        assert response.headers["ETag"] == f'"{image.version}"'
        return image

    def delete(
        self, owner: UserId, image_id: ImageId, *, permanent: bool = False, expected_version: int | None = None
    ) -> Deleted:
        document = self._ask(
            "DELETE",
            f"/{image_id}",
            owner,
            params={"permanent": "true"} if permanent else {},
            headers=_if_match(expected_version),
        ).json()
        return Deleted(
            UUID(document["image_id"]), _moment(document["deleted_at"]), _moment(document["restorable_until"])
        )

    def restore(self, owner: UserId, image_id: ImageId) -> Shown:
        return _of_document(self._ask("POST", f"/{image_id}/restore", owner).json())

    def get(self, owner: UserId, image_id: ImageId) -> Shown:
        return _of_document(self._ask("GET", f"/{image_id}/metadata", owner).json())

    def read(self, owner: UserId, image_id: ImageId, part: range | None) -> bytes:
        headers = {} if part is None else {"Range": f"bytes={part.start}-{part.stop - 1}"}
        response = self._ask("GET", f"/{image_id}", owner, headers=headers)
        assert response.status_code == (200 if part is None else 206)
        presigned_url = self._ask("GET", f"/{image_id}/metadata", owner).json()["presigned_url"]
        assert self._client.get(presigned_url, headers=headers).content == response.content
        return response.content

    def page(self, owner: UserId, which: Filter, limit: int, cursor: str | None) -> Page:
        params: dict[str, Any] = {"limit": limit}
        match which:
            case ByOwner():
                pass
            case ByTags(tags, match):
                params |= {"filter_by": "tags", "tags": list(tags), "match": match}
            case ByTitle(title):
                params |= {"filter_by": "title", "title": title}
        if cursor is not None:
            params["cursor"] = cursor
        document = self._ask("GET", "", owner, params=params).json()
        following = document["next_cursor"]
        return Page(tuple(map(_of_document, document["items"])), following is not None, following)

    def sweep(self) -> SweepReport:
        return self._sweeper.execute(Sweep())

    def reopen(self, *, gently: bool) -> None:
        if gently:
            assert self._service.stop() == 0
        else:
            self._service.kill()
        self._service.start()

    def stored(self) -> set[str]:
        return self._stores.stored() - self._foreign[0]

    def reclaimable(self) -> set[ImageId]:
        return self._stores.reclaimable() - self._foreign[1]

    def usage(self, owner: UserId) -> Usage:
        return self._stores.metadata.usage(owner)

    def miscounts(self) -> list[Miscount]:
        return list(self._stores.miscounts())

    def close(self) -> None:
        self._opened.close()
        self._client.close()

    def _ask(self, method: str, path: str, owner: UserId, **rest: Any) -> httpx.Response:
        headers = {"X-User-ID": owner, **rest.pop("headers", {})}
        response = self._client.request(method, f"/api/v1/images{path}", headers=headers, **rest)
        if response.status_code < 400:
            return response
        problem = response.json()
        status, code, detail = response.status_code, problem["code"], problem["detail"]
        if status == 400:
            raise Invalid("", detail, code=code)
        if (status, code) == (413, "file_too_large"):
            raise TooLarge(MAX_UPLOAD_BYTES)
        if (status, code) == (403, "quota_exceeded"):
            assert str(QUOTA.images) in detail or str(QUOTA.size_bytes) in detail
            raise QuotaExceeded("images", 0, 0)
        assert (status, code) in _REFUSALS, f"{method} {path} was answered {status} {code}: {detail}"
        raise _REFUSALS[status, code](detail)


SERVER_SETTINGS = {
    "CALOTYPE_MAX_UPLOAD_BYTES": str(MAX_UPLOAD_BYTES),
    "CALOTYPE_TRASH_RETENTION_S": str(_SETTINGS.trash_retention_s),
    "CALOTYPE_SWEEP_INTERVAL_S": "86400",
    "CALOTYPE_QUOTA_IMAGES": str(QUOTA.images),
    "CALOTYPE_QUOTA_BYTES": str(QUOTA.size_bytes),
}


def _of_document(document: dict[str, Any]) -> Shown:
    return Shown(
        image_id=UUID(document["image_id"]),
        owner=document["user_id"],
        key=document["s3_key"],
        filename=document["filename"],
        title=document["title"],
        description=document["description"],
        tags=tuple(document["tags"]),
        media_type=document["content_type"],
        size_bytes=document["size_bytes"],
        width=document["width"],
        height=document["height"],
        sha256=document["sha256"],
        created_at=_moment(document["created_at"]),
        updated_at=_moment(document["updated_at"]),
        version=document["version"],
    )


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _if_match(version: int | None) -> dict[str, str]:
    return {} if version is None else {"If-Match": f'"{version}"'}
