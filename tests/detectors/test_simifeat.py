"""SimiFeat against a loop over samples, and what it finds on clusters."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from harness_plugins.detectors.simifeat import above_percentiles, suspicion, votes
from torch import Tensor

import harness
from harness.errors import HarnessError

NAMES = ["simifeat_vote", "simifeat_rank"]


def clusters(size: int, classes: int, rate: float) -> tuple[Tensor, Tensor, Tensor]:
    """Features, clean classes and labels of which a share is of the next class."""
    rng = np.random.default_rng(0)
    clean = rng.integers(0, classes, size)
    features = rng.normal(size=(classes, 12))[clean] + 0.3 * rng.normal(size=(size, 12))
    labels = np.where(rng.random(size) < rate, (clean + 1) % classes, clean)
    return torch.from_numpy(features), torch.from_numpy(clean), torch.from_numpy(labels)


def literal_votes(features: np.ndarray, labels: np.ndarray, classes: int, k: int) -> np.ndarray:
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    found = np.zeros((len(labels), classes))
    for i in range(len(labels)):
        others = sorted((1 - float(unit[i] @ unit[j]), j) for j in range(len(labels)) if j != i)[: k - 1]
        found[i, labels[i]] += 1 - (2 * others[0][0] - others[1][0])
        for distance, j in others:
            found[i, labels[j]] += 1 - distance
        found[i] /= np.sqrt((found[i] ** 2).sum())
    return found


def test_votes_are_those_of_a_loop_over_the_samples() -> None:
    features, _, labels = clusters(60, 4, 0.3)
    expected = literal_votes(features.numpy(), labels.numpy(), 4, 10)
    assert np.allclose(votes(features.float(), labels, 4, 10).numpy(), expected, atol=1e-5)


def test_a_sample_votes_for_its_own_label_with_the_largest_weight() -> None:
    features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.3], [1.0, -0.4]])
    voted = votes(features, torch.tensor([0, 1, 2, 3]), 4, 4)
    assert voted[0].argmax() == 0


def test_the_score_is_the_log_of_the_vote_for_the_label_and_votes_below_nought_count_as_nought() -> None:
    voted = torch.tensor([[0.6, 0.8], [-1.0, 0.0]]).double()
    found = suspicion(voted, torch.tensor([1, 0]))
    assert found.tolist() == pytest.approx([-math.log(0.8 + 1e-8), -math.log(1e-8)])


def test_of_each_class_the_share_that_is_wrong_is_flagged_by_a_linear_percentile() -> None:
    score = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 3.0, 1.0, 2.0]).double()
    labels = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1])
    flags = above_percentiles(score, labels, torch.tensor([0.6, 1.2, 0.5]))  # class 1: .05 of it, class 2 has no member
    threshold = np.percentile(score[:5].numpy(), 60)
    assert flags[:5].tolist() == (score[:5].numpy() >= threshold).tolist()
    assert flags[5:].tolist() == [True, False, False]
    assert above_percentiles(score, labels, torch.tensor([0.0, -1.0]))[:5].sum() == 4  # .95 of five: all but the least


@pytest.mark.parametrize("name", NAMES)
def test_wrong_labels_on_separate_clusters_are_found(name: str) -> None:
    features, clean, labels = clusters(900, 3, 0.2)
    report = harness.create("detector", name)(features, labels, 3, rng=np.random.default_rng(0))
    wrong = labels != clean
    assert float((report.flags == wrong).double().mean()) > 0.95
    assert float((report.suggested == clean).double().mean()) > 0.95
    assert report.rate == pytest.approx(float(wrong.double().mean()), abs=0.04)
    assert report.T.diagonal().tolist() == pytest.approx([0.8] * 3, abs=0.06)
    assert float(report.score[wrong].mean()) > float(report.score[~wrong].mean())


def test_flags_of_several_epochs_are_those_of_more_than_half() -> None:
    features, _, labels = clusters(120, 3, 0.3)
    rng = np.random.default_rng(4)
    epochs = torch.stack(
        [features + s * torch.from_numpy(rng.normal(size=features.shape)) for s in (0.0, 0.5, 1.0, 1.0)]
    )
    make = harness.create("detector", "simifeat_vote")
    single = [make(one, labels, 3, rng=np.random.default_rng(0)) for one in epochs]
    report = make(epochs, labels, 3, rng=np.random.default_rng(0))
    share = torch.stack([one.flags.double() for one in single]).mean(0)
    assert bool((share == 0.5).any())  # half: clean
    assert torch.equal(report.flags, share > 0.5)
    assert torch.allclose(report.score, torch.stack([one.score for one in single]).mean(0))


def test_the_shift_of_the_percentiles_is_drawn_with_several_epochs_only() -> None:
    features, _, labels = clusters(200, 3, 0.3)
    make = harness.create("detector", "simifeat_rank")
    alone = make(features, labels, 3, rng=np.random.default_rng(0))
    again = make(features[None], labels, 3, rng=np.random.default_rng(0))
    assert torch.equal(alone.flags, again.flags)
    several = [make(features.expand(3, -1, -1), labels, 3, rng=np.random.default_rng(s)) for s in (0, 0, 1)]
    assert torch.equal(several[0].flags, several[1].flags)
    assert torch.equal(several[0].suggested, alone.suggested)


@pytest.mark.parametrize("name", NAMES)
def test_one_class_alone_classes_without_labels_and_equal_features_have_defined_values(name: str) -> None:
    make = harness.create("detector", name)
    features, clean, _ = clusters(60, 3, 0.0)
    alone = make(features, torch.full((60,), 2), 4, rng=np.random.default_rng(0))
    assert alone.rate == 0.0 and alone.prior.tolist() == [0, 0, 1, 0] and alone.suggested.unique().tolist() == [2]
    lacking = make(features, 2 * clean, 6, rng=np.random.default_rng(0))
    assert lacking.prior[[1, 3, 5]].tolist() == [0, 0, 0] and set(lacking.suggested.tolist()) <= {0, 2, 4}
    for same in (torch.ones(60, 3), torch.zeros(60, 3)):
        equal = make(same, clean, 3, rng=np.random.default_rng(0))
        assert bool(equal.score.isfinite().all()) and 0 <= equal.rate <= 1
        assert torch.allclose(equal.T.sum(1), torch.ones(3).double())


@pytest.mark.parametrize("name", NAMES)
def test_fewer_samples_than_neighbours_are_refused(name: str) -> None:
    with pytest.raises(HarnessError, match=f"detectors.{name}: has 9 samples and needs 10"):
        harness.create("detector", name)(np.eye(9), np.arange(9) % 3, 3, rng=np.random.default_rng(0))
    with pytest.raises(HarnessError, match="looks at 2 neighbours"):
        harness.create("detector", name, neighbours=2)
