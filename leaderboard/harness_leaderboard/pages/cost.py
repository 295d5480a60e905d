"""Accuracy against time with the Pareto front; memory; parameters."""

from __future__ import annotations

import dataclasses

from markupsafe import Markup

from harness.errors import HarnessError
from harness.results.report import Board
from harness_leaderboard import shell, tables
from harness_leaderboard.render import joined
from harness_leaderboard.shell import Asked
from harness_leaderboard.views import method_costs


def page(asked: Asked) -> None:
    """What the methods cost."""
    shell.titled("Cost")
    try:
        part = shell.narrowed(asked)
    except HarnessError as error:
        shell.problem(error)
        return
    every = shell.costs(asked.snapshot, asked.suite)
    found = method_costs(part, _times(asked), every)
    if not found:
        shell.show(tables.lead("No method has a result in every setting, so none can be placed."), "cost")
        return
    devices = sorted({cost.device for cost in every if cost.device})
    mixed = (
        f"⚠ Times come from different devices ({', '.join(devices)}): compare with care." if len(devices) > 1 else ""
    )
    where = f"Measured on {devices[0]}." if len(devices) == 1 else ""
    shell.show(
        joined(
            (
                tables.cost_head(found),
                tables.note(where or mixed),
                tables.cost_chart(found, part.metric),
                Markup("<h2>Time, memory, parameters</h2>"),
                tables.cost_table(found, part.metric),
                shell.snapshot_note(asked.snapshot),
            )
        ),
        "cost",
    )


def _times(asked: Asked) -> Board | None:
    """Seconds per epoch under the same filters; ``None`` where none were recorded."""
    try:
        return shell.narrowed(dataclasses.replace(asked, metric="seconds_per_epoch"))
    except HarnessError:
        return None
