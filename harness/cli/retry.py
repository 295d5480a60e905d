"""Let failed or lost trials of a suite run again at the next run; one that diverged is a result and stays."""

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
    set_: Set = [],  # noqa: B006 -- typer reads the default, nobody changes it
    select: Select = [],  # noqa: B006
    plugin: PluginFile = [],  # noqa: B006
    scale: Scale = "full",
) -> None:
    """Let failed or lost trials of a suite run again at the next run."""
    from harness.execution.queues import read_queues, standing
    from harness.results.records import attempts, forgive, open_results, trial_folder
    from harness.suite.plan import make_plan

    if not failed and not lost:
        raise HarnessError("nothing selected to retry", "retry", "add --failed or --lost")
    folder = open_results(results, create=False, there=True)
    loaded = load(suite, set_, plugin, scale)
    made = make_plan(loaded, folder, select)
    queues = read_queues(loaded, folder)
    count = 0
    for planned in made.trials:
        if failed and planned.status == "failed":
            forgive(folder, planned.id)
            count += 1
        elif lost and standing(planned, made, queues) == "lost":
            for attempt in attempts(trial_folder(folder, planned.id))[-1:]:
                (attempt / "released").touch()
            count += 1
    typer.echo(f"{counted(count, 'trial')} will run again at the next `harness run`")
