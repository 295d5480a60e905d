"""SWA against torch's own AveragedModel, SWALR and update_bn, epoch by epoch."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from harness_plugins.algorithms.swa import SWA, annealed_rate, augmented
from torch import nn
from torch.optim.swa_utils import SWALR, AveragedModel

from harness.training.augment import Augmentation


@pytest.mark.parametrize("anneal", [0, 1, 10])
def test_rates_go_as_torchs_schedule_has_them(anneal: int) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.2)
    schedule = SWALR(optimizer, swa_lr=0.05, anneal_epochs=anneal)
    for epochs in range(15):
        if epochs or anneal:  # without annealing torch is there from the start
            assert annealed_rate(0.2, 0.05, epochs, anneal) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()


def made(make_run: Any, swa: SWA, size: int = 12, batch: int = 5, norm: bool = True) -> tuple[Any, nn.Sequential]:
    torch.manual_seed(0)
    middle = nn.BatchNorm1d(6) if norm else nn.Identity()
    model = nn.Sequential(nn.Linear(4, 6), middle, nn.ReLU(), nn.Linear(6, 3)).double()
    inputs = torch.randn(size, 4, dtype=torch.float64)
    run = make_run(model, inputs, torch.arange(size) % 3, [swa], batch_size=batch, epochs=6, lr=0.4)
    run.dtype = torch.float64
    return run, model


def test_the_mean_of_the_last_epochs_predicts_with_statistics_of_its_own(make_run: Any, train: Any) -> None:
    run, model = made(make_run, SWA(start=2, swa_lr=0.1, anneal_epochs=2))
    reference: AveragedModel | None = None
    rates = []
    x = torch.randn(5, 4, dtype=torch.float64)
    for run.epoch in range(1, 7):
        if run.epoch > 1:
            run.stack.epoch_start(run=run)
        rates.append(run.optimizer.param_groups[0]["lr"])
        for start in (0, 5):
            train(run, torch.arange(start, start + 5))
        order = torch.Generator()
        order.set_state(run.generator("algorithm").get_state())
        run.stack.epoch_end(run=run)
        with run.evaluating(), torch.no_grad():
            given = run.predict(x)
            if run.epoch <= 2:
                assert torch.equal(given, model(x).log_softmax(1))
                continue
            if reference is None:
                reference = AveragedModel(model)
            reference.update_parameters(model)
            batches = run.source.inputs[torch.randperm(12, generator=order)].split(5)
            torch.optim.swa_utils.update_bn(batches, reference)
            assert torch.allclose(given, reference.eval()(x).log_softmax(1), atol=1e-12)
            assert not torch.allclose(given, model(x).log_softmax(1))
            reference.train()
    assert rates == pytest.approx([0.4, 0.4, 0.4, 0.25, 0.1, 0.1])


def test_the_schedule_says_what_the_rate_falls_from(make_run: Any) -> None:
    run, _ = made(make_run, SWA(start=1, swa_lr=0.1, anneal_epochs=4))
    for run.epoch, said in ((2, 0.3), (3, 0.2), (4, 0.05)):
        run.optimizer.param_groups[0]["lr"] = said  # by a schedule, after the epoch before
        run.stack.epoch_start(run=run)
        done = (1 - math.cos(math.pi * (run.epoch - 2) / 4)) / 2
        assert run.optimizer.param_groups[0]["lr"] == pytest.approx((1 - done) * 0.3 + done * 0.1)


@pytest.mark.parametrize(("start", "first"), [(None, 4), (0, 1), (9, 10)])
def test_it_starts_after_sixty_percent_or_when_told(make_run: Any, start: int | None, first: int) -> None:
    swa = SWA(start=start)
    made(make_run, swa)
    assert swa.first == first


def test_statistics_are_of_all_samples_augmented_but_a_last_one_by_itself(make_run: Any) -> None:
    class Shift(Augmentation):
        active = True

        def __call__(self, inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            return inputs + 100

    run, _ = made(make_run, SWA(), size=11)
    run.source.augmentation = Shift()
    batches = list(augmented(run))
    assert [len(batch) for batch in batches] == [5, 5]
    assert all(bool((batch > 50).all()) for batch in batches)


def test_a_single_sample_leaves_statistics_alone(make_run: Any) -> None:
    run, _ = made(make_run, SWA(start=0), size=1, batch=5, norm=False)
    run.stack.epoch_end(run=run)
    before = copy.deepcopy(run.averages["swa"].model.state_dict())
    run.epoch = 2
    run.stack.epoch_end(run=run)
    for name, value in run.averages["swa"].model.state_dict().items():
        assert torch.allclose(value, before[name])
