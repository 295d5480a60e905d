"""VolMinNet: its matrix and volume by hand, and its steps against a loop written out, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.algorithms.vol_min_net import NAME, VolMinNet, learnt_matrix, log_volume
from torch import Tensor, nn

import harness


def test_the_matrix_has_a_diagonal_of_ones_before_rows_are_divided() -> None:
    weights = np.random.default_rng(0).normal(size=(4, 4)) - 1
    rows = []
    for i in range(4):
        row = [1.0 if i == j else 1 / (1 + np.exp(-weights[i, j])) for j in range(4)]
        rows.append([value / sum(row) for value in row])
    np.testing.assert_allclose(learnt_matrix(torch.from_numpy(weights)).numpy(), rows, rtol=1e-12)


@pytest.mark.parametrize(("classes", "c"), [(10, 2.0), (100, 4.5)])
def test_it_starts_with_a_diagonal_of_about_a_half(classes: int, c: float) -> None:
    diagonal = learnt_matrix(torch.full((classes, classes), -c, dtype=torch.float64)).diagonal()
    assert float(diagonal.min()) == pytest.approx(0.48, abs=0.01) == float(diagonal.max())


def test_the_volume_is_the_logarithm_of_the_determinant_and_none_for_a_singular_matrix() -> None:
    matrix = np.random.default_rng(1).dirichlet(np.ones(5), 5)
    assert float(log_volume(torch.from_numpy(matrix))) == pytest.approx(np.log(abs(np.linalg.det(matrix))))
    singular = torch.full((3, 3), 1 / 3, dtype=torch.float64, requires_grad=True)
    volume = log_volume(singular)
    volume.backward()
    assert float(volume.detach()) == 0 and singular.grad is not None and not bool(singular.grad.any())


class Watch:
    """Keeps the run."""

    def setup(self, run: harness.Run) -> None:
        self.run = run


def problem() -> tuple[nn.Linear, Tensor, Tensor]:
    torch.manual_seed(3)
    return nn.Linear(4, 3).double(), torch.randn(12, 4).double(), torch.arange(12) % 3


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_steps_of_network_and_matrix_are_those_of_a_plain_loop(name: str) -> None:
    batches = [[0, 5, 2, 7, 9, 11], [1, 3, 4, 6, 8, 10]]
    (mine, inputs, targets), (hand, _, _) = problem(), problem()
    weights = torch.full((3, 3), -1.5, dtype=torch.float64, requires_grad=True)
    steps: dict[str, Any] = {
        "sgd": torch.optim.SGD([weights], lr=0.3, momentum=0.9),
        "adam": torch.optim.Adam([weights], lr=0.3),
    }
    optimizers = [torch.optim.SGD(hand.parameters(), lr=0.2, momentum=0.9, weight_decay=1e-2), steps[name]]
    losses = []
    for epoch in range(3):
        if epoch == 2:
            for optimizer in optimizers:
                optimizer.param_groups[0]["lr"] *= 0.1
        for batch in batches:
            scores = torch.where(torch.eye(3, dtype=torch.bool), torch.ones(3, 3).double(), 1 / (1 + (-weights).exp()))
            matrix = scores / scores.sum(1, keepdim=True)
            noisy = hand(inputs[batch]).softmax(1) @ matrix
            loss = -noisy[torch.arange(6), targets[batch]].log().mean() + 0.05 * torch.log(
                torch.linalg.det(matrix).abs()
            )
            losses.append(loss.item())
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
    watch, method = Watch(), VolMinNet(lam=0.05, c=1.5, lr=0.3, optimizer=name)  # type: ignore[arg-type]
    epochs = harness.drive(
        [watch, method], mine, inputs, targets, seed=0, batches=[batches] * 3,
        optimizer={"name": "sgd", "lr": 0.2, "momentum": 0.9, "weight_decay": 1e-2},
        schedule={"name": "step", "milestones": [2], "gamma": 0.1},
    )  # fmt: skip
    assert [loss for epoch in epochs for loss in epoch["losses"]] == pytest.approx(losses, rel=1e-9)
    torch.testing.assert_close(method.weights(watch.run).detach(), weights.detach(), atol=1e-10, rtol=0)
    torch.testing.assert_close(mine.weight, hand.weight, atol=1e-10, rtol=0)
    torch.testing.assert_close(watch.run.predict(inputs), hand(inputs).log_softmax(1))
    matrix = learnt_matrix(weights.detach())
    found = epochs[-1]["diagnostics"]
    assert found[f"{NAME}.diagonal"] == pytest.approx(float(matrix.diagonal().mean()))
    assert found[f"{NAME}.log_volume"] == pytest.approx(float(torch.linalg.det(matrix).abs().log()))


def test_beside_sam_the_matrix_takes_the_gradient_of_the_second_pass_alone() -> None:
    (mine, inputs, targets), (hand, _, _) = problem(), problem()
    watch, method = Watch(), VolMinNet(lr=0.3, lam=0.1)
    harness.drive([watch, "sam", method], mine, inputs, targets, seed=0, batches=[list(range(12))],
                  optimizer={"name": "sgd", "lr": 1e-12, "momentum": 0.0})  # fmt: skip
    weights = torch.full((3, 3), -2.0, dtype=torch.float64, requires_grad=True)

    def loss() -> Tensor:
        matrix = learnt_matrix(weights)
        noisy = hand(inputs).softmax(1) @ matrix
        return -noisy[torch.arange(12), targets].log().mean() + 0.1 * log_volume(matrix)

    gradients = torch.autograd.grad(loss(), list(hand.parameters()))
    norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    with torch.no_grad():
        for parameter, gradient in zip(hand.parameters(), gradients, strict=True):
            parameter += 0.05 * gradient / norm
    (gradient,) = torch.autograd.grad(loss(), weights)
    torch.testing.assert_close(method.weights(watch.run).detach(), weights.detach() - 0.3 * gradient, atol=1e-9, rtol=0)


def test_it_finds_the_noise_of_a_problem_without_overlap() -> None:
    rng = np.random.default_rng(0)
    clean = torch.from_numpy(rng.integers(0, 3, 1500))
    inputs = 4 * nn.functional.one_hot(clean, 3).float() + 0.3 * torch.from_numpy(rng.normal(size=(1500, 3))).float()
    true = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.25, 0.05, 0.7]])
    noisy = torch.tensor([rng.choice(3, p=true[c]) for c in clean.tolist()])
    torch.manual_seed(0)
    watch, method = Watch(), VolMinNet(lr=0.1, lam=1e-3)
    order = [list(part) for part in torch.from_numpy(rng.permutation(1500)).split(100)]
    harness.drive([watch, method], nn.Linear(3, 3), inputs, noisy, seed=0, batches=[order] * 30,
                  optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.9})  # fmt: skip
    found = learnt_matrix(method.weights(watch.run).detach()).numpy()
    assert np.abs(found - true).sum() / 3 < 0.25
