"""How the peers in Python are served."""

import os
from pathlib import Path

THREADS = 4


def gunicorn(folder: Path, application: str) -> list[str | Path]:
    """Return the command: as many workers as its docs advise, threads so that connections can be kept alive."""
    workers = 2 * (os.cpu_count() or 1) + 1
    return [
        *(folder / "gunicorn", "--bind", "127.0.0.1:{port}", "--preload", "--access-logfile", "-"),
        *("--worker-class", "gthread", "--workers", str(workers), "--threads", str(THREADS), "--keep-alive", "60"),
        application,
    ]
