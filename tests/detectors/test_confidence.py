"""Self-confidence, margin and confident learning against loops in numpy over given probabilities."""

from __future__ import annotations

import numpy as np
import torch
from harness_plugins.detectors.confidence import ConfidentLearning, Margin, SelfConfidence
from harness_plugins.detectors.held_out import Judged

N, K = 200, 4


def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that favour each sample's class, and labels of which some are of another one."""
    rng = np.random.default_rng(3)
    clean = rng.integers(0, K, N)
    labels = np.where(rng.random(N) < 0.3, rng.integers(0, K, N), clean)
    return rng.dirichlet(np.ones(K), N) * 0.5 + 0.5 * np.eye(K)[clean], labels


def read(detector: type, probabilities: np.ndarray, labels: np.ndarray) -> Judged:
    found = detector().read(torch.from_numpy(probabilities), torch.from_numpy(labels))
    assert isinstance(found, Judged)
    return found


def thresholds(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.array([probabilities[labels == j, j].mean() for j in range(K)])


def confidently_of_another_class(probabilities: np.ndarray, labels: np.ndarray) -> int:
    """Samples above the threshold of a class that is not theirs, the most probable of such classes, and not predicted as
    theirs either."""
    least, count = thresholds(probabilities, labels), 0
    for row, label in zip(probabilities, labels, strict=True):
        sure = [j for j in range(K) if row[j] >= least[j]]
        count += bool(sure) and max(sure, key=lambda j: row[j]) != label and int(row.argmax()) != label
    return count


def highest(score: np.ndarray, count: int) -> np.ndarray:
    flags = np.zeros(len(score), dtype=bool)
    flags[sorted(range(len(score)), key=lambda i: -score[i])[:count]] = True
    return flags


def test_self_confidence_is_what_the_given_label_lacks_and_as_many_are_flagged_as_are_surely_of_another_class() -> None:
    probabilities, labels = drawn()
    found = read(SelfConfidence, probabilities, labels)
    expected = np.array([1 - row[label] for row, label in zip(probabilities, labels, strict=True)])
    assert np.allclose(found.score, expected)
    count = confidently_of_another_class(probabilities, labels)
    assert 0 < count < N and np.array_equal(found.flags, highest(expected, count))
    assert np.array_equal(found.suggested, probabilities.argmax(1))


def test_the_margin_is_to_the_largest_other_class() -> None:
    probabilities, labels = drawn()
    found = read(Margin, probabilities, labels)
    expected = np.array(
        [(1 - (row[label] - max(np.delete(row, label)))) / 2 for row, label in zip(probabilities, labels, strict=True)]
    )
    assert np.allclose(found.score, expected)
    assert np.array_equal(found.score > 0.5, probabilities.argmax(1) != labels)
    assert np.array_equal(found.flags, highest(expected, confidently_of_another_class(probabilities, labels)))


def test_confident_learning_takes_each_classs_threshold_off_its_probability() -> None:
    probabilities, labels = drawn()
    least = thresholds(probabilities, labels)
    shifted = probabilities - least + least.max()
    expected = np.array([1 - row[label] / row.sum() for row, label in zip(shifted, labels, strict=True)])
    assert np.allclose(read(ConfidentLearning, probabilities, labels).score, expected)


def test_confident_learning_flags_what_sure_predictions_contradict() -> None:
    labels = np.repeat(np.arange(K), 50)
    truth = labels.copy()
    truth[::10] = (truth[::10] + 1) % K  # a tenth of each class
    found = read(ConfidentLearning, np.full((N, K), 0.1) + 0.6 * np.eye(K)[truth], labels)
    assert np.array_equal(found.flags, truth != labels) and np.array_equal(found.suggested, truth)
