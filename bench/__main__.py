"""Run the measurements and print them as Markdown: `make bench`, or `python -m bench pages memory`."""

import platform
import sys
import tempfile
from pathlib import Path

from bench import memory, pages, presign

MEASUREMENTS = {"memory": memory.measure, "pages": pages.measure, "presign": presign.measure}


def main() -> None:
    """Run those named on the command line, or all."""
    print(f"{platform.system()} {platform.machine()}, Python {platform.python_version()}\n")
    for name in sys.argv[1:] or MEASUREMENTS:
        with tempfile.TemporaryDirectory(prefix="calotype-bench-") as folder:
            print(MEASUREMENTS[name](Path(folder)), flush=True)


main()
