"""A server under measurement: its processes, when it answers, what they cost. Linux only: all of it is in /proc."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

_START_TIMEOUT_S = 60
_STOP_TIMEOUT_S = 20
_IDLE_TIMEOUT_S = 60
_IDLE_FOR_S, _IDLE_MOST_CPU_S = 0.2, 0.02
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat, counted behind the name, which may hold anything (proc(5)).
_SESSION, _UTIME, _STIME, _CUTIME, _CSTIME = 3, 11, 12, 13, 14


class Server:
    """A command that serves on a port, and all processes of the session that it leads."""

    def __init__(
        self, command: Sequence[str | Path], *, log: Path, cwd: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """Take the command, in which ``{port}`` stands for a free port."""
        self._command = [str(part) for part in command]
        self._log = log
        self._cwd = cwd
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def session(self) -> int:
        """The session that its processes belong to, which is the first one's id."""
        if self._process is None:
            raise RuntimeError("the server does not run")
        return self._process.pid

    def start(self, path: str, headers: Mapping[str, str] | None = None) -> float:
        """Start it, and return the seconds until it answered a GET of the path with 200."""
        self.port = _free_port()
        begun = time.perf_counter()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [part.replace("{port}", str(self.port)) for part in self._command],
                env={**_inherited(), **{k: v.replace("{port}", str(self.port)) for k, v in self._environment.items()}},
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while time.perf_counter() - begun < _START_TIMEOUT_S and self._process.poll() is None:
            with suppress(httpx.TransportError, ConnectionError, TimeoutError):
                with socket.create_connection(("127.0.0.1", self.port), timeout=_START_TIMEOUT_S):
                    pass  # httpx takes a millisecond of CPU to find that nobody listens yet
                if httpx.get(self.url + path, headers=headers, timeout=_START_TIMEOUT_S).status_code == httpx.codes.OK:
                    return time.perf_counter() - begun
            time.sleep(0.005)
        log_end = self._log.read_text(errors="replace")[-3000:]
        self.stop()
        raise RuntimeError(f"{self._command[0]} did not answer 200 to GET {path}:\n{log_end}")

    def stop(self) -> None:
        """End it (SIGTERM), then whatever of its session is left (SIGKILL)."""
        if self._process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(_STOP_TIMEOUT_S)
        for pid, _ in self._members():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def cpu_s(self) -> float:
        """Return the processor time that its processes have had, those that have ended included."""
        return (
            sum(sum(int(stat[field]) for field in (_UTIME, _STIME, _CUTIME, _CSTIME)) for _, stat in self._members())
            / _TICKS_A_SECOND
        )

    def wait_until_idle(self) -> None:
        """Wait until it uses next to no processor, as when it has nothing left to do.

        Raises:
            RuntimeError: it finds no end.
        """
        until = time.monotonic() + _IDLE_TIMEOUT_S
        before_s = self.cpu_s()
        while time.monotonic() < until:
            time.sleep(_IDLE_FOR_S)
            now_s = self.cpu_s()
            if now_s - before_s <= _IDLE_MOST_CPU_S:
                return
            before_s = now_s
        raise RuntimeError(f"{self._command[0]} is still at work {_IDLE_TIMEOUT_S} s after the last request")

    def pss_bytes(self) -> int:
        """Return the memory of its processes; a page that several share is divided among them."""
        return self._summed("Pss:")

    def rss_bytes(self) -> int:
        """Return the memory of its processes; a page that several share counts for each."""
        return self._summed("Rss:")

    def _summed(self, name: str) -> int:
        total = 0
        for pid, _ in self._members():
            with suppress(OSError):
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
        return total

    def _members(self) -> list[tuple[int, list[str]]]:
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal():
                with suppress(OSError):
                    stat = (folder / "stat").read_text().rpartition(")")[2].split()
                    if int(stat[_SESSION]) == self.session:
                        found.append((int(folder.name), stat))
        return found

    def __enter__(self) -> Self:
        """Return itself; it is started by hand."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()


def _inherited() -> dict[str, str]:
    # Nothing that is set for one program may reach another.
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
