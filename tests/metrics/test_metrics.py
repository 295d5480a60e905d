"""Every metric is that of scikit-learn or its closed form, also where a class has no sample and outputs say nothing."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from harness_plugins import metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score, log_loss, top_k_accuracy_score
from torch import Tensor

from harness.plugins import load_host
from harness.training.measures import average_precision
from harness.training.metrics import asked_for, quantities_of

Metric = Callable[[Tensor, Tensor], Tensor]
ALL: list[Metric] = [
    metrics.balanced_accuracy, metrics.macro_f1, metrics.top5_accuracy, metrics.calibration_error,
    metrics.negative_log_likelihood, metrics.average_precision,
]  # fmt: skip


def drawn(seed: int, size: int = 200, classes: int = 7, missing: bool = False) -> tuple[Tensor, Tensor]:
    """Log-probabilities that know something of their targets; perhaps without samples of the last class."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(classes - missing, (size,), generator=generator)
    logits = torch.randn(size, classes, generator=generator) + 1.5 * torch.nn.functional.one_hot(targets, classes)
    return logits.log_softmax(1), targets


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 9), st.booleans())
def test_balanced_accuracy_and_macro_f1_are_those_of_scikit_learn(seed: int, classes: int, missing: bool) -> None:
    outputs, targets = drawn(seed, 40, classes, missing)
    predicted = outputs.argmax(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of predicted classes that no sample has
        balanced = balanced_accuracy_score(targets, predicted)
    assert float(metrics.balanced_accuracy(outputs, targets)) == pytest.approx(balanced, abs=1e-12)
    f1 = f1_score(targets, predicted, average="macro", zero_division=0)
    assert float(metrics.macro_f1(outputs, targets)) == pytest.approx(f1, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_top_five_is_that_of_scikit_learn(seed: int) -> None:
    outputs, targets = drawn(seed, classes=12)
    theirs = top_k_accuracy_score(targets, outputs.numpy(), k=5, labels=np.arange(12))
    assert float(metrics.top5_accuracy(outputs, targets)) == pytest.approx(theirs, abs=1e-12)
    assert 0.5 < theirs < 1


@pytest.mark.parametrize("classes", [2, 4, 5])
def test_with_five_classes_or_fewer_top_five_is_one(classes: int) -> None:
    assert float(metrics.top5_accuracy(*drawn(0, classes=classes))) == 1.0


def test_the_log_likelihood_is_that_of_scikit_learn_and_infinite_for_the_impossible() -> None:
    outputs, targets = drawn(0)
    outputs = outputs.double().log_softmax(1)
    theirs = log_loss(targets, outputs.exp().numpy(), labels=np.arange(7))
    assert float(metrics.negative_log_likelihood(outputs, targets)) == pytest.approx(theirs)
    outputs[0, targets[0]] = -math.inf
    assert float(metrics.negative_log_likelihood(outputs, targets)) == math.inf


def calibration_by_loops(outputs: Tensor, targets: Tensor) -> float:
    """Guo et al., eq. 3, bin by bin in plain Python."""
    bins: dict[int, list[tuple[float, float]]] = {}
    for row, target in zip(outputs.double().exp().tolist(), targets.tolist(), strict=True):
        confidence = max(row)
        bins.setdefault(math.ceil(15 * confidence), []).append((confidence, float(row.index(confidence) == target)))
    gaps = [abs(sum(hit for _, hit in members) - sum(sure for sure, _ in members)) for members in bins.values()]
    return sum(gaps) / len(targets)


@pytest.mark.parametrize("seed", range(3))
def test_calibration_error_is_that_of_its_formula(seed: int) -> None:
    outputs, targets = drawn(seed)
    assert float(metrics.calibration_error(outputs, targets)) == pytest.approx(calibration_by_loops(outputs, targets))


def test_calibration_error_of_known_confidences() -> None:
    sure = torch.tensor([[0.0, -math.inf]]).repeat(10, 1)
    targets = torch.tensor([0] * 7 + [1] * 3)
    assert float(metrics.calibration_error(sure, targets)) == pytest.approx(0.3)
    honest = torch.tensor([[0.7, 0.3]]).log().repeat(10, 1)
    assert float(metrics.calibration_error(honest, targets)) == pytest.approx(0.0, abs=1e-6)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(2, 30), st.integers(1, 6))
def test_average_precision_is_that_of_scikit_learn_ties_included(
    seed: int, labels: int, size: int, levels: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(levels, (labels, size), generator=generator).float()
    positive = torch.rand(labels, size, generator=generator) < 0.4
    for row, (score, truth) in enumerate(zip(scores, positive, strict=True)):
        found = float(average_precision(scores, positive)[row])
        if not truth.any():
            assert math.isnan(found)
        else:
            assert found == pytest.approx(average_precision_score(truth.numpy(), score.numpy()), abs=1e-12)


def test_with_two_classes_average_precision_is_that_of_class_one() -> None:
    outputs, targets = drawn(0, classes=2)
    theirs = average_precision_score(targets, outputs[:, 1])
    assert float(metrics.average_precision(outputs, targets)) == pytest.approx(theirs, abs=1e-12)


def test_with_more_classes_it_is_the_mean_over_those_that_have_samples() -> None:
    outputs, targets = drawn(0, missing=True)
    each = metrics.class_average_precision(outputs, targets)
    theirs = [average_precision_score(targets == k, outputs[:, k]) for k in range(6)]
    assert each[:6].tolist() == pytest.approx(theirs, abs=1e-12) and math.isnan(each[6])
    assert float(metrics.average_precision(outputs, targets)) == pytest.approx(sum(theirs) / 6, abs=1e-12)


def test_several_labels_have_an_average_precision_each() -> None:
    outputs, _ = drawn(1)
    labels = (torch.rand(200, 7, generator=torch.Generator().manual_seed(0)) < 0.3).long()
    theirs = average_precision_score(labels, outputs, average=None)
    assert metrics.class_average_precision(outputs, labels).tolist() == pytest.approx(list(theirs), abs=1e-12)


def test_outputs_that_say_nothing_give_what_the_docstrings_say() -> None:
    outputs, targets = torch.full((100, 10), -math.log(10)), torch.arange(100) % 10
    assert float(metrics.balanced_accuracy(outputs, targets)) == pytest.approx(0.1)
    assert float(metrics.macro_f1(outputs, targets)) == pytest.approx(2 * 10 / (10 + 100) / 10)
    assert float(metrics.top5_accuracy(outputs, targets)) == pytest.approx(0.5)
    assert float(metrics.calibration_error(outputs, targets)) == pytest.approx(0.0, abs=1e-6)
    assert float(metrics.negative_log_likelihood(outputs, targets)) == pytest.approx(math.log(10))
    assert metrics.class_average_precision(outputs, targets).tolist() == pytest.approx([0.1] * 10)


def test_a_metric_of_a_run_that_diverged_at_once_is_recorded_with_what_it_is() -> None:
    registry = load_host().registry
    asked = asked_for(["balanced_accuracy", "macro_f1"], registry, "classification")
    history = [{"epoch": 1, "test_accuracy": None, "macro_f1": 0.5}]
    found = quantities_of(asked, registry, history)
    assert set(found) == {"balanced_accuracy", "macro_f1"}
    assert found["balanced_accuracy"].title == "balanced test accuracy" and "best" in found["balanced_accuracy"].moments
    assert asked_for(["balanced_accuracy"], registry, "regression") == ()


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.__name__)
def test_outputs_that_are_no_numbers_give_none(metric: Metric) -> None:
    outputs, targets = drawn(0)
    assert math.isfinite(metric(outputs, targets))
    outputs[3] = math.nan
    assert math.isnan(metric(outputs, targets))


@pytest.mark.parametrize("metric", [*ALL, metrics.class_average_precision], ids=lambda metric: metric.__name__)
def test_a_metric_changes_neither_outputs_nor_targets(metric: Metric) -> None:
    outputs, targets = drawn(0)
    before = outputs.clone(), targets.clone()
    metric(outputs, targets)
    assert torch.equal(outputs, before[0]) and torch.equal(targets, before[1])
