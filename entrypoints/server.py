"""The server: granian, with one or more worker processes."""

import contextlib
import fcntl
import ipaddress
import os
import resource
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels

from domain.errors import CalotypeError
from entrypoints.budgets import SHARED_BUDGETS
from entrypoints.settings import Settings, SettingsError

# Requests in flight may end; what is left after this many seconds is cut off, so that the process is gone within 10.
_GRACE_S = 8
# The longest head of a request; the longest that makes sense is a listing by 30 tags of 64 characters, 23 KiB escaped.
# The server hands bodies over in pieces of up to that size, too: with 128 KiB an upload of 200 KB, in two pieces, costs
# 5% more. An unfinished head of 60 or 120 KiB keeps 136 KiB of memory, one of 250 KiB 267.
_HEAD_MAX_BYTES = 256 * 1024
_BACKLOG = 1024
_FILES_A_CONNECTION = 3  # its socket, and what it uploads or downloads
_FILES_BESIDE = 256
_SHARED_PREFIX = "calotype-workers-"
_SHARED_LOCKED_AFTER_S = 60


class CannotServe(Exception):
    """The server can't start; the message says why."""


@contextlib.contextmanager
def ready(settings: Settings) -> Iterator[Callable[[], None]]:
    """Check that a server can run, and give the call that runs it until SIGTERM or SIGINT.

    The workers get their settings through the environment.

    Raises:
        CannotServe: the address is taken, a store can't be opened, or anybody could say that they are anybody.
    """
    address = _free_address(settings)
    _check_identity(settings, address)
    os.environ.update(settings.environment())
    with _shared_by_workers(settings.workers), _scheduled(settings.scheduling):
        _check_limiting(settings)
        _check_stores(settings)
        yield Granian(
            "entrypoints.worker:create",
            factory=True,
            interface=Interfaces.ASGI,
            address=address,
            port=settings.port,
            workers=settings.workers,
            loop=Loops.auto,
            # HTTP/2 without TLS is for proxies that are told so, and guessing the version has no time-out: a connection
            # that says nothing would be kept for ever.
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(
                header_read_timeout=settings.keep_alive_s * 1000, max_buffer_size=_HEAD_MAX_BYTES
            ),
            backlog=_BACKLOG,
            backpressure=_connections(settings.max_connections),
            runtime_blocking_threads=settings.threads,  # they read the files that the server sends itself
            websockets=False,
            workers_kill_timeout=_GRACE_S,
            respawn_failed_workers=True,
            log_level=LogLevels.warning,
        ).serve


def _connections(wanted: int) -> int:
    """Return how many connections each worker takes: as many as wanted, if the system lets it open files for them.

    The others wait in the system's queue until one is over. Without files left, nobody's request could be served.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _FILES_A_CONNECTION * wanted + _FILES_BESIDE
    if resource.RLIM_INFINITY != soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, (soft - _FILES_BESIDE) // _FILES_A_CONNECTION))


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


def _check_identity(settings: Settings, address: str) -> None:
    """Check that what says who is asking can be had, and that not just anybody can say it."""
    if (
        settings.auth == "header"
        and not (settings.gateway_secret or settings.trusted_network)
        and not ipaddress.ip_address(address.partition("%")[0]).is_loopback
    ):
        raise CannotServe(
            f"CALOTYPE_HOST is {settings.host}: whoever reaches that address could name any user in X-User-ID. Set "
            "CALOTYPE_GATEWAY_SECRET, or another CALOTYPE_AUTH than header; or, if only your gateway reaches it, "
            "CALOTYPE_TRUSTED_NETWORK=true (calotype serve --trusted-network)"
        )
    from entrypoints.identity import check_identity  # noqa: PLC0415 (a web framework's weight)

    try:
        check_identity(settings)
    except SettingsError as error:
        raise CannotServe(str(error)) from error


def _check_limiting(settings: Settings) -> None:
    """Check that the budgets can be kept, and make what the workers share of them."""
    from entrypoints.rate_limits import prepare_limiting  # noqa: PLC0415 (as above)

    try:
        prepare_limiting(settings)
    except SettingsError as error:
        raise CannotServe(str(error)) from error


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
def _scheduled(how: Literal["batch", "unchanged"]) -> Iterator[None]:
    """Have the threads that are started here, and those of the workers, preempt nobody when they are woken.

    Who wakes another thread, to give it the interpreter's lock or something to do, holds what that one needs first: if
    it ran at once it would only wait, and each such meeting cost four switches of threads instead of one. With
    SCHED_BATCH (sched(7)) it runs when the other stops, or at the next tick. Turns are as long and as many as before.

    A policy that somebody has set stays. Where there are no policies, or a sandbox refuses them, the server is slower,
    and the same in all else.
    """
    is_set = False
    if how == "batch" and sys.platform == "linux":
        with contextlib.suppress(OSError):
            if os.sched_getscheduler(0) == os.SCHED_OTHER:
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
                is_set = True
    try:
        yield
    finally:
        if is_set:
            with contextlib.suppress(OSError):
                os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@contextlib.contextmanager
def _shared_by_workers(workers: int) -> Iterator[None]:
    """Give several workers a folder in which each finds the others' counts, and the budgets that all share."""
    os.environ.pop(SHARED_BUDGETS, None)
    if workers == 1:
        yield
        return
    remove_abandoned_folders(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=_SHARED_PREFIX) as folder, _locked(Path(folder)):
        os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", folder)
        os.environ[SHARED_BUDGETS] = f"{folder}/budgets"
        yield


def remove_abandoned_folders(parent: Path) -> None:
    """Remove the folders that servers left which were killed."""
    for folder in parent.glob(f"{_SHARED_PREFIX}*"):
        # What was made a moment ago may not be locked yet. What others own can't be opened, or not removed.
        with contextlib.suppress(OSError):
            if time.time() - folder.lstat().st_mtime > _SHARED_LOCKED_AFTER_S:
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
