"""Formulas against closed forms, and the data against what is said of them."""

import math

import numpy as np
import pytest
import torch
from noisy_label_extras.annotators import annotated_digits, confusion_matrices, majority
from noisy_label_extras.superloss import SuperLoss, confidence, lambert_w, super_losses
from noisy_label_extras.taylor import taylor_cross_entropy
from scipy.optimize import minimize_scalar
from scipy.special import lambertw

import harness

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


def test_lamberts_function_is_scipys_from_the_branch_point_on():
    x = np.concatenate([-1 / math.e + np.logspace(-12, -1, 50), np.linspace(-0.3, 3, 50), np.logspace(0, 6, 50)])
    assert np.allclose(lambert_w(torch.from_numpy(x)).numpy(), lambertw(x).real, rtol=1e-12, atol=2e-8)
    ends = lambert_w(torch.tensor([-1 / math.e, -math.exp(-1) - 1e-9, 0.0, math.e], dtype=torch.float64))
    assert ends.tolist() == pytest.approx([-1, -1, 0, 1], abs=1e-7)
    assert lambert_w(torch.tensor([-1 / math.e, 0.0, 1e30])).tolist() == pytest.approx(
        [-1, 0, lambertw(1e30).real], rel=1e-5
    )


@pytest.mark.parametrize("lam", [0.25, 1.0, 4.0])
def test_the_confidence_is_what_minimises_the_loss(lam):
    for loss in (0.0, 1.0, 2.3, 5.0, 12.0):
        tau, steepest = 2.3, max(loss - 2.3, -2 * lam / math.e)  # below that a loss has no minimum, and is cut off
        found = minimize_scalar(
            lambda log, steepest=steepest: steepest * math.exp(log) + lam * log**2,
            bounds=(-8, 1),
            method="bounded",
            options={"xatol": 1e-10},
        )
        given = torch.tensor([loss], dtype=torch.float64)
        sigma = confidence(given, tau, lam).item()
        assert sigma == pytest.approx(math.exp(found.x), rel=1e-4)
        assert super_losses(given, tau, lam).item() == pytest.approx((loss - tau) * sigma + lam * math.log(sigma) ** 2)


def test_the_gradient_is_the_confidence():
    losses = torch.linspace(1.7, 6, 20, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(super_losses(losses, 2.3, 1.0).sum(), losses)
    step = 1e-6
    with torch.no_grad():
        differences = (super_losses(losses + step, 2.3, 1.0) - super_losses(losses - step, 2.3, 1.0)) / (2 * step)
    assert torch.allclose(gradient, confidence(losses, 2.3, 1.0).detach())
    assert torch.allclose(gradient, differences, atol=1e-6)


def test_a_large_lambda_leaves_losses_as_they_are():
    losses = torch.tensor([0.1, 2.0, 7.0], dtype=torch.float64)
    assert torch.allclose(super_losses(losses, 2.3, 1e9), losses - 2.3, atol=1e-6)


@pytest.mark.parametrize("tau", ["classes", "average"])
def test_a_step_trains_on_super_losses_and_averages_what_it_saw(tau):
    model = torch.nn.Linear(4, 3, bias=False).double()
    inputs, targets = torch.randn(6, 4, dtype=torch.float64), torch.arange(6) % 3
    plain = torch.nn.functional.cross_entropy(model(inputs), targets, reduction="none").detach()
    level = math.log(3) if tau == "classes" else 0.9 * math.log(3) + 0.1 * plain.mean().item()
    (epoch,) = harness.drive(
        [SuperLoss(tau=tau)],
        model,
        inputs,
        targets,
        seed=0,
        batches=[list(range(6))],
        optimizer={"name": "sgd", "lr": 0.1},
    )
    assert epoch["losses"] == pytest.approx([super_losses(plain, level, 1.0).mean().item()], rel=1e-6)


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
