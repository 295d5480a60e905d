"""What holds for every detector of the package: planted noise is found, scores rise with suspicion, and bad input is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

import harness
from harness import NoiseReport
from harness.errors import HarnessError

HELD_OUT = ["self_confidence", "margin", "confident_learning", "ensemble"]
TRAINED = ["loss", "aum"]
NAMES = [*HELD_OUT, *TRAINED]


def clusters(size: int = 400, classes: int = 4, rate: float = 0.25) -> tuple[Tensor, Tensor, Tensor]:
    """Features around a centre for each class, the classes, and labels of which a share is of another class."""
    rng = np.random.default_rng(0)
    clean = rng.integers(0, classes, size)
    features = rng.normal(size=(classes, 12))[clean] + 0.4 * rng.normal(size=(size, 12))
    labels = np.where(rng.random(size) < rate, (clean + rng.integers(1, classes, size)) % classes, clean)
    return torch.from_numpy(features), torch.from_numpy(clean), torch.from_numpy(labels)


def judged(name: str, features: Tensor, labels: Tensor, classes: int, seed: int = 0) -> NoiseReport:
    report = harness.create("detector", name)(features, labels, classes, rng=np.random.default_rng(seed))
    assert isinstance(report, NoiseReport)
    return report


@pytest.mark.parametrize("name", NAMES)
def test_planted_wrong_labels_are_the_most_suspect_and_are_flagged(name: str) -> None:
    features, clean, labels = clusters()
    report = judged(name, features, labels, 4)
    wrong = labels != clean
    assert report.score is not None and report.flags is not None and report.suggested is not None
    assert roc_auc_score(wrong.numpy(), report.score.numpy()) > 0.95
    assert float(report.score[wrong].mean()) > float(report.score[~wrong].mean())
    assert float((report.flags == wrong).double().mean()) > 0.9
    assert float((report.suggested == clean).double().mean()) > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_one_generator_makes_one_report_of_arrays_as_of_tensors_and_another_generator_another(name: str) -> None:
    features, _, labels = clusters(120, 3)
    first = judged(name, features, labels, 3, seed=5)
    make = harness.create("detector", name)
    again = make(features.numpy(), labels.numpy(), 3, rng=np.random.default_rng(5))
    other = judged(name, features, labels, 3, seed=6)
    assert torch.equal(first.score, again.score) and torch.equal(first.flags, again.flags)
    assert not torch.equal(first.score, other.score)


@pytest.mark.parametrize("name", NAMES)
def test_labels_of_one_class_alone_are_not_suspect(name: str) -> None:
    features, _, _ = clusters(60)
    report = judged(name, features, torch.full((60,), 2), 4)
    assert not bool(report.flags.any()) and report.score.unique().tolist() == [0.0]
    assert report.suggested.unique().tolist() == [2]


@pytest.mark.parametrize("name", NAMES)
def test_a_class_without_labels_is_never_suggested_and_equal_features_have_defined_scores(name: str) -> None:
    features, clean, _ = clusters(90, 3)
    lacking = judged(name, features, 2 * clean, 6)
    assert set(lacking.suggested.tolist()) <= {0, 2, 4}
    for same in (torch.ones(90, 3), torch.zeros(90, 3)):
        assert bool(judged(name, same, clean, 3).score.isfinite().all())


@pytest.mark.parametrize("name", NAMES)
def test_a_class_with_one_sample_is_judged(name: str) -> None:
    features, clean, _ = clusters(90, 3)
    labels = clean.clone()
    labels[0] = 3
    report = judged(name, features, labels, 4)
    assert bool(report.score.isfinite().all()) and len(report.score) == 90


@pytest.mark.parametrize(
    ("features", "labels", "words"),
    [
        (np.ones((1, 3)), np.array([0]), "has 1 samples and needs"),
        (np.ones((6, 3)), np.array([0, 1]), "takes a row of features for each of the 2 labels"),
        (np.full((6, 3), np.nan), np.array([0, 1] * 3), "has features that are not finite"),
        (np.ones((6, 3)), np.array([0, 3] * 3), r"has labels outside \[0, 3\)"),
        (np.ones((6, 3)), np.array([0.0, 1.0] * 3), "takes .N,. integer labels"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_what_does_not_fit_is_refused_in_one_line(
    name: str, features: np.ndarray, labels: np.ndarray, words: str
) -> None:
    with pytest.raises(HarnessError, match=f"detectors.{name}: {words}") as caught:
        harness.create("detector", name)(features, labels, 3, rng=np.random.default_rng(0))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", HELD_OUT)
def test_fewer_samples_of_every_class_than_folds_are_refused(name: str) -> None:
    with pytest.raises(HarnessError, match=f"detectors.{name}: has fewer samples of every class than folds"):
        harness.create("detector", name)(np.eye(8), np.arange(8) // 2, 4, rng=np.random.default_rng(0))
