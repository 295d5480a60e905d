"""Write a suite's board as csv, json, markdown, latex or parquet, or the records of its trials as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import DEFAULT_RESULTS, Results, SuiteName, SuiteOption, suite_name
from harness.results.quantities import metric_help
from harness.words import counted


def export(
    file: SuiteName = None,
    results: Results = DEFAULT_RESULTS,
    suite: SuiteOption = None,
    metric: Annotated[str, typer.Option("--metric", help=metric_help())] = "last",
    form: Annotated[
        str,
        typer.Option(
            "--format", "-f", help="csv, json, markdown, latex or parquet; records: all of the trials' records."
        ),
    ] = "csv",
    published: Annotated[
        bool,
        typer.Option("--published", help="The papers' printed numbers and claims next to ours, in place of the board."),
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; standard output when absent.")
    ] = None,
) -> None:
    """Write a suite's board as csv, json, markdown, latex or parquet, or the records of its trials as one file."""
    suite = suite_name(file, suite)
    if form == "records":
        _records(results, suite, output)
        return
    from harness.api import open_store
    from harness.papers.claims import read_published
    from harness.papers.export import export_published
    from harness.results.records import open_results
    from harness.results.report import read_board, with_ties
    from harness.results.report.export import export as write

    if published:
        with open_store(open_results(results, create=False)) as connection:
            found, claims = read_published(connection, suite, metric)
        text = export_published(found, claims, form, output)
        if text is not None:
            typer.echo(text, nl=False)
        return
    with open_store(open_results(results, create=False)) as connection:
        board = read_board(connection, suite, metric)
    text = write(with_ties(board), form, output)
    if text is not None:
        typer.echo(text, nl=False)


def _records(results: Path, suite: str | None, output: Path | None) -> None:
    from harness.errors import HarnessError
    from harness.results.records import open_results
    from harness.results.records.archive import pack

    if output is None:
        raise HarnessError("records are not text", "--format", "name a file with --output FILE.parquet")
    packed = pack(open_results(results, create=False), output, [suite] if suite else [])
    typer.echo(
        f"{counted(packed, 'trial is', 'trials are')} in {output}; `harness merge {output}` puts them into a results folder"
    )
