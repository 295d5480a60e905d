"""A figure of the RRM paper: where a score puts clean and corrupted samples, after chosen epochs (its table 6)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.errors import ResultsError
from harness.results.report.figure import COLOURS, TITLE_WIDTH, make_panels, noted, spelled
from harness.results.report.plots import Recorded, Request, trials_of, whole

if TYPE_CHECKING:
    import duckdb
    from matplotlib.figure import Figure

_CENSUS = re.compile(r"^(.+)@(\d+)$")
RANGES = ("$u>0$", "0", "(-¼, 0)", "(-½, -¼]", "(-¾, -½]", "[-1, -¾]")
"""The ranges of RRM's table 6, of N u."""


def census(connection: duckdb.DuckDBPyConnection, request: Request) -> Figure:
    """Clean and corrupted samples in each range of a score, after the epochs that `score_census` kept, one seed."""
    trials = trials_of(connection, request)
    kept = [
        (item, int(found.group(2)), histogram)
        for item in trials
        for name, histogram in item.histograms.items()
        if (found := _CENSUS.match(name))
        and found.group(1) == (request.score or found.group(1))
        and item.seed == trials[0].seed
    ]
    if not kept:
        raise ResultsError("no method here took a census of a score", "--score", "put score_census into its algorithms")
    figure, panels = make_panels(1, len(kept), width=1.25)
    for axes, (item, epoch, found) in zip(panels[0], kept, strict=True):
        parts = item.identity["algorithms"]
        edges = next(part["params"]["edges"] for part in parts if part["name"] == "score_census")
        names = RANGES if len(edges) + 1 == len(RANGES) else tuple(map(str, range(len(edges) + 1)))
        for shift, group, colour in ((-0.2, "corrupted", COLOURS[1]), (0.2, "clean", COLOURS[0])):
            counts = dict(zip((int(value) for value in found["values"]), found[group], strict=True))
            heights = [counts.get(number, 0) for number in range(len(names))]
            places = [number + shift for number in range(len(names))]
            bars = axes.bar(places, heights, 0.4, color=colour, label=group)
            axes.bar_label(bars, fontsize=5, padding=1, rotation=90)
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylim(0, 12 * max(*found["clean"], *found["corrupted"]))
        axes.set_xticks(range(len(names)), names, rotation=45)
        axes.set_xlabel("N u" if names is RANGES else "range")
        axes.set_title(spelled(f"{item.method}, epoch {epoch}", TITLE_WIDTH))
    panels[0][0].set_ylabel("training samples")
    panels[0][0].legend()
    return noted(figure, whole(trials))


def _took_census(recorded: Recorded) -> bool:
    return any(_CENSUS.match(name) for name in recorded.histograms)


census.suits = _took_census  # type: ignore[attr-defined]
