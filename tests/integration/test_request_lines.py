"""What a request's line says, through the whole of the log."""

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import asyncio, time
from adapters.http.edge import RequestObservation
from adapters.observability.logging import configure_logging
from adapters.observability.requests import RequestLog, bind_request

configure_logging("json", "info")


def ended(request_id):
    said = {"method": "GET", "path": "/", "route": "/", "status": 200}
    return RequestObservation(request_id=request_id, duration_s=0.1, response_bytes=5, error=None, **said)


async def main():
    log = RequestLog()
    bind_request("a")
    log(ended("a"))
    bind_request("b")
    print(time.time())
    time.sleep(0.05)
    print(time.time())
    log(ended("b"))
    log.write()


asyncio.run(main())
"""


def test_a_line_keeps_its_requests_id_and_time_though_it_is_written_with_later_ones() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    first, second = (json.loads(line) for line in done.stderr.splitlines())
    between = [float(line) for line in done.stdout.splitlines()]
    assert [first["request_id"], second["request_id"]] == ["a", "b"]
    times = [datetime.fromisoformat(line["timestamp"]).timestamp() for line in (first, second)]
    assert times[0] <= between[0] < between[1] <= times[1]
