"""What was measured, as tables: on the terminal, and in docs/performance.md between its markers."""

import json
import re
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.rows import FLAT, FLAT_MOST, IDLE_MOST_BYTES, ROWS, START_MOST_S, Row
from bench.table import markdown

_DOCS = Path(__file__).parent.parent / "docs"
PAGE, NUMBERS = _DOCS / "performance.md", _DOCS / "performance.json"
_US, _RIVAL = "calotype", "pocketbase"
_Samples = list[dict[str, float]]


def tables(results: dict[str, Any]) -> dict[str, str]:
    """Return every table, by the name of its place in the page."""
    return {
        "peers": _peers(results),
        "targets": _targets(results),
        "durable": _durable(results),
        "flat": _flat(results),
        "rows": _rows(results),
        "starts": _starts(results),
    }


def into_page(text: str, parts: dict[str, str]) -> str:
    """Return the page with these parts between the markers of their names; all else stays.

    Raises:
        ValueError: the page has no such place.
    """
    for name, part in parts.items():
        begin, end = f"<!-- measured: {name} -->", f"<!-- end: {name} -->"
        before, found, rest = text.partition(begin)
        _, also_found, after = rest.partition(end)
        if not found or not also_found:
            raise ValueError(f"{PAGE.name} has no place for {name}")
        text = f"{before}{begin}\n{part.strip()}\n{end}{after}"
    return text


def keep(name: str, results: dict[str, Any], parts: dict[str, str]) -> None:
    """Put one measurement's numbers into the JSON beside the page, and its tables into the page."""
    numbers = json.loads(NUMBERS.read_text()) if NUMBERS.exists() else {}
    numbers[name] = results
    text = json.dumps(numbers, indent=1)
    # One sample, one line.
    NUMBERS.write_text(re.sub(r"\{[^{}]*\}", lambda found: " ".join(found[0].split()), text) + "\n")
    PAGE.write_text(into_page(PAGE.read_text(), parts))


def draw() -> None:
    """Draw the plots of the numbers that are kept."""
    root = Path(__file__).parent.parent
    python = root / ".venv-bench-plots" / "bin" / "python"
    subprocess.run([python, root / "bench" / "plots.py", NUMBERS, _DOCS], check=True)


# ---- ratios


def ratios(ours: _Samples, theirs: _Samples, key: str) -> list[float]:
    """Return ours to theirs, round by round, least first."""
    return sorted(mine[key] / other[key] for mine, other in zip(ours, theirs, strict=True))


def spread(values: Sequence[float]) -> str:
    """Return least, median and most."""
    return ", ".join(f"{value:.2f}" for value in (values[0], statistics.median(values), values[-1]))


def _median(samples: _Samples, key: str) -> float:
    return statistics.median(sample[key] for sample in samples)


# ---- the tables


def _peers(results: dict[str, Any]) -> str:
    rows = [[peer["name"], peer["version"], peer["setting"]] for peer in results["peers"].values()]
    machine, effort = results["machine"], results["effort"]
    return (
        f"Measured {machine['at']} at commit {machine['commit']}, on {machine['processors']} processors "
        f"({machine['processor']}), {machine['system']}, Python {machine['python']}; {effort['rounds']} rounds of "
        f"{effort['seconds']} s a row and server, twice that for uploads.\n\n"
        + markdown("Who was measured", ["", "version", "as"], rows)
    )


def _targets(results: dict[str, Any]) -> str:
    lines: list[list[object]] = []
    for row, peers in _measured(results):
        if _RIVAL not in peers or not (row.most_cpu or row.least_rate):
            continue
        cpu = ratios(peers[_US], peers[_RIVAL], "cpu_ms")
        rate = ratios(peers[_US], peers[_RIVAL], "rate")
        lines.append(
            [
                row.title,
                spread(cpu),
                _verdict(statistics.median(cpu), row.most_cpu, "at most"),
                spread(rate),
                _verdict(statistics.median(rate), row.least_rate, "at least"),
            ]
        )
    return markdown(
        "Targets: Calotype to PocketBase, in the same round (least, median, most)",
        ["row", "CPU a request", "target", "requests a second", "target"],
        lines,
    )


def _verdict(value: float, target: float | None, word: str) -> str:
    if target is None:
        return ""
    is_met = value <= target if word == "at most" else value >= target
    return f"{word} {target:g}: {'met' if is_met else '**not met**'}"


def _durable(results: dict[str, Any]) -> str:
    lines: list[list[object]] = []
    for row, peers in _measured(results):
        if not row.writes:
            continue
        lines += [
            [
                row.title,
                results["peers"][name]["name"],
                _number(_median(samples, "rate")),
                _number(_median(samples, "durable_rate")),
                "" if name == _US else spread(ratios(peers[_US], samples, "durable_rate")),
            ]
            for name, samples in peers.items()
        ]
    head = ["row", "", "acknowledged a second", "on the disk a second", "Calotype's to its, on the disk"]
    return markdown("Uploads, if the time counts until all of them are on the disk", head, lines)


def _flat(results: dict[str, Any]) -> str:
    lines: list[list[object]] = []
    for name, title in FLAT.items():
        for key, unit in (("cpu_ms", "CPU ms a request"), ("p50_ms", "p50, ms")):
            of = {number: results["rows"].get(f"{name}-{number}", {}).get(_US) for number in ("1k", "20k", "1M")}
            if of["1k"] is None or of["1M"] is None:
                continue
            grown = ratios(of["1M"], of["1k"], key)
            medians = [f"{_median(samples, key):.2f}" if samples else "-" for samples in of.values()]
            verdict = _verdict(statistics.median(grown), FLAT_MOST, "at most")
            lines.append([title, unit, *medians, spread(grown), verdict])
    head = ["page of 50", "", "1,000", "20,000", "1,000,000", "1M to 1k: least, median, most", "target"]
    return markdown("Calotype as the library grows a thousandfold", head, lines)


def _rows(results: dict[str, Any]) -> str:
    lines: list[list[object]] = []
    for row, peers in _measured(results):
        for name, peer in results["peers"].items():
            if name not in peers:
                reason = results["absent"].get(row.name, {}).get(name, "not measured")
                lines.append([row.title, peer["name"], "-", "-", "-", "-", reason, ""])
                continue
            samples = peers[name]
            to_them = (
                ["", ""] if name == _US else [spread(ratios(peers[_US], samples, key)) for key in ("cpu_ms", "rate")]
            )
            lines.append(
                [
                    row.title,
                    peer["name"],
                    _number(_median(samples, "rate")),
                    f"{_median(samples, 'p50_ms'):.2f}",
                    f"{_median(samples, 'p99_ms'):.2f}",
                    f"{_median(samples, 'cpu_ms'):.3f}",
                    *to_them,
                ]
            )
    head = ["row", "", "requests/s", "p50, ms", "p99, ms", "CPU ms", "Calotype's CPU to its", "Calotype's rate to its"]
    table = markdown("All rows: medians of the rounds, and ratios round by round (least, median, most)", head, lines)
    samples = [each for _, peers in _measured(results) for of_peer in peers.values() for each in of_peer]
    requests, errors = (int(sum(each[key] for each in samples)) for key in ("requests", "errors"))
    return f"{table}\n{errors} errors in {requests:,} requests.\n"


def _starts(results: dict[str, Any]) -> str:
    lines: list[list[object]] = []
    for name, sizes in results["starts_s"].items():
        for size, taken in sizes.items():
            memory = results["memory"][f"{name}-{size}"]
            title = "Calotype, one worker" if name == f"{_US}-1" else results["peers"][name]["name"]
            amounts = [_megabytes(memory.get(key)) for key in ("idle_pss", "idle_rss", "loaded_pss", "loaded_rss")]
            lines.append([title, f"{int(size):,}", spread(sorted(taken)), *amounts])
    head = ["", "images", "to the first page, s", "idle PSS, MB", "idle RSS, MB", "loaded PSS, MB", "loaded RSS, MB"]
    table = markdown("Cold start (least, median, most) and memory, all processes together", head, lines)
    slowest = max(statistics.median(taken) for taken in results["starts_s"][_US].values())
    idle = results["memory"][f"{_US}-1-1000"]["idle_pss"]
    return (
        f"{table}\nStart to the first answer {_verdict(slowest, START_MOST_S, 'at most')} ({slowest:.2f} s). "
        f"Idle PSS with one worker {_verdict(idle / 1e6, IDLE_MOST_BYTES / 1e6, 'at most')} ({idle / 1e6:.0f} MB).\n"
    )


def _measured(results: dict[str, Any]) -> Iterable[tuple[Row, dict[str, _Samples]]]:
    return ((row, results["rows"][row.name]) for row in ROWS if row.name in results["rows"])


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}"  # noqa: PLR2004 (three digits or so)


def _megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.0f}"
