"""Run the measurements and keep what they found in docs/performance.md: `make bench`, or `python -m bench NAME...`."""

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from bench import aws, floor, large, memory, presign, report
from bench.compare import CACHE, FULL, QUICK, compare
from bench.peers import PEERS

_COSTS = {"sweeps": large.sweeps, "audits": large.audits}
_TABLES = {"floor": floor.measure, "memory": memory.measure, "presign": presign.measure, "aws": aws.measure}
_USUAL = ["peers", "sweeps", *_TABLES]  # half an hour together
_NAMES = [*_USUAL, "audits"]  # ten minutes by itself


def main() -> None:
    """Run those named on the command line, or the usual ones."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = f"of {', '.join(_NAMES)}; all but the last without one"
    parser.add_argument("names", nargs="*", metavar="NAME", help=names)
    parser.add_argument("--quick", action="store_true", help="in minutes; the tables are printed, and not kept")
    parser.add_argument(
        "--peer", action="append", choices=PEERS, help="only this peer beside Calotype; may be repeated"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(_NAMES):
        parser.error(f"there is no measurement {', '.join(unknown)}")
    # As any other end, so that servers and folders go.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    for name in arguments.names or _USUAL:
        print(f"\n== {name}", flush=True)
        begun = time.monotonic()
        results, parts = _measured(name, arguments)
        print("\n".join(parts.values()), flush=True)
        print(f"{name} took {time.monotonic() - begun:.0f} s", flush=True)
        # Part of the peers, or less than all the rounds, is no record.
        if not arguments.quick and not arguments.peer:
            report.keep(name, {"machine": _machine(), **results}, parts)
            if name == "peers":
                report.draw()


def _measured(name: str, arguments: argparse.Namespace) -> tuple[dict[str, object], dict[str, str]]:
    if name == "peers":
        wanted = {"calotype", *(arguments.peer or PEERS)}
        effort = QUICK if arguments.quick else FULL
        results = asdict(compare(effort, [each for each in PEERS if each in wanted]))
        return results, report.tables({"machine": _machine(), **results})
    if name in _COSTS:
        costs = _COSTS[name](is_quick=arguments.quick)
        title = f"`calotype {name.removesuffix('s')}`, its start included"
        return {"costs": costs}, {name: large.table(title, costs)}
    # Not the system's temporary folder, which may be in memory: the floor is measured by what it writes.
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="run-") as folder:
        table = _TABLES[name](Path(folder), is_quick=arguments.quick)
    return {"table": table}, {name: table}


def _machine() -> dict[str, object]:
    revision = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    processor = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "at": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": revision.stdout.strip() or "unknown",
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "processor": processor[0].partition(":")[2].strip() if processor else platform.processor(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
