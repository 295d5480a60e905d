"""``"noise.estimated_rate"`` and ``matrix = "hoc"``: words in the identity, numbers within the trial, from noisy labels alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import harness
from harness.errors import HarnessError, TrialInterrupted
from harness.suite.load import Suite, load_suite
from harness.testing.bench import CPU, difference
from harness.testing.subject import TESTING
from harness.training import prepare as prepare_module
from harness.training import seeds
from harness.training.estimate import inputs_of
from harness.training.loop import Loop
from harness.training.prepare import prepare

FEATURES = '{ name = "testing.classes", shape = [6], size = 200 }'
IMAGES = '{ name = "testing.classes", size = 60 }'
QUICK = 'estimate = { name = "hoc", warmup = 2, steps = 60 }'
ESTIMATED = f"""
[[method]]
name = "CDR, estimated"
algorithms = [{{ name = "cdr", tau = "noise.estimated_rate" }}]
{QUICK}
"""
MATRIX = """
[[method]]
name = "Forward, HOC"
algorithms = [{ name = "forward", matrix = "hoc" }]
"""
ORACLE = '[[method]]\nname = "CDR"\nalgorithms = ["cdr"]\n'


def suite(
    folder: Path, methods: str, dataset: str = FEATURES, noise: str = '"testing.flip"', validation: float = 0.1
) -> Suite:
    path = folder / "suite.toml"
    path.write_text(
        '[suite]\nname = "estimated"\nseeds = [0]\n[training]\nepochs = 2\nbatch_size = 32\n'
        f'optimizer = {{ name = "sgd", lr = 0.05 }}\nvalidation = {validation}\n[execution]\ndevice = "cpu"\n'
        f'[[setting]]\ndataset = {dataset}\nmodel = "testing.net"\nnoise = {noise}\n{methods}'
    )
    return load_suite(path, plugins=[TESTING])


def first(loaded: Suite) -> Any:
    return next(iter(loaded.entries()))


def parts(prepared: Any, name: str) -> Any:
    return prepared.run.stack.parts[name]


def test_the_words_are_in_the_identity_and_the_method_is_no_oracle(tmp_path: Path) -> None:
    entry = first(suite(tmp_path, ESTIMATED + MATRIX + ORACLE))
    assert entry.trial.identity["algorithms"][0]["params"]["tau"] == "noise.estimated_rate"
    assert entry.trial.identity["estimate"]["name"] == "hoc" and entry.trial.identity["estimate"]["warmup"] == 2
    assert entry.trial.identity["estimate"]["params"]["steps"] == 60
    assert {"estimator:hoc", "loss:ce"} <= set(entry.trial.options["digests"])
    assert [(e.oracle, e.estimated) for e in suite(tmp_path, ESTIMATED + MATRIX + ORACLE).entries()] == [
        (False, True), (False, True), (True, False),
    ]  # fmt: skip
    other = first(suite(tmp_path, ESTIMATED.replace("warmup = 2", "warmup = 3")))
    assert other.trial.id != entry.trial.id
    named = first(suite(tmp_path, MATRIX))
    assert named.trial.identity["algorithms"][0]["params"]["matrix"] == "hoc"
    assert named.trial.identity["estimate"]["warmup"] == 10


def test_a_method_without_such_a_reference_has_the_identity_that_it_had(tmp_path: Path) -> None:
    entry = first(suite(tmp_path, ORACLE))
    assert "estimate" not in entry.trial.identity
    assert not any(key.startswith("estimator:") for key in entry.trial.options["digests"])


def test_human_labels_without_a_rate_can_be_estimated_where_an_oracle_is_refused(tmp_path: Path) -> None:
    noise = '{ name = "human", labels = "worse" }'
    assert first(suite(tmp_path, ESTIMATED, noise=noise)).estimated
    with pytest.raises(HarnessError, match='has no rate to refer to; give tau a number, or "noise'):
        first(suite(tmp_path, ORACLE, noise=noise))


def test_on_features_the_estimator_sees_them_with_the_noisy_labels(tmp_path: Path) -> None:
    loaded = suite(tmp_path, ESTIMATED)
    trial = first(loaded).trial
    prepared = prepare(trial, loaded.host, CPU)
    run = prepared.run
    rng = seeds.numpy_stream(0, "estimate")
    expected = harness.create("estimator", "hoc", steps=60)(
        inputs_of(run.source), run.targets, run.num_classes, rng=rng
    )
    assert run.estimate is not None and run.estimate["rate"] == expected.rate
    assert parts(prepared, "cdr").tau == expected.rate
    assert 0 < expected.rate < 1


def test_a_matrix_by_an_estimators_name_is_its_matrix(tmp_path: Path) -> None:
    loaded = suite(tmp_path, MATRIX + QUICK)
    prepared = prepare(first(loaded).trial, loaded.host, CPU)
    assert prepared.run.estimate is not None
    assert parts(prepared, "forward").source == prepared.run.estimate["matrix"]
    assert np.allclose(np.sum(prepared.run.estimate["matrix"], axis=1), 1)


def test_what_is_estimated_depends_on_noisy_labels_alone(tmp_path: Path) -> None:
    """Other clean labels under the same noisy ones change nothing, on features and after a warm-up."""
    for dataset in (FEATURES, IMAGES):
        found = []
        for canary in (1, 2):
            changed = dataset.replace("size", f"canary = {canary}, size")
            loaded = suite(tmp_path, ESTIMATED, changed, '"testing.fixed"', validation=0.0)
            found.append(prepare(first(loaded).trial, loaded.host, CPU).run.estimate)
        assert found[0] == found[1] and found[0] is not None


def test_a_warm_up_leaves_the_trial_as_it_would_be_with_the_number(tmp_path: Path) -> None:
    loaded = suite(tmp_path, ESTIMATED, IMAGES)
    prepared = prepare(first(loaded).trial, loaded.host, CPU)
    assert prepared.run.estimate is not None
    rate = prepared.run.estimate["rate"]
    written = suite(tmp_path, ESTIMATED.replace('"noise.estimated_rate"', repr(rate)).replace(QUICK, ""), IMAGES)
    plain = prepare(first(written).trial, written.host, CPU)
    results = []
    for each in (prepared, plain):
        loop = Loop(each.run, each.evaluator, _Journal())
        loop.fit()
        results.append((loop.history, each.run.model.state_dict()))
    assert difference(results[0], results[1]) is None


class _Journal:
    def __init__(self, stop_after: int = -1) -> None:
        self.left = stop_after

    def epoch(self, record: Any, timing: Any) -> None: ...

    def checkpoint(self, state: Any) -> None: ...

    def should_stop(self) -> bool:
        self.left -= 1
        return self.left == 0


def test_a_warm_up_stops_when_the_trial_is_to_stop(tmp_path: Path) -> None:
    loaded = suite(tmp_path, ESTIMATED, IMAGES)
    with pytest.raises(TrialInterrupted):
        prepare(first(loaded).trial, loaded.host, CPU, should_stop=_Journal(2).should_stop)


@pytest.mark.parametrize("stop", [1, 3, 5, 8, 9])
def test_a_trial_that_was_stopped_anywhere_ends_with_the_same_result(
    stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the warm-up (4 batches), at its end, and in training, where the estimate is the checkpoint's."""
    from harness.results.records import claim
    from harness.training.trial import run_trial

    loaded = suite(tmp_path, ESTIMATED, IMAGES)
    trial = first(loaded).trial
    outcomes = []
    for name, journal in (("whole", _Journal()), ("parts", _Journal(stop))):
        folder = tmp_path / name
        attempt = claim(folder, trial.id)
        assert attempt is not None
        result = run_trial(trial, attempt, loaded.host, should_stop=journal.should_stop)
        if name == "parts":
            assert result is None
            if stop > 5:
                monkeypatch.setattr(prepare_module, "estimated", None)  # which is not called again
            again = claim(folder, trial.id)
            assert again is not None
            result = run_trial(trial, again, loaded.host)
        assert result is not None and result["status"] == "done"
        outcomes.append(result)
    assert outcomes[0] == outcomes[1]
    assert 0 <= outcomes[0]["estimated"]["rate"] <= 1 and len(outcomes[0]["estimated"]["matrix"]) == 10


def test_the_board_shows_the_oracle_and_the_estimate_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness_leaderboard.tables import leaderboard_legend
    from harness_leaderboard.views import rank_methods
    from rich.console import Console

    from harness.cli.board import print_board
    from harness.results.records import final_attempt, read_json, trial_folder
    from harness.results.report.read import read_board

    loaded = suite(tmp_path, ESTIMATED + ORACLE)
    plan = harness.run(loaded, tmp_path / "results")
    assert plan.counts()["done"] == 2
    with harness.open_store(tmp_path / "results") as store:
        board, errors = read_board(store, "estimated"), read_board(store, "estimated", "rate_error")
        legend = str(leaderboard_legend(rank_methods(board, [row.method for row in board.rows])))
        true = float(store.execute("SELECT DISTINCT corrupted FROM trials").fetchall()[0][0])
    assert {row.label for row in board.rows} == {"CDR, estimated ≈", "CDR °"}
    (entry,) = [entry for entry in loaded.entries() if entry.estimated]
    attempt = final_attempt(trial_folder(tmp_path / "results", entry.trial.id))
    rate = (read_json(attempt / "result.json") or {})["estimated"]["rate"]
    assert board.rates == {("CDR, estimated", board.settings[0]): (rate, true)}
    (cell,) = next(row for row in errors.rows if row.estimated).cells.values()
    assert cell.mean == pytest.approx(abs(rate - true))
    assert not next(row for row in errors.rows if row.oracle).cells[board.settings[0]].n
    print_board(board, Console(width=160))
    told = f"CDR, estimated: {rate:.1%} of the labels estimated to be wrong, {true:.1%} are"
    assert told in capsys.readouterr().out
    assert f"CDR, estimated {100 * rate:.1f} % and {100 * true:.1f} %" in legend


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        (ESTIMATED.replace('"hoc"', '"hic"'), "unknown estimator 'hic'"),
        (ESTIMATED.replace("warmup = 2", "warmup = 0"), "estimate.warmup: should be greater than or equal to 1"),
        (ESTIMATED.replace("steps = 60", "stips = 60"), "unknown parameter 'stips'"),
        (ORACLE + QUICK, "no parameter refers to an estimate"),
        (MATRIX + 'estimate = "confident"', "two estimators, confident and hoc"),
        (MATRIX.replace('"hoc"', '"hock"'), "matrix: "),
        (ESTIMATED.replace("tau", "tav"), "unknown parameter 'tav'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(methods: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=words) as refused:
        first(suite(tmp_path, methods))
    assert "method[0]" in str(refused.value)


def test_outside_a_trial_there_is_nothing_to_estimate() -> None:
    with pytest.raises(HarnessError, match="a rate is estimated within a trial only; give a number here"):
        harness.create("algorithm", "cdr", tau="noise.estimated_rate")


def test_regression_has_no_rate_of_wrong_classes(tmp_path: Path) -> None:
    method = '[[method]]\nname = "RRM"\nloss = "l2"\nalgorithms = [{ name = "rrm", contamination = "noise.estimated_rate" }]\n'
    with pytest.raises(HarnessError, match="the noise of classes alone can be estimated"):
        first(suite(tmp_path, method, '"testing.values"'))


def test_any_parameter_that_is_a_share_may_be_the_estimated_rate(tmp_path: Path) -> None:
    method = f'[[method]]\nname = "GCE"\nloss = {{ name = "gce", q = "noise.estimated_rate" }}\n{QUICK}\n'
    loaded = suite(tmp_path, method)
    prepared = prepare(first(loaded).trial, loaded.host, CPU)
    assert prepared.run.estimate is not None
    assert prepared.run.stack.loss.q == prepared.run.estimate["rate"]  # type: ignore[attr-defined]
    assert torch.is_tensor(prepared.run.targets)
