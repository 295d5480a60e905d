"""CORES^2: the regularised loss, the sieve and the prior against a loop over samples as the official code has it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.algorithms.cores2 import CORES2, remaining_prior, scheduled_beta
from torch import nn


def test_beta_follows_the_official_plan() -> None:
    plan = np.concatenate([np.zeros(10), np.linspace(0, 2, num=30), np.full(60, 2.0)])
    assert [scheduled_beta(2.0, epoch + 1, 10, 30) for epoch in range(100)] == pytest.approx(list(plan))
    assert scheduled_beta(2.0, 1, 0, 1) == 2.0


@pytest.mark.parametrize("epoch", [1, 5])
def test_a_step_is_the_mean_over_kept_samples(make_run: Any, train: Any, epoch: int) -> None:
    torch.manual_seed(0)
    model, inputs = nn.Linear(4, 3), 2 * torch.randn(12, 4)
    targets = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2])
    cores = CORES2(beta=2.0, warmup=1, ramp=3, sieve_after=3)
    run = make_run(model, inputs, targets, [cores], batch_size=12, lr=0.0)
    run.epoch = epoch
    z = model(inputs).detach().double().numpy()
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    beta = {1: 0.0, 5: 2.0}[epoch]
    prior = np.array([5, 4, 3]) / 12
    losses, kept, removed = [], [], np.zeros(3)
    for i, y in enumerate(targets.tolist()):
        every = -np.log(p[i] + 1e-8)
        sieve = -np.log(p[i, y]) - every.mean()
        assert float(cores_score := sieve) == cores_score
        if epoch > 3 and sieve > 0:
            removed[y] += 1
            continue
        losses.append(-np.log(p[i, y]) - beta * (prior * every).sum())
        kept.append(i)
    step = train(run)
    assert float(step.loss) == pytest.approx(np.mean(losses) / (1 + beta), rel=1e-5)
    assert (epoch == 1) == (len(kept) == 12)
    assert run.stack.diagnostics(run=run)[0]["cores2.kept_share"] == pytest.approx(len(kept) / 12)
    run.epoch = epoch + 1
    run.stack.epoch_start(run=run)
    left = prior * 12 - removed
    np.testing.assert_allclose(cores.prior, left / left.sum(), rtol=1e-6)


def test_only_kept_samples_move_the_network(make_run: Any, train: Any) -> None:
    model = nn.Linear(3, 3, bias=False)
    nn.init.eye_(model.weight)
    inputs, targets = 3 * torch.eye(3), torch.tensor([0, 1, 0])
    run = make_run(model, inputs, targets, [CORES2(sieve_after=0)], num_outputs=3, lr=0.0)
    train(run)
    touched = model.weight.grad.abs().sum(0) > 0
    assert touched.tolist() == [True, True, False]


def test_a_batch_of_which_nothing_is_kept_gives_no_gradient(make_run: Any, train: Any) -> None:
    model = nn.Linear(3, 3, bias=False)
    nn.init.eye_(model.weight)
    run = make_run(model, 3 * torch.eye(3), torch.tensor([1, 2, 0]), [CORES2(sieve_after=0)], lr=0.0)
    assert float(train(run).loss) == 0.0
    assert float(model.weight.grad.abs().sum()) == 0.0


def test_scores_are_the_sieves_and_the_prior_survives_an_empty_class() -> None:
    counts = torch.tensor([5.0, 4.0, 3.0])
    assert torch.allclose(remaining_prior(counts, torch.tensor([5.0, 0.0, 0.0])), torch.tensor([0.0, 4 / 7, 3 / 7]))
    assert torch.allclose(remaining_prior(counts, counts), counts / 12)


def test_samples_that_the_network_doubts_score_higher(make_run: Any, train: Any) -> None:
    model = nn.Linear(3, 3, bias=False)
    nn.init.eye_(model.weight)
    run = make_run(model, 3 * torch.eye(3), torch.tensor([0, 1, 0]), [CORES2()], num_outputs=3, lr=0.0)
    train(run)
    run.stack.epoch_end(run=run)
    scores = run.sample_scores["cores2.sieve"][0]
    assert scores[2] > 0 > scores[0]
