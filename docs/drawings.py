"""The history of the benchmarks as a page and its drawings: ``benchmarks/history/*.jsonl``, a line for each run.

``docs/generate.py`` asks for them when the documentation is built.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HISTORY = Path(__file__).parents[1] / "benchmarks" / "history"
PAGE = "reference/benchmarks.md"
SHOWN = 12
"""Runs of a benchmark that are drawn: the newest."""
TITLES = {"ratio": "ratio A / B", "s": "seconds", "ms": "milliseconds", "us": "microseconds"}

Run = dict[str, Any]


def histories(folder: Path = HISTORY) -> dict[str, list[Run]]:
    """The newest runs of every benchmark, oldest first."""
    found = {path.stem: path.read_text().splitlines() for path in sorted(folder.glob("*.jsonl"))}
    return {name: [json.loads(line) for line in lines if line.strip()][-SHOWN:] for name, lines in found.items()}


def benchmark_page(found: dict[str, list[Run]]) -> str:
    """The page: for each benchmark its drawing and the runs in it."""
    lines = [
        "# Benchmarks",
        "",
        "What `benchmarks/*.py` measured, a dot for each run, the newest in black; a red line is the most that a row may be.",
        "A ratio is the median of interleaved pairs, so two machines compare nearly; seconds of two machines do not. Each run",
        "adds a line to `benchmarks/history/`.",
    ]
    for name, runs in found.items():
        lines += ["", f"## {name}", "", f"![{name}: values by row and run](benchmarks/{name}.svg)", ""]
        lines += ["| when | commit | arguments | processor | cores | Python | torch |", "|---|---|---|---|---|---|---|"]
        for run in reversed(runs):
            machine, arguments = run["machine"], " ".join(run["arguments"])
            cells = [run["when"][:10], f"`{run['commit']}`", f"`{arguments}`" if arguments else ""]
            cells += [str(machine[key]) for key in ("processor", "cores", "python", "torch")]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def drawing(name: str, runs: Sequence[Run]) -> str:
    """An SVG with a panel for each unit: a row for everything measured, a dot for each run."""
    import matplotlib
    from matplotlib.figure import Figure

    units = list(dict.fromkeys(row["unit"] for run in runs for row in run["rows"]))
    names = {u: list(dict.fromkeys(r["name"] for run in runs for r in run["rows"] if r["unit"] == u)) for u in units}
    heights = [len(names[unit]) + 2 for unit in units]
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(8, 0.24 * sum(heights) + 0.4), layout="constrained")
        panels = figure.subplots(len(units), 1, squeeze=False, height_ratios=heights)[:, 0]
        for unit, axes in zip(units, panels, strict=True):
            places = {row: place for place, row in enumerate(names[unit])}
            for age, run in enumerate(reversed(runs)):
                rows = [row for row in run["rows"] if row["unit"] == unit]
                color = "black" if age == 0 else str(min(0.45 + 0.04 * age, 0.85))
                size = 22 if age == 0 else 14
                axes.scatter(
                    [r["value"] for r in rows], [places[r["name"]] for r in rows], s=size, color=color, zorder=9 - age
                )
            bounds = {r["name"]: r["bound"] for run in runs for r in run["rows"] if r["unit"] == unit and "bound" in r}
            axes.scatter(list(bounds.values()), [places[row] for row in bounds], marker="|", s=80, color="tab:red")
            axes.set(yticks=list(places.values()), yticklabels=list(places), xlabel=TITLES.get(unit, unit))
            axes.set_ylim(len(places) - 0.4, -0.6)
            axes.set_xscale("log" if unit != "ratio" else "linear")
            axes.grid(axis="x", alpha=0.3)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
