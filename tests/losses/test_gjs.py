"""Generalised Jensen-Shannon divergence: its definition by entropies, its limits, and a step on two views."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.losses.gjs import GeneralisedJensenShannon, jensen_shannon
from scipy.stats import entropy
from torch import nn

import harness

RNG = np.random.default_rng(0)


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(logits) / np.exp(logits).sum(1, keepdims=True))


@pytest.mark.parametrize("weight", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("scaled", [True, False])
def test_it_is_the_entropy_of_the_mean_less_the_mean_of_the_entropies(weight: float, views: int, scaled: bool) -> None:
    logits, labels = RNG.normal(size=(views, 7, 4)) * 2, np.arange(7) % 4
    parts = [np.eye(4)[labels], *(softmax(z) for z in logits)]
    weights = [weight, *([(1 - weight) / views] * views)]
    mean = sum(w * part for w, part in zip(weights, parts, strict=True))
    wanted = entropy(mean, axis=1) - sum(w * entropy(part, axis=1) for w, part in zip(weights, parts, strict=True))
    if scaled:
        wanted = wanted / (-(1 - weight) * np.log(1 - weight))
    given = jensen_shannon([torch.from_numpy(z) for z in logits], torch.from_numpy(labels), weight, scaled)
    np.testing.assert_allclose(given.numpy(), wanted, rtol=1e-9)


def test_its_limits_are_cross_entropy_and_the_mean_absolute_error() -> None:
    outputs, targets = torch.from_numpy(RNG.normal(size=(6, 4))), torch.arange(6) % 4
    entropy_like = jensen_shannon([outputs], targets, 1e-6)
    torch.testing.assert_close(entropy_like, harness.create("loss", "ce")(outputs, targets), rtol=1e-3, atol=1e-3)
    almost_one = jensen_shannon([outputs], targets, 1 - 1e-6)
    torch.testing.assert_close(almost_one, 1 - outputs.softmax(1)[torch.arange(6), targets], rtol=0.2, atol=0.15)


def test_sure_predictions_have_finite_losses_and_gradients() -> None:
    z = torch.tensor([[300.0, 0.0], [0.0, 300.0]], dtype=torch.float64, requires_grad=True)
    losses = jensen_shannon([z, -z], torch.tensor([0, 0]), 0.3)
    losses.sum().backward()
    assert z.grad is not None and bool(z.grad.isfinite().all()) and bool(losses.isfinite().all())


class Draws:
    """Keeps what the loss drew, from where it stands in the loop."""

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def before_forward(self, run: harness.Run, step: harness.Step) -> None:
        self.seen.append(step.inputs.clone())


def test_a_step_is_on_two_strong_views() -> None:
    torch.manual_seed(0)
    images, targets = torch.rand(6, 3, 8, 8).double(), torch.arange(6) % 3
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).double()
    hand = nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).double()
    hand.load_state_dict(model.state_dict())
    loss, draws = GeneralisedJensenShannon(0.4), Draws()
    (epoch,) = harness.drive(
        {"loss": loss, "algorithms": [draws]}, model, images, targets, seed=0, batches=[list(range(6))],
        optimizer={"name": "sgd", "lr": 0.5, "momentum": 0.0},
    )  # fmt: skip
    first, second = draws.seen[0], loss._second
    assert second is not None and not torch.equal(first, images) and not torch.equal(first, second)
    value = jensen_shannon([hand(first), hand(second)], targets, 0.4).mean()
    gradients = torch.autograd.grad(value, list(hand.parameters()))
    assert epoch["losses"] == pytest.approx([value.item()])
    for weight, before, gradient in zip(model.parameters(), hand.parameters(), gradients, strict=True):
        torch.testing.assert_close(weight, before - 0.5 * gradient, atol=1e-12, rtol=0)


def test_batch_normalisation_moves_once_for_each_view() -> None:
    images, targets = torch.rand(6, 1, 8, 8), torch.arange(6) % 3
    for views, passes in ((1, 1), (2, 2)):
        norm = nn.BatchNorm1d(64)
        model = nn.Sequential(nn.Flatten(), norm, nn.Linear(64, 3))
        stack: dict[str, Any] = {"loss": {"name": "gjs", "views": views}}
        harness.drive(stack, model, images, targets, seed=0, batches=[list(range(6))])
        assert int(norm.num_batches_tracked or 0) == passes


def test_one_view_is_the_batch_itself_and_so_are_both_of_a_pass_that_scores() -> None:
    torch.manual_seed(0)
    outputs, targets = torch.randn(5, 3), torch.arange(5) % 3
    given = harness.create("loss", "gjs", weight=0.2)(outputs, targets)
    torch.testing.assert_close(given, jensen_shannon([outputs, outputs], targets, 0.2))
    model, inputs = nn.Linear(4, 3), torch.randn(5, 4)
    expected = jensen_shannon([model(inputs)], targets, 0.2).mean().item()
    (epoch,) = harness.drive(
        {"loss": {"name": "gjs", "weight": 0.2, "views": 1}}, model, inputs, targets, seed=0, batches=[list(range(5))]
    )
    assert epoch["losses"] == pytest.approx([expected])


def test_samples_without_strong_views_are_refused_in_one_line() -> None:
    with pytest.raises(harness.HarnessError, match="only images have augmented views") as caught:
        harness.drive("gjs", nn.Linear(4, 3), torch.randn(5, 4), torch.arange(5) % 3, seed=0, batches=[[0, 1]])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_label_has_some_weight_and_not_all(weight: float) -> None:
    with pytest.raises(harness.HarnessError, match=r"^losses\.gjs\.weight"):
        harness.create("loss", "gjs", weight=weight)
