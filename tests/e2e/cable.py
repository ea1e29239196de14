"""A cable between a service and a store: it can be cut in the middle of an answer, and tells what went through."""

import socket
import threading
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

_BLOCK_BYTES = 64 * 1024


class Cable:
    """Listens on loopback, and passes bytes on to a server and back."""

    def __init__(self, url: str) -> None:
        target = urlsplit(url)
        self._target = (target.hostname, target.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._left: int | None = None
        self._lock = threading.Lock()
        self.answered_bytes = 0
        """What has come back from the server."""
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut_after(self, answered_bytes: int | None) -> None:
        """Cut every connection once so many more bytes have come back; None mends the cable."""
        with self._lock:
            self._left = answered_bytes

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(self._target)
                except OSError:
                    near.close()
                    continue
                # Small buffers: what nobody reads must not be in them as a whole.
                for each in (near, far):
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BLOCK_BYTES)
                threading.Thread(target=self._pass, args=(near, far), daemon=True).start()
                threading.Thread(target=self._pass, args=(far, near), kwargs={"back": True}, daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, *, back: bool = False) -> None:
        with suppress(OSError):
            while data := source.recv(_BLOCK_BYTES):
                sink.sendall(self._let_through(data) if back else data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _let_through(self, data: bytes) -> bytes:
        with self._lock:
            if self._left is not None:
                if self._left <= 0:
                    raise OSError("cut")
                data = data[: self._left]
                self._left -= len(data)
            self.answered_bytes += len(data)
        return data
