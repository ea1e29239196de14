"""Load: one request, or a few that take turns, driven by wrk for some seconds."""

import json
import secrets
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import httpx

from bench.library import TOKEN_CHARS, Template

_SLACK_S = 60
# A whole answer and what wrk counts may differ by headers that vary, such as Date, and by answers cut by the end.
_SIZE_TOLERANCE, _SIZE_TOLERANCE_BYTES = 0.02, 64


class Wrong(Exception):
    """A server answered something else than it should."""


@dataclass(frozen=True)
class Upload:
    """A multipart body: the form's text up to the file's bytes, the file, and the end."""

    before: bytes
    picture: Template
    after: bytes

    def body(self, token: str) -> bytes:
        """Return the body that holds one of the template's files."""
        return self.before + self.picture.filled(token) + self.after


@dataclass(frozen=True)
class Ask:
    """A kind of request to one server: what is sent, and what a right answer is."""

    paths: tuple[str, ...]
    status: int
    check: Callable[[httpx.Response], None]
    """Raises Wrong for a wrong answer to the first path. The status has been looked at."""
    headers: Mapping[str, str] = field(default_factory=dict)
    upload: Upload | None = None


class Load(NamedTuple):
    """What wrk saw."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: int


def one_answer(url: str, ask: Ask) -> int:
    """Ask once, check the whole answer, and return its size in bytes, headers included.

    Raises:
        Wrong: the answer is wrong.
    """
    with httpx.Client(base_url=url, timeout=60) as client:
        content = ask.upload.body(secrets.token_hex(TOKEN_CHARS // 2)) if ask.upload else None
        method = "POST" if ask.upload else "GET"
        # As wrk asks: no header that it doesn't send.
        request = httpx.Request(method, url + ask.paths[0], headers=dict(ask.headers), content=content)
        answer = client.send(request)
    if answer.status_code != ask.status:
        raise Wrong(f"{method} {ask.paths[0]}: {answer.status_code}, not {ask.status}: {answer.text[:500]}")
    try:
        ask.check(answer)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise Wrong(f"{method} {ask.paths[0]}: {answer.text[:500]}") from error
    return len(answer.content) + sum(len(name) + len(value) + 4 for name, value in answer.headers.raw) + 19


def drive(url: str, ask: Ask, size: int, *, connections: int, seconds: int, folder: Path) -> Load:
    """Ask as fast as the server answers, on some connections at once, and say what came back.

    ``size`` is that of the right answer, as one_answer told it.

    wrk counts statuses of 400 and above. That nothing else came in place of the right answer is told by the sizes.

    Raises:
        Wrong: the answers are not those that they should be.
    """
    script = folder / "ask.lua"
    script.write_text(_script(ask, folder), encoding="utf-8")
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script), url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + _SLACK_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"wrk failed: {done.stdout}{done.stderr}")
    told = json.loads(done.stdout.rpartition("RESULT ")[2])
    if told["requests"] == 0:
        raise Wrong(f"{ask.paths[0]}: no answer in {seconds} s")
    if told["status"] == 0 and len(ask.paths) == 1:
        least = told["requests"] * size * (1 - _SIZE_TOLERANCE) - told["requests"] * _SIZE_TOLERANCE_BYTES
        most = (told["requests"] + connections) * (size * (1 + _SIZE_TOLERANCE) + _SIZE_TOLERANCE_BYTES)
        if not least <= told["bytes"] <= most:
            each = told["bytes"] / told["requests"]
            raise Wrong(f"{ask.paths[0]}: {each:.0f} bytes an answer, where the right one has {size}")
    errors = sum(told[kind] for kind in ("connect", "read", "write", "status", "timeout"))
    return Load(told["requests"], told["us"] / 1e6, told["p50"] / 1e3, told["p99"] / 1e3, errors)


def find() -> None:
    """Raise RuntimeError if wrk is not installed."""
    if shutil.which("wrk") is None:
        raise RuntimeError("wrk is not installed: apt-get install wrk")


def _script(ask: Ask, folder: Path) -> str:
    return (_upload_script(ask, ask.upload, folder) if ask.upload else _reading_script(ask)) + _DONE


def _reading_script(ask: Ask) -> str:
    requests = ",\n".join(f"wrk.format('GET', {_lua(path)})" for path in ask.paths)
    return f"""
{_headers(ask.headers)}
local requests, turn = nil, 0
init = function(args)
  requests = {{ {requests} }}
end
request = function()
  turn = turn % #requests + 1
  return requests[turn]
end
"""


def _upload_script(ask: Ask, upload: Upload, folder: Path) -> str:
    (folder / "before").write_bytes(upload.before + upload.picture.head)
    (folder / "after").write_bytes(upload.picture.tail + upload.after)
    length = len(upload.body("0" * TOKEN_CHARS))
    # Every request has a token that none had before: 20 characters of this run's, 12 that count.
    return f"""
{_headers(ask.headers)}
local function content(name)
  local file = assert(io.open(name, 'rb'))
  local data = file:read('*a')
  file:close()
  return data
end
local before, after, count = nil, content({_lua(folder / "after")}), 0
init = function(args)
  local head = wrk.format('POST', {_lua(ask.paths[0])})
  before = head:sub(1, -3) .. 'Content-Length: {length}\\r\\n\\r\\n' .. content({_lua(folder / "before")})
end
request = function()
  count = count + 1
  return before .. string.format('{secrets.token_hex((TOKEN_CHARS - 12) // 2)}%012d', count) .. after
end
"""


_DONE = """
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"us":%d,"bytes":%d,"p50":%d,"p99":%d,' ..
    '"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
"""


def _headers(headers: Mapping[str, str]) -> str:
    return "\n".join(f"wrk.headers[{_lua(name)}] = {_lua(value)}" for name, value in headers.items())


def _lua(value: object) -> str:
    # A JSON string of printable ASCII is one of Lua's, too.
    return json.dumps(str(value))
