"""Formulas against closed forms, and the data against what is said of them."""

import math

import numpy as np
import pytest
import torch
from noisy_label_extras.annotators import annotated_digits, confusion_matrices, majority
from noisy_label_extras.jocor import disagreement, joint_losses, kept_share
from noisy_label_extras.taylor import taylor_cross_entropy

OUTPUTS = torch.randn(20, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TARGETS = torch.arange(20) % 5


def test_taylor_cross_entropy_of_order_one_is_half_the_absolute_error():
    probabilities = OUTPUTS.softmax(1)
    absolute = (torch.nn.functional.one_hot(TARGETS, 5) - probabilities).abs().sum(1)
    assert torch.allclose(taylor_cross_entropy(OUTPUTS, TARGETS, order=1), absolute / 2)


def test_taylor_cross_entropy_tends_to_cross_entropy():
    entropy = torch.nn.functional.cross_entropy(OUTPUTS, TARGETS, reduction="none")
    assert torch.allclose(taylor_cross_entropy(OUTPUTS, TARGETS, order=2000), entropy, atol=1e-6)


@pytest.mark.parametrize("order", [2, 3, 6])
def test_taylor_cross_entropy_is_its_series(order):
    missed = 1 - OUTPUTS.softmax(1).gather(1, TARGETS[:, None]).squeeze(1).numpy()
    series = sum(missed**i / i for i in range(1, order + 1))
    assert np.allclose(taylor_cross_entropy(OUTPUTS, TARGETS, order).numpy(), series)


def test_two_equal_networks_do_not_disagree():
    assert torch.allclose(disagreement(OUTPUTS, OUTPUTS), torch.zeros(20, dtype=torch.float64), atol=1e-12)


def test_the_disagreement_is_the_symmetric_divergence_of_kullback_and_leibler():
    first, second = torch.tensor([[0.0, math.log(3)]]), torch.tensor([[0.0, 0.0]])
    p, q = np.array([0.25, 0.75]), np.array([0.5, 0.5])
    expected = (p * np.log(p / q)).sum() + (q * np.log(q / p)).sum()
    assert disagreement(first, second).item() == pytest.approx(expected, rel=1e-5)


def test_the_joint_loss_weighs_agreement_by_lambda():
    one = torch.ones(1)
    assert joint_losses(one, 2 * one, 0.9, 10 * one).item() == pytest.approx(0.1 * 3 + 0.9 * 10)


def test_the_kept_share_falls_linearly_and_then_stays():
    assert [kept_share(0.4, epoch, 10) for epoch in (1, 5, 10, 50)] == pytest.approx([0.96, 0.8, 0.6, 0.6])


def test_annotators_err_as_often_as_the_mean_says():
    matrices = confusion_matrices(5, 4, 0.3, 0.5)
    assert matrices.sum(axis=2) == pytest.approx(np.ones((5, 4)))
    errors = 1 - matrices[:, 0, 0]
    assert errors.mean() == pytest.approx(0.3) and errors[0] == pytest.approx(0.15)


def test_the_majority_wins():
    assert majority(np.array([[1, 2], [1, 0], [3, 0]]), 4).tolist() == [1, 0]


def test_the_majority_of_annotators_is_better_than_each():
    train = annotated_digits().train
    right = {name: float((labels == train.targets).double().mean()) for name, labels in train.human.items()}
    best = right.pop("majority")
    assert all(0.2 < share < best for share in right.values())
