"""Measure more FGSM epsilons and metrics on the kept states of finished trials."""

from __future__ import annotations

import math
import sys
from typing import Annotated

import typer

from harness.cli.options import DEFAULT_RESULTS, PluginFile, Results, Select, Set, SuiteFile, load
from harness.cli.terminal import below
from harness.errors import HarnessError
from harness.words import counted


def evaluate(
    suite: SuiteFile,
    fgsm: Annotated[
        list[float], typer.Option("--fgsm", min=0.0, help="An epsilon in standardised units; may be repeated.")
    ] = [],  # noqa: B006 -- typer reads the default, nobody changes it
    metric: Annotated[
        list[str],
        typer.Option("--metric", help="A plugin's metric (`harness components metric`); may be repeated."),
    ] = [],  # noqa: B006
    results: Results = DEFAULT_RESULTS,
    set_: Set = [],  # noqa: B006
    select: Select = [],  # noqa: B006
    plugin: PluginFile = [],  # noqa: B006
) -> None:
    """Measure more FGSM epsilons and metrics on the kept states of finished trials.

    Without --fgsm and --metric, what the suite's [evaluation] asks for.
    """
    from harness.results.records import open_results
    from harness.results.store import collect
    from harness.suite.plan import make_plan
    from harness.training.reevaluate import evaluate_trial, has_kept_state

    if not all(map(math.isfinite, fgsm)):
        raise HarnessError("an epsilon should be a finite number", "--fgsm")
    folder = open_results(results, create=False, there=True)
    made = make_plan(load(suite, set_, plugin), folder, select)
    for name in metric:
        component, _ = made.suite.host.registry.find("metric", name)
        if component.measured is not None and component.measured.diagnostic:
            raise HarnessError(f"{name!r} is recorded by algorithms, and cannot be measured later", "--metric")
        if component.measured is not None and component.measured.on == "scores":
            what = f"{name!r} judges scores of samples, which no kept state holds"
            raise HarnessError(what, "--metric", "ask for it in [evaluation] metrics before the trials run")
    done = made.select("done")
    kept = [planned for planned in done if has_kept_state(folder, planned.id)]
    if not kept:
        raise HarnessError(
            f"none of the {len(done)} finished trials has kept its states",
            "evaluate",
            "run with --set execution.keep=true",
        )
    with typer.progressbar(kept, label="trials", file=below(sys.stdout)) as bar:
        for planned in bar:
            options = planned.trial.options
            asked = (fgsm, metric) if fgsm or metric else (options["fgsm"], options.get("metrics", ()))
            evaluate_trial(folder, planned.trial, made.suite.host, *asked)
    collect(folder)
    typer.echo(
        f"{counted(len(kept), 'trial')} measured; {counted(len(done) - len(kept), 'finished trial has', 'finished trials have')} no kept state"
    )
