"""Look up what is locked in PyPI's database of known vulnerabilities, and say plainly what was not looked up.

    .ci/audit.py [--strict]

Ends with 1 if something is vulnerable. Where the database can't be reached nothing can be said: that is told, and is a
failure with --strict. What is looked up are the lock files, so every platform's packages, whatever is installed here;
not those of the benchmarks' peers (bench/environments), which are what they are, nor archives that are only read.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parent.parent
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def main(*, strict: bool) -> int:
    """Audit each lock file by itself: two of them may lock the same package at different versions."""
    packages = tomllib.loads((_ROOT / "uv.lock").read_text())["package"]
    locks = {
        "uv.lock": [(each["name"], each["version"]) for each in packages if "registry" in each["source"]],
        "tests/ministack.txt": _PIN.findall((_ROOT / "tests" / "ministack.txt").read_text()),
        ".ci/uv.txt": _PIN.findall((_ROOT / ".ci" / "uv.txt").read_text()),
    }
    results = [_audited(name, pins) for name, pins in locks.items()]
    vulnerable, unknown = (sum(counts) for counts in zip(*results, strict=True))
    if unknown:
        print(
            f"NOT AUDITED: {unknown} packages could not be looked up (is pypi.org within reach?). "
            "Nothing is known of their vulnerabilities."
        )
    return 1 if vulnerable or (unknown and strict) else 0


def _audited(lock: str, pins: list[tuple[str, str]]) -> tuple[int, int]:
    """Return how many packages are vulnerable, and of how many nothing is known."""
    found = _looked_up(pins)
    vulnerable = [each for each in found if each.get("vulns")]
    for package in vulnerable:
        for fault in package["vulns"]:
            mended = ", ".join(fault["fix_versions"]) or "none yet"
            print(f"VULNERABLE: {package['name']} {package['version']} ({lock}): {fault['id']}; mended in: {mended}")
    known = sum("vulns" in each for each in found)
    print(f"{lock}: {known} of {len(pins)} packages looked up, {len(vulnerable)} vulnerable")
    return len(vulnerable), len(pins) - known


def _looked_up(pins: list[tuple[str, str]]) -> list[dict[str, Any]]:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.writelines(f"{name}=={version}\n" for name, version in pins)
        requirements.flush()
        # Nothing is installed, nor resolved: what is locked is all there is.
        options = ["--disable-pip", "--no-deps", "--progress-spinner", "off", "--format", "json"]
        run = subprocess.run(
            [sys.executable, "-m", "pip_audit", *options, "-r", requirements.name],
            capture_output=True,
            text=True,
            check=False,
        )
    try:
        return list(json.loads(run.stdout)["dependencies"])
    except ValueError:
        print((run.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1])
        return []


if __name__ == "__main__":
    sys.exit(main(strict="--strict" in sys.argv[1:]))
