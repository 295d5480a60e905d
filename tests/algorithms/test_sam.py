"""SAM: the climb, the gradient there and the step from where it began, against numpy and torch by hand."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.algorithms.cdr import keep_critical
from harness_plugins.algorithms.elr import ELR
from harness_plugins.algorithms.sam import SAM, climbs
from torch import nn
from torch.nn import functional


def test_a_climb_is_as_long_as_rho_over_all_parameters() -> None:
    gradients = [torch.randn(3, 4, dtype=torch.float64), torch.randn(5, dtype=torch.float64)]
    climbed = climbs(gradients, 0.3)
    norm = np.sqrt(sum((g.numpy() ** 2).sum() for g in gradients))
    for climb, gradient in zip(climbed, gradients, strict=True):
        np.testing.assert_allclose(climb.numpy(), 0.3 * gradient.numpy() / norm, rtol=1e-9)
    assert [climb.tolist() for climb in climbs([torch.zeros(2)], 0.3)] == [[0, 0]]


def made(make_run: Any, algorithms: list[Any], **options: Any) -> tuple[Any, nn.Sequential]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)).double()
    inputs, targets = torch.randn(12, 4, dtype=torch.float64), torch.arange(12) % 3
    run = make_run(model, inputs, targets, algorithms, **{"lr": 0.3, **options})
    run.dtype = torch.float64
    for state in run.sample_states.values():
        state.data = state.data.double()
    return run, model


def by_hand(model: nn.Sequential, x: torch.Tensor, y: torch.Tensor, rho: float) -> list[torch.Tensor]:
    """The gradient at the climbed weights; the model is left there, its statistics moved twice."""
    weights = list(model.parameters())
    first = torch.autograd.grad(functional.cross_entropy(model(x), y), weights)
    norm = torch.cat([g.flatten() for g in first]).norm()
    with torch.no_grad():
        for weight, gradient in zip(weights, first, strict=True):
            weight.add_(rho * gradient / norm)
    return list(torch.autograd.grad(functional.cross_entropy(model(x), y), weights))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_are_those_of_the_definition(make_run: Any, train: Any, momentum: float) -> None:
    run, model = made(make_run, [SAM(rho=0.2)], momentum=momentum, weight_decay=0.1)
    twin = copy.deepcopy(model)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.3, momentum=momentum, weight_decay=0.1)
    for _ in range(3):
        start = [p.detach().clone() for p in twin.parameters()]
        plain = functional.cross_entropy(copy.deepcopy(twin)(run.source.inputs), run.targets).item()
        gradients = by_hand(twin, run.source.inputs, run.targets, 0.2)
        with torch.no_grad():
            for weight, before, gradient in zip(twin.parameters(), start, gradients, strict=True):
                weight.copy_(before)
                weight.grad = gradient
        optimizer.step()
        assert float(train(run).loss) == pytest.approx(plain)
        for name, value in twin.state_dict().items():
            assert torch.allclose(model.state_dict()[name], value, atol=1e-12), name


def test_weights_of_samples_are_those_of_the_first_pass(make_run: Any, train: Any) -> None:
    weights = torch.rand(12, dtype=torch.float64)

    class Weigh:
        def after_losses(self, run: Any, step: Any) -> None:
            if step.phase == "train":
                step.weights = weights

    run, model = made(make_run, [Weigh(), SAM(rho=0.2)], lr=0.0)
    twin = copy.deepcopy(model)
    x, y = run.source.inputs, run.targets

    def loss() -> torch.Tensor:
        return (weights * functional.cross_entropy(twin(x), y, reduction="none")).sum() / 12

    parameters = list(twin.parameters())
    first = torch.autograd.grad(loss(), parameters)
    norm = torch.cat([g.flatten() for g in first]).norm()
    with torch.no_grad():
        for weight, gradient in zip(parameters, first, strict=True):
            weight.add_(0.2 * gradient / norm)
    train(run)
    for weight, gradient in zip(model.parameters(), torch.autograd.grad(loss(), parameters), strict=True):
        assert weight.grad is not None and torch.allclose(weight.grad, gradient, atol=1e-12)


def test_averages_of_samples_move_once_a_step(make_run: Any, train: Any) -> None:
    run, _ = made(make_run, [ELR(beta=0.5), SAM(rho=0.2)], lr=0.0)
    plain, _ = made(make_run, [ELR(beta=0.5)], lr=0.0)
    for one in (run, plain):
        train(one)
    assert torch.allclose(run.sample_states["elr.t"].data, plain.sample_states["elr.t"].data)


def test_what_masks_gradients_masks_those_at_the_climbed_weights(make_run: Any, train: Any) -> None:
    from harness_plugins.algorithms.cdr import CDR

    for order in (0, 1):
        algorithms = [CDR(tau=0.4), SAM(rho=0.2)]
        run, model = made(make_run, algorithms[::-1] if order else algorithms, lr=0.0)
        twin = copy.deepcopy(model)
        start = [p.detach().clone() for p in twin.parameters()]
        gradients = by_hand(twin, run.source.inputs, run.targets, 0.2)
        names = [name for name, _ in twin.named_parameters()]
        ranked = [i for i, name in enumerate(names) if name in ("0.weight", "3.weight")]
        keep_critical([start[i] for i in ranked], [gradients[i] for i in ranked], 0.4)
        train(run)
        for weight, gradient in zip(model.parameters(), gradients, strict=True):
            assert weight.grad is not None and torch.allclose(weight.grad, gradient, atol=1e-12)


def test_gradients_are_clipped_where_they_are_used(make_run: Any, train: Any) -> None:
    run, model = made(make_run, [SAM(rho=0.2)], lr=0.0)
    from harness.training.run import Step

    run.clip = 1e-3
    index = torch.arange(12)
    step = Step(index, run.source.inputs, run.targets)
    run.zero_grad(("",))
    run.fill(step)
    run.update(step, ("",))
    norm = sum(float(p.grad.square().sum()) for p in model.parameters()) ** 0.5  # type: ignore[union-attr]
    assert norm == pytest.approx(1e-3, rel=1e-3)
