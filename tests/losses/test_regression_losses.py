"""Regression losses: values per sample, shapes, where the gradient ends, and the scale of residuals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import harness

RESIDUALS = hnp.arrays(
    "float64", st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=st.floats(-50, 50, width=32)
)


def l1(r: float) -> float:
    return abs(r)


def l2(r: float) -> float:
    return r * r


def huber(r: float, delta: float = 1.0) -> float:
    return float(scipy.special.huber(delta, r))


def tukey(r: float, delta: float = 4.685) -> float:
    return delta**2 / 6 * (1 - (1 - (r / delta) ** 2) ** 3) if abs(r) <= delta else delta**2 / 6


CASES: list[tuple[str, dict[str, Any], Any]] = [
    ("l1", {}, l1),
    ("l2", {}, l2),
    ("huber", {}, huber),
    ("huber", {"delta": 2.5}, lambda r: huber(r, 2.5)),
    ("tukey", {}, tukey),
    ("tukey", {"delta": 10.0}, lambda r: tukey(r, 10.0)),
]


@pytest.mark.parametrize(("name", "parameters", "element"), CASES)
@settings(max_examples=40, deadline=None)
@given(r=RESIDUALS)
def test_losses_sum_over_outputs(name: str, parameters: dict[str, Any], element: Any, r: Any) -> None:
    targets = torch.linspace(-3, 3, r.size, dtype=torch.float64).reshape(r.shape)
    losses = harness.create("loss", name, **parameters)(torch.from_numpy(r) + targets, targets)
    expected = [sum(element(x) for x in row) for row in r]
    assert losses.shape == (len(r),)
    assert losses.numpy() == pytest.approx(np.array(expected), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", ["l1", "l2", "huber", "tukey"])
def test_targets_of_one_output_may_be_flat(name: str) -> None:
    outputs, targets = torch.randn(7, 1, generator=torch.Generator().manual_seed(0)), torch.arange(7.0)
    loss = harness.create("loss", name)
    flat = loss(outputs, targets)
    assert flat.shape == (7,)
    assert torch.equal(flat, loss(outputs, targets[:, None]))
    assert torch.equal(flat, loss(outputs.squeeze(1), targets))
    assert torch.equal(flat, loss(outputs, targets.long()))


@pytest.mark.parametrize("name", ["l1", "l2", "huber", "tukey"])
@pytest.mark.parametrize("shape", [(7,), (7, 2), (3, 7)])
def test_too_few_targets_are_refused_in_one_line(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(harness.HarnessError, match=rf"^losses\.{name}: takes a target") as caught:
        harness.create("loss", name)(torch.zeros(7, 3), torch.zeros(shape))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "parameters"), [case[:2] for case in CASES])
def test_gradients_agree_with_finite_differences(name: str, parameters: dict[str, Any]) -> None:
    outputs = 3 * torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    loss = harness.create("loss", name, **parameters)
    assert torch.autograd.gradcheck(lambda z: loss(z, torch.zeros(5, 3).double()), (outputs.requires_grad_(True),))


def slope(name: str, r: list[float], **parameters: Any) -> list[float]:
    outputs = torch.tensor(r, dtype=torch.float64)[:, None].requires_grad_(True)
    losses = harness.create("loss", name, **parameters)(outputs, torch.zeros(len(r)))
    found: list[float] = torch.autograd.grad(losses.sum(), outputs)[0].squeeze(1).tolist()
    return found


def test_tukey_is_flat_beyond_delta_and_huber_linear() -> None:
    assert slope("tukey", [-1e30, -5.0, -4.685, 4.685, 4.7, 1e6]) == [0.0] * 6
    assert slope("tukey", [1.0])[0] == pytest.approx((1 - 1 / 4.685**2) ** 2)
    assert slope("huber", [-1e30, -1.0, 0.0, 0.25, 1.0, 7.0]) == [-1.0, -1.0, 0.0, 0.25, 1.0, 1.0]
    assert slope("huber", [7.0], delta=3.0) == [3.0]


def test_near_zero_tukey_and_huber_are_half_the_square() -> None:
    r = torch.full((1, 1), 1e-4, dtype=torch.float64)
    for name in ("tukey", "huber"):
        assert harness.create("loss", name)(r, torch.zeros(1)).item() == pytest.approx(0.5e-8, rel=1e-8)


def test_mad_scale_measures_residuals_in_robust_standard_deviations() -> None:
    rng = np.random.default_rng(0)
    r = rng.standard_normal((30, 2)) * [1.0, 50.0] + [0.0, 7.0]
    losses = harness.create("loss", "tukey", mad_scale=True)(torch.from_numpy(r), torch.zeros(30, 2))
    scaled = r / (1.4826 * scipy.stats.median_abs_deviation(r, axis=0))
    assert losses.numpy() == pytest.approx(np.array([sum(map(tukey, row)) for row in scaled]))


def test_mad_scale_is_a_constant_for_the_gradient() -> None:
    r = [-3.0, -1.0, 0.5, 2.0, 9.0]
    scale = 1.4826 * scipy.stats.median_abs_deviation(r)
    expected = [x / scale**2 * max(0.0, 1 - (x / scale / 4.685) ** 2) ** 2 for x in r]
    assert slope("tukey", r, mad_scale=True) == pytest.approx(expected)


def test_equal_residuals_are_not_divided_by_zero() -> None:
    loss = harness.create("loss", "tukey", mad_scale=True)
    outputs = torch.full((4, 1), 2.0, dtype=torch.float64, requires_grad=True)
    losses = loss(outputs, torch.zeros(4))
    (gradient,) = torch.autograd.grad(losses.sum(), outputs)
    assert losses[0].item() == pytest.approx(tukey(2.0)) and gradient.isfinite().all()


def test_default_delta_makes_tukey_95_percent_efficient_on_gaussian_noise() -> None:
    x = np.linspace(-4.685, 4.685, 200001)
    density = scipy.stats.norm.pdf(x)
    u = (x / 4.685) ** 2
    psi, psi_prime = x * (1 - u) ** 2, (1 - u) * (1 - 5 * u)
    efficiency = np.trapezoid(psi_prime * density, x) ** 2 / np.trapezoid(psi**2 * density, x)
    assert efficiency == pytest.approx(0.95, abs=1e-4)
    loss = harness.create("loss", "tukey")
    assert loss.delta == 4.685 and not math.isnan(efficiency)
