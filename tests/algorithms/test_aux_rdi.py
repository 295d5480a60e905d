"""AUX and RDI: on a linear model with the squared loss they are one method; each is what its equation says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from harness_plugins.algorithms.aux import AUX, shift_logits
from harness_plugins.algorithms.cdr import CDR
from harness_plugins.algorithms.rdi import RDI, add_pull
from torch import Tensor, nn
from torch.nn import functional

import harness


def half_squares(outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
    """``||z - y||^2 / 2`` per sample."""
    return 0.5 * (outputs - targets).square().sum(1)


def problem() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20, 6, generator=generator, dtype=torch.float64)
    y = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    w0 = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    return x, y, w0


def aux_path(lam: float, lr: float, steps: int) -> tuple[list[Tensor], Tensor]:
    x, y, w0 = problem()
    w, b = w0.clone().requires_grad_(True), torch.zeros_like(y).requires_grad_(True)
    path = []
    for _ in range(steps):
        loss = half_squares(shift_logits(x @ w, b, lam), y).sum()
        gw, gb = torch.autograd.grad(loss, (w, b))
        with torch.no_grad():
            w -= lr * gw
            b -= lr * gb
        path.append(w.detach().clone())
    return path, b.detach()


def rdi_path(lam: float, lr: float, steps: int) -> list[Tensor]:
    x, y, w0 = problem()
    w = w0.clone().requires_grad_(True)
    path = []
    for _ in range(steps):
        w.grad = None
        half_squares(x @ w, y).sum().backward()
        add_pull([w], [w0], lam**2)
        with torch.no_grad():
            w -= lr * w.grad
        path.append(w.detach().clone())
    return path


@pytest.mark.parametrize("lam", [0.5, 2.0])
def test_aux_and_rdi_take_the_same_path_on_a_linear_model(lam: float) -> None:
    aux, b = aux_path(lam, 0.005, 400)
    rdi = rdi_path(lam, 0.005, 400)
    assert max(float((a - r).abs().max()) for a, r in zip(aux, rdi, strict=True)) < 1e-10
    x, _, w0 = problem()
    assert torch.allclose(aux[-1] - w0, x.T @ -b / -lam, atol=1e-10)


def test_rdi_ends_at_ridge_regression_around_the_initialisation() -> None:
    x, y, w0 = problem()
    lam = 2.0
    ridge = w0 + torch.linalg.solve(x.T @ x + lam**2 * torch.eye(6, dtype=torch.float64), x.T @ (y - x @ w0))
    assert torch.allclose(rdi_path(lam, 0.01, 3000)[-1], ridge, atol=1e-10)


@pytest.mark.parametrize("batch_size", [20, 50])
@pytest.mark.parametrize(("loss", "ratio"), [("half", 1.0), ("l2", 2**0.5)])
def test_in_the_harness_both_take_the_same_path_too(
    make_run: Any, train: Any, loss: str, ratio: float, batch_size: int
) -> None:
    """`l2` has no half, so RDI needs root two of AUX's strength; a batch that holds all samples pulls by lam^2."""
    x, y, w0 = (value.float() for value in problem())
    chosen = half_squares if loss == "half" else harness.create("loss", loss)
    weights = []
    for algorithm in (AUX(lam=1.5), RDI(lam=1.5 * ratio)):
        model = nn.Linear(6, 3, bias=False)
        model.weight.data.copy_(w0.T)
        run = make_run(model, x, y, [algorithm], loss=chosen, num_outputs=3, lr=0.05, batch_size=batch_size)
        run.num_classes, run.task = None, "regression"
        for _ in range(100):
            train(run)
        weights.append(model.weight.detach().clone())
    assert torch.allclose(weights[0], weights[1], atol=1e-5)
    assert (weights[0] - w0.T).abs().max() > 0.1


@pytest.mark.parametrize("batch_size", [5, 50])
def test_aux_rows_step_on_the_summed_loss_whatever_the_batch_size(make_run: Any, train: Any, batch_size: int) -> None:
    torch.manual_seed(0)
    model, inputs, targets = nn.Linear(4, 3), torch.randn(10, 4), torch.arange(10) % 3
    aux = AUX(lam=2.0, lr_b=0.1)
    run = make_run(model, inputs, targets, [aux], batch_size=batch_size, lr=0.0)
    index = torch.tensor([1, 4, 7])
    p = model(inputs[index]).softmax(1).detach()
    train(run, index)
    expected = torch.zeros(10, 3)
    expected[index] = -0.1 * 2.0 * (p - functional.one_hot(targets[index], 3))
    assert torch.allclose(aux.b.data, expected, atol=1e-7)


def test_aux_shifts_training_outputs_and_leaves_predictions_alone(make_run: Any) -> None:
    torch.manual_seed(0)
    model, inputs, targets = nn.Linear(4, 3), torch.randn(10, 4), torch.arange(10) % 3
    aux = AUX(lam=3.0)
    run = make_run(model, inputs, targets, [aux])
    aux.b.data.normal_(generator=torch.Generator().manual_seed(1))
    expected = functional.cross_entropy(model(inputs) + 3 * aux.b.data, targets, reduction="none")
    assert torch.allclose(run.score_losses(), expected)
    assert torch.allclose(run.predict(inputs), model(inputs).log_softmax(1))


def test_aux_learns_at_the_full_rate_although_a_schedule_warms_up(make_run: Any) -> None:
    model = nn.Linear(4, 3)
    aux = AUX()
    run = make_run(model, torch.randn(6, 4), torch.arange(6) % 3, [], lr=0.2)
    torch.optim.lr_scheduler.LinearLR(run.optimizer, start_factor=0.1, total_iters=5)
    aux.setup(run)
    assert aux.b.lr == pytest.approx(0.2)


def test_rdi_adds_its_gradient_to_every_parameter(make_run: Any, train: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))
    inputs, targets = torch.randn(12, 4), torch.arange(12) % 3
    rdi = RDI(lam=3.0)
    run = make_run(model, inputs, targets, [rdi], batch_size=4, lr=0.0)
    offsets = [torch.randn_like(p) for p in model.parameters()]
    for parameter, offset in zip(model.parameters(), offsets, strict=True):
        parameter.data.add_(offset)
    index = torch.arange(4)
    loss = functional.cross_entropy(model(inputs[index]), targets[index])
    plain = torch.autograd.grad(loss, list(model.parameters()))
    train(run, index)
    for parameter, gradient, offset in zip(model.parameters(), plain, offsets, strict=True):
        assert torch.allclose(parameter.grad, gradient + 9 * 4 / 12 * offset, atol=1e-5)
    total = sum(float(offset.square().sum()) for offset in offsets) ** 0.5
    assert run.stack.diagnostics(run=run)[0]["rdi.distance"] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("first", [True, False])
def test_rdis_pull_stands_outside_cdrs_mask(make_run: Any, train: Any, first: bool) -> None:
    torch.manual_seed(0)
    model, inputs, targets = nn.Linear(4, 3), torch.randn(12, 4), torch.arange(12) % 3
    rdi, cdr = RDI(lam=2.0), CDR(tau=0.5)
    run = make_run(model, inputs, targets, [rdi, cdr] if first else [cdr, rdi], lr=0.0)
    offset = torch.randn_like(model.weight)
    model.weight.data.add_(offset)
    (plain,) = torch.autograd.grad(functional.cross_entropy(model(inputs), targets), [model.weight])
    scores = (model.weight * plain).abs().flatten()
    mask = (scores >= scores.sort(descending=True).values[5]).view_as(plain)
    train(run)
    assert torch.allclose(model.weight.grad, 0.5 * plain * mask + 4.0 * offset, atol=1e-6)
