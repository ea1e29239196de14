"""A real Calotype server in a process of its own, for end-to-end tests, the harness and the benchmarks."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import httpx

from tests.waiting import PATIENCE_S, reserve_port

if TYPE_CHECKING:
    from tests.ministack import Account

_START_TIMEOUT_S = 2 * PATIENCE_S


class Service:
    """One server on a free port over one data folder. Start it, stop it, kill it, start it again."""

    def __init__(
        self,
        data_dir: Path,
        *,
        workers: int = 1,
        settings: Mapping[str, str] | None = None,
        account: "Account | None" = None,
        run_by: Sequence[str] = (),
    ) -> None:
        """Take what it runs with.

        ``account`` is where it stores things, if that is not the data folder. ``run_by`` goes in front of the command
        line: a program that starts it under other conditions.
        """
        self.data_dir = data_dir
        self.workers = workers
        self.port = reserve_port(self)
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.log = data_dir.parent / f"{data_dir.name}.log"
        self.account = account
        # What one leaves that is killed is the test's to remove, as all else is.
        self._temporary = data_dir.parent / f"{data_dir.name}.tmp"
        self._settings = {**(account.environment if account else {}), **(settings or {})}
        self._run_by = list(run_by)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *, wait: bool = True) -> Self:
        self._temporary.mkdir(exist_ok=True)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CALOTYPE_")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._run_by, sys.executable, "-m", "entrypoints.cli", "serve", "--port", str(self.port)],
                env={
                    **inherited,
                    "TMPDIR": str(self._temporary),
                    # One client does in seconds here what a user does in a day. Tests of the limits set them.
                    "CALOTYPE_RATE_LIMIT": "off",
                    "CALOTYPE_DATA_DIR": str(self.data_dir),
                    "CALOTYPE_WORKERS": str(self.workers),
                    **self._settings,
                },
                cwd=Path(__file__).parent.parent,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if wait:
            self._wait_until_it_answers()
        return self

    def stop(self) -> int:
        """Ask it to end (SIGTERM), and return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self._process = None
        return code

    def kill(self) -> None:
        """End it and all its workers at once (SIGKILL), as a crash would."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def client(self, user: str | None = "ada") -> httpx.Client:
        """Return a client of this server that is the user, or nobody."""
        headers = {} if user is None else {"X-User-ID": user}
        return httpx.Client(base_url=self.base_url, headers=headers, timeout=PATIENCE_S)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.base_url}/health/ready", timeout=PATIENCE_S).status_code == 200:
                    return
            time.sleep(0.05)
        log = self.log.read_text(errors="replace")[-4000:]
        self.kill()
        raise RuntimeError(f"the server did not start:\n{log}")
