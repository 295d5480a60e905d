"""Accuracy against time with the Pareto front; memory; parameters."""

from __future__ import annotations

from harness.errors import HarnessError
from harness.words import counted
from harness_leaderboard import shell, tables
from harness_leaderboard.shell import View
from harness_leaderboard.views import method_costs


def page(view: View) -> None:
    """What the methods cost."""
    shell.titled("Cost")
    try:
        part = shell.narrowed(view)
    except HarnessError as error:
        shell.problem(error)
        return
    every = shell.costs(view.snapshot, view.suite)
    found = method_costs(part, every)
    if not found:
        shell.show('<p class="lead">No method has a result in every setting, so none can be placed.</p>', "cost")
        return
    devices = sorted({cost.device for cost in every if cost.device})
    front = [cost.method for cost in found if cost.front]
    said = (
        f"{len(front)} of {counted(len(found), 'method is', 'methods are')} on the Pareto front: {', '.join(front)}."
        if front
        else "No time was recorded."
    )
    mixed = (
        f" ⚠ Times come from different devices ({', '.join(devices)}): compare with care." if len(devices) > 1 else ""
    )
    where = f" Measured on {devices[0]}." if len(devices) == 1 else ""
    shell.show(
        f'<p class="lead">{tables.text(said)}</p><p class="note">No other method is both faster and better than one on the front '
        f"(blue circles, joined by the dashed line).{tables.text(where)}{tables.text(mixed)}</p>"
        + tables.cost_chart(found, part.metric)
        + "<h2>Time, memory, parameters</h2>"
        + tables.cost_table(found, part.metric)
        + shell.snapshot_note(view.snapshot),
        "cost",
    )
