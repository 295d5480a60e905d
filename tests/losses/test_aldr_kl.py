"""ALDR-KL: each sample's lambda follows its predictions, in training steps only."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import harness
from harness.training.run import Run


def by_hand(
    z: np.ndarray, y: np.ndarray, lam: np.ndarray, alpha: float = 2.0, margin: float = 0.1, lam0: float = 10.0
) -> tuple[np.ndarray, np.ndarray]:
    """Losses and next lambdas of a batch, sample by sample."""
    losses, lambdas = [], []
    for row, label, old in zip(z, y, lam, strict=True):
        size = len(row)
        f = row / (np.abs(row).sum() / size)
        e = np.exp(f / old)
        pr = e / e.sum() + 1e-5
        pr = pr / pr.sum()
        kl = sum(p * math.log(size * p) for p in pr)
        new = lam0 - lam0 * kl / (alpha * math.log(size))
        terms = [math.exp((margin * (k != label) + f[k] - f[label]) / new) for k in range(size)]
        losses.append(new * math.log(sum(terms) / size) - 0.5 * alpha * math.log(size) / lam0 * (new - lam0) ** 2)
        lambdas.append(new)
    return np.array(losses), np.array(lambdas)


def draws(count: int, batch: int = 5, classes: int = 4) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [(4 * rng.standard_normal((batch, classes)), rng.integers(classes, size=batch)) for _ in range(count)]


def test_lambdas_are_remembered_from_call_to_call() -> None:
    loss = harness.create("loss", "aldr_kl", lam0=1.0, margin=0.5, alpha=1.5)
    lambdas = np.ones(20)
    rng = np.random.default_rng(1)
    for z, y in draws(6):
        index = rng.choice(20, size=5, replace=False)
        expected, lambdas[index] = by_hand(z, y, lambdas[index], alpha=1.5, margin=0.5, lam0=1.0)
        outputs = torch.from_numpy(z).requires_grad_(True)
        losses = loss(outputs, torch.from_numpy(y), torch.from_numpy(index))
        assert losses.detach().numpy() == pytest.approx(expected, rel=1e-10, abs=1e-12)
    kept = loss.lambdas.data.numpy()
    assert kept == pytest.approx(lambdas[: len(kept)], rel=1e-10)


def test_without_an_index_every_call_starts_from_lam0() -> None:
    loss = harness.create("loss", "aldr_kl")
    (z, y), *_ = draws(1)
    outputs = torch.from_numpy(z).requires_grad_(True)
    first, second = loss(outputs, torch.from_numpy(y)), loss(outputs, torch.from_numpy(y))
    assert torch.equal(first, second)
    assert first.detach().numpy() == pytest.approx(by_hand(z, y, np.full(5, 10.0))[0], rel=1e-10)


def test_a_call_without_gradients_sees_the_same_loss_and_keeps_nothing() -> None:
    trained, watched = harness.create("loss", "aldr_kl", lam0=1.0), harness.create("loss", "aldr_kl", lam0=1.0)
    index = torch.arange(5)
    for z, y in draws(3):
        outputs, targets = torch.from_numpy(z).requires_grad_(True), torch.from_numpy(y)
        for loss in (trained, watched):
            with torch.no_grad():
                before = loss(outputs, targets, index)
                assert torch.equal(before, loss(outputs, targets, index))
        assert torch.equal(before, trained(outputs, targets, index))
        watched(outputs, targets, index)
    assert torch.equal(trained.lambdas.data, watched.lambdas.data)


@settings(max_examples=60, deadline=None)
@given(
    z=hnp.arrays("float64", st.tuples(st.integers(1, 4), st.integers(2, 12)), elements=st.floats(-40, 40, width=32)),
    lam0=st.sampled_from([0.1, 1.0, 10.0]),
    alpha=st.sampled_from([1.0, 1.01, 2.0]),
)
def test_lambdas_stay_in_zero_to_lam0(z: Any, lam0: float, alpha: float) -> None:
    loss = harness.create("loss", "aldr_kl", lam0=lam0, alpha=alpha)
    outputs = torch.from_numpy(z).requires_grad_(True)
    index = torch.arange(len(z))
    for _ in range(3):
        losses = loss(outputs, torch.zeros(len(z), dtype=torch.int64), index)
    (gradient,) = torch.autograd.grad(losses.sum(), outputs)
    assert torch.isfinite(losses).all() and torch.isfinite(gradient).all()
    assert (loss.lambdas.data > 0).all() and (loss.lambdas.data <= lam0 * (1 + 1e-9)).all()


def test_uniform_predictions_have_lambda_lam0_and_ldr_kl_value() -> None:
    outputs = torch.full((1, 5), 3.0, dtype=torch.float64)
    loss = harness.create("loss", "aldr_kl", margin=0.1, lam0=10.0)
    same = harness.create("loss", "ldr_kl", margin=0.1, lam=10.0)(outputs, torch.tensor([2]))
    torch.testing.assert_close(loss(outputs, torch.tensor([2])), same)


def test_softplus_comes_before_the_normalisation() -> None:
    (z, y), *_ = draws(1)
    given_softplus = harness.create("loss", "aldr_kl", softplus=True)(torch.from_numpy(z), torch.from_numpy(y))
    assert given_softplus.numpy() == pytest.approx(by_hand(np.log1p(np.exp(z)), y, np.full(5, 10.0))[0], rel=1e-10)


def test_only_training_steps_of_a_run_move_lambdas(make_run: Callable[..., Run], make_loop: Callable[..., Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(12, 3, generator=generator), torch.arange(12) % 4
    loss = harness.create("loss", "aldr_kl", lam0=1.0)
    run = make_run(loss, inputs, targets, num_classes=4, epochs=1)
    index = torch.arange(12)
    assert loss.lambdas.data.tolist() == [1.0] * 12
    run.score_losses()
    probe = inputs.clone().requires_grad_(True)
    run.losses(probe, targets, index, "probe").sum().backward()
    assert probe.grad is not None and probe.grad.abs().max() > 0
    assert loss.lambdas.data.tolist() == [1.0] * 12
    make_loop(run).fit()
    moved = loss.lambdas.data.clone()
    assert (moved < 1).all()
    run.losses(inputs, targets, index, "probe")
    run.score_losses()
    assert torch.equal(loss.lambdas.data, moved)
    (found,) = run.stack.diagnostics(run=run)
    assert found == {"aldr_kl.lambda": pytest.approx(moved.mean().item())}


def test_a_run_resumes_with_its_lambdas(make_run: Callable[..., Run], make_loop: Callable[..., Any]) -> None:
    inputs, targets = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 4
    loss = harness.create("loss", "aldr_kl")
    run = make_run(loss, inputs, targets, num_classes=4)
    make_loop(run).fit()
    other = harness.create("loss", "aldr_kl")
    second = make_run(other, inputs, targets, num_classes=4)
    second.load_state_dict(run.state_dict())
    assert torch.equal(other.lambdas.data, loss.lambdas.data) and (loss.lambdas.data < 10).all()


def test_a_state_also_serves_a_loss_by_itself() -> None:
    loss, other = harness.create("loss", "aldr_kl"), harness.create("loss", "aldr_kl")
    (z, y), (w, _) = draws(2)
    loss(torch.from_numpy(z).requires_grad_(True), torch.from_numpy(y), torch.arange(5))
    other.load_state_dict(loss.state_dict())
    outputs = torch.from_numpy(w).requires_grad_(True)
    first = loss(outputs, torch.from_numpy(y), torch.arange(5) + 2)
    assert torch.equal(first, other(outputs, torch.from_numpy(y), torch.arange(5) + 2))
