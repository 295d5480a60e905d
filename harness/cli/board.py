"""The ranking table of a suite in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import DEFAULT_RESULTS, AsJson, Results, console, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from harness.results.board import Board


def board(
    results: Results = DEFAULT_RESULTS,
    suite: Annotated[str | None, typer.Option("--suite", help="Name of the suite; may be left out when there is one.")] = None,
    metric: Annotated[
        str, typer.Option("--metric", help="last, last10, selected, best, memorisation, fgsm_accuracy@0.1 ...")
    ] = "last",
    json: AsJson = False,
) -> None:
    """The ranking table of a suite in the terminal."""
    from harness.api import open_store
    from harness.results.board import read_board
    from harness.results.records import open_results

    with open_store(open_results(results, create=False)) as connection:
        found = read_board(connection, suite, metric)
    if json:
        print_json(board_json(found))
    else:
        print_board(found, console())


def board_json(found: Board) -> dict[str, Any]:
    """A board as JSON."""
    return {
        "suite": found.suite,
        "metric": found.metric.name,
        "at": found.at,
        "comparable": found.comparable,
        "settings": list(found.settings),
        "rows": [
            {
                "rank": row.rank,
                "method": row.method,
                "oracle": row.oracle,
                "tries": row.tries,
                "mean": row.mean,
                "covered": row.covered,
                "cells": {
                    setting: {"mean": cell.mean, "std": cell.std, "n": cell.n, "values": cell.values, "failed": cell.failed}
                    for setting, cell in row.cells.items()
                },
            }
            for row in found.rows
        ],
    }


def print_board(found: Board, out: Console) -> None:
    """A board for people: the best of every setting in bold and marked with a star."""
    from rich.markup import escape
    from rich.table import Table

    from harness.results.board import cell_text, shorten

    heads = shorten(found.settings)
    unit = f" [{found.metric.unit}]" if found.metric.unit and found.metric.unit != "count" else ""
    title = f"{found.suite}: {found.metric.title}{unit} at {found.at}, mean ± std (n)"
    table = Table(title=escape(title), title_justify="left")
    table.add_column("", justify="right")
    table.add_column("method", overflow="fold")
    for setting in found.settings:
        table.add_column(escape(heads[setting]), justify="right", overflow="fold")
    if len(found.settings) > 1:
        table.add_column("mean", justify="right")
    total = len(found.settings)
    for row in found.rows:
        cells = []
        for setting in found.settings:
            text = escape(cell_text(row.cells.get(setting), found.metric))
            cells.append(f"[bold]{text} *[/bold]" if row.method in found.best.get(setting, set()) else f"{text}  ")
        name = escape(row.method) + (" °" if row.oracle else "") + (f" ({row.tries} tries)" if row.tries > 1 else "")
        mean = found.metric.show(row.mean) if row.mean is not None else f"{row.covered}/{total}"
        table.add_row(str(row.rank or ""), name, *cells, *([mean] if total > 1 else []))
    out.print(table)
    legend = ["* best of its setting"]
    if any(row.oracle for row in found.rows):
        legend.append("° is given the noise rate or matrix (an oracle)")
    if found.at == "best":
        legend.append("`best` is chosen on test data: an oracle, not a result")
    if not found.comparable:
        legend.append("run at --scale quick: not comparable with published numbers")
    out.print("; ".join(legend), markup=False)
