"""Generalised label smoothing: rates below and above zero against a smoothed label, and its second stage."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from harness_plugins.losses.gls import generalised_label_smoothing
from torch import nn

import harness

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("rate", [1.0, 0.8, 0.1, 0.0, -0.2, -1.0, -8.0])
@pytest.mark.parametrize(("wa", "wb"), [(0.0, 1.0), (0.5, 2.0)])
def test_it_is_cross_entropy_to_a_smoothed_label(rate: float, wa: float, wb: float) -> None:
    logits, labels = RNG.normal(size=(8, 5)) * 3, np.arange(8) % 5
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    one_hot = np.eye(5)[labels]
    smoothed = (1 - rate) * one_hot + rate / 5
    wanted = -wb * (smoothed * log_p).sum(1) - wa * (one_hot * log_p).sum(1)
    z = torch.from_numpy(logits).requires_grad_()
    given = generalised_label_smoothing(z, torch.from_numpy(labels), rate, wa, wb)
    np.testing.assert_allclose(given.detach().numpy(), wanted, rtol=1e-12)
    (gradient,) = torch.autograd.grad(given.sum(), z)
    np.testing.assert_allclose(gradient.numpy(), (wa + wb) * np.exp(log_p) - wb * smoothed - wa * one_hot, atol=1e-12)


def test_at_rates_that_torch_knows_it_is_torchs_own() -> None:
    outputs, targets = torch.randn(6, 4), torch.arange(6) % 4
    torch.testing.assert_close(
        generalised_label_smoothing(outputs, targets, 0.3),
        nn.functional.cross_entropy(outputs, targets, reduction="none", label_smoothing=0.3),
    )


def test_a_negative_rate_has_no_lower_bound_and_rate_1_leaves_the_labels_out() -> None:
    sure = torch.tensor([[50.0, 0.0, 0.0]], dtype=torch.float64)
    assert float(generalised_label_smoothing(sure, torch.tensor([0]), -1.0)) < -30
    outputs = torch.randn(1, 3).expand(3, 3)
    losses = generalised_label_smoothing(outputs, torch.arange(3), 1.0)
    torch.testing.assert_close(losses, losses[:1].expand(3))


def test_a_rate_above_1_is_refused_in_one_line() -> None:
    with pytest.raises(harness.HarnessError, match=r"^losses\.gls\.rate") as caught:
        harness.create("loss", "gls", rate=1.1)
    assert "\n" not in str(caught.value)


def test_after_the_warm_up_the_rate_is_constant_and_the_optimizer_new() -> None:
    torch.manual_seed(0)
    model, inputs, targets = nn.Linear(4, 3, bias=False).double(), torch.randn(12, 4).double(), torch.arange(12) % 3
    weights = []

    class Watch:
        def epoch_end(self, run: harness.Run) -> None:
            weights.append(run.model.weight.detach().clone())

    epochs = harness.drive(
        {"loss": {"name": "gls", "rate": -0.5, "warmup": 2, "lr": 1e-3}, "algorithms": [Watch()]},
        model,
        inputs,
        targets,
        seed=0,
        batches=[[list(range(12))]] * 4,
        optimizer={"name": "sgd", "lr": 0.5, "momentum": 0.9},
        schedule={"name": "step", "milestones": [3], "gamma": 0.1},
    )
    smoothed = 1.5 * nn.functional.one_hot(targets, 3).double() - 0.5 / 3

    def gradient(weight: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return ((inputs @ weight.T).softmax(1) - label).T @ inputs / 12

    torch.testing.assert_close(weights[2], weights[1] - 1e-3 * gradient(weights[1], smoothed))
    velocity = 0.9 * gradient(weights[1], smoothed) + gradient(weights[2], smoothed)
    torch.testing.assert_close(weights[3], weights[2] - 1e-3 * velocity)
    assert [epoch["lr"] for epoch in epochs] == pytest.approx([0.5, 0.5, 0.5, 0.05])  # what the schedule planned
