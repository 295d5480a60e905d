"""Labels of several annotators: majority, one vote, Dawid and Skene."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from harness_plugins.noise.annotators import dawid_skene, vote_counts

import harness
from harness import HarnessError, LabelledData


def crowd(size: int = 4000, seed: int = 0) -> tuple[LabelledData, np.ndarray]:
    """Samples of three classes with votes of five annotators, the last of whom are poor, and their confusion matrices."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, size, p=[0.5, 0.3, 0.2])
    skills = [0.9, 0.85, 0.8, 0.4, 0.4]
    confusion = np.array([s * np.eye(3) + (1 - s) / 2 * (1 - np.eye(3)) for s in skills])
    votes = np.stack([(rng.random((size, 1)) > c[truth].cumsum(1)[:, :2]).sum(1) for c in confusion], 1)
    votes[rng.random(votes.shape) < 0.3] = -1
    return LabelledData(
        torch.zeros(size, 1), torch.from_numpy(truth), 3, votes=torch.from_numpy(votes.astype(np.int64))
    ), confusion


def labels(data: LabelledData, seed: int = 0, **options: object) -> np.ndarray:
    return harness.create("noise", "annotators", **options)(data, rng=np.random.default_rng(seed)).numpy()


def test_the_majority_wins_and_a_tie_is_drawn() -> None:
    votes = torch.tensor([[0, 0, 1], [2, -1, -1], [1, 2, -1], [-1, -1, -1]]).repeat(3000, 1)
    data = LabelledData(torch.zeros(len(votes), 1), torch.zeros(len(votes), dtype=torch.int64), 3, votes=votes)
    drawn = labels(data).reshape(-1, 4)
    assert (drawn[:, 0] == 0).all()
    assert (drawn[:, 1] == 2).all()
    assert np.bincount(drawn[:, 2], minlength=3) / 3000 == pytest.approx([0, 0.5, 0.5], abs=0.04)
    assert np.bincount(drawn[:, 3], minlength=3) / 3000 == pytest.approx([1 / 3] * 3, abs=0.04)


def test_one_vote_is_drawn_by_the_shares_of_votes() -> None:
    votes = torch.tensor([[0, 0, 1, -1]]).repeat(6000, 1)
    data = LabelledData(torch.zeros(6000, 1), torch.zeros(6000, dtype=torch.int64), 3, votes=votes)
    assert np.bincount(labels(data, rule="one"), minlength=3) / 6000 == pytest.approx([2 / 3, 1 / 3, 0], abs=0.025)
    assert (labels(data, rule="one", annotator=2) == 1).all()
    assert np.bincount(labels(data, rule="one", annotator=3)) / 6000 == pytest.approx([2 / 3, 1 / 3], abs=0.025)


def test_dawid_and_skene_find_who_is_good_and_beat_the_majority() -> None:
    data, confusion = crowd()
    assert data.votes is not None
    posterior, found, shares = dawid_skene(data.votes.numpy(), 3)
    assert np.abs(found - confusion).max() < 0.06
    assert shares == pytest.approx([0.5, 0.3, 0.2], abs=0.04)
    assert posterior.sum(1) == pytest.approx(np.ones(len(posterior)))
    truth = data.targets.numpy()
    assert (labels(data, rule="dawid_skene") == truth).mean() > (labels(data) == truth).mean() + 0.02


def test_one_round_is_the_formula_of_the_paper() -> None:
    votes = np.array([[0, 1], [0, 0], [1, -1]])
    start = np.array([[0.5, 0.5], [1, 0], [0, 1]])
    shares = start.mean(0)
    confusion = np.zeros((2, 2, 2))
    for n in range(3):
        for a in range(2):
            if votes[n, a] >= 0:
                confusion[a, :, votes[n, a]] += start[n]
    confusion = (confusion + 0.01) / (confusion + 0.01).sum(2, keepdims=True)
    expected = np.array(
        [shares * np.prod([confusion[a, :, v] for a, v in enumerate(row) if v >= 0], axis=0) for row in votes]
    )
    posterior, found, prior = dawid_skene(votes, 2, rounds=1)
    assert posterior == pytest.approx(expected / expected.sum(1, keepdims=True))
    assert found == pytest.approx(confusion)
    assert prior == pytest.approx(shares)


def test_labelling_functions_of_one_class_tell_by_when_they_are_silent() -> None:
    rng = np.random.default_rng(1)
    truth = rng.choice(2, 2000, p=[0.7, 0.3])
    fires = rng.random((2000, 4)) < np.where(truth[:, None] == [0, 0, 1, 1], 0.6, 0.1)
    votes = np.where(fires, [0, 0, 1, 1], -1)
    right = {
        silence: (dawid_skene(votes, 2, silence=silence)[0].argmax(1) == truth).mean() for silence in (False, True)
    }
    assert right[True] > 0.85 > right[False] + 0.05


def test_the_likelihood_never_falls() -> None:
    data, _ = crowd(300, seed=3)
    assert data.votes is not None
    votes = data.votes.numpy()

    def likelihood(rounds: int) -> float:
        _, confusion, shares = dawid_skene(votes, 3, rounds=rounds, smoothing=0.0)
        joint = np.broadcast_to(shares, (300, 3)).copy()
        for a in range(votes.shape[1]):
            cast = votes[:, a] >= 0
            joint[cast] *= confusion[a][:, votes[cast, a]].T
        return float(np.log(joint.sum(1)).sum())

    values = [likelihood(rounds) for rounds in range(1, 12)]
    assert all(later >= earlier - 1e-9 for earlier, later in itertools.pairwise(values))


def test_votes_are_counted_by_class() -> None:
    assert vote_counts(np.array([[0, 2, 2], [-1, -1, 1]]), 3).tolist() == [[1, 0, 2], [0, 1, 0]]


def test_the_labels_depend_on_the_stream_alone_and_the_matrix_is_their_shares() -> None:
    data, _ = crowd(500)
    assert (labels(data, 1) == labels(data, 1)).all()
    noise = harness.create("noise", "annotators", rule="dawid_skene")
    matrix = noise.transition_matrix(data)
    noisy = labels(data, 5, rule="dawid_skene")
    truth = data.targets.numpy()
    assert matrix[0, 0].item() == pytest.approx((noisy[truth == 0] == 0).mean(), abs=0.02)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"annotator": 1}, "annotator means nothing"), ({"rule": "one", "annotator": 9}, "there is no annotator 9")],
)
def test_a_wrong_annotator_is_refused(options: dict[str, object], words: str) -> None:
    data, _ = crowd(20)
    with pytest.raises(HarnessError, match=words):
        labels(data, **options)


def test_data_without_votes_are_refused() -> None:
    data = LabelledData(torch.zeros(4, 1), torch.tensor([0, 1, 0, 1]), 2)
    with pytest.raises(HarnessError, match="no votes of annotators"):
        labels(data)
