"""What the routes are given: ready objects, made once by whoever builds the application."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from adapters.http.async_bus import AsyncBus
from adapters.http.authentication import Authenticator
from adapters.http.documents import Documents
from adapters.http.intake import Intake
from adapters.http.probes import Probes
from adapters.http.replies import Scope
from adapters.http.throttle import Throttle
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
    throttle: Throttle | None = None
    """Keeps the budgets; None if there are no limits."""
    intake: Intake = field(default_factory=lambda: Intake(most_uploads=128, most_bytes=1024**3))
    probes: Probes = field(default_factory=lambda: Probes({}))
    metrics: Callable[[], MetricsPage] = lambda: MetricsPage(b"", "text/plain")

    async def admit_address(self, scope: Scope) -> None:
        """Let in a request that needs no owner; raise Problem (429) if its address has had enough."""
        if self.throttle is not None:
            await self.throttle.admit_address(scope)

    def payer(self, scope: Scope) -> Callable[[int], Awaitable[None]] | None:
        """Return what pays for the bytes of an answer; None if they are free."""
        return None if self.throttle is None else partial(self.throttle.pay, scope)
