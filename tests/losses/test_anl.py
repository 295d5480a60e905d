"""Active negative losses against their formulas in 50 digits, and the two terms of the batch."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from harness_plugins.losses.anl import (
    entropy_gap,
    normalized_negative_cross_entropy,
    normalized_negative_focal_loss,
)
from mpmath import mpf
from torch import nn

import harness

RNG = np.random.default_rng(0)
M = mpf("1e-7")


def probabilities(z: Any) -> list[Any]:
    exponents = [mpmath.exp(mpf(float(x))) for x in z]
    return [e / mpmath.fsum(exponents) for e in exponents]


def nnce(z: Any, y: Any) -> float:
    a = -mpmath.log(M)
    terms = [a + mpmath.log(min(max(p, M), mpf(1))) for p in probabilities(z)]
    return float(1 - terms[y] / mpmath.fsum(terms))


def nnfl(z: Any, y: Any, gamma: float = 0.5) -> float:
    logs = [max(mpmath.log(p), mpmath.log(M)) for p in probabilities(z)]
    terms = [-((1 - mpmath.exp(x)) ** gamma) * x for x in logs]
    largest = (1 - M) ** gamma * -mpmath.log(M)
    return float(1 - (largest - terms[y]) / (len(terms) * largest - mpmath.fsum(terms)))


@pytest.mark.parametrize(
    ("name", "given"), [("nnce", normalized_negative_cross_entropy), ("nnfl", normalized_negative_focal_loss)]
)
def test_the_negative_losses_are_those_of_their_formulas(name: str, given: Any) -> None:
    reference = {"nnce": nnce, "nnfl": nnfl}[name]
    with mpmath.workdps(50):
        for scale in (0.5, 3.0, 20.0):
            logits = RNG.normal(size=(6, 4)) * scale
            labels = np.arange(6) % 4
            wanted = [reference(z, y) for z, y in zip(logits, labels, strict=True)]
            np.testing.assert_allclose(
                given(torch.from_numpy(logits), torch.from_numpy(labels)).numpy(), wanted, atol=1e-9
            )


@pytest.mark.parametrize("given", [normalized_negative_cross_entropy, normalized_negative_focal_loss])
def test_the_negative_losses_are_symmetric_and_bounded(given: Any) -> None:
    outputs = torch.from_numpy(RNG.normal(size=(50, 5)) * 10)
    over_labels = torch.stack([given(outputs, torch.full((50,), k)) for k in range(5)])
    torch.testing.assert_close(over_labels.sum(0), torch.full((50,), 4.0, dtype=torch.float64))
    assert bool(((over_labels >= 0) & (over_labels <= 1)).all())


def test_clamped_entries_pass_no_gradient() -> None:
    z = torch.tensor([[0.0, 40.0, 39.0]], dtype=torch.float64, requires_grad=True)
    for given in (normalized_negative_cross_entropy, normalized_negative_focal_loss):
        (gradient,) = torch.autograd.grad(given(z, torch.tensor([0])).sum(), z)
        assert (
            abs(float(gradient[0, 0])) < 1e-15 and float(gradient[0, 1:].abs().max()) < 1e-9
        )  # its value is constant, 1


def test_the_entropy_term_is_the_gap_to_an_even_mean_prediction() -> None:
    logits = RNG.normal(size=(9, 4))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    mean = p.mean(0)
    wanted = np.log(4) + (mean * np.log(mean)).sum()
    assert float(entropy_gap(torch.from_numpy(logits))) == pytest.approx(wanted, rel=1e-9)
    assert float(entropy_gap(torch.zeros(3, 4).double())) == pytest.approx(0, abs=1e-12)
    alone = entropy_gap(torch.tensor([[90.0, 0.0]]).double().requires_grad_())  # one class alone in a batch
    alone.backward()
    assert float(alone.detach()) == pytest.approx(np.log(2), abs=1e-5)


@pytest.mark.parametrize(
    ("options", "active", "negative"),
    [({}, "nce", nnce), ({"active": "nfl", "negative": "nnfl"}, "nfl", nnfl)],
)
def test_a_sample_is_judged_by_both_losses(options: dict[str, Any], active: str, negative: Any) -> None:
    logits, labels = RNG.normal(size=(6, 4)), np.arange(6) % 4
    outputs, targets = torch.from_numpy(logits), torch.from_numpy(labels)
    given = harness.create("loss", "anl", a=3.0, b=2.0, **options)(outputs, targets)
    first = harness.create("loss", active)(outputs, targets).numpy()
    wanted = 3 * first + 2 * np.array([negative(z, y) for z, y in zip(logits, labels, strict=True)])
    np.testing.assert_allclose(given.numpy(), wanted, rtol=1e-6)


def test_a_step_takes_the_sign_of_every_weight_and_the_entropy_along() -> None:
    torch.manual_seed(0)
    model, inputs, targets = nn.Linear(4, 3).double(), torch.randn(10, 4).double(), torch.arange(10) % 3
    hand = nn.Linear(4, 3).double()
    hand.load_state_dict(model.state_dict())
    outputs = hand(inputs)
    q = outputs.softmax(1).clamp(1e-7, 1 - 1e-7)
    terms = q.log() - np.log(1e-7)
    picked = torch.arange(10), targets
    log_p = outputs.log_softmax(1)
    rows = 5 * log_p[picked] / log_p.sum(1) + 4 * (1 - terms[picked] / terms.sum(1))
    mean = q.sum(0) / q.sum()
    size = sum((p.abs().sum() for p in hand.parameters()), torch.zeros(()))
    loss = rows.mean() + 2.0 * (np.log(3) + (mean * mean.log()).sum()) + 0.01 * size
    gradients = torch.autograd.grad(loss, list(hand.parameters()))
    (epoch,) = harness.drive(
        {"loss": {"name": "anl", "a": 5.0, "b": 4.0, "d": 0.01, "lam": 2.0}},
        model,
        inputs,
        targets,
        seed=0,
        batches=[list(range(10))],
        optimizer={"name": "sgd", "lr": 0.5, "momentum": 0.0},
    )
    assert epoch["losses"] == pytest.approx([loss.item()], rel=1e-9)
    for weight, before, gradient in zip(model.parameters(), hand.parameters(), gradients, strict=True):
        torch.testing.assert_close(weight, before - 0.5 * gradient, atol=1e-10, rtol=0)
