"""What is queued, running, done, diverged, failed, lost and missing of a suite, with epochs and errors."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

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
    duration,
    load,
    print_json,
)
from harness.words import counted

STANDINGS = ("done", "diverged", "failed", "running", "queued", "lost", "missing", "stale")


def status(
    suite: SuiteFile,
    results: Results = DEFAULT_RESULTS,
    set_: Set = [],  # noqa: B006 -- typer reads the default, nobody changes it
    select: Select = [],  # noqa: B006
    plugin: PluginFile = [],  # noqa: B006
    scale: Scale = "full",
    json: AsJson = False,
) -> None:
    """What is queued, running, done, diverged, failed, lost and missing of a suite, with epochs and errors."""
    from harness.execution.queues import read_queues, standing
    from harness.results.records import open_results
    from harness.suite.plan import make_plan

    loaded = load(suite, set_, plugin, scale)
    made = make_plan(loaded, open_results(results, create=False), select)
    queues = read_queues(loaded, made.results)
    standings = [standing(planned, made, queues) for planned in made.trials]
    counts = {name: standings.count(name) for name in STANDINGS}
    pairs = list(zip(made.trials, standings, strict=True))
    told = ("running", "failed", "lost")
    lines = [trial_line(made, planned) | {"status": state} for planned, state in pairs if state in told]
    for line in lines:
        line["job"] = line["job"] or queues.trials.get(line["id"], {}).get("job")
    ends = queues.ended([line["job"] for line in lines if line["status"] == "lost" and line["job"]])
    waiting = [{"id": planned.id, **queues.trials[planned.id]} for planned, state in pairs if state == "queued"]
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
        head = f"{line['status']:8} {line['id']}  {line['method']} | {line['setting']} | seed {line['seed']}"
        if line["status"] == "running":
            place = f"{line['node'] or line['host']}{', job ' + line['job'] if line['job'] else ''}"
            tail = f"epoch {line['epoch']}/{line['epochs']} on {place}, ETA {duration(line['eta'])}"
        elif line["status"] == "lost":
            end = ends.get(line["job"], "gone")
            owner = f"job {line['job']}" if line["job"] else "its worker"
            tail = f"epoch {line['epoch']}/{line['epochs']}; {owner} is {end}"
        else:
            tail = str(line["error"])
        out.print(f"{head}: {tail}", markup=False)
    for detail, count in Counter(item["detail"] for item in waiting).items():
        out.print(f"queued   {counted(count, 'trial')}: {detail}", markup=False)
    if counts["lost"]:
        out.print("`harness run` goes on with lost trials from their checkpoints", markup=False)
    for note in [*made.notes, *queues.notes]:
        out.print(f"note: {note}", markup=False)
    remaining = made.remaining_seconds()
    if remaining != 0.0:
        out.print(f"about {duration(remaining)} of single-process time remain", markup=False)


def trial_line(plan: Any, planned: Any) -> dict[str, Any]:
    """What a trial's latest attempt tells."""
    from harness.results.records import latest_attempt, read_json, read_lines, trial_folder

    attempt = latest_attempt(trial_folder(plan.results, planned.id))
    if attempt is None:  # its job was gone before it started
        attempt = trial_folder(plan.results, planned.id) / "attempt-000"
    claim = read_json(attempt / "claim.json") or {}
    lines = read_lines(attempt / "timing.jsonl")
    environment = read_json(attempt / "environment.json") or {}
    epochs = int(planned.trial.identity["training"]["epochs"])
    error = (read_json(attempt / "result.json") or {}).get("error") or {}
    per_epoch = (
        sum(line["train_seconds"] + line["evaluation_seconds"] for line in lines) / len(lines) if lines else None
    )
    return {
        "id": planned.id,
        "method": planned.entry.method,
        "setting": planned.entry.setting,
        "seed": planned.entry.seed,
        "status": planned.status,
        "attempt": attempt.name,
        "host": claim.get("host"),
        "node": environment.get("node"),
        "pid": claim.get("pid"),
        "job": claim.get("job"),
        "running_for": time.time() - claim["claimed"] if "claimed" in claim else None,
        "epoch": len(lines),
        "epochs": epochs,
        "eta": per_epoch * (epochs - len(lines)) if per_epoch is not None else None,
        "error": f"{error['type']}: {error['message']}" if error else None,
    }
