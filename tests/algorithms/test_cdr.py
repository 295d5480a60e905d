"""CDR: masks against a full sort, training against SGD written out, with and without momentum, on factors too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.algorithms.cdr import CDR, keep_critical, ranked_weights, scheduled_tau
from harness_plugins.transforms.kpd import KroneckerProductDecomposition
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import harness


def masked_by_full_sort(weights: list[np.ndarray], gradients: list[np.ndarray], tau: float) -> list[np.ndarray]:
    """CDR's gradients, ranked by sorting everything."""
    scores = np.concatenate([np.abs(w * g).ravel() for w, g in zip(weights, gradients, strict=True)])
    count = int((1 - tau) * len(scores))
    if count == 0:
        return [np.zeros_like(g) for g in gradients]
    threshold = np.sort(scores)[::-1][count - 1]
    return [(1 - tau) * g * (np.abs(w * g) >= threshold) for w, g in zip(weights, gradients, strict=True)]


numbers = st.integers(-3, 3).map(float)


@given(
    values=st.lists(st.tuples(numbers, numbers), min_size=3, max_size=40),
    tau=st.sampled_from([0.0, 0.2, 0.4, 0.5, 0.7, 0.99, 1.0]),
    cut=st.integers(1, 2),
)
def test_masks_agree_with_a_full_sort_ties_included(values: list[tuple[float, float]], tau: float, cut: int) -> None:
    w, g = (torch.tensor(column, dtype=torch.float64) for column in zip(*values, strict=True))
    weights, gradients = [w[:cut], w[cut:]], [g[:cut].clone(), g[cut:].clone()]
    expected = masked_by_full_sort([p.numpy() for p in weights], [p.numpy().copy() for p in gradients], tau)
    share = keep_critical(weights, gradients, tau)
    for mine, theirs in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(mine, theirs)
    assert float(share) >= int((1 - tau) * len(values)) / len(values) - 1e-6


def network(kpd: bool) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)
    )
    return KroneckerProductDecomposition(rank=3)(model) if kpd else model


@pytest.mark.parametrize("kpd", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_training_is_sgd_on_masked_gradients(momentum: float, kpd: bool) -> None:
    inputs = torch.randn(16, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    targets = torch.arange(16) % 3
    tau, lr, decay = 0.4, 0.1, 1e-2
    model, mirror = network(kpd).double(), network(kpd).double()
    sgd = {"name": "sgd", "lr": lr, "momentum": momentum, "weight_decay": decay}
    harness.drive([CDR(tau=tau)], model, inputs, targets, seed=0, batches=[list(range(16))] * 4, optimizer=sgd)
    parameters = list(mirror.parameters())
    ranked = {id(p) for p in ranked_weights(mirror, parameters)}
    assert len(ranked) == (6 if kpd else 3)
    chosen = [k for k, p in enumerate(parameters) if id(p) in ranked]
    buffers: dict[int, np.ndarray] = {}
    for _ in range(4):
        gradients = torch.autograd.grad(functional.cross_entropy(mirror(inputs), targets), parameters)
        values = [g.numpy().copy() for g in gradients]
        masked = masked_by_full_sort([parameters[k].detach().numpy() for k in chosen], [values[k] for k in chosen], tau)
        for k, g in zip(chosen, masked, strict=True):
            values[k] = g
        for k, (parameter, g) in enumerate(zip(parameters, values, strict=True)):
            step = g + decay * parameter.detach().numpy()
            buffers[k] = momentum * buffers[k] + step if k in buffers else step
            parameter.data.sub_(torch.from_numpy(lr * buffers[k]))
    for mine, theirs in zip(model.parameters(), parameters, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-12)


def test_with_kpd_the_ranked_weights_are_the_factors() -> None:
    model = network(kpd=True)
    names = {id(p): name for name, p in model.named_parameters()}
    ranked = [names[id(p)] for p in ranked_weights(model, list(model.parameters()))]
    assert len(ranked) == 6 and all("parametrizations.weight.original" in name for name in ranked)


def test_a_shared_weight_counts_once_and_parameters_of_algorithms_never() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    model = nn.Sequential(first, second, nn.Linear(4, 2))
    assert len(ranked_weights(model, list(model.parameters()))) == 2
    assert ranked_weights(model, [first.weight]) == [first.weight]


@pytest.mark.parametrize("tau", [0.2, 0.4])
@pytest.mark.parametrize("num_gradual", [2, 10])
def test_the_gradual_schedule_is_the_linspace_of_the_official_code(tau: float, num_gradual: int) -> None:
    keep = np.linspace(1 - tau, 1, num=num_gradual)[::-1]
    for epoch in range(15):
        expected = keep[epoch] if epoch < num_gradual else 1 - tau
        assert 1 - scheduled_tau(tau, epoch + 1, num_gradual) == pytest.approx(expected)
        assert scheduled_tau(tau, epoch + 1, None) == tau


def test_gradual_keeps_every_gradient_in_the_first_epoch(make_run: Any, train: Any) -> None:
    inputs, targets = torch.randn(16, 1, 4, 4), torch.arange(16) % 3
    model = network(kpd=False)
    run = make_run(model, inputs, targets, [CDR(tau=0.4, schedule="gradual", num_gradual=3)], lr=0.0)
    plain = torch.autograd.grad(functional.cross_entropy(model(inputs), targets), list(model.parameters()))
    shares = []
    for epoch in (1, 2, 3, 4):
        run.epoch = epoch
        run.stack.epoch_start(run=run)
        train(run)
        if epoch == 1:
            for parameter, gradient in zip(model.parameters(), plain, strict=True):
                assert torch.allclose(parameter.grad, gradient, atol=1e-6)
        shares.append(run.stack.diagnostics(run=run)[0]["cdr.critical_share"])
    assert shares == pytest.approx([1.0, 0.8, 0.6, 0.6], abs=0.01)
