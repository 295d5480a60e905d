"""Loss and area under the margin against numpy: of single logits, of one step of Adam, of given margins."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from harness_plugins.detectors.dynamics import (
    AreaUnderMargin,
    Followed,
    Loss,
    losses,
    margins,
    small_network,
    standardised,
)
from torch import Tensor


def literal_margins(logits: np.ndarray, labels: np.ndarray) -> list[float]:
    return [
        row[label] - max(value for j, value in enumerate(row) if j != label)
        for row, label in zip(logits, labels, strict=True)
    ]


def literal_losses(logits: np.ndarray, labels: np.ndarray) -> list[float]:
    return [np.log(np.exp(row).sum()) - row[label] for row, label in zip(logits, labels, strict=True)]


MEASURES = [(margins, literal_margins), (losses, literal_losses)]


@pytest.mark.parametrize(("measure", "literal"), MEASURES)
def test_margin_and_loss_are_those_of_a_loop(
    measure: Callable[..., Tensor], literal: Callable[..., list[float]]
) -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(50, 5)), rng.integers(0, 5, 50)
    assert np.allclose(measure(torch.from_numpy(logits), torch.from_numpy(labels)), literal(logits, labels))


def test_features_are_standardised_and_constant_ones_are_nought() -> None:
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(5.0, 3.0, (40, 2)), np.full((40, 1), 7.0)], 1).astype(np.float32)
    found = standardised(torch.from_numpy(rows)).numpy()
    assert np.allclose(found[:, :2], (rows[:, :2] - rows[:, :2].mean(0)) / rows[:, :2].std(0), atol=1e-5)
    assert (found[:, 2] == 0).all()


def forward(network: torch.nn.Sequential, inputs: np.ndarray) -> np.ndarray:
    first, _, last = network
    hidden = np.maximum(inputs @ first.weight.detach().numpy().T + first.bias.detach().numpy(), 0)
    return np.asarray(hidden @ last.weight.detach().numpy().T + last.bias.detach().numpy())


@pytest.mark.parametrize(("measure", "literal"), MEASURES)
def test_the_mean_over_two_epochs_holds_one_step_of_adam(
    measure: Callable[..., Tensor], literal: Callable[..., list[float]]
) -> None:
    """Of all samples in one batch the first step of Adam is the sign of the gradient, here by finite differences."""
    rng = np.random.default_rng(2)
    rows, labels = rng.normal(size=(20, 3)).astype(np.float32), rng.integers(0, 2, 20)
    learner = Loss(hidden=4, epochs=2, lr=0.05)
    found = learner.follow(torch.from_numpy(rows), torch.from_numpy(labels), 2, measure, np.random.default_rng(4))
    seed = int(np.random.default_rng(4).integers(2**63))
    network = small_network(3, 4, 2, torch.Generator().manual_seed(seed)).double()
    inputs = (rows - rows.mean(0)) / rows.std(0)
    before = forward(network, inputs)
    parameters = [p.detach().numpy() for p in network.parameters()]  # views: what is written there is the network's
    slopes = []
    for values in parameters:
        slope = np.zeros_like(values)
        for place in np.ndindex(values.shape):
            kept = values[place]
            ends = []
            for shift in (1e-6, -1e-6):
                values[place] = kept + shift
                ends.append(np.mean(literal_losses(forward(network, inputs), labels)))
            values[place] = kept
            slope[place] = (ends[0] - ends[1]) / 2e-6
        slopes.append(slope)
    for values, slope in zip(parameters, slopes, strict=True):
        values -= 0.05 * np.where(np.abs(slope) > 1e-7, np.sign(slope), 0.0)
    both = [before, forward(network, inputs)]
    assert np.allclose(found.measure, np.mean([literal(logits, labels) for logits in both], 0), atol=1e-3)
    shares = [np.exp(logits) / np.exp(logits).sum(1, keepdims=True) for logits in both]
    assert np.allclose(found.probabilities, np.mean(shares, 0), atol=1e-3)
    assert not np.allclose(*both, atol=1e-2)


def test_the_areas_are_judged_by_the_threshold_samples_of_two_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    samples, classes = 50, 3
    rng = np.random.default_rng(0)
    labels = np.arange(samples) % classes
    areas = [rng.normal(size=samples), rng.normal(size=samples)]
    told: list[np.ndarray] = []

    def given(self: object, rows: Tensor, labels: Tensor, outputs: int, measure: object, rng: object) -> Followed:
        assert outputs == classes + 1 and measure is margins
        told.append(labels.numpy().copy())
        return Followed(torch.from_numpy(areas[len(told) - 1]), torch.eye(outputs).double()[labels])

    monkeypatch.setattr(AreaUnderMargin, "follow", given)
    report = AreaUnderMargin()(np.zeros((samples, 2)), labels, classes, rng=np.random.default_rng(0))
    chosen = [set(np.flatnonzero(one == classes)) for one in told]
    assert [len(one) for one in chosen] == [samples // (classes + 1)] * 2 and not chosen[0] & chosen[1]
    limits = [np.percentile([area[i] for i in sorted(one)], 99) for area, one in zip(areas, chosen, strict=True)]
    for i in range(samples):
        excess = [limits[t] - areas[t][i] for t in range(2) if i not in chosen[t]]
        assert float(report.score[i]) == pytest.approx(np.mean(excess))
        assert bool(report.flags[i]) == (np.mean(excess) >= 0)
        assert int(report.suggested[i]) == labels[i]


def test_the_losses_of_the_upper_of_two_groups_are_flagged_and_equal_ones_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    late = np.arange(80) >= 60
    values = np.where(late, 3.0, 0.5) + 0.1 * rng.normal(size=80)

    def given(self: object, rows: Tensor, labels: Tensor, outputs: int, measure: object, rng: object) -> Followed:
        assert outputs == 2 and measure is losses
        return Followed(torch.from_numpy(values), torch.full((80, 2), 0.5).double())

    monkeypatch.setattr(Loss, "follow", given)
    report = Loss()(np.zeros((80, 2)), np.arange(80) % 2, 2, rng=np.random.default_rng(0))
    assert np.array_equal(report.flags, late) and np.array_equal(report.score, values)
    values[:] = 1.5
    report = Loss()(np.zeros((80, 2)), np.arange(80) % 2, 2, rng=np.random.default_rng(0))
    assert not bool(report.flags.any())
