"""What the routes are given: ready objects, made once by whoever builds the application."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from adapters.http.async_bus import AsyncBus
from adapters.http.authentication import Authenticator
from adapters.http.documents import Documents
from application.ports import SignedObjects
from domain.limits import Limits


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
    public_path: str = ""
    """What the gateway in front puts before every path; links to the API begin with it."""
    signed_objects: SignedObjects | None = None
    spool_dir: Path | None = None
    probes: Mapping[str, Callable[[], None]] = field(default_factory=dict)
    metrics: Callable[[], MetricsPage] = lambda: MetricsPage(b"", "text/plain")
