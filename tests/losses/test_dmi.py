"""L_DMI: the determinant's value and gradient, batches that miss a class, the compatible form, and the warm-up."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import harness
from harness.training.run import Run


def batch(size: int = 48, classes: int = 4, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return scale * torch.randn(size, classes, generator=generator, dtype=torch.float64), torch.arange(size) % classes


def joint(outputs: Tensor, targets: Tensor) -> np.ndarray:
    """(K, K) sums of predictions by label, sample by sample."""
    matrix = np.zeros((outputs.shape[1],) * 2)
    for row, label in zip(outputs.detach().numpy(), targets.tolist(), strict=True):
        matrix[label] += np.exp(row) / np.exp(row).sum()
    return matrix


def gradient_of(loss: Callable[..., Tensor], outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    leaf = outputs.clone().requires_grad_(True)
    value = loss(leaf, targets)
    return value, torch.autograd.grad(value, leaf)[0]


def test_it_is_minus_the_log_determinant_of_the_joint_distribution() -> None:
    outputs, targets = batch()
    value = harness.create("loss", "dmi")(outputs, targets)
    assert value.ndim == 0
    assert value.item() == pytest.approx(-math.log(abs(np.linalg.det(joint(outputs, targets) / 48))), rel=1e-10)
    undivided = harness.create("loss", "dmi", divide=False)(outputs, targets)
    assert (value - undivided).item() == pytest.approx(4 * math.log(48))


@pytest.mark.parametrize("parameters", [{}, {"eps": 1e-3, "divide": False}, {"eps": 1e-3}, {"divide": False}])
def test_gradients_agree_with_finite_differences(parameters: dict[str, Any]) -> None:
    outputs, targets = batch(size=12, classes=3)
    loss = harness.create("loss", "dmi", **parameters)
    assert torch.autograd.gradcheck(lambda z: loss(z, targets), (outputs.requires_grad_(True),))


def test_the_authors_form_adds_eps_to_the_determinant() -> None:
    outputs, targets = batch()
    determinant = abs(np.linalg.det(joint(outputs, targets)))
    value = harness.create("loss", "dmi", eps=1e-3, divide=False)(outputs, targets)
    assert value.item() == pytest.approx(-math.log(determinant + 1e-3), rel=1e-10)


@pytest.mark.parametrize(("size", "classes"), [(16, 10), (512, 100)])
def test_eps_with_division_has_no_gradient_where_slogdet_has_one(size: int, classes: int) -> None:
    outputs, _ = batch(size, classes)
    targets = torch.arange(size) % classes
    outputs = outputs + 2 * torch.nn.functional.one_hot(targets, classes)
    _, vanished = gradient_of(harness.create("loss", "dmi", eps=1e-3, divide=True), outputs, targets)
    value, alive = gradient_of(harness.create("loss", "dmi"), outputs, targets)
    assert vanished.abs().max() < 1e-9 and alive.abs().max() > 1e-4
    assert value.isfinite() and alive.isfinite().all()
    assert value.item() == pytest.approx(-np.linalg.slogdet(joint(outputs, targets) / size)[1], rel=1e-9)


@pytest.mark.parametrize("parameters", [{}, {"eps": 1e-3, "divide": False}])
def test_a_batch_that_misses_a_class_counts_nothing(parameters: dict[str, Any]) -> None:
    outputs, targets = batch()
    loss = harness.create("loss", "dmi", **parameters)
    value, gradient = gradient_of(loss, outputs, targets % 3)
    assert gradient.abs().max() == 0
    assert value.item() == pytest.approx(-math.log(parameters["eps"]) if parameters else 0.0)
    value, gradient = gradient_of(loss, outputs.float(), targets % 3)
    assert value.isfinite() and gradient.abs().max() == 0


def test_predictions_that_underflow_leave_a_finite_gradient() -> None:
    outputs, targets = batch()
    for extreme in (40 * outputs.sign(), 2000 * outputs, torch.zeros_like(outputs)):
        for typed in (extreme, extreme.float()):
            value, gradient = gradient_of(harness.create("loss", "dmi"), typed, targets)
            assert value.isfinite() and gradient.isfinite().all()


def test_outputs_that_are_not_numbers_are_not_hidden() -> None:
    outputs, targets = batch()
    outputs[0, 0] = math.nan
    assert harness.create("loss", "dmi")(outputs, targets).isnan()


def test_mixing_labels_shifts_it_by_a_constant() -> None:
    """The paper's theorem: class-conditional noise T multiplies the determinant by det T, whatever the classifier."""
    generator = torch.Generator().manual_seed(0)
    predictions = torch.randn(60, 3, generator=generator, dtype=torch.float64)
    clean, noisy = torch.arange(60) % 3, torch.arange(60) % 3
    noisy = torch.where(torch.arange(60) % 5 == 0, (clean + 1) % 3, clean)
    loss = harness.create("loss", "dmi")
    exact = predictions[torch.arange(60) % 3]  # a prediction that depends on the clean class alone
    transition = np.zeros((3, 3))
    for i, j in zip(clean.tolist(), noisy.tolist(), strict=True):
        transition[i, j] += 3 / 60
    shift = loss(exact, noisy) - loss(exact, clean)
    assert shift.item() == pytest.approx(-math.log(abs(np.linalg.det(transition))), rel=1e-9)


def test_short_floats_are_taken_to_float32() -> None:
    outputs, targets = batch()
    assert harness.create("loss", "dmi")(outputs.bfloat16(), targets).dtype == torch.float32


def test_it_warms_up_with_cross_entropy(make_run: Callable[..., Run]) -> None:
    outputs, targets = batch()
    loss = harness.create("loss", "dmi", warmup=2)
    plain = harness.create("loss", "dmi")(outputs, targets)
    assert torch.equal(loss(outputs, targets), plain), "outside a trial there is no warm-up"
    run = make_run(loss, torch.zeros(4, 2), torch.arange(4), num_classes=4, epochs=3)
    entropy = harness.create("loss", "ce")(outputs, targets).mean()
    seen = []
    for run.epoch in (1, 2, 3):
        run.stack.epoch_start(run=run)
        seen.append(loss(outputs, targets))
    assert [torch.equal(value, entropy) for value in seen] == [True, True, False]
    assert torch.equal(seen[2], plain)


def test_a_trial_resumed_within_the_warm_up_goes_on_warming_up() -> None:
    outputs, targets = batch()
    loss, other = harness.create("loss", "dmi", warmup=2), harness.create("loss", "dmi", warmup=2)
    loss.epoch = 1
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other(outputs, targets), harness.create("loss", "ce")(outputs, targets).mean())


def test_a_short_last_batch_counts_nothing_after_the_warm_up(make_run: Callable[..., Run]) -> None:
    outputs, targets = batch()
    loss = harness.create("loss", "dmi", warmup=1)
    run = make_run(loss, torch.zeros(4, 2), torch.arange(4), num_classes=4, batch_size=4)
    run.epoch = 1
    run.stack.epoch_start(run=run)
    assert gradient_of(loss, outputs[:3], targets[:3])[1].abs().sum() > 0, "cross entropy takes any batch"
    run.epoch = 2
    run.stack.epoch_start(run=run)
    value, gradient = gradient_of(loss, outputs[:3], targets[:3])
    assert value == 0
    assert not gradient.any()
    assert torch.equal(loss(outputs[:4], targets[:4]), harness.create("loss", "dmi")(outputs[:4], targets[:4]))
