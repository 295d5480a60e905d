"""What is queued, running, done, diverged, failed, lost, missing and quarantined of a suite, with epochs and errors."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

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
from harness.words import counted, duration

if TYPE_CHECKING:
    from harness.suite.plan import PlannedTrial


def status(
    suite: SuiteFile,
    results: Results = DEFAULT_RESULTS,
    set_: Set = [],  # noqa: B006 -- typer reads the default, nobody changes it
    select: Select = [],  # noqa: B006
    plugin: PluginFile = [],  # noqa: B006
    scale: Scale = "full",
    json: AsJson = False,
) -> None:
    """What is queued, running, done, diverged, failed, lost, missing and quarantined of a suite, with epochs and errors."""
    from harness.execution.queues import read_queues
    from harness.results.records import STATUSES, open_results
    from harness.suite.plan import make_plan

    loaded = load(suite, set_, plugin, scale)
    folder = open_results(results, create=False)
    queues = read_queues(loaded, folder)
    made = make_plan(loaded, folder, select, queues.trials)
    counts = {name: made.counts()[name] for name in STATUSES}
    lines = [trial_line(planned) for planned in made.select("running", "failed", "lost", "quarantined")]
    ends = queues.ended([line["job"] for line in lines if line["status"] == "lost" and line["job"]])
    waiting = [{"id": planned.id, **planned.standing.queued} for planned in made.select("queued")]
    if json:
        print_json(
            {
                "suite": loaded.name,
                "counts": counts,
                "waiting": made.waiting,
                "trials": lines,
                "queued": waiting,
                "notes": [*made.notes, *queues.notes],
            }
        )
        return
    out = console()
    words = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    out.print(f"{loaded.name}: {counted(len(made.trials), 'trial')} ({words})", markup=False)
    for line in lines:
        head = f"{line['status']:11} {line['id']}  {line['method']} | {line['setting']} | seed {line['seed']}"
        if line["status"] == "running":
            place = f"{line['node'] or line['host']}{', job ' + line['job'] if line['job'] else ''}"
            tail = f"epoch {line['epoch']}/{line['epochs']} on {place}, ETA {duration(line['eta'])}"
        elif line["status"] == "lost":
            end = ends.get(line["job"], "gone")
            owner = f"job {line['job']}" if line["job"] else "its worker"
            tail = f"epoch {line['epoch']}/{line['epochs']}; {line['reason'] or f'{owner} is {end}'}"
        else:
            tail = str(line["error"])
        out.print(f"{head}: {tail}", markup=False)
    for detail, count in Counter(item["detail"] for item in waiting).items():
        out.print(f"queued      {counted(count, 'trial')}: {detail}", markup=False)
    if counts["lost"]:
        out.print("`harness run` goes on with lost trials from their checkpoints", markup=False)
    for note in [*made.notes, *queues.notes]:
        out.print(f"note: {note}", markup=False)
    remaining = made.remaining_seconds()
    if remaining != 0.0:
        out.print(f"about {duration(remaining)} of single-process time remain", markup=False)


def trial_line(planned: PlannedTrial) -> dict[str, Any]:
    """What a trial's latest attempt tells."""
    told = planned.standing
    return {
        "id": planned.id,
        "method": planned.entry.method,
        "setting": planned.entry.setting,
        "seed": planned.entry.seed,
        "status": told.status,
        "attempt": told.attempt or "attempt-000",  # its job was gone before it started
        "host": told.host,
        "node": told.node,
        "pid": told.pid,
        "job": told.job,
        "running_for": told.running_for,
        "epoch": told.epoch,
        "epochs": int(planned.trial.identity["training"]["epochs"]),
        "eta": told.eta,
        "error": told.error or None,
        "reason": told.reason or None,
    }
