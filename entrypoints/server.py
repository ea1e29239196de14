"""The server: granian, with one or more worker processes."""

import contextlib
import fcntl
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from granian import Granian
from granian.constants import Interfaces, Loops
from granian.log import LogLevels

from domain.errors import CalotypeError
from entrypoints.settings import Settings

# Requests in flight may end; what is left after this many seconds is cut off, so that the process is gone within 10.
_GRACE_S = 8
_METRICS_PREFIX = "calotype-metrics-"
_METRICS_LOCKED_AFTER_S = 60


class CannotServe(Exception):
    """The server can't start; the message says why."""


@contextlib.contextmanager
def ready(settings: Settings) -> Iterator[Callable[[], None]]:
    """Check that a server can run, and give the call that runs it until SIGTERM or SIGINT.

    The workers get their settings through the environment.

    Raises:
        CannotServe: the address is taken, or a store can't be opened.
    """
    address = _free_address(settings)
    os.environ.update(settings.environment())
    with _shared_metrics(settings.workers):
        _check_stores(settings)
        yield Granian(
            "entrypoints.worker:create",
            factory=True,
            interface=Interfaces.ASGI,
            address=address,
            port=settings.port,
            workers=settings.workers,
            loop=Loops.auto,
            websockets=False,
            workers_kill_timeout=_GRACE_S,
            respawn_failed_workers=True,
            log_level=LogLevels.warning,
        ).serve


def _free_address(settings: Settings) -> str:
    """Return the address to listen on in digits, as granian wants it.

    One that is taken is refused: granian shares ports between processes, and would split requests with the other.
    """
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # A name may have several. The old kind first: everybody who says localhost tries that too.
        family, kind, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, UnicodeError) as error:  # a text that can't be a name is a UnicodeError
        reason = error.strerror if isinstance(error, OSError) else "no such name"
        raise CannotServe(f"can't listen on {settings.host}:{settings.port}: {reason}") from error
    return str(address[0])


def _check_stores(settings: Settings) -> None:
    """Open the stores once, here: what is wrong with them is said once and plainly, and the workers find them ready."""
    # Not before: prometheus-client decides on import whether several processes count together.
    from entrypoints.embedded import open_bus  # noqa: PLC0415

    try:
        with open_bus(settings):
            pass
    except CalotypeError as error:
        raise CannotServe(str(error)) from error


@contextlib.contextmanager
def _shared_metrics(workers: int) -> Iterator[None]:
    """Give several workers a folder in which each finds the others' counts."""
    if workers == 1 or "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        yield
        return
    remove_abandoned_metrics(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=_METRICS_PREFIX) as folder, _locked(Path(folder)):
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        yield


def remove_abandoned_metrics(parent: Path) -> None:
    """Remove the folders of counts that servers left which were killed."""
    for folder in parent.glob(f"{_METRICS_PREFIX}*"):
        # What was made a moment ago may not be locked yet. What others own can't be opened, or not removed.
        with contextlib.suppress(OSError):
            if time.time() - folder.lstat().st_mtime > _METRICS_LOCKED_AFTER_S:
                with _locked(folder):
                    shutil.rmtree(folder)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder, or raise BlockingIOError. The kernel lets go of it when this process and its workers are gone."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
