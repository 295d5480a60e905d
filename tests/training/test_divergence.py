"""A run whose loss, weights or outputs are no longer finite has diverged: a result, at chance level, never a failure."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import harness
from harness.cli.main import app
from harness.execution.orchestrate import Orchestrator
from harness.plugins import load_host
from harness.results.records import attempts, claim, open_results, read_json, read_lines, trial_folder
from harness.results.report import read_board, with_ties
from harness.suite.load import load_suite
from harness.suite.plan import make_plan
from harness.training.prepare import prepare
from harness.training.trial import run_trial

Write = Callable[..., Path]

LOSS = """
import harness, torch
class Mine:
    'A loss of which something happens in the second epoch.'
    def __init__(self, raises: bool = False, nan: bool = True):
        self.raises, self.nan, self.late = raises, nan, False
    def __call__(self, outputs, targets, index):
        if self.raises and self.late and (not self.nan or not bool(outputs.isfinite().all())):
            raise ValueError("what cannot be")
        return torch.nn.functional.cross_entropy(outputs, targets, reduction="none") * (
            float("nan") if self.nan and self.late else 1.0
        )
    def epoch_start(self, run):
        self.late = run.epoch == 2
@harness.hookimpl
def harness_register_losses(register):
    register("mine", Mine)
"""


def finish(path: Path, results: Path, plugins: tuple[Path, ...] = ()) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Run a suite: the attempt and the result of every method."""
    suite = load_suite(path, plugins=plugins)
    plan = Orchestrator(suite, open_results(results), "inline").run()
    found = {}
    for planned in plan.trials:
        attempt = attempts(trial_folder(results, planned.id))[-1]
        found[planned.entry.method] = (attempt, read_json(attempt / "result.json"))
    return found


def test_a_classifier_whose_weights_overflow_has_diverged(write_suite: Write, tmp_path: Path) -> None:
    methods = '[[method]]\nname = "CE"\n[[method]]\nname = "wild"\noptimizer = { name = "sgd", lr = 1e30 }'
    found = finish(write_suite(epochs=3, methods=methods), tmp_path / "results")
    attempt, result = found["wild"]
    assert result["status"] == "diverged" and result["error"] is None and result["epochs"] == 1
    (epoch,) = read_lines(attempt / "epochs.jsonl")
    assert epoch["test_accuracy"] is None and "predicted_share" not in epoch
    assert result["chance"] == {"accuracy": 0.1} and result["num_classes"] == 10
    assert read_json(attempt.parent / "done.json")["status"] == "diverged"
    assert not (attempt / "checkpoint.pt").exists()
    attempt, result = found["CE"]
    assert result["status"] == "done" and "status" not in read_json(attempt.parent / "done.json")
    assert result["chance"] == {"accuracy": 0.1}


def test_it_is_a_result_that_nothing_runs_again(write_suite: Write, tmp_path: Path) -> None:
    path = write_suite(methods='[[method]]\nname = "wild"\noptimizer = { name = "sgd", lr = 1e30 }')
    words = [str(path), "--results", str(tmp_path / "results")]
    first = CliRunner().invoke(app, ["run", *words])
    assert first.exit_code == 0 and "1 diverged" in first.output
    assert "0 trials" in CliRunner().invoke(app, ["retry", *words, "--failed"]).output
    again = CliRunner().invoke(app, ["run", *words, "--json"])
    assert again.exit_code == 0 and json.loads(again.stdout)["counts"]["diverged"] == 1
    status = CliRunner().invoke(app, ["status", *words, "--json"])
    assert json.loads(status.stdout)["counts"]["diverged"] == 1
    (planned,) = make_plan(load_suite(path), tmp_path / "results").trials
    assert claim(tmp_path / "results", planned.id) is None
    assert len(attempts(trial_folder(tmp_path / "results", planned.id))) == 1


def test_it_counts_as_chance_in_the_mean_and_the_rank(write_suite: Write, tmp_path: Path) -> None:
    methods = '[[method]]\nname = "wild"\noptimizer = { name = "sgd", lr = 1e30 }\n[[method]]\nname = "CE"'
    found = finish(write_suite(methods=methods), tmp_path / "results")
    with harness.open_store(tmp_path / "results") as connection:
        for metric in ("last", "last10", "selected", "best"):
            board = read_board(connection, metric=metric)
            assert [(row.method, row.rank) for row in board.rows] == [("CE", 1), ("wild", 2)]
            (cell,) = board.rows[1].cells.values()
            assert cell.values == {0: 0.1} and cell.diverged == 1 and board.rows[1].mean == 0.1
            assert cell.notes == ("1 of 1 diverged",) and board.rows[1].notes == ("1 of 1 diverged",)
        (cell,) = read_board(connection, metric="best_minus_last").rows[1].cells.values()
        assert cell.values == {} and cell.missing == 1
        assert read_board(connection, metric="last").rows[0].mean == found["CE"][1]["metrics"]["accuracy"]["last"]


def test_a_regression_that_diverges_counts_as_the_median_and_the_mean(write_suite: Write, tmp_path: Path) -> None:
    path = tmp_path / "suite.toml"
    path.write_text("""
[suite]
name = "small"
seeds = [0]
[training]
epochs = 3
batch_size = 64
optimizer = { name = "sgd", lr = 1e25 }
[[setting]]
dataset = "linear_regression"
model = "linear"
noise = { name = "gaussian", std = 7.0 }
[[method]]
name = "L2"
loss = "l2"
""")
    _, result = finish(path, tmp_path / "results")["L2"]
    assert result["status"] == "diverged" and result["num_classes"] is None
    trial = next(iter(load_suite(path).entries())).trial
    evaluator = prepare(trial, load_host(), torch.device("cpu")).evaluator
    noisy, test = evaluator.train_noisy.double().numpy(), evaluator.test_targets.double().numpy()
    assert result["chance"]["mae"] == pytest.approx(np.abs(test - np.median(noisy, axis=0)).mean())
    assert result["chance"]["rmse"] == pytest.approx(np.sqrt(np.square(test - noisy.mean(0)).mean()))
    with harness.open_store(tmp_path / "results") as connection:
        assert read_board(connection).rows[0].mean == result["chance"]["mae"]


def test_a_loss_that_is_no_number_ends_the_run_in_its_epoch(write_suite: Write, tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(LOSS)
    path = write_suite(epochs=4, methods='[[method]]\nname = "m"\nloss = "mine"')
    attempt, result = finish(path, tmp_path / "results", (plugin,))["m"]
    first, second = read_lines(attempt / "epochs.jsonl")
    assert result["status"] == "diverged" and result["epochs"] == 2
    assert first["train_loss"] is not None and second["train_loss"] is None and second["test_accuracy"] is None
    assert result["metrics"]["accuracy"]["best"] == first["test_accuracy"]
    assert "diverged in epoch 2" in (attempt / "log.txt").read_text()


@pytest.mark.parametrize(("nan", "status"), [(True, "diverged"), (False, "failed")])
def test_what_a_component_raises_on_nan_is_divergence_and_else_a_failure(
    nan: bool, status: str, write_suite: Write, tmp_path: Path
) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(LOSS)
    method = f'[[method]]\nname = "m"\nloss = {{ name = "mine", raises = true, nan = {str(nan).lower()} }}'
    attempt, result = finish(write_suite(epochs=4, methods=method), tmp_path / "results", (plugin,))["m"]
    assert result["status"] == status
    assert "what cannot be" in (attempt / "log.txt").read_text()


def test_a_probability_of_zero_is_no_divergence(write_suite: Write) -> None:
    trial = next(iter(load_suite(write_suite()).entries())).trial
    prepared = prepare(trial, load_host(), torch.device("cpu"))
    run, evaluator = prepared.run, prepared.evaluator
    for bias, defined in ((-math.inf, True), (math.nan, False)):
        rows = torch.zeros(1, 10)
        rows[0, 3] = bias
        run.predict = lambda inputs, rows=rows: rows.expand(len(inputs), 10)
        assert (evaluator.epoch(run, last=False)["test_accuracy"] is not None) == defined


def test_a_search_prefers_any_candidate_that_did_not_diverge(write_suite: Write, tmp_path: Path) -> None:
    path = write_suite(
        suite="tuning_seeds = [100]",
        training="validation = 0.2",
        methods='[[method]]\nname = "CE"\nsearch = { "optimizer.lr" = [1e30, 1e-9] }',
    )
    plan = Orchestrator(load_suite(path), open_results(tmp_path / "results"), "inline").run()
    ((_, chosen),) = plan.chosen.items()
    assert chosen == {"optimizer.lr": 1e-9} and plan.tries == {"CE": 2} and plan.counts()["diverged"] == 1


def test_a_method_of_which_a_run_failed_has_no_rank(write_suite: Write, tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(LOSS.replace("self.late = run.epoch == 2", "self.late = run.seed == 2"))
    methods = '[[method]]\nname = "CE"\n[[method]]\nname = "m"\nloss = { name = "mine", raises = true, nan = false }'
    path = write_suite(methods=methods)
    path.write_text(path.read_text().replace("seeds = [0]", "seeds = [0, 1, 2]"))
    suite = load_suite(path, plugins=[plugin])
    Orchestrator(suite, open_results(tmp_path / "results"), "inline").run()
    with harness.open_store(tmp_path / "results") as connection:
        board = read_board(connection)
    rows = {row.method: row for row in board.rows}
    assert rows["CE"].rank == 1 and not rows["CE"].withheld
    assert rows["m"].rank is None and rows["m"].failed == 1
    assert rows["m"].withheld == "1 run failed" and "m (1 run failed)" in with_ties(board).conclusion


def test_the_numbers_of_an_interrupted_run_that_diverges_are_those_of_a_whole_one(
    write_suite: Write, tmp_path: Path
) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(LOSS)
    suite = load_suite(write_suite(epochs=4, methods='[[method]]\nname = "m"\nloss = "mine"'), plugins=[plugin])
    trial = next(iter(suite.entries())).trial
    whole = claim(tmp_path / "whole", trial.id)
    broken = claim(tmp_path / "broken", trial.id)
    assert whole is not None and broken is not None
    count = iter(range(10**6))
    assert run_trial(trial, broken, suite.host, should_stop=lambda: next(count) >= 10) is None
    again = claim(tmp_path / "broken", trial.id)
    assert again is not None
    expected = run_trial(trial, whole, suite.host)
    assert expected is not None and expected["status"] == "diverged"
    assert run_trial(trial, again, suite.host) == expected
