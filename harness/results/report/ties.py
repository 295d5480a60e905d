"""Who is ahead, as far as the tests can see: marks to the best of a setting, and what can be concluded over all."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from harness.results.report.cells import Board, Mark
from harness.results.report.rank import scores_of

if TYPE_CHECKING:
    from harness.results.statistics import Pairwise, Scores, State


def to_best(scores: Scores, settings: Collection[str], alpha: float = 0.05) -> tuple[dict[str, Any], dict[str, Any]]:
    """``marks`` and ``gaps`` of a board, for every setting with two comparable methods."""
    from harness.results import statistics

    marks: dict[str, dict[str, Mark]] = {}
    gaps: dict[str, dict[str, float]] = {}
    words: dict[State, Mark] = {"separable": "worse", "equal": "equal", "undecided": "undecided"}
    compared = statistics.compare_in_settings(scores, list(settings), alpha=alpha)
    for setting, pairwise in zip(settings, compared, strict=True):
        if len(pairwise.methods) > 1:
            top = int(pairwise.order[0])
            states = statistics.states_to_top(pairwise)
            marks[setting] = {method: words[state] for method, state in zip(pairwise.methods, states, strict=True)}
            marks[setting][pairwise.methods[top]] = "best"
            gaps[setting] = {
                method: float(pairwise.detectable[top, i]) for i, method in enumerate(pairwise.methods) if i != top
            }
    return marks, gaps


def over_settings(board: Board, alpha: float = 0.05) -> Pairwise | None:
    """All pairs of ranked methods over the settings in which anybody has a result; ``None`` without any."""
    from harness.results import statistics

    ranked = [row.method for row in board.rows if row.rank is not None]
    if not ranked:
        return None
    scores = scores_of(board, complete=True).select(methods=ranked, settings=board.begun)
    return statistics.compare_over_settings(scores, alpha=alpha)


def with_ties(
    board: Board, alpha: float = 0.05, *, settings: Collection[str] | None = None, pairwise: Pairwise | None = None
) -> Board:
    """The board with how every method stands to the best of a setting, and what that comes to over all of them.

    Args:
        board: of any state.
        alpha: family-wise error of all pairs.
        settings: those marked; default all.
        pairwise: from :func:`over_settings`, where the caller has it already.
    """
    scores = scores_of(board, complete=True)
    marks, gaps = to_best(scores, board.settings if settings is None else settings, alpha)
    pairwise = over_settings(board, alpha) if pairwise is None else pairwise
    return dataclasses.replace(board, marks=marks, gaps=gaps, conclusion=conclude(board, pairwise))


def conclude(board: Board, pairwise: Pairwise | None) -> str:
    """What can be concluded over all settings, in a sentence or two without the last full stop; empty without a result."""
    from harness.results import statistics

    if not board.begun:
        return ""
    said = []
    if max(cell.n for row in board.rows for cell in row.cells.values()) < 2:
        said.append("One seed per cell says nothing about spread: the order is that of single runs")
    elif pairwise is None:
        said.append("No method has every run, so none is ranked")
    elif len(pairwise.methods) < 2:
        alone = [row.label for row in board.rows if row.rank is not None]
        said.append(
            f"Only {alone[0]} has every run: nothing can be compared over all settings"
            if len(alone) == 1
            else "Some cells hold one run, which says nothing about spread: the order is not tested"
        )
    else:
        labels = {row.method: row.label for row in board.rows}
        methods = tuple(labels[method] for method in pairwise.methods)
        named = dataclasses.replace(pairwise, methods=methods, not_comparable=())
        said.append(statistics.describe(statistics.top_group(named)))
    fell = [f"{row.label} ({', '.join(row.notes)})" for row in board.rows if row.notes]
    if fell:
        said.append(
            f"Runs that collapsed or diverged count in means, and no test compares their methods: {_some(fell)}"
        )
    withheld = [f"{row.label} ({row.withheld})" for row in board.rows if row.withheld]
    if withheld:
        said.append(f"Not ranked until their runs are there: {_some(withheld)}")
    return ". ".join(said)


def _some(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
