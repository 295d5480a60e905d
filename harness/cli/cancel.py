"""Stop queued and running trials of a suite that an executor has in hand."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.options import DEFAULT_RESULTS, PluginFile, Results, Scale, Select, Set, SuiteFile, load
from harness.words import counted


def cancel(
    suite: SuiteFile,
    results: Results = DEFAULT_RESULTS,
    set_: Set = [],  # noqa: B006 -- typer reads the default, nobody changes it
    select: Select = [],  # noqa: B006
    plugin: PluginFile = [],  # noqa: B006
    scale: Scale = "full",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Stop queued and running trials of a suite that an executor has in hand."""
    from harness.execution.cancel import cancel_trials
    from harness.results.records import UNFINISHED, open_results
    from harness.suite.plan import make_plan

    loaded = load(suite, set_, plugin, scale)
    made = make_plan(loaded, open_results(results, create=False), select)
    todo = made.select(*UNFINISHED)
    if not todo:
        typer.echo("nothing is queued or running")
        return
    if not yes and not typer.confirm(f"stop {counted(len(todo), 'unfinished trial')} of {loaded.name}?"):
        raise typer.Exit(1)
    stopped = cancel_trials(loaded, made.results, [planned.id for planned in todo])
    typer.echo(
        f"{counted(stopped, 'trial was', 'trials were')} told to stop; what was done is saved, `harness run` goes on from it"
    )
