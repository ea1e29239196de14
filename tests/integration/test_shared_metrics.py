"""What several workers count together, in files that they share."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_scrape_of_one_worker_tells_of_those_that_have_ended(tmp_path: Path) -> None:
    """A worker that ends has counted all that it did: here the whole application, as the server starts and stops it."""
    shared = tmp_path / "shared"
    shared.mkdir()
    program = """
import asyncio
from entrypoints.asgi import create

app = create()

async def get(path):
    sent = []
    async def send(message): sent.append(message)
    async def receive(): return {"type": "http.request", "body": b"", "more_body": False}
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"",
             "headers": [], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "http_version": "1.1",
             "scheme": "http", "root_path": "", "asgi": {"version": "3.0"}}
    await app(scope, receive, send)
    return b"".join(message.get("body", b"") for message in sent).decode()

async def main():
    events, started, stopped = asyncio.Queue(), asyncio.Event(), asyncio.Event()
    async def send(message):
        {"lifespan.startup.complete": started, "lifespan.shutdown.complete": stopped}[message["type"]].set()
    task = asyncio.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, events.get, send))
    await events.put({"type": "lifespan.startup"})
    await started.wait()
    print(await get("/metrics"))
    for _ in range(3):
        await get("/health/live")
    await events.put({"type": "lifespan.shutdown"})
    await stopped.wait()

asyncio.run(main())
"""
    settings = {
        "CALOTYPE_DATA_DIR": str(tmp_path / "data"),
        "CALOTYPE_RATE_LIMIT": "off",
        "PROMETHEUS_MULTIPROC_DIR": str(shared),
        "PYTHONPATH": str(ROOT),
    }

    def run_worker() -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | settings,
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
        )
        return [
            line
            for line in done.stdout.splitlines()
            if line.startswith("calotype_http_requests_total") and "live" in line
        ]

    assert run_worker() == []
    assert run_worker() == ['calotype_http_requests_total{method="GET",route="/health/live",status="200"} 3.0']
    assert run_worker() == ['calotype_http_requests_total{method="GET",route="/health/live",status="200"} 6.0']
