"""ELR: the average is updated before the loss uses it, in training only, and the loss is the equation's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.algorithms.elr import ELR
from torch import nn

import harness


def by_hand(z: np.ndarray, y: np.ndarray, t: np.ndarray, lam: float, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """The new averages, and the losses per sample."""
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    clamped = np.clip(p, 1e-4, 1 - 1e-4)
    t = beta * t + (1 - beta) * clamped / clamped.sum(1, keepdims=True)
    ce = -np.log(p[np.arange(len(y)), y])
    return t, ce + lam * np.log(1 - (t * clamped).sum(1))


def test_two_visits_by_hand() -> None:
    torch.manual_seed(0)
    model, inputs, targets = nn.Linear(4, 3).double(), 3 * torch.randn(8, 4, dtype=torch.float64), torch.arange(8) % 3
    z = model(inputs).detach().numpy()
    elr = ELR(lam=3.0, beta=0.7)
    batches = [[0, 1, 2, 3], [2, 3, 4, 5], [0, 2, 6, 7]]
    still = {"name": "sgd", "lr": 1e-300}
    (epoch,) = harness.drive([elr], model, inputs, targets, seed=0, batches=batches, optimizer=still)
    t = np.zeros((8, 3))
    for index, found in zip(batches, epoch["losses"], strict=True):
        t[index], losses = by_hand(z[index], targets[index].numpy(), t[index], 3.0, 0.7)
        assert found == pytest.approx(losses.mean(), rel=1e-12)
    np.testing.assert_allclose(elr.t.data, t, atol=1e-14)


def test_the_gradient_takes_the_average_for_a_constant(make_run: Any, train: Any) -> None:
    torch.manual_seed(0)
    model, inputs, targets = nn.Linear(4, 3), torch.randn(5, 4), torch.arange(5) % 3
    elr = ELR(lam=2.0, beta=0.5)
    run = make_run(model, inputs, targets, [elr], lr=0.0)
    z = model(inputs).detach().double().numpy()
    t, _ = by_hand(z, targets.numpy(), np.zeros((5, 3)), 2.0, 0.5)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    d_p = -2.0 * t / (1 - (t * p).sum(1, keepdims=True))
    d_z = p - np.eye(3)[targets.numpy()] + p * (d_p - (p * d_p).sum(1, keepdims=True))
    train(run)
    np.testing.assert_allclose(model.weight.grad, d_z.T @ inputs.double().numpy() / 5, atol=1e-6)


def test_other_passes_read_the_average_and_leave_it(make_run: Any, train: Any) -> None:
    torch.manual_seed(0)
    model, inputs, targets = nn.Linear(4, 3), torch.randn(5, 4), torch.arange(5) % 3
    elr = ELR()
    run = make_run(model, inputs, targets, [elr], lr=0.0)
    train(run)
    before = elr.t.data.clone()
    scored = run.score_losses()
    probed = run.losses(inputs, targets, torch.arange(5), "probe")
    assert torch.equal(elr.t.data, before)
    assert torch.allclose(scored, probed.detach())
    run.stack.epoch_end(run=run)
    assert torch.allclose(run.sample_scores["elr.disagreement"][0], 1 - before[torch.arange(5), targets])
