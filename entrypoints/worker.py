"""Where a worker process starts. Light, so that it can be ended at any time while all the rest is being imported."""

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adapters.http.edge import Edge


def create() -> "Edge":
    """Return the application; see entrypoints.asgi.create."""
    # A forked worker has granian's handlers of the main process, which only take notes, until it sets its own. A
    # SIGTERM in between would be lost, and the whole server wait for the worker in vain. Nothing is in flight yet.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    from entrypoints.asgi import create as create_here  # noqa: PLC0415 (a second of imports)

    return create_here()
