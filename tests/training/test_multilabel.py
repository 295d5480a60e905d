"""Several labels for each sample: data, noise, losses and what is measured, from the suite to the board."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.datasets.mnist5k import mnist5k
from harness_plugins.datasets.mnist_pairs import mnist_pairs
from harness_plugins.losses.bce import binary_cross_entropy
from harness_plugins.losses.bgce import binary_generalized_cross_entropy
from harness_plugins.noise.label_flip import LabelFlip
from sklearn.metrics import accuracy_score, average_precision_score, log_loss
from torch.nn import functional

import harness
from harness import DataSplits, LabelledData
from harness.errors import DataError, HarnessError, SuiteError
from harness.execution.orchestrate import Orchestrator
from harness.plugins import load_host
from harness.results.records import final_attempt, open_results, read_json, read_lines, trial_folder
from harness.results.report import read_board
from harness.suite.load import find_suite, load_suite
from harness.suite.plan import make_plan
from harness.testing.subject import TESTING
from harness.training.prepare import corrupt, load_data, prepare

SUITE = """
[suite]
name = "several"
seeds = [0]
TUNING
[training]
epochs = 3
batch_size = 20
validation = 0.2
optimizer = { name = "sgd", lr = 0.5, momentum = 0.9 }
[evaluation]
train_every = 1
metrics = ["class_average_precision"]
[[setting]]
dataset = { name = "testing.labels", size = 200 }
model = "testing.net"
noise = { name = "label_flip", on = 0.1, off = 0.3 }
[[method]]
name = "BCE"
loss = "bce"
SEARCH
[[method]]
name = "GCE"
loss = { name = "bgce", q = 0.7 }
"""


def suite_file(folder: Path, **changes: str) -> Path:
    path = folder / "several.toml"
    text = SUITE
    for old, new in {"TUNING": "", "SEARCH": "", **changes}.items():
        text = text.replace(old, new)
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The results of the suite and its plan."""
    folder = tmp_path_factory.mktemp("several")
    results = open_results(folder / "results")
    return results, Orchestrator(load_suite(suite_file(folder), plugins=[TESTING]), results, "inline").run()


# --- data and noise -----------------------------------------------------------------------------------------------------


def test_pairs_show_two_real_digits_and_say_which() -> None:
    splits = mnist_pairs(pairs=50)
    train = splits.train
    assert splits.task == "multilabel" and train.inputs.shape == (50, 1, 28, 56) and len(splits.test) == 1000
    digits = mnist5k()
    known = {
        digit.numpy().tobytes(): int(target)
        for digit, target in zip(digits.train.inputs, digits.train.targets, strict=True)
    }
    for image, labels in zip(train.inputs, train.targets, strict=True):
        shown = {known[image[..., side].contiguous().numpy().tobytes()] for side in (slice(28), slice(28, None))}
        assert shown == set(labels.nonzero().flatten().tolist())
    again = mnist_pairs(pairs=50)
    assert torch.equal(again.train.inputs, train.inputs) and torch.equal(again.test.targets, splits.test.targets)


def test_every_training_image_stands_on_each_side_once() -> None:
    images = mnist_pairs().train.inputs
    digits = {digit.numpy().tobytes() for digit in mnist5k().train.inputs}
    for side in (slice(28), slice(28, None)):
        assert {image[..., side].contiguous().numpy().tobytes() for image in images} == digits


@pytest.mark.parametrize("on, off", [(0.0, 0.0), (0.2, 0.0), (0.0, 0.4), (0.1, 0.3), (1.0, 1.0)])
def test_labels_are_flipped_one_by_one_at_their_rates(on: float, off: float) -> None:
    clean = (torch.rand(20_000, 5, generator=torch.Generator().manual_seed(0)) < 0.3).long()
    data = LabelledData(torch.zeros(20_000, 1), clean, 5)
    noisy = LabelFlip(on, off)(data, rng=np.random.default_rng(0))
    assert noisy.dtype == torch.int64 and set(noisy.unique().tolist()) <= {0, 1}
    flipped = noisy != clean
    for rate, among in ((on, clean == 0), (off, clean == 1)):
        count = int(among.sum())
        margin = 5 * math.sqrt(rate * (1 - rate) / count)
        assert float(flipped[among].double().mean()) == pytest.approx(rate, abs=margin)
    if 0 < on < 1 and 0 < off < 1:  # flips of two labels of a sample are independent
        together = torch.corrcoef((flipped.double() - torch.where(clean > 0, off, on)).T)
        assert float((together - torch.eye(5)).abs().max()) < 5 / math.sqrt(20_000)


def test_the_noise_refuses_data_of_one_class_for_each_sample() -> None:
    data = LabelledData(torch.zeros(4, 1), torch.tensor([0, 1, 2, 0]), 3)
    with pytest.raises(HarnessError, match="several labels, not for classification"):
        LabelFlip(0.1, 0.1)(data, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    "targets", [torch.full((4, 3), 2), torch.full((4, 3), -1), torch.zeros(4, 2, dtype=torch.int64)]
)
def test_labels_other_than_nought_and_one_for_each_class_are_refused(targets: torch.Tensor) -> None:
    with pytest.raises(DataError, match="labels"):
        LabelledData(torch.zeros(4, 1), targets, 3)


# --- losses -------------------------------------------------------------------------------------------------------------


def some(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(30, 4, generator=generator, dtype=torch.float64)
    return logits, torch.randint(2, (30, 4), generator=generator)


def test_binary_cross_entropy_is_the_log_loss_of_each_label() -> None:
    logits, targets = some()
    theirs = np.mean([log_loss(targets[:, k], logits[:, k].sigmoid(), labels=[0, 1]) for k in range(4)])
    assert float(binary_cross_entropy(logits, targets).mean()) == pytest.approx(theirs)


def test_label_smoothing_mixes_the_losses_of_both_values() -> None:
    logits, targets = some()
    plain, other = binary_cross_entropy(logits, targets), binary_cross_entropy(logits, 1 - targets)
    assert torch.allclose(binary_cross_entropy(logits, targets, 0.2), 0.9 * plain + 0.1 * other)


def test_binary_gce_lies_between_cross_entropy_and_absolute_error() -> None:
    logits, targets = some()
    absolute = (logits.sigmoid() - targets).abs().mean(1)
    assert torch.allclose(binary_generalized_cross_entropy(logits, targets, 1.0), absolute)
    assert torch.allclose(
        binary_generalized_cross_entropy(logits, targets, 1e-7), binary_cross_entropy(logits, targets), atol=1e-5
    )


# --- what is measured -----------------------------------------------------------------------------------------------------


def test_an_epoch_is_measured_as_scikit_learn_would(tmp_path: Path) -> None:
    suite = load_suite(suite_file(tmp_path), plugins=[TESTING])
    prepared = prepare(next(iter(suite.entries())).trial, suite.host, torch.device("cpu"))
    run, evaluator = prepared.run, prepared.evaluator
    assert run.task == "multilabel" and run.num_classes == 10 and run.targets.shape == (160, 10)
    run.epoch = 1
    found = evaluator.epoch(run, last=True)
    with torch.no_grad(), run.evaluating():
        inputs = torch.cat([batch for _, batch in evaluator.test.ordered(100)])
        chance = run.model(inputs).double().sigmoid()
        train = run.model(run.source.gather(torch.arange(run.num_samples))).double().sigmoid()
    targets = evaluator.test_targets
    assert found["test_average_precision"] == pytest.approx(average_precision_score(targets, chance), abs=1e-9)
    assert found["subset_accuracy"] == pytest.approx(accuracy_score(targets, chance > 0.5))
    assert found["test_loss"] == pytest.approx(
        float(functional.binary_cross_entropy(chance, targets.double())), rel=1e-5
    )
    each = average_precision_score(targets, chance, average=None)
    assert [found[f"class_average_precision@{k}"] for k in range(10)] == pytest.approx(list(each), abs=1e-9)
    flipped = evaluator.train_clean != evaluator.train_noisy
    as_given = (train > 0.5) == (evaluator.train_noisy > 0)
    assert found["memorisation"] == pytest.approx(float(as_given[flipped].double().mean()))
    assert found["memorisation"] + found["recovery"] == pytest.approx(1.0)  # type: ignore[operator]
    assert found["train_average_precision"] == pytest.approx(
        average_precision_score(evaluator.train_noisy, train), abs=1e-9
    )
    assert "validation_average_precision" in found and "test_accuracy" not in found


def test_chance_is_a_ranking_at_random_and_the_usual_labels(tmp_path: Path) -> None:
    suite = load_suite(suite_file(tmp_path), plugins=[TESTING])
    prepared = prepare(next(iter(suite.entries())).trial, suite.host, torch.device("cpu"))
    found = prepared.evaluator.chance(prepared.run)
    generator = np.random.default_rng(0)
    targets = prepared.evaluator.test_targets.repeat(40, 1).numpy()
    at_random = average_precision_score(targets, generator.random(targets.shape))
    assert found["mean_average_precision"] == pytest.approx(at_random, abs=0.01)
    assert found["subset_accuracy"] == 0.0  # most samples lack every single label, and no test sample lacks all
    assert "class_average_precision" not in found


def test_validation_keeps_its_noisy_labels_and_the_seed_decides_them(tmp_path: Path) -> None:
    suite = load_suite(suite_file(tmp_path), plugins=[TESTING])
    trial = next(iter(suite.entries())).trial
    labels = corrupt(trial, suite.host, load_data(trial, suite.host))
    assert labels.validation_noisy.shape == (40, 10)
    assert not torch.equal(labels.validation_noisy, labels.validation.targets)
    assert corrupt(trial, suite.host, load_data(trial, suite.host)).digest == labels.digest


def test_without_noise_the_labels_are_those_of_the_data_and_none_counts_as_learnt_wrongly(tmp_path: Path) -> None:
    path = suite_file(tmp_path, **{'noise = { name = "label_flip", on = 0.1, off = 0.3 }': 'noise = "none"'})
    suite = load_suite(path, plugins=[TESTING])
    trial = next(iter(suite.entries())).trial
    labels = corrupt(trial, suite.host, load_data(trial, suite.host))
    assert torch.equal(labels.train_noisy, labels.train.targets)
    assert torch.equal(labels.validation_noisy, labels.validation.targets)
    prepared = prepare(trial, suite.host, torch.device("cpu"))
    prepared.run.epoch = 1
    found = prepared.evaluator.epoch(prepared.run, last=True)
    assert found["memorisation"] is None and found["recovery"] is None
    assert found["train_average_precision"] is not None


def test_a_trial_is_recorded_selected_and_ranked_by_average_precision(ran: tuple[Path, Any]) -> None:
    results, plan = ran
    assert plan.counts()["done"] == 2
    for planned in plan.trials:
        attempt = final_attempt(trial_folder(results, planned.id))
        assert attempt is not None
        result, lines = read_json(attempt / "result.json"), read_lines(attempt / "epochs.jsonl")
        curve = [line["test_average_precision"] for line in lines]
        validated = [line["validation_average_precision"] for line in lines]
        selected = validated.index(max(validated))
        assert result["selected_epoch"] == selected + 1 and result["transitions"] is None
        metrics = result["metrics"]["mean_average_precision"]
        assert metrics["last"] == curve[-1] and metrics["selected"] == curve[selected] and metrics["best"] == max(curve)
        assert result["metrics"]["class_average_precision@3"]["last"] == lines[-1]["class_average_precision@3"]
        assert curve[-1] > 2 * result["chance"]["mean_average_precision"]
    with harness.open_store(results) as connection:
        board = read_board(connection, "several")
        assert board.metric.name == "mean_average_precision" and board.higher_is_better
        assert read_board(connection, "several", "subset_accuracy").rows[0].mean is not None


def test_a_search_chooses_by_average_precision_on_noisy_validation(tmp_path: Path) -> None:
    path = suite_file(tmp_path, TUNING="tuning_seeds = [7]", SEARCH='search = { "optimizer.lr" = [1e-6, 0.5] }')
    results = open_results(tmp_path / "results")
    suite = load_suite(path, plugins=[TESTING])
    Orchestrator(suite, results, "inline").run()
    (search,) = make_plan(suite, results).searches
    scores = [candidate.score for candidate in search.candidates]
    for template, score in zip(suite.templates(*next(iter(suite.pairs()))), scores, strict=True):
        attempt = final_attempt(trial_folder(results, template.entry(7).trial.id))
        assert attempt is not None
        assert read_json(attempt / "result.json")["metrics"]["validation_average_precision"]["last"] == score
    assert search.chosen == scores.index(max(scores))  # type: ignore[type-var]


# --- what does not fit is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, why",
    [
        ({'loss = "bce"': 'loss = "ce"'}, "loss 'ce' is for classification, the data set is for multilabel"),
        ({'loss = "bce"': 'loss = "bce"\nalgorithms = ["elr"]'}, "algorithm 'elr' is for classification"),
        ({'"label_flip", on = 0.1, off = 0.3': '"symmetric", rate = 0.1'}, "noise 'symmetric' is for classification"),
        ({"train_every = 1": "train_every = 1\nfgsm = [0.1]"}, "FGSM is measured in classification"),
        ({'["class_average_precision"]': '["balanced_accuracy"]'}, "'balanced_accuracy' is for classification"),
    ],
)
def test_what_is_for_one_class_only_is_refused_with_the_reason(
    tmp_path: Path, change: dict[str, str], why: str
) -> None:
    with pytest.raises(SuiteError, match=why):
        load_suite(suite_file(tmp_path, **change), plugins=[TESTING])


def test_a_noise_that_gives_other_labels_fails_the_trial_in_one_line(tmp_path: Path) -> None:
    plugin = tmp_path / "odd.py"
    plugin.write_text(
        "import harness\n"
        "class Odd:\n    'Labels of 2.'\n    declares = harness.Declares(tasks=('multilabel',))\n"
        "    def __call__(self, data, *, rng):\n        return 2 * data.targets\n"
        "@harness.hookimpl\ndef harness_register_noise(register):\n    register('odd', Odd)\n"
    )
    path = suite_file(tmp_path, **{'{ name = "label_flip", on = 0.1, off = 0.3 }': '"odd"'})
    suite = load_suite(path, plugins=[TESTING, plugin])
    trial = next(iter(suite.entries())).trial
    with pytest.raises(HarnessError, match="labels other than 0 and 1"):
        prepare(trial, suite.host, torch.device("cpu"))


def test_the_packaged_suite_compares_three_methods_with_three_seeds() -> None:
    suite = load_suite(find_suite("suite:multilabel"))
    assert len(suite.methods) == 3 and len(list(suite.entries())) == 9
    (setting,) = suite.settings
    assert (setting.dataset.name, setting.noise.name) == ("mnist_pairs", "label_flip")
    assert set(load_host().registry.facts(load_host().registry.find("dataset", "mnist_pairs")[0]).declares.tasks) == {
        "multilabel"
    }
    assert isinstance(load_host().registry.create("dataset", "mnist_pairs", {"pairs": 20}), DataSplits)
