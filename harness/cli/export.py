"""Write a suite's board as csv, json, markdown, latex or parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import DEFAULT_RESULTS, Results


def export(
    results: Results = DEFAULT_RESULTS,
    suite: Annotated[
        str | None, typer.Option("--suite", help="Name of the suite; may be left out when there is one.")
    ] = None,
    metric: Annotated[str, typer.Option("--metric", help="last, last10, selected, best, memorisation ...")] = "last",
    form: Annotated[str, typer.Option("--format", "-f", help="csv, json, markdown, latex or parquet.")] = "csv",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; standard output when absent.")
    ] = None,
) -> None:
    """Write a suite's board as csv, json, markdown, latex or parquet."""
    from harness.api import open_store
    from harness.results.board import read_board, with_ties
    from harness.results.export import export as write
    from harness.results.records import open_results

    with open_store(open_results(results, create=False)) as connection:
        board = read_board(connection, suite, metric)
    if form in ("latex", "markdown"):
        board = with_ties(board)
    text = write(board, form, output)
    if text is not None:
        typer.echo(text, nl=False)
