"""What the progress lines count."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.cli.progress import Progress
from harness.results.records import STATUSES


def plan_of(*statuses: str) -> Any:
    trials = [
        SimpleNamespace(
            id=f"t{number}",
            status=status,
            entry=SimpleNamespace(method="CE", setting="digits", seed=number),
            trial=SimpleNamespace(identity={"training": {"epochs": 2}}),
        )
        for number, status in enumerate(statuses)
    ]
    counts = {status: statuses.count(status) for status in STATUSES}
    return SimpleNamespace(trials=trials, counts=lambda: counts, suite=SimpleNamespace(name="s"))


@pytest.mark.parametrize(("todo", "before"), [(["t1", "t3"], 2), (["t1"], 3)])
def test_stale_trials_count_as_done_unless_they_run_again(
    capsys: pytest.CaptureFixture[str], todo: list[str], before: int
) -> None:
    progress = Progress()
    progress.on_event({"event": "plan", "plan": plan_of("done", "missing", "done", "stale"), "todo": todo})
    assert (progress.done, progress.total, progress.epochs_total) == (before, 4, 2 * len(todo))
    for trial in todo:
        progress.on_event({"event": "start", "id": trial, "epochs": 2})
        progress.on_event({"event": "done", "id": trial})
    assert progress.done == progress.total
    assert "s: 4 trials (2 done, 1 missing, 1 stale)" in capsys.readouterr().err
