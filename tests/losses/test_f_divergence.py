"""f-divergences: each conjugate against a numerical supremum, and a step against finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.losses.f_divergence import DIVERGENCES, FDivergence, conjugate_term
from harness_plugins.losses.peers import draw_peers
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

import harness

LOG2 = math.log(2)
V = np.linspace(0.0, 1.0, 11)
WRITTEN: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "kl": (lambda v: v, lambda v: math.exp(v - 1)),
    "reverse_kl": (lambda v: -math.exp(v), lambda v: -1 - v),
    "jeffrey": (lambda v: v, lambda v: v + v * v / 4 + v**3 / 16),
    "squared_hellinger": (lambda v: 1 - math.exp(v), lambda v: (1 - math.exp(v)) / math.exp(v)),
    "pearson": (lambda v: v, lambda v: v + v * v / 4),
    "neyman": (lambda v: 1 - math.exp(v), lambda v: 2 - 2 * math.sqrt(max(1 - v, 1e-6))),
    "jensen_shannon": (
        lambda v: LOG2 - math.log(1 + math.exp(-v)),
        lambda v: v + math.log(1 + math.exp(-v)) - LOG2,
    ),
    "total_variation": (lambda v: math.tanh(v) / 2, lambda v: math.tanh(v) / 2),
}
GENERATORS: dict[str, Callable[[float], float]] = {
    "kl": lambda u: u * math.log(u),
    "reverse_kl": lambda u: -math.log(u),
    "squared_hellinger": lambda u: (math.sqrt(u) - 1) ** 2,
    "pearson": lambda u: (u - 1) ** 2,
    "neyman": lambda u: (1 - u) ** 2 / u,
    "jensen_shannon": lambda u: u * math.log(u) - (u + 1) * math.log((u + 1) / 2),
}
"""``f`` of the divergences whose conjugate is smooth, from the definition ``D = E_q f(p / q)``."""


@pytest.mark.parametrize("name", WRITTEN)
def test_both_functions_are_those_of_the_code(name: str) -> None:
    v = torch.from_numpy(V)
    g, _ = DIVERGENCES[name]
    np.testing.assert_allclose(g(v).numpy(), [WRITTEN[name][0](x) for x in V], atol=1e-12)
    np.testing.assert_allclose(conjugate_term(name, v).numpy(), [WRITTEN[name][1](x) for x in V], atol=1e-12)


@pytest.mark.parametrize("name", [*GENERATORS, "jeffrey"])
def test_the_second_is_the_conjugate_of_the_first(name: str) -> None:
    """``f*(t) = sup_u (u t - f(u))`` at ``t = g(v)``; of Jeffrey's the first terms of a series, of JS a half scale."""

    def generator(u: float) -> float:
        return (u - 1) * math.log(u) if name == "jeffrey" else GENERATORS[name](u)

    for v in np.linspace(0.05, 0.6, 5):
        t = WRITTEN[name][0](v)
        found = minimize_scalar(
            lambda s, t=t: generator(math.exp(s)) - math.exp(s) * t, bounds=(-12, 12), method="bounded"
        )
        given = float(conjugate_term(name, torch.tensor([v], dtype=torch.float64), exact=True)[0])
        tolerance = 0.02 if name == "jeffrey" else 1e-6
        assert given == pytest.approx(-float(found.fun), abs=tolerance)


def test_neymans_slope_is_finite_at_one() -> None:
    for exact in (False, True):
        v = torch.tensor([0.5, 1.0, 1.0 + 1e-5], dtype=torch.float64, requires_grad=True)
        conjugate_term("neyman", v, exact).sum().backward()
        assert v.grad is not None and bool(v.grad.isfinite().all())


def problem() -> tuple[nn.Linear, Tensor, Tensor]:
    torch.manual_seed(1)
    return nn.Linear(4, 3).double(), torch.randn(20, 4).double(), torch.arange(20) % 3


@pytest.mark.parametrize("name", WRITTEN)
def test_a_step_goes_down_the_difference_of_both_means(name: str) -> None:
    model, inputs, targets = problem()
    x, y = inputs.numpy(), targets.numpy()
    weight, bias = (p.detach().numpy().copy() for p in model.parameters())
    batch = np.array([0, 3, 4, 8, 11, 13])
    first, second = (drawn.numpy() for drawn in draw_peers(7, 1, 0, 20, 6))

    def probability(w: np.ndarray, samples: np.ndarray, labels: np.ndarray) -> np.ndarray:
        exponents = np.exp(x[samples] @ w.T + bias)
        return np.asarray(exponents[np.arange(len(labels)), labels] / exponents.sum(1))

    def loss(w: np.ndarray) -> float:
        g, conjugate = WRITTEN[name]
        given, drawn = probability(w, batch, y[batch]), probability(w, first, y[second])
        return float(-np.mean([g(v + 1e-5) for v in given]) + np.mean([conjugate(v + 1e-5) for v in drawn]))

    slope = np.zeros_like(weight)
    for place in np.ndindex(weight.shape):
        nudge = np.zeros_like(weight)
        nudge[place] = 1e-5
        slope[place] = (loss(weight + nudge) - loss(weight - nudge)) / 2e-5
    (epoch,) = harness.drive(
        {"loss": {"name": "f_divergence", "divergence": name, "eps": 1e-5}},
        model,
        inputs,
        targets,
        seed=7,
        batches=[batch.tolist()],
        optimizer={"name": "sgd", "lr": 0.5, "momentum": 0.0},
    )
    assert epoch["losses"] == pytest.approx([loss(weight)], rel=1e-9, abs=1e-12)
    assert epoch["diagnostics"]["f_divergence.estimate"] == pytest.approx(-loss(weight), abs=1e-12)
    np.testing.assert_allclose(model.weight.detach().numpy(), weight - 0.5 * slope, atol=1e-8)


def test_the_warm_up_is_plain_cross_entropy() -> None:
    model, inputs, targets = problem()
    first = nn.functional.cross_entropy(model(inputs), targets).item()
    epochs = harness.drive(
        {"loss": {"name": "f_divergence", "divergence": "kl", "warmup": 1}},
        model,
        inputs,
        targets,
        seed=0,
        batches=[[list(range(20))]] * 2,
    )
    assert epochs[0]["losses"] == pytest.approx([first]) and not epochs[0]["diagnostics"]
    assert epochs[1]["losses"][0] < 0.4 and "f_divergence.estimate" in epochs[1]["diagnostics"]


def test_passes_that_score_samples_see_the_first_term_alone(make_run: Any) -> None:
    loss = FDivergence("pearson")
    inputs, targets = torch.randn(8, 4), torch.arange(8) % 3
    run = make_run(loss, inputs, targets, 3)
    run.epoch = 1
    run.stack.epoch_start(run=run)
    expected = -run.model(inputs).softmax(1)[torch.arange(8), targets].detach()
    torch.testing.assert_close(run.score_losses(), expected)


def test_an_unknown_divergence_is_refused_in_one_line() -> None:
    with pytest.raises(harness.HarnessError, match=r"^losses\.f_divergence\.divergence") as caught:
        harness.create("loss", "f_divergence", divergence="hellinger")
    assert "\n" not in str(caught.value)
