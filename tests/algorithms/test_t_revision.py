"""T-Revision: its losses, and all three stages against a loop written out, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.algorithms.t_revision import NAME, TRevision, importance_losses
from torch import Tensor, nn

import harness

RNG = np.random.default_rng(0)


def distributions(size: int) -> np.ndarray:
    return RNG.dirichlet(np.ones(size), size)


def by_hand(logits: np.ndarray, labels: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B,) weights and losses, sample by sample."""
    weights, losses = [], []
    for z, y in zip(logits, labels, strict=True):
        p = np.exp(z) / np.exp(z).sum()
        weights.append(p[y] / max(sum(matrix[i, y] * p[i] for i in range(len(p))), 1e-6))
        losses.append(-weights[-1] * np.log(p[y]))
    return np.array(weights), np.array(losses)


def test_losses_are_weighted_by_how_often_the_label_is_right() -> None:
    logits, labels, matrix = RNG.normal(size=(9, 4)), np.arange(9) % 4, distributions(4)
    z = torch.from_numpy(logits).requires_grad_()
    weights, wanted = by_hand(logits, labels, matrix)
    given = importance_losses(z, torch.from_numpy(labels), torch.from_numpy(matrix))
    np.testing.assert_allclose(given.detach().numpy(), wanted, rtol=1e-12)
    (gradient,) = torch.autograd.grad(given.sum(), z)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(gradient.numpy(), weights[:, None] * (p - np.eye(4)[labels]), atol=1e-12)


def test_the_gradient_passes_through_the_weight_where_it_is_asked_to() -> None:
    logits, labels, matrix = RNG.normal(size=(3, 4)), np.arange(3), distributions(4)
    z, t = (torch.from_numpy(value).requires_grad_() for value in (logits, matrix))
    found = torch.autograd.grad(importance_losses(z, torch.from_numpy(labels), t, through=True).sum(), (z, t))
    for gradient, of in zip(found, (logits, matrix), strict=True):
        for place in np.ndindex(of.shape):
            before = of[place]
            ends = []
            for nudge in (1e-6, -1e-6):
                of[place] = before + nudge
                ends.append(by_hand(logits, labels, matrix)[1].sum())
            of[place] = before
            assert float(gradient[place]) == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-6)


def test_a_matrix_for_each_sample_and_a_negative_denominator() -> None:
    logits, labels = torch.from_numpy(RNG.normal(size=(5, 3))).requires_grad_(), torch.arange(5) % 3
    matrices = torch.stack([torch.from_numpy(distributions(3)) for _ in range(5)])
    given = importance_losses(logits, labels, matrices)
    alone = torch.cat([importance_losses(logits[i : i + 1], labels[i : i + 1], matrices[i]) for i in range(5)])
    torch.testing.assert_close(given, alone)
    losses = importance_losses(logits, labels, -torch.ones(3, 3).double(), through=True)
    losses.sum().backward()
    assert bool(losses.isfinite().all()) and logits.grad is not None and bool(logits.grad.isfinite().all())


class Watch:
    """Keeps the run."""

    def setup(self, run: harness.Run) -> None:
        self.run = run


def problem() -> tuple[nn.Linear, Tensor, Tensor]:
    torch.manual_seed(3)
    return nn.Linear(4, 3).double(), torch.randn(12, 4).double() * 2, torch.arange(12) % 3


def revised(model: nn.Linear, inputs: Tensor, targets: Tensor, batches: Any, lr: float, cumulative: bool) -> Any:
    """The network and D after three stages of one, two and two epochs: a plain loop."""
    sgd = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    matrix = torch.eye(3).double()
    for epoch in range(3):
        if epoch == 1:
            sgd = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
        for batch in batches:
            p = model(inputs[batch]).softmax(1)
            picked = torch.arange(len(batch)), targets[batch]
            losses = -p[picked].log()
            if epoch:
                losses = (p[picked] / (p @ matrix)[picked]).detach() * losses
            sgd.zero_grad()
            losses.mean().backward()
            sgd.step()
        if epoch == 0:
            p = model(inputs).softmax(1).detach().numpy()
            rows = []
            for k in range(3):
                bound = np.quantile(p[:, k], 0.97, method="higher")
                below = [i for i in range(len(p)) if p[i, k] < bound]
                rows.append(p[max(below, key=lambda i, k=k: p[i, k])])
            matrix = torch.from_numpy(np.array(rows))
    shift = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([*model.parameters(), shift], lr=lr, weight_decay=1e-4)
    for _ in range(2):
        for batch in batches:
            p = model(inputs[batch]).softmax(1)
            losses = []
            for row, sample in enumerate(batch):
                times = row + 1 if cumulative else 1
                y = int(targets[sample])
                losses.append(-p[row, y] / (p[row] @ (matrix + times * shift))[y] * p[row, y].log())
            adam.zero_grad()
            torch.stack(losses).mean().backward()
            adam.step()
    return model, shift.detach()


@pytest.mark.parametrize("cumulative", [False, True])
def test_three_stages_are_those_of_a_plain_loop(cumulative: bool) -> None:
    batches = [[0, 5, 2, 7, 9, 11], [1, 3, 4, 6, 8, 10]]
    (mine, inputs, targets), (theirs, _, _) = problem(), problem()
    theirs, shift = revised(theirs, inputs, targets, batches, 1e-2, cumulative)
    watch, method = Watch(), TRevision(stage1=1, stage2=2, lr=1e-2, cumulative=cumulative)
    epochs = harness.drive(
        [watch, method], mine, inputs, targets, seed=0, batches=[batches] * 5,
        optimizer={"name": "sgd", "lr": 0.2, "momentum": 0.9},
    )  # fmt: skip
    network = watch.run.of(NAME).model
    for given, wanted in zip(network.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(given, wanted, atol=1e-10, rtol=0)
    torch.testing.assert_close(method.shift(watch.run).detach(), shift, atol=1e-10, rtol=0)
    assert float(shift.abs().max()) > 1e-2
    torch.testing.assert_close(watch.run.predict(inputs), theirs(inputs).log_softmax(1), atol=1e-9, rtol=0)
    assert not epochs[-1]["diagnostics"].keys() ^ {f"{NAME}.diagonal", f"{NAME}.shift"}


def test_a_trial_that_ends_in_its_first_stage_is_cross_entropy() -> None:
    model, inputs, targets = problem()
    plain = nn.Linear(4, 3).double()
    plain.load_state_dict(model.state_dict())
    first = harness.drive([TRevision()], model, inputs, targets, seed=0, batches=[[list(range(12))]] * 2)
    second = harness.drive("ce", plain, inputs, targets, seed=0, batches=[[list(range(12))]] * 2)
    assert [epoch["losses"] for epoch in first] == [epoch["losses"] for epoch in second]


def test_a_class_without_samples_still_has_a_row() -> None:
    model, inputs, targets = problem()
    watch, method = Watch(), TRevision(stage1=1, stage2=1, lr=1e-3)
    harness.drive([watch, method], model, inputs, targets.clamp(max=1), seed=0, batches=[[list(range(12))]] * 3)
    assert method.matrix is not None
    torch.testing.assert_close(method.matrix.sum(1), torch.ones(3).double())
    assert bool(watch.run.predict(inputs).isfinite().all())
