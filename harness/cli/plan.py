"""Show the trials of a suite with their status, and how long the rest will take."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.cli.options import (
    DEFAULT_RESULTS,
    AsJson,
    PluginFile,
    Results,
    Scale,
    Select,
    Set,
    SuiteFile,
    console,
    load,
    print_json,
)
from harness.words import counted, duration

if TYPE_CHECKING:
    from harness.suite.plan import Plan

SHOWN = 400


def plan(
    suite: SuiteFile,
    results: Results = DEFAULT_RESULTS,
    set_: Set = [],  # noqa: B006 -- typer reads the default, nobody changes it
    select: Select = [],  # noqa: B006
    plugin: PluginFile = [],  # noqa: B006
    scale: Scale = "full",
    json: AsJson = False,
) -> None:
    """Show the trials of a suite with their status, and how long the rest will take."""
    from harness.results.records import open_results
    from harness.suite.plan import make_plan

    loaded = load(suite, set_, plugin, scale)
    made = make_plan(loaded, open_results(results, create=False), select)
    counts = made.counts()
    remaining = made.remaining_seconds()
    if json:
        trials = [
            {
                "id": p.id,
                "method": p.entry.method,
                "setting": p.entry.setting,
                "seed": p.entry.seed,
                "status": p.status,
                "seconds": p.seconds,
                "reason": p.standing.reason or None,
                "sealed": p.standing.sealed,
                "oracle": p.entry.oracle,
                "tuning": p.entry.tuning,
            }
            for p in made.trials
        ]
        print_json(
            {
                "suite": loaded.name,
                "counts": counts,
                "waiting": made.waiting,
                "remaining_seconds": remaining,
                "tries": made.tries,
                "searches": [
                    {
                        "method": search.method,
                        "settings": list(search.settings),
                        "candidates": [
                            {
                                "parameters": dict(c.values),
                                "score": _number(c.score),
                                "chosen": position == search.chosen,
                            }
                            for position, c in enumerate(search.candidates)
                        ],
                    }
                    for search in made.searches
                ],
                "trials": trials,
                "notes": made.notes,
            }
        )
        return
    from rich.table import Table

    out = console()
    table = Table(box=None, pad_edge=False)
    for name in ("trial", "method", "setting", "seed", "status", "time"):
        table.add_column(name, no_wrap=name in ("trial", "status"))
    for p in made.trials[:SHOWN]:
        role = " (tuning)" if p.entry.tuning else ""
        row = [p.id, p.entry.method + role, p.entry.setting, str(p.entry.seed), p.status]
        table.add_row(*(_plain(text) for text in row), duration(p.seconds) if p.seconds is not None else "")
    out.print(table)
    if len(made.trials) > SHOWN:
        out.print(f"... and {len(made.trials) - SHOWN} more", markup=False)
    words = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    left = f"; about {duration(remaining)} of single-process time remain" if made.left else ""
    out.print(f"{counted(len(made.trials), 'trial')}: {words}{left}", markup=False)
    if made.waiting:
        words = counted(made.waiting, "more trial waits", "more wait")
        out.print(f"{words} for a search to choose parameters", markup=False)
    for line in chosen_lines(made):
        out.print(line, markup=False)
    for note in made.notes:
        out.print(f"note: {note}", markup=False)


def chosen_lines(made: Plan) -> list[str]:
    """What the searches that are over chose, a line each."""
    lines = []
    for search in made.searches:
        if search.chosen is not None:
            candidate = search.candidates[search.chosen]
            values = ", ".join(f"{key} = {value}" for key, value in candidate.values.items())
            what = f"chosen for all settings: {search.method}" if search.together else f"chosen: {search.label}"
            lines.append(f"{what}: {values} ({counted(search.tries, 'try', 'tries')})")
    return lines


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _number(score: float | None) -> float | None:
    """A score for JSON, which has no infinity: a candidate that diverged has none."""
    return score if score is not None and math.isfinite(score) else None
