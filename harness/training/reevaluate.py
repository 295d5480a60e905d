"""Measuring a finished trial again from its kept states: more FGSM epsilons, more metrics, no training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness import running
from harness.errors import ResultsError
from harness.files import Damage
from harness.plugins import Host
from harness.results.records import (
    evaluated_quantities,
    final_attempt,
    read_evaluations,
    read_json,
    trial_folder,
    write_evaluations,
)
from harness.training import checkpoint
from harness.training.metrics import facts_of, quantities_of
from harness.training.prepare import choose_device, prepare
from harness.trial import Trial


def has_kept_state(results: Path, trial_id: str) -> bool:
    """Whether a trial ran with ``keep = true``."""
    attempt = final_attempt(trial_folder(results, trial_id))
    return attempt is not None and (attempt / "last.pt").is_file()


def evaluate_trial(
    results: Path, trial: Trial, host: Host, epsilons: Sequence[float] = (), metrics: Sequence[str] = ()
) -> dict[str, dict[str, float | None]]:
    """FGSM accuracy and plugins' metrics of the kept states, added to the trial's ``evaluations.json``, which the collector
    reads.

    Raises:
        ResultsError: when a kept state cannot be read.
    """
    folder = trial_folder(results, trial.id)
    attempt = final_attempt(folder)
    assert attempt is not None
    device = choose_device(str(trial.options.get("execution", {}).get("device", "auto")))
    asked = Trial(trial.identity, {**trial.options, "metrics": list(metrics)})
    known = (read_json(attempt / "result.json") or {}).get("estimated")
    prepared = prepare(asked, host, device, known=known)
    found: dict[str, dict[str, float | None]] = read_evaluations(folder, attempt)
    facts = evaluated_quantities(folder, attempt)
    for at in ("last", "selected"):
        path = attempt / f"{at}.pt"
        if not path.is_file():
            continue
        try:
            state = checkpoint.load_unsealed(path, device) or checkpoint.load(path, device, trial.id)[0]
        except Damage as damage:
            raise ResultsError(f"the kept state cannot be used ({damage})", str(path), "run the trial again") from None
        prepared.run.load_prediction_state(state)
        for epsilon in epsilons:
            with running.method_working():
                accuracy = prepared.evaluator.fgsm(prepared.run, epsilon)
            found.setdefault(f"fgsm_accuracy@{epsilon:g}", {})[at] = accuracy
        with running.method_working():
            measured = prepared.evaluator.measure(prepared.run)
        for name, value in measured.items():
            found.setdefault(name, {})[at] = value
        facts |= facts_of(quantities_of(prepared.evaluator.metrics, host.registry, [measured]))
    write_evaluations(folder, attempt, found, facts)
    return found
