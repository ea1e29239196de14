"""Has a key path become dearer? Instructions a request, counted by callgrind, against those kept for this Python.

`python -m bench.regress` compares, `--record` keeps. Counts differ by a percent from run to run, and by some more
between builds of the same Python; times on a shared machine differ by half. So: told from 1.15 times on, failed from
1.5 on.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.exercise import REQUESTS
from bench.rows import SMALL
from bench.seed import seed
from bench.table import markdown

_ROOT = Path(__file__).parent.parent
_KEPT = Path(__file__).parent / "instructions.json"
_TELL_FROM, _FAIL_FROM = 1.15, 1.5
_TIMEOUT_S = 600
_TOTAL = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)


def main() -> None:
    """Compare, or keep."""
    parser = argparse.ArgumentParser(prog="python -m bench.regress", description=__doc__)
    parser.add_argument(
        "--record", action="store_true", help="keep what is counted now as what later runs compare with"
    )
    arguments = parser.parse_args()
    if shutil.which("valgrind") is None:
        print("regress: skipped, for valgrind is not installed: apt-get install valgrind")
        return
    python = ".".join(platform.python_version_tuple()[:2]) + f" {platform.machine()}"
    kept = json.loads(_KEPT.read_text()) if _KEPT.exists() else {}
    if python not in kept and not arguments.record:
        print(f"regress: skipped, for there are no counts of Python {python} in {_KEPT.name}: --record keeps some")
        return
    counts = count()
    if arguments.record:
        kept[python] = counts
        _KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
        print(f"regress: kept the counts of Python {python}: {counts}")
        return
    ratios = {name: counts[name] / kept[python][name] for name in counts}
    print(
        markdown(
            f"Instructions a request, Python {python}, against those kept",
            ["path", "now", "kept", "ratio"],
            [[name, f"{counts[name]:,}", f"{kept[python][name]:,}", f"{ratio:.2f}"] for name, ratio in ratios.items()],
        )
    )
    for name, ratio in ratios.items():
        if ratio >= _TELL_FROM:
            print(f"regress: {name} takes {ratio:.2f} times the instructions that it took")
    if max(ratios.values()) >= _FAIL_FROM:
        sys.exit("regress: failed. If that is what it must cost, keep it with `make regress REGRESS_ARGS=--record`")


def count() -> dict[str, int]:
    """Return the instructions a request of each path."""
    with tempfile.TemporaryDirectory(prefix="calotype-regress-") as folder:
        place = Path(folder)
        orders = place / "orders"
        orders.mkdir()
        seed(place / "data", SMALL)
        log = place / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    *("valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={place}/counts"),
                    *(sys.executable, "-m", "bench.exercise"),
                ],
                cwd=_ROOT,
                env={
                    **{name: value for name, value in os.environ.items() if not name.startswith("CALOTYPE_")},
                    "PYTHONHASHSEED": "0",
                    "CALOTYPE_DATA_DIR": str(place / "data"),
                    "CALOTYPE_RATE_LIMIT": "off",
                    "EXERCISE_ORDERS": str(orders),
                },
                stdout=output,
                stderr=output,
            )
        try:
            return {name: _counted(name, process, place) // times for name, times in REQUESTS.items()}
        except BaseException:
            print(log.read_text(errors="replace")[-3000:])
            raise
        finally:
            process.kill()
            process.wait()


def _counted(name: str, process: "subprocess.Popen[bytes]", place: Path) -> int:
    begin, end = place / "orders" / f"{name}.begin", place / "orders" / f"{name}.end"
    _await(Path(f"{begin}.ready"), process)
    _control(process, "--instr=on")
    _control(process, "--zero")
    begin.touch()
    _await(Path(f"{end}.ready"), process)
    before = set(place.glob("counts*"))
    _control(process, f"--dump={name}")
    _control(process, "--instr=off")
    end.touch()
    totals = [_TOTAL.search(dump.read_text()) for dump in set(place.glob("counts*")) - before]
    return sum(int(total[1]) for total in totals if total)


def _await(ready: Path, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the application did not come as far as {ready.name}")
        time.sleep(0.05)


def _control(process: "subprocess.Popen[bytes]", order: str) -> None:
    subprocess.run(["callgrind_control", order, str(process.pid)], capture_output=True, check=True, timeout=_TIMEOUT_S)


if __name__ == "__main__":
    main()
