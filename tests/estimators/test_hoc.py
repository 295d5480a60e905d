"""HOC against loops written out, and neighbours read off lists against a search of each subset."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from harness_plugins.estimators.hoc import (
    count_consensus,
    departure,
    fit,
    given_matrix,
    implied_consensus,
    start,
)
from harness_plugins.estimators.neighbours import Subsets, directions, nearest, two_nearest
from torch import Tensor

import harness
from harness.errors import HarnessError


def clusters(size: int, classes: int, width: int = 16, spread: float = 0.4) -> tuple[Tensor, Tensor]:
    """Features around a centre for each class, and the classes."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(classes, width))
    clean = rng.integers(0, classes, size)
    return torch.from_numpy(centres[clean] + spread * rng.normal(size=(size, width))), torch.from_numpy(clean)


def flipped(clean: Tensor, matrix: np.ndarray) -> Tensor:
    rng = np.random.default_rng(1)
    return torch.from_numpy(np.array([rng.choice(len(matrix), p=matrix[c]) for c in clean.numpy()]))


def literal(features: np.ndarray, members: np.ndarray) -> np.ndarray:
    """The two nearest of each member among the members, by a loop in float64; ties go to the smaller index."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    found = []
    for i in members:
        distance = {int(j): 1 - float(unit[i] @ unit[j]) for j in members if j != i}
        found.append(sorted(distance, key=lambda j: (distance[j], j))[:2])
    return np.array(found)


@pytest.mark.parametrize("size", [12, 40, 80])
def test_neighbours_read_off_lists_are_those_of_a_search_of_each_subset(size: int) -> None:
    features, _ = clusters(80, 3)
    subsets = Subsets(features.float(), size, rounds=80)
    assert subsets.lists is not None
    for members, near in itertools.islice(subsets.draw(np.random.default_rng(3)), 5):
        assert len(members) == size == len(set(members.tolist()))
        assert np.array_equal(near.numpy(), literal(features.numpy(), members.numpy()))


def test_few_rounds_are_searched_one_by_one_with_the_same_result() -> None:
    features, _ = clusters(60, 3)
    listed, searched = Subsets(features.float(), 20, rounds=9), Subsets(features.float(), 20, rounds=8)
    assert listed.lists is not None and searched.lists is None
    members = torch.arange(0, 60, 3)
    assert torch.equal(listed.within(members), searched.within(members))


def test_a_member_whose_list_holds_too_few_of_a_subset_is_searched_for() -> None:
    features, _ = clusters(100, 2)
    subsets = Subsets(features.float(), 50, rounds=40)
    subsets.lists = nearest(subsets.rows, 3)  # of which a subset of 50 often holds fewer than two
    members = torch.arange(0, 100, 2)
    assert np.array_equal(subsets.within(members).numpy(), literal(features.numpy(), members.numpy()))


def test_of_equal_features_the_first_others_are_the_nearest_and_nobody_is_its_own() -> None:
    rows = torch.ones(30, 4) / 2
    found = Subsets(rows, 30, rounds=3).within(torch.arange(30))
    assert found[0].tolist() == [1, 2] and found[1].tolist() == [0, 2] and found[29].tolist() == [0, 1]
    assert torch.equal(two_nearest(rows, torch.arange(30), torch.arange(30)), found)


def test_features_of_nought_are_as_far_from_all() -> None:
    features = torch.eye(5)
    features[2] = 0
    assert directions(features)[2].tolist() == [0.0] * 5
    assert Subsets(features, 5, rounds=1).within(torch.arange(5))[2].tolist() == [0, 1]


def test_the_consensus_is_the_share_of_labels_pairs_and_triples() -> None:
    features, clean = clusters(50, 3)
    subsets = Subsets(features.float(), 30, rounds=6)
    one, two, three = count_consensus(subsets, clean, 3, np.random.default_rng(7))
    expected = np.zeros((3, 3, 3))
    rng = np.random.default_rng(7)
    for _ in range(6):
        members = np.sort(rng.choice(50, 30, replace=False))
        for i, (first, second) in zip(members, literal(features.numpy(), members), strict=True):
            expected[clean[i], clean[first], clean[second]] += 1 / (30 * 6)
    assert np.allclose(three, expected)
    assert np.allclose(two, expected.sum(2)) and np.allclose(one, expected.sum((1, 2)))


def test_what_a_matrix_implies_is_a_sum_over_the_true_class() -> None:
    rng = np.random.default_rng(0)
    matrix, prior = rng.dirichlet(np.ones(4), 4), rng.dirichlet(np.ones(4))
    one, two, three = implied_consensus(matrix, prior)
    for j, k, m in itertools.product(range(4), repeat=3):
        assert one[j] == pytest.approx(sum(prior[c] * matrix[c, j] for c in range(4)))
        assert two[j, k] == pytest.approx(sum(prior[c] * matrix[c, j] * matrix[c, k] for c in range(4)))
        expected = sum(prior[c] * matrix[c, j] * matrix[c, k] * matrix[c, m] for c in range(4))
        assert three[j, k, m] == pytest.approx(expected)


def test_the_gradients_of_the_departure_are_those_of_finite_differences() -> None:
    rng = np.random.default_rng(0)
    triples = rng.dirichlet(np.ones(64)).reshape(4, 4, 4)  # not symmetric
    counted = (triples.sum((1, 2)), triples.sum(2), triples)
    matrix, prior = rng.dirichlet(np.ones(4), 4), rng.dirichlet(np.ones(4))
    _, by_matrix, by_prior = departure(counted, matrix, prior)
    for c, j in itertools.product(range(4), repeat=2):
        step = np.zeros((4, 4))
        step[c, j] = 1e-6
        slope = (departure(counted, matrix + step, prior)[0] - departure(counted, matrix - step, prior)[0]) / 2e-6
        assert by_matrix[c, j] == pytest.approx(slope, abs=1e-7)
    for c, step in enumerate(1e-6 * np.eye(4)):
        slope = (departure(counted, matrix, prior + step)[0] - departure(counted, matrix, prior - step)[0]) / 2e-6
        assert by_prior[c] == pytest.approx(slope, abs=1e-7)
    assert departure(implied_consensus(matrix, prior), matrix, prior)[0] == 0.0


def test_a_fit_to_exact_shares_finds_the_matrix_and_the_prior() -> None:
    matrix = np.array([[0.7, 0.1, 0.1, 0.1], [0.3, 0.55, 0.1, 0.05], [0.1, 0.2, 0.6, 0.1], [0.0, 0.1, 0.1, 0.8]])
    prior = np.array([0.1, 0.2, 0.3, 0.4])
    found = fit(implied_consensus(matrix, prior), start(4, np.random.default_rng(0)), 1500, 0.1)
    assert np.allclose(found.matrix.numpy(), matrix, atol=5e-3) and np.allclose(found.prior.numpy(), prior, atol=5e-3)


COUNTED = implied_consensus(np.array([[0.8, 0.2], [0.3, 0.7]]), np.array([0.4, 0.6]))


def test_the_first_steps_are_those_of_torch() -> None:
    """Gradients by automatic differentiation and torch's Adam, at a constant rate."""
    begin = start(2, np.random.default_rng(0))
    a, b = (torch.from_numpy(part.copy()).requires_grad_() for part in (begin.a, begin.b))
    shares = [torch.from_numpy(part) for part in COUNTED]
    optimizer = torch.optim.Adam([a, b], lr=0.1)
    for _ in range(30):
        matrix, prior = a.softmax(1), b.softmax(0)
        pairs = torch.einsum("c,cj,ck->jk", prior, matrix, matrix)
        triples = torch.einsum("c,cj,ck,cl->jkl", prior, matrix, matrix, matrix)
        implied = (prior @ matrix, pairs, triples)
        optimizer.zero_grad()
        sum((c - m).norm() for c, m in zip(shares, implied, strict=True)).backward()
        optimizer.step()
    found = fit(COUNTED, begin, 31, 0.1, cosine=False, last=True)
    assert np.allclose(found.a, a.detach().numpy(), atol=1e-9) and np.allclose(found.b, b.detach().numpy(), atol=1e-9)


def test_the_best_iterate_is_kept_as_it_was_and_the_last_on_request() -> None:
    begin = start(2, np.random.default_rng(0))
    trajectory = [fit(COUNTED, begin, steps, 0.5, cosine=False, last=True) for steps in range(1, 40)]
    losses = [departure(COUNTED, one.matrix.numpy(), one.prior.numpy())[0] for one in trajectory]
    best = fit(COUNTED, begin, 39, 0.5, cosine=False)
    assert np.array_equal(best.a, trajectory[int(np.argmin(losses))].a)
    assert losses[-1] > min(losses)


def test_what_a_label_says_of_the_true_class_follows_bayes() -> None:
    matrix, prior = torch.tensor([[0.8, 0.2], [0.3, 0.7]]).double(), torch.tensor([0.25, 0.75]).double()
    labels = torch.tensor([0] * 17 + [1] * 23)  # 17/40 = .25 * .8 + .75 * .3
    given = given_matrix(matrix, prior, labels)
    assert given[:, 0].tolist() == pytest.approx([0.2 / 0.425, 0.225 / 0.425])
    assert given.sum(0).tolist() == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("name", ["hoc", "confident", "anchors"])
def test_the_matrix_of_noise_on_separate_clusters_is_found(name: str) -> None:
    features, clean = clusters(1500, 3)
    matrix = np.array([[0.7, 0.2, 0.1], [0.0, 0.8, 0.2], [0.1, 0.3, 0.6]])
    labels = flipped(clean, matrix)
    report = harness.create("estimator", name)(features, labels, 3, rng=np.random.default_rng(0))
    assert np.abs(report.T.numpy() - matrix).mean() < 0.04
    slack = 0.06 if name == "anchors" else 0.04  # the predictions at the anchor points are a little too sure
    assert report.rate == pytest.approx(float((labels != clean).double().mean()), abs=slack)
    assert np.allclose(report.prior.numpy(), torch.bincount(clean).numpy() / 1500, atol=slack)


@pytest.mark.parametrize("name", ["hoc", "confident", "anchors"])
def test_a_class_without_labels_has_no_share_and_keeps_its_label(name: str) -> None:
    features, clean = clusters(300, 3)
    labels = torch.where(clean == 1, 3, clean)  # of classes 0 to 4 there are 0, 2 and 3
    report = harness.create("estimator", name)(features, labels, 5, rng=np.random.default_rng(0))
    assert report.prior[[1, 4]].tolist() == [0.0, 0.0] and float(report.prior.sum()) == pytest.approx(1)
    assert report.T[1].tolist() == [0, 1, 0, 0, 0] and report.T[:, 4].tolist() == [0, 0, 0, 0, 1]
    assert report.rate < 0.1


@pytest.mark.parametrize("name", ["hoc", "confident", "anchors"])
def test_one_class_alone_has_no_noise(name: str) -> None:
    features, _ = clusters(30, 3)
    report = harness.create("estimator", name)(features, np.full(30, 2), 4, rng=np.random.default_rng(0))
    assert report.rate == 0.0 and report.prior.tolist() == [0, 0, 1, 0] and torch.equal(report.T, torch.eye(4).double())


@pytest.mark.parametrize("name", ["hoc", "confident", "anchors"])
def test_equal_features_and_a_rate_of_one_give_a_matrix_all_the_same(name: str) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90)
    for features in (np.ones((90, 4)), clusters(90, 3)[0].numpy()):
        wrong = labels if features.std() == 0 else (clusters(90, 3)[1].numpy() + 1) % 3
        report = harness.create("estimator", name)(features, wrong, 3, rng=np.random.default_rng(0))
        assert torch.allclose(report.T.sum(1), torch.ones(3).double()) and bool((report.T >= 0).all())
        assert math.isfinite(report.rate) and 0 <= report.rate <= 1


@pytest.mark.parametrize("name", ["hoc", "confident", "anchors"])
def test_one_generator_makes_one_report_and_arrays_are_as_good_as_tensors(name: str) -> None:
    features, clean = clusters(120, 3)
    make = harness.create("estimator", name)
    first = make(features, clean, 3, rng=np.random.default_rng(5))
    again = make(features.numpy(), clean.numpy(), 3, rng=np.random.default_rng(5))
    assert torch.equal(first.T, again.T) and first.rate == again.rate


@pytest.mark.parametrize(
    ("features", "labels", "words"),
    [
        (np.ones((2, 3)), np.array([0, 1]), "has 2 samples and needs"),
        (np.ones((6, 3)), np.array([0, 1]), "takes a row of features for each of the 2 labels"),
        (np.ones((4, 2, 2)), np.array([0, 1, 0, 1]), "takes a row of features"),
        (np.full((6, 3), np.nan), np.array([0, 1] * 3), "has features that are not finite"),
        (np.ones((6, 3)), np.array([0, 3] * 3), r"has labels outside \[0, 3\)"),
        (np.ones((6, 3)), np.array([0.0, 1.0] * 3), "takes .N,. integer labels"),
    ],
)
@pytest.mark.parametrize("name", ["hoc", "confident", "anchors"])
def test_what_does_not_fit_is_refused_in_one_line(
    name: str, features: np.ndarray, labels: np.ndarray, words: str
) -> None:
    with pytest.raises(HarnessError, match=f"estimators.{name}: {words}"):
        harness.create("estimator", name)(features, labels, 3, rng=np.random.default_rng(0))


@pytest.mark.parametrize("name", ["confident", "anchors"])
def test_fewer_samples_of_every_class_than_folds_are_refused(name: str) -> None:
    with pytest.raises(HarnessError, match="fewer samples of every class than folds"):
        harness.create("estimator", name)(np.eye(8), np.arange(8) // 2, 4, rng=np.random.default_rng(0))
