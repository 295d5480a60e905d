"""Run what is missing of a suite, record, collect and rank."""

from __future__ import annotations

from typing import Annotated, Any

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
    console,
    load,
    print_json,
)
from harness.errors import HarnessError, unknown


def run(
    suite: SuiteFile,
    results: Results = DEFAULT_RESULTS,
    executor: Annotated[str, typer.Option("--executor", help="inline, local, slurm or a plugin's.")] = "local",
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Worker processes of the local executor.")] = None,
    device: Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:1.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Torch threads of a CPU trial.")] = None,
    stale: Annotated[str, typer.Option("--stale", metavar="keep|rerun", help="What to do with stale trials.")] = "keep",
    set_: Set = [],  # noqa: B006 -- typer reads the default, nobody changes it
    select: Select = [],  # noqa: B006
    plugin: PluginFile = [],  # noqa: B006
    scale: Scale = "full",
    executor_option: Annotated[
        list[str], typer.Option("--option", metavar="KEY=VALUE", help="A parameter of the executor.")
    ] = [],  # noqa: B006
    json: AsJson = False,
) -> None:
    """Run what is missing of a suite, record, collect and rank."""
    from harness.cli.progress import Progress
    from harness.execution.orchestrate import Orchestrator
    from harness.results.records import open_results

    if stale not in ("keep", "rerun"):
        raise HarnessError(unknown("choice", stale, ["keep", "rerun"]), "--stale")
    overrides = [*set_]
    overrides += [f'execution.device="{device}"'] if device else []
    overrides += [f"execution.threads={threads}"] if threads else []
    loaded = load(suite, overrides, plugin, scale)
    options = _options(executor_option)
    if workers is not None:
        if executor != "local":
            raise HarnessError(f"the executor {executor!r} takes no workers", "--workers", "use --executor local")
        options["workers"] = workers
    folder = open_results(results)
    with Progress(quiet=json) as progress:
        orchestrator = Orchestrator(
            loaded, folder, executor, options, select, rerun_stale=stale == "rerun", on_event=progress.on_event
        )
        plan = orchestrator.run()
    counts = plan.counts()
    if json:
        print_json({"suite": loaded.name, "results": str(folder), "counts": counts, "interrupted": orchestrator.interrupted})
    else:
        _report(plan, orchestrator.interrupted, "waits" in orchestrator.executor.capabilities)
    raise typer.Exit(130 if orchestrator.interrupted else 1 if counts["failed"] else 0)


def _options(texts: list[str]) -> dict[str, Any]:
    from harness.suite.select import assign, parse_assignment

    options: dict[str, Any] = {}
    for text in texts:
        path, value = parse_assignment(text, "--option")
        assign(options, path, value)
    return options


def _report(plan: Any, interrupted: bool, waits: bool) -> None:
    """The board, what failed, and how to go on."""
    from harness.cli.board import print_board
    from harness.results.board import read_board
    from harness.results.store import connect, current_snapshot

    out = console()
    counts = plan.counts()
    snapshot = current_snapshot(plan.results)
    if snapshot is not None and counts["done"] + counts["stale"]:
        with connect(snapshot) as connection:
            print_board(read_board(connection, plan.suite.name), out)
    for planned in plan.select("failed")[:10]:
        from harness.results.records import final_attempt, read_json, trial_folder

        attempt = final_attempt(trial_folder(plan.results, planned.id))
        error = (read_json(attempt / "result.json") or {}).get("error") if attempt is not None else None
        words = f"{error['type']}: {error['message']}" if error else "no record"
        out.print(f"failed: {planned.entry.method} | {planned.entry.setting} | seed {planned.entry.seed}: {words}", markup=False)
    if counts["failed"]:
        out.print(f"{counts['failed']} failed; `harness logs TRIAL` shows why, `harness retry --failed` lets them run again", markup=False)
    if counts["stale"]:
        out.print(f"{counts['stale']} stale (a component's source has changed); --stale rerun runs them again", markup=False)
    for note in plan.notes:
        out.print(f"note: {note}", markup=False)
    if interrupted:
        left = counts["missing"] + counts["running"]
        out.print(f"interrupted: {left} trials are left; the same command goes on from their checkpoints", markup=False)
    elif not waits:
        out.print(f"submitted; `harness status {plan.suite.path} --results {plan.results}` tells how it goes", markup=False)
    elif not counts["missing"] and not counts["running"] and not counts["failed"]:
        out.print(f"all {counts['done'] + counts['stale']} trials are done; `harness leaderboard` opens the pages", markup=False)
