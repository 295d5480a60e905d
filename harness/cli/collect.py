"""Bring the store up to date with the records."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.options import DEFAULT_RESULTS, Results


def collect(
    results: Results = DEFAULT_RESULTS,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Read every record anew.")] = False,
) -> None:
    """Bring the store up to date with the records."""
    from harness.results.records import open_results
    from harness.results.store import collect as bring_up_to_date

    typer.echo(str(bring_up_to_date(open_results(results, create=False, there=True), rebuild=rebuild)))
