"""A run has collapsed when one class gets nearly all predictions, or accuracy is that of chance."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import harness
from harness.execution.orchestrate import Orchestrator
from harness.plugins import load_host
from harness.results.collapse import collapsed
from harness.results.records import final_attempt, open_results, read_json, read_lines, trial_folder, write_json
from harness.results.records.record import digests_of
from harness.results.report import read_board
from harness.results.store import collect
from harness.suite.load import load_suite
from harness.training.evaluation import summarise
from harness.training.prepare import prepare

Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("accuracy", "share", "expected"),
    [(0.5, 0.95, True), (0.5, 0.9499, False), (0.106, 0.3, True), (0.1061, 0.3, False), (0.106, None, True), (0.5, None, False)],
)  # fmt: skip
def test_the_rule(accuracy: float, share: float | None, expected: bool) -> None:
    """Of ten classes and 10,000 test samples two standard errors of chance are 0.006."""
    assert collapsed(accuracy, share, 10, 10_000) == expected


def test_guessing_is_found_and_a_little_knowledge_is_not() -> None:
    """97.7 % of random guesses stay below two standard errors, whatever their number."""
    rng = np.random.default_rng(0)
    for classes, samples in ((2, 400), (10, 1_000), (100, 10_000)):
        guesses = rng.binomial(samples, 1 / classes, 20_000) / samples
        found = np.mean([collapsed(a, 0.5, classes, samples) for a in guesses])
        assert 0.96 < found < 0.99
        assert not collapsed(3 / classes if classes > 2 else 0.7, 0.5, classes, samples)


def test_an_old_record_that_does_not_tell_its_samples_is_compared_with_chance_itself() -> None:
    assert collapsed(0.1, None, 10, None) and not collapsed(0.1001, None, 10, None)


def test_the_share_is_that_of_the_most_predicted_class(write_suite: Write) -> None:
    trial = next(iter(load_suite(write_suite()).entries())).trial
    prepared = prepare(trial, load_host(), torch.device("cpu"))
    run, evaluator = prepared.run, prepared.evaluator
    found = evaluator.epoch(run, last=False)
    with run.evaluating(), torch.inference_mode():
        outputs = torch.cat([run.predict(inputs) for _, inputs in evaluator.test.ordered(64)])
    counts = np.bincount(outputs.argmax(1).numpy(), minlength=10)
    assert found["predicted_share"] == counts.max() / counts.sum()


def test_it_is_told_at_the_epochs_that_accuracy_is_told_at() -> None:
    def epoch(accuracy: float, share: float, validation: float) -> dict[str, float]:
        return {
            "test_accuracy": accuracy, "test_loss": 1.0, "predicted_share": share, "validation_accuracy": validation,
        }  # fmt: skip

    history = [epoch(0.5, 0.2, 0.3), epoch(0.9, 0.3, 0.2), epoch(0.6, 0.4, 0.9), epoch(0.1, 0.99, 0.1)]
    metrics, _ = summarise(history, "classification")
    assert metrics["predicted_share"] == {"last": 0.99, "selected": 0.4, "best": 0.3}
    del history[0]["predicted_share"]  # begun by an earlier harness
    assert summarise(history[:1], "classification")[0]["predicted_share"] == {
        "last": None, "selected": None, "best": None,
    }  # fmt: skip


def test_a_cell_counts_its_collapsed_runs_and_says_what_differs(write_suite: Write, tmp_path: Path) -> None:
    methods = '[[method]]\nname = "still"\noptimizer = { name = "sgd", lr = 1e-12 }\n[[method]]\nname = "CE"'
    path, results = write_suite(methods=methods), open_results(tmp_path / "results")
    plan = Orchestrator(load_suite(path), results, "inline").run()
    attempts = {p.entry.method: final_attempt(trial_folder(results, p.id)) for p in plan.trials}
    still = attempts["still"]
    assert still is not None
    (last,) = read_lines(still / "epochs.jsonl")[-1:]
    result = read_json(still / "result.json")
    assert result["test_samples"] == len(prepare(plan.trials[0].trial, load_host(), torch.device("cpu")).evaluator.test_targets)  # fmt: skip
    result["metrics"]["predicted_share"]["last"] = 0.97
    write_json(still / "result.json", result)
    lines = [{**line, "predicted_share": 0.97} for line in read_lines(still / "epochs.jsonl")]
    (still / "epochs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    marker = read_json(still.parent / "done.json")
    marker["files"] = digests_of(still, (still / "result.json").read_bytes())
    write_json(still.parent / "done.json", marker)
    environment = read_json(still / "environment.json")
    write_json(still / "environment.json", {**environment, "threads": 4})
    collect(results)
    with harness.open_store(results) as connection:
        board = read_board(connection)
        rows = {row.method: row for row in board.rows}
        assert rows["still"].collapsed == 1 and rows["CE"].collapsed == 0
        (cell,) = rows["still"].cells.values()
        assert cell.notes == ("1 of 1 collapsed",) and cell.values == {0: last["test_accuracy"]}
        assert "Runs differ in threads, which changes results:" in board.caution
        assert all(cell.collapsed is None for row in read_board(connection, metric="last10").rows for cell in row.cells.values())  # fmt: skip


def test_the_open_store_can_be_asked_at_once(write_suite: Write, tmp_path: Path) -> None:
    results = open_results(tmp_path / "results")
    Orchestrator(load_suite(write_suite(epochs=1, setting="subset = 64")), results, "inline").run()
    with harness.open_store(results) as connection:
        assert connection.sql("SELECT threads, batch_size, num_classes FROM trials").fetchall() == [(1, 64, 10)]
