"""Run what is missing of a suite, record, collect and rank."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import (
    DEFAULT_RESULTS,
    AsJson,
    PluginFile,
    Results,
    Scale,
    Select,
    Set,
    SuiteFile,
    assigned,
    console,
    load,
    print_json,
)
from harness.errors import HarnessError, unknown
from harness.paths import expanded
from harness.words import counted, duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.execution.orchestrate import Orchestrator
    from harness.suite.load import Suite
    from harness.suite.plan import Plan


def run(
    suite: SuiteFile,
    results: Results = DEFAULT_RESULTS,
    executor: Annotated[str, typer.Option("--executor", help="inline, local, slurm or a plugin's.")] = "local",
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Worker processes of the local executor.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:1.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Torch threads of a CPU trial.")] = None,
    stale: Annotated[str, typer.Option("--stale", metavar="keep|rerun", help="What to do with stale trials.")] = "keep",
    rerun: Annotated[
        list[str],
        typer.Option("--rerun", metavar="ID", help="Run this trial again, whatever it came to; may be given often."),
    ] = [],  # noqa: B006 -- typer reads the default, nobody changes it
    set_: Set = [],  # noqa: B006 -- typer reads the default, nobody changes it
    select: Select = [],  # noqa: B006
    plugin: PluginFile = [],  # noqa: B006
    scale: Scale = "full",
    executor_option: Annotated[
        list[str], typer.Option("--option", metavar="KEY=VALUE", help="A parameter of the executor.")
    ] = [],  # noqa: B006
    slurm: Annotated[
        list[str], typer.Option("--slurm", metavar="KEY=VALUE", help="A key of [slurm], such as timeout_min=60.")
    ] = [],  # noqa: B006
    cluster_profile: Annotated[
        Path | None, typer.Option("--cluster-profile", metavar="FILE", help="TOML file with the cluster's own [slurm].")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until queued trials are done.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would run and as which jobs.")] = False,
    json: AsJson = False,
) -> None:
    """Run what is missing of a suite, record, collect and rank."""
    from harness.cli.progress import Progress
    from harness.execution.orchestrate import Orchestrator
    from harness.registry import printing_aside
    from harness.results.records import open_results

    if stale not in ("keep", "rerun"):
        raise HarnessError(unknown("choice", stale, ["keep", "rerun"]), "--stale")
    overrides = [*set_]
    overrides += [f'execution.device="{device}"'] if device else []
    overrides += [f"execution.threads={threads}"] if threads else []
    loaded = load(suite, overrides, plugin, scale)
    options = assigned(executor_option, "--option")
    if slurm and executor != "slurm":
        raise HarnessError(f"the executor {executor!r} reads no [slurm]", "--slurm", "use --executor slurm")
    options.update(assigned(slurm, "--slurm"))
    if wait and _takes(loaded, executor, "wait"):  # the others always do
        options["wait"] = True
    if workers is not None:
        if executor != "local":
            raise HarnessError(f"the executor {executor!r} takes no workers", "--workers", "use --executor local")
        options["workers"] = workers
    folder = open_results(results, create=not dry_run)
    with Progress(quiet=json) as progress:
        orchestrator = Orchestrator(
            loaded,
            folder,
            executor,
            options,
            select,
            rerun_stale=stale == "rerun",
            rerun=rerun,
            defaults=_profile(cluster_profile, executor),
            on_event=progress.on_event,
        )
        if dry_run:
            _show_preview(orchestrator, json)
            return
        with _telling_how_to_go_on(orchestrator), printing_aside() if json else contextlib.nullcontext():
            plan = orchestrator.run()  # what a component prints must not stand in the JSON
    counts = plan.counts()
    waits = "waits" in orchestrator.executor.capabilities
    left = plan.left if waits else 0
    if json:
        print_json(
            {
                "suite": loaded.name,
                "results": str(folder),
                "counts": counts,
                "interrupted": orchestrator.interrupted,
                "notes": plan.notes,
            }
        )
    else:
        _report(plan, orchestrator)
    raise typer.Exit(
        130
        if orchestrator.interrupted
        else 1
        if counts["failed"] or counts["quarantined"] or left or plan.undecided
        else 0
    )


@contextlib.contextmanager
def _telling_how_to_go_on(orchestrator: Orchestrator) -> Iterator[None]:
    """A Ctrl-C that ends the run at once, such as the second one, still leaves a line on how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        remote = "remote" in orchestrator.executor.capabilities
        rest = (
            "queued and running jobs go on; the same command waits for them again"
            if remote
            else "what is done is kept; the same command goes on from the last checkpoints"
        )
        typer.echo(f"interrupted: {rest}", err=True)
        raise typer.Exit(130) from None


def _takes(suite: Suite, executor: str, parameter: str) -> bool:
    registry = suite.host.registry
    component, _ = registry.find("executor", executor)
    return any(described["name"] == parameter for described in registry.facts(component).parameters)


def _profile(file: Path | None, executor: str) -> dict[str, Any]:
    """The executor's table in a profile: what holds on a cluster for every suite."""
    from harness.suite.document import read_document

    if file is None:
        return {}
    document = read_document(expanded(file))
    found = document.get(executor)
    if not isinstance(found, dict):
        raise HarnessError(f"the table [{executor}] is missing", str(file), f"write the keys under [{executor}]")
    return found


def _show_preview(orchestrator: Orchestrator, as_json: bool) -> None:
    """The jobs with their trials, resources, time limit and expected GPU-hours; the trials where there are no jobs."""
    plan, todo, arrays = orchestrator.preview()
    names = {p.id: f"{p.entry.method} | {p.entry.setting} | seed {p.entry.seed}" for p in plan.trials}
    if as_json:
        print_json(
            {
                "suite": plan.suite.name,
                "trials": [p.id for p in todo],
                "arrays": None
                if arrays is None
                else [
                    {
                        "resources": array.resources,
                        "minutes": array.minutes,
                        "parallel": array.parallel,
                        "gpu_hours": array.gpu_hours,
                        "jobs": [{"trials": list(job.trials), "seconds": job.seconds} for job in array.jobs],
                    }
                    for array in arrays
                ],
            }
        )
        return
    out = console()
    if arrays is None:
        out.print(f"{counted(len(todo), 'trial')} would run:", markup=False)
        for planned in todo:
            out.print(f"  {planned.id}  {names[planned.id]}", markup=False)
        return
    jobs = sum(len(array.jobs) for array in arrays)
    out.print(f"{counted(len(todo), 'trial')} would be submitted as {counted(jobs, 'job')}:", markup=False)
    number = 0
    for array in arrays:
        hours = "GPU-hours unknown" if array.gpu_hours is None else f"about {array.gpu_hours:.2g} GPU-hours"
        abreast = f", at most {array.parallel} at once" if array.parallel else ""
        asked = f"{array.resources}, {array.minutes} min{abreast}"
        out.print(
            f"{counted(len(array.jobs), 'job')}, {counted(sum(len(job.trials) for job in array.jobs), 'trial')}: {asked}, {hours}",
            markup=False,
        )
        for job in array.jobs:
            number += 1
            out.print(
                f"  job {number}: {counted(len(job.trials), 'trial')}, about {duration(job.seconds)}", markup=False
            )
            for trial_id in job.trials:
                out.print(f"    {trial_id}  {names.get(trial_id, '')}", markup=False)


def _report(plan: Plan, orchestrator: Orchestrator) -> None:
    """The board, what failed, and how to go on."""
    from harness.cli.board import print_board
    from harness.cli.plan import chosen_lines
    from harness.results.report import read_board, with_ties
    from harness.results.store import connect, current_snapshot

    out = console()
    counts = plan.counts()
    snapshot = current_snapshot(plan.results)
    compared = any(not planned.entry.tuning for planned in plan.trials)
    if compared and snapshot is not None and counts["done"] + counts["diverged"] + counts["stale"]:
        with connect(snapshot) as connection:
            print_board(with_ties(read_board(connection, plan.suite.name)), out)
    for line in chosen_lines(plan):
        out.print(line, markup=False)
    for planned in plan.select("failed")[:10]:
        words = planned.standing.error or "no record"
        out.print(
            f"failed: {planned.entry.method} | {planned.entry.setting} | seed {planned.entry.seed}: {words}",
            markup=False,
        )
    if counts["diverged"]:
        out.print(
            f"{counts['diverged']} diverged (loss, weights or outputs no longer finite) and count as chance level; "
            "they are results and are not run again",
            markup=False,
        )
    if counts["failed"]:
        out.print(
            f"{counts['failed']} failed; `harness logs TRIAL` shows why, `harness retry --failed` lets them run again",
            markup=False,
        )
    if counts["quarantined"]:
        out.print(
            f"{counts['quarantined']} in quarantine: their records are damaged, and they are neither shown nor run again "
            "(`harness retry --quarantined` moves the records aside and lets the trials run again)",
            markup=False,
        )
    if counts["stale"]:
        out.print(
            f"{counts['stale']} stale (a component's source has changed); --stale rerun runs them again", markup=False
        )
    for note in plan.notes:
        out.print(f"note: {note}", markup=False)
    remote = "remote" in orchestrator.executor.capabilities
    if orchestrator.interrupted and not remote:
        left = plan.left
        out.print(
            f"interrupted: {counted(left, 'trial is', 'trials are')} left; the same command goes on from what is saved",
            markup=False,
        )
    elif plan.waiting and remote and "waits" not in orchestrator.executor.capabilities:
        waiting = counted(plan.waiting, "trial waits", "trials wait")
        again = f"run the same command again when the tuning trials are done: {waiting} for the choice"
        out.print(again, markup=False)
    elif remote and (orchestrator.interrupted or "waits" not in orchestrator.executor.capabilities):
        out.print(
            f"submitted; `harness status {plan.suite.path} --results {plan.results}` tells how it goes", markup=False
        )
    elif left := plan.left:
        busy = f", {counts['running']} of them at work in another process" if counts["running"] else ""
        out.print(f"{counted(left, 'trial is', 'trials are')} left{busy}; the same command goes on", markup=False)
    elif not counts["failed"] and not counts["quarantined"] and not plan.undecided:
        finished = counts["done"] + counts["diverged"] + counts["stale"]
        out.print(
            f"{'the trial is' if finished == 1 else f'all {finished} trials are'} done; `harness leaderboard` opens the pages",
            markup=False,
        )
