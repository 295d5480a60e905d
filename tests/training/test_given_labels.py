"""Labels as they are given: what needs the truth is measured where it is known and is absent elsewhere; a rate is stated or
estimated, never 0."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import harness
from harness.errors import HarnessError, ResultsError
from harness.results.report import read_board
from harness.results.report.export import export
from harness.results.report.plots import Request, histogram
from harness.suite.load import Suite, load_suite
from harness.testing.bench import CPU
from harness.testing.subject import TESTING
from harness.training.estimate import uncertainty
from harness.training.evaluation import MEASURES, Evaluator
from harness.training.noise_report import NoiseReport
from harness.training.prepare import prepare

OWN = '''
"""Three classes of points, a third of whose labels are wrong; the truth of none, some or all rows is known."""

import dataclasses

import numpy as np
import torch

from harness import DataSplits, Declares, LabelledData, hookimpl


def own(known: str = "none", trusted: bool = True) -> DataSplits:
    """Points with wrong labels."""
    rng = np.random.default_rng(0)
    def draw(count):
        truth = np.arange(count) % 3
        inputs = torch.from_numpy(rng.normal(size=(count, 4)) + 3 * np.eye(4)[truth]).float()
        wrong = rng.random(count) < 1 / 3
        given = torch.from_numpy(np.where(wrong, (truth + 1) % 3, truth))
        return inputs, given, torch.from_numpy(truth)
    inputs, given, truth = draw(120)
    shown = {"none": None, "all": truth, "some": torch.where(torch.arange(120) % 2 == 0, truth, -1)}[known]
    train = LabelledData(inputs, given, 3, clean=shown)
    inputs, given, truth = draw(60)
    return DataSplits(train, LabelledData(inputs, truth if trusted else given, 3), trusted=trusted)


own.declares = Declares(classes=3)


def wrong_kept(outputs, targets, clean):
    return ((outputs.argmax(1) == targets) & (targets != clean)).double().mean()


def as_given(outputs, targets):
    return (outputs.argmax(1) == targets).double().mean()


@hookimpl
def harness_register_datasets(register):
    register("own", own)


@hookimpl
def harness_register_metrics(register):
    register("wrong_kept", wrong_kept, title="wrong labels kept", on="train")
    register("as_given", as_given, title="labels kept", on="train")
'''
LEARNT = ("memorisation", "recovery", "clean_accuracy", "detection_auroc")
ELR = '[[method]]\nname = "SOP"\nalgorithms = ["sop"]\n'
CDR = '[[method]]\nname = "CDR"\nalgorithms = ["cdr"]\n'
FORWARD = '[[method]]\nname = "Forward"\nalgorithms = [{ name = "forward", matrix = "noise.matrix" }]\n'
CE = '[[method]]\nname = "CE"\n'


def suite(
    folder: Path, known: str = "none", methods: str = CE + ELR, noise: str = '"given"', trusted: bool = True,
    dataset: str = "", metrics: str = '["wrong_kept", "as_given"]',
) -> Suite:  # fmt: skip
    (folder / "own.py").write_text(OWN)
    data = dataset or f'{{ name = "own", known = "{known}", trusted = {str(trusted).lower()} }}'
    path = folder / "suite.toml"
    path.write_text(
        '[suite]\nname = "given"\nseeds = [0]\nplugins = ["own.py"]\n[training]\nepochs = 2\nbatch_size = 16\nvalidation = 0.0\n'
        f'optimizer = {{ name = "sgd", lr = 0.1 }}\n[evaluation]\ntrain_every = 1\nmetrics = {metrics}\n'
        f'[execution]\ndevice = "cpu"\n[[setting]]\ndataset = {data}\nmodel = "linear"\nnoise = {noise}\n{methods}'
    )
    return load_suite(path, plugins=[TESTING])


def record_of(results: Path, method: str = "SOP") -> dict[str, Any]:
    with harness.open_store(results) as connection:
        (trial,) = connection.execute("SELECT trial FROM compared WHERE method = ?", [method]).fetchone() or ("",)
    found: dict[str, Any] = json.loads((results / "trials" / trial / "attempt-001" / "result.json").read_text())
    return found


@pytest.fixture(scope="module")
def unknown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of labels of which nobody knows the truth, with test labels that nobody trusts."""
    folder = tmp_path_factory.mktemp("given")
    plan = harness.run(suite(folder, trusted=False), folder / "results")
    assert plan.counts()["done"] == 2
    return folder / "results"


def test_without_truth_what_needs_it_is_in_no_record_and_no_store(unknown: Path) -> None:
    result = record_of(unknown)
    assert "corrupted" not in result and result["transitions"] is None
    assert result["truth"] == {"known": 0, "samples": 120, "test": False}
    assert not {"wrong_kept", *LEARNT} & set(result["metrics"]) and "wrong_kept" not in result["quantities"]
    assert 0 < result["metrics"]["as_given"]["last"] <= 1 and 0 < result["metrics"]["train_accuracy"]["last"] <= 1
    assert all(set(found) & {"values", "edges"} and sum(found["unknown"]) == 120 and "corrupted" not in found
               for found in result["histograms"].values())  # fmt: skip
    with harness.open_store(unknown) as connection:
        trials = connection.execute("SELECT corrupted, transitions, truth_known, test_trusted FROM trials").fetchall()
        epochs = connection.execute("SELECT memorisation, recovery, clean_accuracy, detection_auroc FROM epochs")
        assert {value for row in epochs.fetchall() for value in row} == {None}
        assert set(trials) == {(None, None, 0, False)}
        (count,) = connection.execute(
            "SELECT count(*) FROM metrics WHERE list_contains(?, metric)", [list(LEARNT)]
        ).fetchone() or (-1,)
        assert count == 0


def test_board_export_and_plot_say_what_the_numbers_rest_on(unknown: Path) -> None:
    with harness.open_store(unknown) as connection:
        board = read_board(connection)
        assert "test labels are as given and may be wrong" in board.caution
        with pytest.raises(ResultsError, match="no trial of 'given' has 'memorisation'"):
            read_board(connection, metric="memorisation")
        assert histogram(connection, Request(suite="given")).axes
    assert '"test_trusted": false' in str(export(board, "json", None))
    assert "may be wrong" in str(export(board, "markdown", None))


def test_the_page_of_a_trial_shows_scores_without_saying_which_are_wrong(unknown: Path) -> None:
    from harness_leaderboard import tables

    found = record_of(unknown)["histograms"]
    drawn = tables.diagnostics({}, {}, found)
    assert "unknown" in drawn and "corrupted" not in drawn
    assert "nobody knows the truth" in tables.transition_chart(None)


def test_where_the_truth_is_known_it_is_measured_on_these_samples_alone(tmp_path: Path) -> None:
    loaded = suite(tmp_path, "some")
    prepared = prepare(next(iter(loaded.entries())).trial, loaded.host, CPU)
    run, evaluator = prepared.run, prepared.evaluator
    run.epoch = 1
    measured = evaluator.epoch(run, last=True)
    with torch.no_grad():
        predicted = run.model(torch.cat([x for _, x in run.source.ordered(512)])).argmax(1).numpy()
    truth, given = np.arange(120) % 3, run.targets.numpy()
    known = np.arange(120) % 2 == 0
    wrong, right = known & (truth != given), known & (truth == given)
    assert 0 < wrong.sum() < right.sum()
    assert measured["memorisation"] == pytest.approx((predicted == given)[wrong].mean())
    assert measured["recovery"] == pytest.approx((predicted == truth)[wrong].mean())
    assert measured["clean_accuracy"] == pytest.approx((predicted == truth)[right].mean())
    assert measured["train_accuracy"] == pytest.approx((predicted == given).mean())
    assert measured["wrong_kept"] == pytest.approx(((predicted == given) & wrong)[known].mean())
    assert evaluator.rate() == pytest.approx(wrong.sum() / known.sum())
    assert np.sum(evaluator.transitions(run)) == known.sum() and evaluator.truth() == {"known": 60, "samples": 120}


def test_with_the_whole_truth_all_is_measured_as_under_simulated_noise(tmp_path: Path) -> None:
    plan = harness.run(suite(tmp_path, "all"), tmp_path / "results")
    assert plan.counts()["done"] == 2
    result = record_of(tmp_path / "results")
    assert {"memorisation", "recovery", "wrong_kept"} <= set(result["metrics"])
    assert result["corrupted"] == pytest.approx(1 / 3, abs=0.1)
    with harness.open_store(tmp_path / "results") as connection:
        assert "the test labels are trusted." in read_board(connection).caution


def test_an_evaluator_that_is_told_nothing_measures_as_before() -> None:
    clean, noisy = torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1])
    evaluator = Evaluator(
        test=None, test_targets=clean, validation=None, validation_targets=None, train_clean=clean, train_noisy=noisy,
        train_every=1, device=CPU,
    )  # type: ignore[arg-type]  # fmt: skip
    assert evaluator.corrupted.tolist() == [False, True, False] and evaluator.all_known
    assert evaluator.rate() == pytest.approx(1 / 3)


@pytest.mark.parametrize("dataset", ['"testing.values"', '"testing.labels"'])
def test_other_tasks_have_given_labels_too(tmp_path: Path, dataset: str) -> None:
    method = CE if "values" not in dataset else '[[method]]\nname = "L1"\nloss = "l1"\n'
    method = method.replace('"CE"\n', '"BCE"\nloss = "bce"\n') if "labels" in dataset else method
    loaded = suite(tmp_path, methods=method, dataset=dataset, metrics="[]")
    prepared = prepare(next(iter(loaded.entries())).trial, loaded.host, CPU)
    measured = prepared.evaluator.epoch(prepared.run, last=True)
    assert not set(LEARNT) & set(measured) and any(name.startswith("train_") for name in measured)
    assert MEASURES[prepared.run.task].chance and prepared.trusted is True


def test_the_rate_of_given_labels_is_refused_stated_or_estimated(tmp_path: Path) -> None:
    with pytest.raises(
        HarnessError, match=r'nobody knows the rate of the noise .given.; write tau = "noise.estimated_rate"'
    ):
        suite(tmp_path, methods=CDR)
    stated = next(iter(suite(tmp_path, methods=CDR, noise='{ name = "given", rate = 0.3 }').entries()))
    assert stated.trial.identity["algorithms"][0]["params"]["tau"] == 0.3 and not (stated.oracle or stated.estimated)
    found = suite(tmp_path, methods=CDR + CE, noise='{ name = "given", estimate = true, redraws = 2 }')
    cdr, ce = found.entries()
    assert cdr.trial.identity["algorithms"][0]["params"]["tau"] == "noise.estimated_rate"
    assert cdr.trial.identity["estimate"]["name"] == "confident" and cdr.estimated and not cdr.oracle
    assert ce.trial.identity["estimate"] == cdr.trial.identity["estimate"] and not ce.estimated
    own = CDR.replace('["cdr"]', '[{ name = "cdr", tau = "noise.estimated_rate" }]')
    assert next(iter(suite(tmp_path, methods=own).entries())).trial.identity["estimate"]["name"] == "hoc"


def test_the_matrix_of_given_labels_is_refused_or_estimated(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"nobody knows the matrix .* write an estimator's name"):
        suite(tmp_path, methods=FORWARD)
    found = next(iter(suite(tmp_path, methods=FORWARD, noise='{ name = "given", estimate = "anchors" }').entries()))
    assert found.trial.identity["algorithms"][0]["params"]["matrix"] == "anchors" and found.estimated
    with pytest.raises(HarnessError, match="unknown estimator 'hok'"):
        suite(tmp_path, noise='{ name = "given", estimate = "hok" }')


def test_an_estimate_is_recorded_with_its_uncertainty(tmp_path: Path) -> None:
    noise = '{ name = "given", estimate = true, redraws = 4 }'
    harness.run(suite(tmp_path, methods=CE, noise=noise), tmp_path / "results")
    estimated = record_of(tmp_path / "results", "CE")["estimated"]
    low, high = estimated["rate_interval"]
    with harness.open_store(tmp_path / "results") as connection:
        assert read_board(connection).rates == {
            ("CE", "own known=none trusted / linear / given estimate redraws=4"): (estimated["rate"], None)
        }
    assert 0 <= low < estimated["rate"] < high <= 1 and abs(estimated["rate"] - 1 / 3) < 0.2
    assert np.shape(estimated["matrix_std"]) == (3, 3) and estimated["redraws"] == 4


def test_the_spread_over_halves_is_the_standard_error_of_the_whole() -> None:
    """Of a mean, whose standard error is known: the share of features above a bound."""

    class Share:
        def __call__(self, features: Any, labels: Any, num_classes: int, *, rng: Any) -> NoiseReport:
            rate = float((features[:, 0] > 0.5).double().mean())
            return NoiseReport(torch.full((2, 2), 0.5, dtype=torch.float64), torch.full((2,), 0.5), rate)

    rng = np.random.default_rng(0)
    features, labels = torch.from_numpy(rng.random((800, 1))), torch.from_numpy(rng.integers(0, 2, 800))
    rate = float((features[:, 0] > 0.5).double().mean())
    found = uncertainty(Share, features, labels, 2, {"rate": rate}, 400, rng)
    expected = math.sqrt(rate * (1 - rate) / 800)
    assert found["rate_std"] == pytest.approx(expected, rel=0.1)
    assert found["rate_interval"] == pytest.approx([rate - 1.645 * expected, rate + 1.645 * expected], rel=0.02)
    assert np.allclose(found["matrix_std"], 0)


def test_clean_classes_are_checked_and_follow_a_subset() -> None:
    data = harness.LabelledData(torch.zeros(3, 1), torch.tensor([0, 1, 0]), 2, clean=torch.tensor([0, -1, 1]))
    assert data.subset(torch.tensor([2, 1])).clean.tolist() == [1, -1]  # type: ignore[union-attr]
    for clean, words in ((torch.tensor([0, 1, 2]), "outside"), (torch.tensor([0.0, 1, 1]), "float32"),
                         (torch.tensor([0, 1]), "shape")):  # fmt: skip
        with pytest.raises(HarnessError, match=words):
            harness.LabelledData(torch.zeros(3, 1), torch.tensor([0, 1, 0]), 2, clean=clean)
