"""What the routes are given: ready objects, made once by whoever builds the application."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from adapters.http.async_bus import AsyncBus
from adapters.http.authentication import Authenticator
from adapters.http.documents import Documents
from application.ports import ByteRange, Disposition, ObjectBody, ObjectInfo
from domain.limits import Limits


class SignedObjects(Protocol):
    """The server side of signed URLs, for stores whose URLs point at this service."""

    def permitted(self, method: str, key: str, parameters: Mapping[str, str]) -> Disposition | None:
        """Return how the object is to be shown, if the parameters were signed for just this and still hold."""

    def head(self, key: str) -> ObjectInfo:
        """See ObjectStore.head."""

    def open(self, key: str, byte_range: ByteRange | None = None) -> ObjectBody:
        """See ObjectStore.open."""


class MetricsPage(NamedTuple):
    """A scrape's body and its content type."""

    body: bytes
    content_type: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """The application's collaborators and settings."""

    bus: AsyncBus
    documents: Documents
    authenticator: Authenticator
    limits: Limits
    presign_ttl_s: int
    trash_retention_s: int
    signed_objects: SignedObjects | None = None
    spool_dir: Path | None = None
    probes: Mapping[str, Callable[[], None]] = field(default_factory=dict)
    metrics: Callable[[], MetricsPage] = lambda: MetricsPage(b"", "text/plain")
