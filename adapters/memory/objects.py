"""Objects in a dictionary."""

import hashlib
import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import BinaryIO, NamedTuple, Self
from urllib.parse import quote

from application.ports import ByteRange, Clock, Disposition, ObjectInfo, SignedUrl, StoredObject
from domain.errors import Conflict, Damaged, NotFound, Unavailable
from domain.image import Image


class _Stored(NamedTuple):
    info: ObjectInfo
    data: bytes


@dataclass(slots=True)
class MemoryBody:
    """ObjectBody over bytes."""

    info: ObjectInfo
    _stream: io.BytesIO
    path: str | None = None

    def read(self, size: int = -1, /) -> bytes:
        """See ObjectBody.read."""
        return self._stream.read(size)

    def read_at_hand(self, size: int, /) -> bytes:
        """See ObjectBody.read_at_hand."""
        return self.read(size)

    def close(self) -> None:
        """See ObjectBody.close."""
        self._stream.close()

    def __enter__(self) -> Self:
        """Return itself; the block's end closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


@dataclass(slots=True)
class MemoryObjects:
    """ObjectStore in memory. Its signed URLs lead nowhere."""

    clock: Clock
    objects: dict[str, _Stored] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, target: StoredObject, content: BinaryIO, *, deadline: datetime) -> None:
        """See ObjectStore.put."""
        data = content.read()
        if len(data) != target.size_bytes or hashlib.sha256(data).hexdigest() != target.sha256:
            raise Unavailable("the bytes are not those that were promised")
        info = ObjectInfo(
            key=target.key, size_bytes=len(data), modified_at=self.clock.now(), media_type=target.media_type
        )
        with self._lock:
            if self.clock.now() >= deadline:
                raise Unavailable("the upload took too long")
            if self.objects.setdefault(target.key, _Stored(info, data)).data != data:
                raise Conflict("another object is stored under this key")

    def open(self, key: str, byte_range: ByteRange | None = None, *, sha256: str | None = None) -> MemoryBody:
        """See ObjectStore.open."""
        info, data = self._stored(key)
        if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
            raise Damaged(f"the bytes of {key} are not those that were stored")
        start, stop = byte_range or (0, len(data))
        return MemoryBody(info, io.BytesIO(data[start:stop]))

    def open_at_hand(self, key: str, byte_range: ByteRange | None = None, *, sha256: str) -> MemoryBody:
        """See ObjectStore.open_at_hand. All is."""
        return self.open(key, byte_range, sha256=sha256)

    def head(self, key: str) -> ObjectInfo:
        """See ObjectStore.head."""
        return self._stored(key).info

    def signed_url(self, image: Image, *, disposition: Disposition, ttl_s: int) -> SignedUrl:
        """See ObjectStore.signed_url."""
        expires_at = self.clock.now() + timedelta(seconds=ttl_s)
        url = f"memory:{quote(image.key)}?disposition={disposition}&expires={expires_at.timestamp():.0f}"
        return SignedUrl(url, expires_at)

    def delete_prefix(self, prefix: str, *, deadline: datetime) -> None:
        """See ObjectStore.delete_prefix."""
        with self._lock:
            if self.clock.now() >= deadline:
                raise Unavailable("the deletion took too long")
            for key in [key for key in self.objects if key.startswith(prefix)]:
                del self.objects[key]

    def list_prefix(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See ObjectStore.list_prefix."""
        with self._lock:
            found = [stored.info for key, stored in self.objects.items() if key.startswith(prefix)]
        return iter(found)

    def ping(self) -> None:
        """See ObjectStore.ping."""

    def _stored(self, key: str) -> _Stored:
        with self._lock:
            stored = self.objects.get(key)
        if stored is None:
            raise NotFound
        return stored
