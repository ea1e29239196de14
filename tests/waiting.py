"""What keeps tests from failing by bad luck: patience with a machine that is slow or loaded, and ports of one's own."""

import asyncio
import socket
import sys
import time
import weakref
from collections.abc import Awaitable, Callable

PATIENCE_S = 60
"""How long to wait for what takes moments where nothing else runs. What never comes is still found out."""


def wait_until(holds: Callable[[], bool], *, every_s: float = 0.02) -> None:
    """Wait until it is so; fail if that takes longer than any machine would."""
    assert eventually(holds, every_s=every_s), "it never came to that"


def eventually(holds: Callable[[], bool], *, every_s: float = 0.02) -> bool:
    """Wait until it is so, and tell whether it ever was: for tests that can say more when it was not."""
    deadline = time.monotonic() + PATIENCE_S
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(every_s)
    return held


async def until(holds: Callable[[], Awaitable[bool]], *, every_s: float = 0.02) -> None:
    """Wait as `wait_until` does, while other tasks go on."""
    deadline = time.monotonic() + PATIENCE_S
    while not await holds():
        assert time.monotonic() < deadline, "it never came to that"
        await asyncio.sleep(every_s)


def reserve_port(server: object) -> int:
    """Return a free port of the loopback interface that is the server's as long as it lives.

    Whoever asks the system for any port gets another one: else two servers that start at once, or one that starts
    again, may find theirs taken. What holds it never listens, so a server that sets SO_REUSEADDR, as they all do, can.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    port: int = holder.getsockname()[1]
    if sys.platform == "linux":
        weakref.finalize(server, holder.close)
    else:  # where two could not have it
        holder.close()
    return port
