"""What the papers prove or the formulas imply: bounds, symmetry, limits, and where there is no gradient."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

import harness

LOGITS = hnp.arrays("float64", st.tuples(st.integers(1, 5), st.integers(2, 12)), elements=st.floats(-40, 40, width=32))
ORDINARY = hnp.arrays("float64", st.tuples(st.integers(1, 5), st.integers(2, 12)), elements=st.floats(-6, 6, width=32))


def over_all_labels(name: str, outputs: Tensor, **parameters: Any) -> Tensor:
    """(B, K) losses of every sample under every label."""
    loss = harness.create("loss", name, **parameters)
    labels = range(outputs.shape[1])
    return torch.stack([loss(outputs, torch.full((len(outputs),), label)) for label in labels], 1)


def bounds(classes: int) -> dict[str, tuple[float, float]]:
    log_k = math.log(classes)
    return {
        "ce": (0.0, math.inf),
        "mae": (0.0, 2.0),
        "mse": (0.0, 2.0 / classes),
        "rce": (0.0, -math.log(1e-4) * (1 + 1e-7 * classes)),
        "sce": (0.0, math.inf),
        "gce": (0.0, 1 / 0.7),
        "truncated_gce": (-(1 - 0.5**0.7) / 0.7, 0.5**0.7 / 0.7),
        "nce": (0.0, 1.0),
        "focal": (0.0, math.inf),
        "nfl": (0.0, 1.0),
        "agce": (0.0, (1.6**0.6 - 0.6**0.6) / 0.6),
        "aue": (0.0, (5.5**3 - 4.5**3) / 3),
        "ael": (math.exp(-1 / 2.5), 1.0),
        "ldr_kl": (-10 * log_k, math.inf),
        "eps_softmax": (0.0, -math.log(1e-8)),
        "eps_softmax_mae": (0.0, -0.01 * math.log(1e-8) + 10),
    }


BOUNDED = list(bounds(2))


@pytest.mark.parametrize("name", BOUNDED)
@settings(max_examples=25, deadline=None)
@given(array=LOGITS)
def test_losses_stay_within_their_bounds(name: str, array: Any) -> None:
    outputs = torch.from_numpy(array)
    losses = over_all_labels(name, outputs)
    low, high = bounds(outputs.shape[1])[name]
    assert torch.isfinite(losses).all()
    assert (losses >= low - 1e-9).all() and (losses <= high + 1e-9).all()


@pytest.mark.parametrize("name", BOUNDED)
@settings(max_examples=25, deadline=None)
@given(array=ORDINARY, label=st.integers(0, 1))
def test_a_higher_logit_of_the_label_never_raises_the_loss(name: str, array: Any, label: int) -> None:
    outputs, raised = torch.from_numpy(array), torch.from_numpy(array).clone()
    raised[:, label] += 1
    targets = torch.full((len(outputs),), label)
    loss = harness.create("loss", name)
    assert (loss(raised, targets) <= loss(outputs, targets) + 1e-12).all()


@settings(max_examples=50, deadline=None)
@given(array=LOGITS)
def test_symmetric_losses_sum_to_a_constant_over_all_labels(array: Any) -> None:
    outputs = torch.from_numpy(array)
    classes = outputs.shape[1]

    def sums(name: str, **parameters: Any) -> Any:
        return over_all_labels(name, outputs, **parameters).sum(1).numpy()

    assert sums("mae", scale=1.0) == pytest.approx(classes - 1, abs=1e-9)
    assert sums("nce") == pytest.approx(1, abs=1e-9)
    assert sums("nfl", scale=10.0) == pytest.approx(10, abs=1e-9)
    clamp = 1e-7 * classes * (classes - 1)
    assert sums("rce") == pytest.approx(-math.log(1e-4) * (classes - 1), abs=10 * clamp + 1e-9)


@settings(max_examples=50, deadline=None)
@given(array=ORDINARY)
def test_gce_lies_between_cross_entropy_and_one_minus_p(array: Any) -> None:
    outputs = torch.from_numpy(array)
    entropy = over_all_labels("ce", outputs)
    torch.testing.assert_close(over_all_labels("gce", outputs, q=1e-9), entropy, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(over_all_labels("gce", outputs, q=1.0), 1 - outputs.softmax(1))
    between = over_all_labels("gce", outputs)
    assert (between <= entropy + 1e-9).all() and (between >= 1 - outputs.softmax(1) - 1e-9).all()


@settings(max_examples=50, deadline=None)
@given(array=ORDINARY)
def test_special_parameters_give_other_losses(array: Any) -> None:
    outputs = torch.from_numpy(array)
    log_k = math.log(outputs.shape[1])
    entropy = over_all_labels("ce", outputs)

    def same(name: str, expected: Tensor, **parameters: Any) -> None:
        torch.testing.assert_close(over_all_labels(name, outputs, **parameters), expected, rtol=1e-9, atol=1e-9)

    same("ldr_kl", entropy - log_k, normalize=False, margin=0.0, lam=1.0)
    same("focal", entropy, gamma=0.0)
    same("nfl", over_all_labels("nce", outputs), gamma=0.0)
    same("eps_softmax", entropy, m=0.0)
    same("sce", entropy, alpha=1.0, beta=0.0)
    same("nce_rce", over_all_labels("rce", outputs), alpha=0.0, beta=1.0)
    same("nce_mae", over_all_labels("mae", outputs, scale=3.0), alpha=0.0, beta=3.0)
    same("nfl_rce", over_all_labels("nfl", outputs), alpha=1.0, beta=0.0)
    same("nce_agce", over_all_labels("agce", outputs, a=4.0, q=0.2), alpha=0.0, beta=1.0, a=4.0, q=0.2)
    same("agce", 1 - outputs.softmax(1), q=1.0)
    same("aue", 1 - outputs.softmax(1), q=1.0)


def test_small_q_loses_no_digits_in_float32() -> None:
    outputs = torch.randn(64, 10, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(64) % 10
    close = harness.create("loss", "gce", q=1e-6)(outputs, targets)
    torch.testing.assert_close(close, harness.create("loss", "ce")(outputs, targets), rtol=2e-5, atol=1e-6)


def gradient(name: str, outputs: Tensor, targets: Tensor, **parameters: Any) -> Tensor:
    leaf = outputs.clone().requires_grad_(True)
    (found,) = torch.autograd.grad(harness.create("loss", name, **parameters)(leaf, targets).sum(), leaf)
    return found


def two_classes(p_y: float) -> Tensor:
    """Logits of one sample whose first class has probability ``p_y``."""
    return torch.tensor([[math.log(p_y), math.log1p(-p_y)]], dtype=torch.float64)


def test_clamped_probabilities_have_no_gradient() -> None:
    first = torch.tensor([0])
    assert gradient("gce", two_classes(0.9e-7), first).abs().max() == 0
    assert gradient("gce", two_classes(1.1e-7), first).abs().max() > 1e-6
    assert gradient("eps_softmax", two_classes(0.9e-4), first, m=1e4).abs().max() == 0
    assert gradient("eps_softmax", two_classes(1.1e-4), first, m=1e4).abs().max() > 0.9
    # the small class of a reverse cross entropy is clamped, and its label's own probability never enters
    assert gradient("rce", two_classes(1 - 0.9e-7), first).abs().max() == 0
    assert gradient("rce", two_classes(1 - 1.1e-7), first).abs().max() > 1e-7


def test_clamp_mode_of_truncated_gce_is_flat_up_to_k() -> None:
    first = torch.tensor([0])
    for p_y in (1e-9, 0.3, 0.5):
        assert gradient("truncated_gce", two_classes(p_y), first, mode="clamp").abs().max() == 0
    assert gradient("truncated_gce", two_classes(0.51), first, mode="clamp").abs().max() > 0.1


def test_clamp_mode_from_scratch_with_many_classes_trains_nothing() -> None:
    outputs = torch.randn(32, 100, generator=torch.Generator().manual_seed(0))
    assert gradient("truncated_gce", outputs, torch.arange(32), mode="clamp").abs().max() == 0


def test_eps_softmax_takes_the_gradient_of_samples_that_are_right() -> None:
    outputs = torch.tensor([[2.0, 1.0, 0.0]], dtype=torch.float64)
    p = outputs.softmax(1)[0]
    right = gradient("eps_softmax", outputs, torch.tensor([0]), m=1e3)[0]
    d_p = -1 / (p[0] + 1e3)
    torch.testing.assert_close(right, d_p * p[0] * (torch.tensor([1.0, 0.0, 0.0]) - p))
    wrong = gradient("eps_softmax", outputs, torch.tensor([1]), m=1e3)
    torch.testing.assert_close(wrong, gradient("ce", outputs, torch.tensor([1])))


def test_equal_logits_are_broken_by_the_first_index() -> None:
    loss = harness.create("loss", "eps_softmax", m=3.0)
    losses = loss(torch.zeros(2, 4, dtype=torch.float64), torch.tensor([0, 1]))
    assert losses.tolist() == pytest.approx([-math.log(3.25 / 4), -math.log(0.25 / 4)])


def test_the_focal_weight_carries_no_gradient() -> None:
    outputs = torch.tensor([[1.0, 0.0, -1.0]], dtype=torch.float64)
    p_y = outputs.softmax(1)[0, 1]
    expected = (1 - p_y) ** 2 * gradient("ce", outputs, torch.tensor([1]))
    torch.testing.assert_close(gradient("focal", outputs, torch.tensor([1]), gamma=2.0), expected)
