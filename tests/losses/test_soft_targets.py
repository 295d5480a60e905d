"""Class probabilities as targets: taken where the formula is defined for them, else refused in one line."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import harness
from harness.plugins import load_host

SOFT = {"ce", "mae", "mse", "rce", "sce", "nce", "nce_rce", "nce_mae", "eps_softmax", "eps_softmax_mae", "gls"}
HARD = {
    "gce",
    "truncated_gce",
    "dmi",
    "focal",
    "nfl",
    "nfl_rce",
    "agce",
    "aue",
    "ael",
    "nce_agce",
    "ldr_kl",
    "aldr_kl",
    "peer",
    "f_divergence",
    "anl",
    "gjs",
}


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    outputs = 2 * torch.randn(6, 5, generator=generator, dtype=torch.float64)
    return outputs, torch.rand(6, 5, generator=generator, dtype=torch.float64).softmax(1)


def test_declarations_say_which_losses_take_them() -> None:
    registry = load_host().registry
    for name in SOFT | HARD:
        assert registry.facts(registry.find("loss", name)[0]).declares.soft_targets == (name in SOFT), name


@pytest.mark.parametrize("name", sorted(SOFT))
def test_one_hot_targets_give_what_classes_give(name: str) -> None:
    outputs, _ = batch()
    classes = torch.tensor([0, 1, 2, 3, 4, 0])
    loss = harness.create("loss", name)
    one_hot = torch.nn.functional.one_hot(classes, 5).double()
    torch.testing.assert_close(loss(outputs, one_hot), loss(outputs, classes), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(loss(outputs.float(), one_hot).double(), loss(outputs, classes), rtol=1e-4, atol=1e-5)


def test_soft_values_follow_the_formulas() -> None:
    outputs, targets = batch()
    z, t = outputs.numpy(), targets.numpy()
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    entropy = -(t * np.log(p)).sum(1)
    reverse = -(p * np.log(np.clip(t, 1e-4, 1))).sum(1)
    strong = (p + 1e4 * np.eye(5)[p.argmax(1)]) / (1e4 + 1)
    expected = {
        "ce": entropy,
        "mae": np.abs(p - t).sum(1),
        "mse": ((p - t) ** 2).mean(1),
        "rce": reverse,
        "sce": entropy + reverse,
        "nce": entropy / -np.log(p).sum(1),
        "nce_rce": entropy / -np.log(p).sum(1) + reverse,
        "nce_mae": entropy / -np.log(p).sum(1) + np.abs(p - t).sum(1) / 2,
        "eps_softmax": -(t * np.log(np.clip(strong, 1e-8, None))).sum(1),
    }
    for name, values in expected.items():
        assert harness.create("loss", name)(outputs, targets).numpy() == pytest.approx(values, rel=1e-10), name


@pytest.mark.parametrize("name", sorted(HARD))
def test_other_losses_refuse_them_in_one_line(name: str) -> None:
    outputs, targets = batch()
    with pytest.raises(harness.HarnessError, match=rf"^losses\.{name}: takes \(B,\) classes") as caught:
        harness.create("loss", name)(outputs, targets)
    assert "\n" not in str(caught.value) and "soft targets" in str(caught.value)


@pytest.mark.parametrize("name", sorted(SOFT))
def test_soft_targets_of_the_wrong_shape_are_refused_in_one_line(name: str) -> None:
    outputs, _ = batch()
    with pytest.raises(harness.HarnessError, match=r"got \(6,\)") as caught:
        harness.create("loss", name)(outputs, torch.full((6,), 0.5))
    assert "\n" not in str(caught.value)


def test_classes_of_any_integer_type_are_taken() -> None:
    outputs, _ = batch()
    targets = torch.tensor([0, 1, 2, 3, 4, 0], dtype=torch.int32)
    for name in ("ce", "gce", "mse", "ldr_kl"):
        loss = harness.create("loss", name)
        assert torch.equal(loss(outputs, targets), loss(outputs, targets.long()))


def test_the_least_of_the_soft_cross_entropies_is_the_entropy_of_the_target() -> None:
    target = torch.tensor([[0.2, 0.3, 0.5]], dtype=torch.float64)
    least = harness.create("loss", "ce")(target.log(), target)
    assert least.item() == pytest.approx(-sum(t * math.log(t) for t in (0.2, 0.3, 0.5)))
    assert harness.create("loss", "mae")(target.log(), target).item() == pytest.approx(0, abs=1e-12)
    assert harness.create("loss", "mse")(target.log(), target).item() == pytest.approx(0, abs=1e-12)
