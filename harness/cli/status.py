"""What is running, done, failed and missing of a suite, with epochs and errors."""

from __future__ import annotations

import time
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


def status(
    suite: SuiteFile,
    results: Results = DEFAULT_RESULTS,
    set_: Set = [],  # noqa: B006 -- typer reads the default, nobody changes it
    select: Select = [],  # noqa: B006
    plugin: PluginFile = [],  # noqa: B006
    scale: Scale = "full",
    json: AsJson = False,
) -> None:
    """What is running, done, failed and missing of a suite, with epochs and errors."""
    from harness.results.records import open_results
    from harness.suite.plan import make_plan

    loaded = load(suite, set_, plugin, scale)
    made = make_plan(loaded, open_results(results, create=False), select)
    lines = [trial_line(made, planned) for planned in made.trials if planned.status in ("running", "failed")]
    counts = made.counts()
    if json:
        print_json({"suite": loaded.name, "counts": counts, "waiting": made.waiting, "trials": lines})
        return
    out = console()
    words = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    out.print(f"{loaded.name}: {len(made.trials)} trials ({words})", markup=False)
    for line in lines:
        head = f"{line['status']:8} {line['id']}  {line['method']} | {line['setting']} | seed {line['seed']}"
        if line["status"] == "running":
            tail = f"epoch {line['epoch']}/{line['epochs']} on {line['host']}, ETA {duration(line['eta'])}"
        else:
            tail = str(line["error"])
        out.print(f"{head}: {tail}", markup=False)
    remaining = made.remaining_seconds()
    if counts["missing"] or counts["running"]:
        out.print(f"about {duration(remaining)} of single-process time remain", markup=False)


def trial_line(plan: Any, planned: Any) -> dict[str, Any]:
    """What a trial's latest attempt tells."""
    from harness.results.records import final_attempt, read_json, read_lines, trial_folder

    attempt = final_attempt(trial_folder(plan.results, planned.id))
    assert attempt is not None
    claim = read_json(attempt / "claim.json") or {}
    lines = read_lines(attempt / "timing.jsonl")
    epochs = int(planned.trial.identity["training"]["epochs"])
    error = (read_json(attempt / "result.json") or {}).get("error") or {}
    per_epoch = sum(line["train_seconds"] + line["evaluation_seconds"] for line in lines) / len(lines) if lines else None
    return {
        "id": planned.id,
        "method": planned.entry.method,
        "setting": planned.entry.setting,
        "seed": planned.entry.seed,
        "status": planned.status,
        "attempt": attempt.name,
        "host": claim.get("host"),
        "pid": claim.get("pid"),
        "job": claim.get("job"),
        "running_for": time.time() - claim["claimed"] if "claimed" in claim else None,
        "epoch": len(lines),
        "epochs": epochs,
        "eta": per_epoch * (epochs - len(lines)) if per_epoch is not None else None,
        "error": f"{error['type']}: {error['message']}" if error else None,
    }
