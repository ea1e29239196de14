"""How the peers in Python are served: each from an environment of its own."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from bench.processes import Server

THREADS = 4
APPS = Path(__file__).parent / "apps"
_ROOT = Path(__file__).parent.parent.parent


def programs_of(peer: str) -> Path:
    """Return the folder of the programs that are installed for it."""
    return _ROOT / f".venv-bench-{peer}" / "bin"


def gunicorn(programs: Path, application: str, folder: Path, environment: Mapping[str, str]) -> Server:
    """Return the server: as many workers as its docs advise, threads so that connections can be kept alive."""
    workers = 2 * (os.cpu_count() or 1) + 1
    return Server(
        [
            *(programs / "gunicorn", "--bind", "127.0.0.1:{port}", "--preload", "--access-logfile", "-"),
            *("--worker-class", "gthread", "--workers", str(workers), "--threads", str(THREADS), "--keep-alive", "60"),
            application,
        ],
        log=folder / "server.log",
        cwd=APPS,
        environment=environment,
    )


def installed(programs: Path, package: str, beside: str) -> str:
    """Return the version of a package, and of another that matters."""
    script = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    command = [str(programs / "python"), "-c", script, package, beside]
    own, other = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return f"{own} ({beside} {other})"
