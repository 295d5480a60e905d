"""EMA: the average against a loop over steps, what it does with statistics, and that it predicts."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.algorithms.ema import EMA, warmed_up
from torch import nn


def test_the_decay_rises_to_its_value() -> None:
    assert [warmed_up(0.5, step) for step in (1, 2, 8, 9, 100)] == pytest.approx([2 / 11, 3 / 12, 0.5, 0.5, 0.5])


def batch_normalised(make_run: Any, ema: EMA) -> tuple[Any, nn.Sequential]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)).double()
    run = make_run(model, torch.randn(12, 4, dtype=torch.float64), torch.arange(12) % 3, [ema], lr=0.2)
    run.dtype = torch.float64
    return run, model


@pytest.mark.parametrize("buffers", ["average", "copy"])
@pytest.mark.parametrize("warmup", [False, True])
def test_the_average_follows_every_step_and_predicts_with_its_own_statistics(
    make_run: Any, train: Any, buffers: Any, warmup: bool
) -> None:
    run, model = batch_normalised(make_run, EMA(decay=0.7, warmup=warmup, buffers=buffers))
    expected = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    weights = {name for name, _ in model.named_parameters()}
    for step in range(1, 6):
        train(run, torch.arange(step, step + 6))
        decay = min(0.7, (1 + step) / (10 + step)) if warmup else 0.7
        for name, value in model.state_dict().items():
            averaged = value.is_floating_point() and (name in weights or buffers == "average")
            expected[name] = decay * expected[name] + (1 - decay) * value.numpy() if averaged else value.numpy().copy()
    given = run.averages["ema"].model.state_dict()
    for name, value in expected.items():
        np.testing.assert_allclose(given[name].numpy(), value, atol=1e-14, err_msg=name)
    judge = copy.deepcopy(model).eval()
    judge.load_state_dict({name: torch.as_tensor(value) for name, value in expected.items()})
    x = torch.randn(5, 4, dtype=torch.float64)
    with run.evaluating(), torch.no_grad():
        assert torch.allclose(run.predict(x), judge(x).log_softmax(1))
        assert not torch.allclose(run.predict(x), model(x).log_softmax(1))


def test_training_is_what_it_is_without_the_average(make_run: Any, train: Any) -> None:
    states = []
    for algorithms in ([], [EMA(decay=0.9)]):
        torch.manual_seed(0)
        model = nn.Linear(4, 3)
        run = make_run(model, torch.randn(12, 4), torch.arange(12) % 3, algorithms)
        for _ in range(3):
            train(run)
        states.append(model.weight.detach().clone())
    assert torch.equal(*states)


def test_a_regression_predicts_the_averages_outputs(make_run: Any, train: Any) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    run = make_run(
        model,
        torch.randn(8, 4),
        torch.randn(8),
        [EMA(decay=0.5)],
        loss=lambda z, y, i: (z[:, 0] - y) ** 2,
        loss_name="l2",
    )
    before = copy.deepcopy(model)
    train(run)
    x = torch.randn(3, 4)
    assert torch.allclose(run.predict(x), (before(x) + model(x)) / 2, atol=1e-6)
