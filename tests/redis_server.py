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

URL_VARIABLE = "CALOTYPE_TEST_REDIS_URL"
_START_TIMEOUT_S = 20


class RedisServer:
    """A redis-server on a free port of this machine, which keeps nothing. Start it, stop it, start it again."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip(f"redis-server is not on the PATH, and {URL_VARIABLE} is not set")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self._command = [program, "--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(folder)]
        self._command += ["--save", "", "--appendonly", "no"]
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + _START_TIMEOUT_S
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


@contextlib.contextmanager
def redis_url(folder: Path) -> Iterator[str]:
    """Give the URL of a Redis. Others may use it too: names must be of the test's own, and nothing else be touched."""
    if given := os.environ.get(URL_VARIABLE):
        yield given
        return
    with RedisServer(folder) as server:
        yield server.url
