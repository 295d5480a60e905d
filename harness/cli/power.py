"""``harness board --power``: how many more seeds would separate the methods of a board."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from harness.errors import ResultsError
from harness.words import counted

if TYPE_CHECKING:
    from rich.console import Console

    from harness.results.report import Board
    from harness.results.statistics import SeedsNeeded


@dataclasses.dataclass(frozen=True)
class PowerRow:
    """One method against the best one and against the one above it."""

    method: str
    best: SeedsNeeded
    above: SeedsNeeded


def power_rows(board: Board) -> list[PowerRow]:
    """Every compared method but the best, from best to worst.

    Raises:
        ResultsError: fewer than two methods can be compared.
    """
    from harness.results.report import over_settings
    from harness.results.statistics import seeds_needed

    pairwise = over_settings(board)
    if pairwise is None or len(pairwise.methods) < 2:
        raise ResultsError("fewer than two methods have two runs in every setting", "--power", "run more seeds first")
    names = [pairwise.methods[i] for i in pairwise.order]
    return [
        PowerRow(name, seeds_needed(pairwise, names[0], name), seeds_needed(pairwise, names[i], name))
        for i, name in enumerate(names[1:])
    ]


def power_json(rows: list[PowerRow]) -> list[dict[str, Any]]:
    """The rows as JSON."""
    return [dataclasses.asdict(row) for row in rows]


def print_power(board: Board, rows: list[PowerRow], out: Console) -> None:
    """The rows as a table for people."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(f"{board.suite}: more seeds to separate two methods, mean over settings"))
    table.add_column("method", overflow="fold")
    for head in ("behind the best", "found from", "more seeds", "behind the one above", "found from", "more seeds"):
        table.add_column(head, justify="right")
    show = board.metric.show
    labels = {row.method: row.label for row in board.rows}
    for row in rows:
        cells = [
            text
            for found in (row.best, row.above)
            for text in (show(abs(found.difference)), show(found.detectable), _more(found))
        ]
        table.add_row(escape(labels[row.method]), *cells)
    out.print(table)
    best, now = rows[0].best.first, rows[0].best.now
    out.print(
        f"Best: {labels[best]}; {counted(now, 'seed')} in each setting now. `found from`: the least true difference that these find"
        " with a chance of 80 %, all pairs compared at once. `more seeds`: with which the difference, if it is what it"
        " looks like, is found with that chance; `separable`: it is already.",
        markup=False,
    )


def _more(found: SeedsNeeded) -> str:
    if found.separable:
        return "separable"
    return "over 1000" if found.more is None else str(found.more)
