"""Five key paths through the application itself, without a server or a socket: what `bench.regress` counts.

Run under a tool that counts. Before and after each path it waits for its orders: a file named after the step.
"""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from bench.library import ONE_IN_10, READER, jpeg_template
from bench.seed import image_id

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]

REQUESTS = {"list": 20, "tag": 20, "metadata": 60, "download": 40, "upload": 10}
_WARM_UP = 3


async def request(app: App, path: str, *, query: str = "", form: bytes | None = None) -> tuple[int, bytes]:
    """Put one request to the application, and return its status and body."""
    headers = [(b"host", b"127.0.0.1"), (b"x-user-id", READER.encode())]
    if form is not None:
        headers += [(b"content-type", b"multipart/form-data; boundary=b"), (b"content-length", b"%d" % len(form))]
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET" if form is None else "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
        "extensions": {"http.response.pathsend": {}},
    }
    body = form or b""
    pieces = [body[at : at + 65536] for at in range(0, len(body), 65536)] or [b""]
    statuses: list[int] = []
    answered: list[bytes] = []
    over = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if not pieces:
            await over.wait()
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
        answered.append(message.get("body", b""))

    await app(scope, receive, send)
    over.set()
    return statuses[0], b"".join(answered)


def _form(number: int) -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="tags"\r\n\r\ntrip,bridge\r\n'
    head += b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    return head + jpeg_template(200_000).filled(f"{number:032d}") + b"\r\n--b--\r\n"


async def _exercise(app: App, orders: Path) -> None:
    images = "/api/v1/images"
    forms = iter([_form(number) for number in range(_WARM_UP + REQUESTS["upload"])])
    one = f"{images}/{image_id(7)}"
    paths: dict[str, tuple[int, Callable[[], Awaitable[tuple[int, bytes]]]]] = {
        "list": (200, lambda: request(app, images, query="limit=50")),
        "tag": (200, lambda: request(app, images, query=f"limit=50&filter_by=tags&tags={ONE_IN_10}")),
        "metadata": (200, lambda: request(app, f"{one}/metadata")),
        "download": (200, lambda: request(app, one)),
        "upload": (201, lambda: request(app, images, form=next(forms))),
    }
    for name, (status, ask) in paths.items():
        for step, times in (("warm", _WARM_UP), (name, REQUESTS[name])):
            if step == name:
                _wait(orders / f"{name}.begin")
            for _ in range(times):
                if (answer := await ask())[0] != status:
                    sys.exit(f"{name}: {answer}")
        _wait(orders / f"{name}.end")


def _wait(order: Path) -> None:
    Path(f"{order}.ready").touch()
    while not order.exists():
        time.sleep(0.05)


def main() -> None:
    """Go through all paths."""
    from entrypoints.asgi import create  # noqa: PLC0415 (after the environment was looked at)

    # Without its life span: neither sweeper nor listener, which would take part in the counts.
    asyncio.run(_exercise(create(), Path(os.environ["EXERCISE_ORDERS"])))


if __name__ == "__main__":
    main()
