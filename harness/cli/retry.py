"""Let failed, lost or quarantined trials of a suite run again at the next run; one that diverged is a result and stays."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.options import DEFAULT_RESULTS, PluginFile, Results, Scale, Select, Set, SuiteFile, load
from harness.errors import HarnessError
from harness.words import counted


def retry(
    suite: SuiteFile,
    results: Results = DEFAULT_RESULTS,
    failed: Annotated[
        bool, typer.Option("--failed", help="Trials that raised, timed out or lost their worker twice.")
    ] = False,
    lost: Annotated[bool, typer.Option("--lost", help="Trials whose worker is gone without a result.")] = False,
    quarantined: Annotated[
        bool, typer.Option("--quarantined", help="Trials whose records are damaged; these are kept under quarantine/.")
    ] = False,
    set_: Set = [],  # noqa: B006 -- typer reads the default, nobody changes it
    select: Select = [],  # noqa: B006
    plugin: PluginFile = [],  # noqa: B006
    scale: Scale = "full",
) -> None:
    """Let failed, lost or quarantined trials of a suite run again at the next run."""
    from harness.execution.queues import read_queues
    from harness.results.records import forgive, let_go, open_results, set_aside
    from harness.suite.plan import make_plan

    if not failed and not lost and not quarantined:
        raise HarnessError("nothing selected to retry", "retry", "add --failed, --lost or --quarantined")
    folder = open_results(results, create=False, there=True)
    loaded = load(suite, set_, plugin, scale)
    made = make_plan(loaded, folder, select, read_queues(loaded, folder).trials)
    act = {"failed": (failed, forgive), "lost": (lost, let_go), "quarantined": (quarantined, set_aside)}
    count = 0
    for planned in made.trials:
        wanted, again = act.get(planned.status, (False, forgive))
        if wanted:
            again(folder, planned.id)
            count += 1
    typer.echo(f"{counted(count, 'trial')} will run again at the next `harness run`")
    if aside := quarantined and made.counts()["quarantined"]:
        typer.echo(f"the records of {counted(aside, 'trial')} were moved to {folder / 'quarantine'}")
