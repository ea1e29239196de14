"""The listening socket of a worker process: how long the system waits for clients that take nothing.

The server itself would wait for ever while it sends, and offers neither a time-out nor its socket.
"""

import asyncio
import contextlib
import os
import socket
from pathlib import Path

import structlog

_log = structlog.get_logger("calotype.server")
_LOOK_EVERY_S, _LOOKS = 0.02, 1500  # for 30 seconds


async def give_up_on_stalled_clients(port: int, timeout_s: int) -> None:
    """Let the system end connections whose client acknowledges nothing, or has no room for more, for that long.

    Linux alone can, by TCP_USER_TIMEOUT (tcp(7)): connections take it over from the socket that they were accepted on.
    Waits for that one, since the server opens it behind the application's start.
    """
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is None:
        return
    for _ in range(_LOOKS):
        if _set_on_listener(port, option, timeout_s * 1000):
            return
        await asyncio.sleep(_LOOK_EVERY_S)
    _log.warning("no_listener", reason="clients that stop reading an answer are not given up")


def _set_on_listener(port: int, option: int, value: int) -> bool:
    """Set a TCP option on this process's socket that listens on the port; return whether there is one."""
    for each in Path("/proc/self/fd").iterdir():
        # What was open a moment ago may be closed now, and most of it is no socket.
        with contextlib.suppress(OSError):
            if not each.readlink().name.startswith("socket:"):
                continue
            # A handle of our own, to be closed again. Never socket.dup(): it would make the server's accept() block.
            with socket.socket(fileno=os.dup(int(each.name))) as found:
                if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and found.getsockname()[1] == port:
                    found.setsockopt(socket.IPPROTO_TCP, option, value)
                    return True
    return False
