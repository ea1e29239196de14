"""Draw what was measured. Run in an environment of its own (.venv-bench-plots): `python bench/plots.py JSON FOLDER`.

Text and lines take their colour from the page's scheme, so the pictures can be read on light and on dark ground.
"""

import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_COLOURS = {"calotype": "#d9480f", "pocketbase": "#1c7ed6", "plain": "#2b8a3e", "wagtail": "#9c36b5"}
_MARKS = {"calotype": "o", "pocketbase": "s", "plain": "^", "wagtail": "D"}
_SIZES = {"1k": 1_000, "20k": 20_000, "1M": 1_000_000}
_PAGES = {
    "list": "by owner",
    "tag": "one tag (1 in 10)",
    "rare-tag": "one tag (1 in 40)",
    "two-tags": "two tags, all",
    "title": "by title",
}
# Stand-ins: what is drawn in them gets the colour of the scheme.
_INK, _FAINT = "#010203", "#040506"
_STYLE = """<style>
:root { --ink: #1f2328; --faint: #d0d7de }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --faint: #3d444d } }
</style>"""


def main() -> None:
    """Draw all plots."""
    mpl.rcParams.update(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "calotype",
            "font.family": "sans-serif",
            "font.size": 9,
            "text.color": _INK,
            "axes.labelcolor": _INK,
            "axes.edgecolor": _FAINT,
            "xtick.color": _INK,
            "ytick.color": _INK,
            "grid.color": _FAINT,
            "axes.grid": True,
            "axes.axisbelow": True,
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            "savefig.facecolor": "none",
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    )
    results, folder = json.loads(Path(sys.argv[1]).read_text())["peers"], Path(sys.argv[2])
    for name, figure in {
        "performance-cpu": _rows(
            results, "cpu_ms", "CPU milliseconds a request (all processes of the server): less is better"
        ),
        "performance-rate": _rows(results, "rate", "requests a second: more is better"),
        "performance-growth": _growth(results),
    }.items():
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        _adapt(folder / f"{name}.svg")


def _rows(results: dict[str, Any], key: str, title: str) -> Figure:
    titles = {row["name"]: row["title"] for row in results["titles"]}
    names = [name for name in titles if name in results["rows"]]
    figure = Figure(figsize=(8.5, 1.1 + 0.27 * len(names)), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(names):
        values = {peer: _median(samples, key) for peer, samples in results["rows"][name].items()}
        axes.hlines(place, min(values.values()), max(values.values()), color=_FAINT, linewidth=1.5)
        for peer, value in values.items():
            axes.plot(value, place, _MARKS[peer], color=_COLOURS[peer], markersize=6 if peer == "calotype" else 5)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.set_yticks(range(len(names)), [titles[name] for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(title)
    _legend(figure, axes, results)
    return figure


def _growth(results: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(8.5, 2.9), layout="constrained")
    panels = figure.subplots(1, len(_PAGES), sharey=True)
    for axes, (prefix, title) in zip(panels, _PAGES.items(), strict=True):
        for peer in results["peers"]:
            points = {
                size: _median(samples[peer], "cpu_ms")
                for number, size in _SIZES.items()
                if peer in (samples := results["rows"].get(f"{prefix}-{number}", {}))
            }
            axes.plot(
                points.keys(), points.values(), f"-{_MARKS[peer]}", color=_COLOURS[peer], markersize=4, linewidth=1.2
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(500, 2_000_000)
        axes.set_xticks(list(_SIZES.values()), list(_SIZES), minor=False)
        axes.set_xticks([], minor=True)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.set_title(title, fontsize=9)
    panels[0].set_ylabel("CPU ms a page of 50")
    figure.supxlabel("images in the library", fontsize=9)
    _legend(figure, panels[0], results)
    return figure


def _legend(figure: Figure, axes: Axes, results: dict[str, Any]) -> None:
    handles = [
        axes.plot([], [], _MARKS[name], color=_COLOURS[name], label=peer["name"])[0]
        for name, peer in results["peers"].items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)


def _adapt(path: Path) -> None:
    text = path.read_text().replace(_INK, "var(--ink)").replace(_FAINT, "var(--faint)")
    path.write_text(re.sub(r"(<svg [^>]*>)", lambda found: f"{found[1]}\n{_STYLE}", text, count=1))


def _median(samples: list[dict[str, float]], key: str) -> float:
    return statistics.median(sample[key] for sample in samples)


main()
