"""A Redis for tests: the one that CALOTYPE_TEST_REDIS_URL names, or one of our own, if redis-server is installed."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.waiting import PATIENCE_S, reserve_port

URL_VARIABLE = "CALOTYPE_TEST_REDIS_URL"


class RedisServer:
    """A redis-server on a free port of this machine, which keeps nothing. Start it, stop it, start it again."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip(f"redis-server is not on the PATH, and {URL_VARIABLE} is not set")
        self._port = reserve_port(self)
        self._command = [program, "--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(folder)]
        self._command += ["--save", "", "--appendonly", "no"]
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(64).startswith(b"+PONG"):
                    return self
            time.sleep(0.02)
        self.stop()
        raise RuntimeError("redis-server did not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def patient(url: str) -> str:
    """Return the URL of the same Redis, for one who waits for it: half a second is soon over on a loaded machine."""
    waits = "&".join(f"{name}={PATIENCE_S}" for name in ("timeout", "socket_timeout", "socket_connect_timeout"))
    return f"{url}{'&' if '?' in url else '?'}{waits}"


@contextlib.contextmanager
def redis_url(folder: Path) -> Iterator[str]:
    """Give the URL of a Redis. Others may use it too: names must be of the test's own, and nothing else be touched."""
    if given := os.environ.get(URL_VARIABLE):
        yield given
        return
    with RedisServer(folder) as server:
        yield server.url
