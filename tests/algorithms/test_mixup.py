"""mixup: one lambda for a batch, inputs and targets mixed alike, and only in training steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.algorithms.mixup import Mixup, draw_beta, mix
from scipy import stats
from torch import nn
from torch.nn import functional


def test_a_mixture_is_the_convex_combination() -> None:
    values = torch.arange(12.0).view(3, 4)
    assert torch.allclose(mix(values, torch.tensor([2, 0, 1]), 0.25), 0.25 * values + 0.75 * values[[2, 0, 1]])


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_lambda_follows_the_beta_distribution(alpha: float) -> None:
    generator = torch.Generator().manual_seed(0)
    draws = np.array([draw_beta(alpha, generator) for _ in range(4000)])
    assert stats.kstest(draws, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_a_step_trains_on_the_mixed_batch(make_run: Any, train: Any) -> None:
    torch.manual_seed(0)
    model, inputs, targets = nn.Linear(4, 3), torch.randn(8, 4), torch.arange(8) % 3
    run = make_run(model, inputs, targets, [Mixup(alpha=1.0)], lr=0.0)
    mirror = torch.Generator()
    mirror.set_state(run.generator("algorithm").get_state())
    lam = draw_beta(1.0, mirror)
    partners = torch.randperm(8, generator=mirror)
    outputs = model(lam * inputs + (1 - lam) * inputs[partners])
    both = [functional.cross_entropy(outputs, labels).item() for labels in (targets, targets[partners])]
    step = train(run)
    assert float(step.loss) == pytest.approx(lam * both[0] + (1 - lam) * both[1], rel=1e-5)
    assert step.targets.shape == (8, 3) and torch.allclose(step.targets.sum(1), torch.ones(8))


def test_passes_that_score_samples_see_them_unmixed(make_run: Any) -> None:
    torch.manual_seed(0)
    model, inputs, targets = nn.Linear(4, 3), torch.randn(8, 4), torch.arange(8) % 3
    run = make_run(model, inputs, targets, [Mixup()])
    before = run.generator("algorithm").get_state()
    assert torch.allclose(run.score_losses(), functional.cross_entropy(model(inputs), targets, reduction="none"))
    assert torch.equal(run.generator("algorithm").get_state(), before)
