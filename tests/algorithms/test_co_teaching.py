"""Co-teaching and co-teaching+: how many samples are taken, who teaches whom, and what is predicted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.algorithms.co_teaching import CoTeaching, forget_schedule
from harness_plugins.algorithms.co_teaching_plus import CoTeachingPlus
from harness_plugins.algorithms.selection import kth_smallest, small_loss_mask
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional


@given(
    losses=st.lists(st.integers(0, 5).map(float), min_size=1, max_size=30),
    rate=st.sampled_from([0.0, 0.1, 0.2, 0.4, 0.5, 0.9, 1.0]),
    data=st.data(),
)
def test_the_mask_takes_the_smallest_losses_and_int_of_their_share(losses: list[float], rate: float, data: Any) -> None:
    among = data.draw(st.lists(st.booleans(), min_size=len(losses), max_size=len(losses)))
    mask = small_loss_mask(torch.tensor(losses), rate, torch.tensor(among)).tolist()
    candidates = [i for i, allowed in enumerate(among) if allowed]
    kept = int((1 - rate) * len(candidates)) or len(candidates)
    expected = sorted(candidates, key=lambda i: losses[i])[:kept]
    assert sorted(expected) == [i for i, taken in enumerate(mask) if taken]


@given(values=st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=40), data=st.data())
def test_the_kth_smallest_is_that_of_a_sort(values: list[float], data: Any) -> None:
    k = data.draw(st.integers(1, len(values)))
    assert float(kth_smallest(torch.tensor(values), k)) == sorted(values)[k - 1]


@pytest.mark.parametrize("warmup", [1, 2, 10])
@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_the_forget_schedule_is_that_of_the_official_code(warmup: int, exponent: float) -> None:
    plan = np.ones(30) * 0.45
    plan[:warmup] = np.linspace(0, 0.45**exponent, warmup)
    for epoch in range(1, 30):
        assert forget_schedule(0.45, epoch, warmup, exponent) == pytest.approx(plan[epoch])


def pair(make_run: Any, algorithm: Any, size: int = 20, **options: Any) -> tuple[Any, nn.Module, nn.Module]:
    torch.manual_seed(0)
    first, second = nn.Linear(4, 3), nn.Linear(4, 3)
    inputs, targets = torch.randn(size, 4), torch.arange(size) % 3
    run = make_run(first, inputs, targets, [algorithm], second_model=lambda: second, **options)
    return run, first, second


def test_each_network_steps_on_the_small_losses_of_the_other(make_run: Any, train: Any) -> None:
    algorithm = CoTeaching(forget_rate=0.4, warmup=1)
    run, first, second = pair(make_run, algorithm, batch_size=20, lr=0.5)
    inputs, targets = run.source.inputs, run.targets
    before = [first.weight.detach().clone(), second.weight.detach().clone()]
    losses = [functional.cross_entropy(m(inputs), targets, reduction="none") for m in (first, second)]
    chosen = [loss.detach().argsort()[:12] for loss in losses]
    gradients = [
        torch.autograd.grad(losses[0][chosen[1]].mean(), first.weight)[0],
        torch.autograd.grad(losses[1][chosen[0]].mean(), second.weight)[0],
    ]
    step = train(run)
    for model, start, gradient in zip((first, second), before, gradients, strict=True):
        assert torch.allclose(model.weight, start - 0.5 * gradient, atol=1e-6)
    expected = (losses[0][chosen[1]].mean() + losses[1][chosen[0]].mean()) / 2
    assert float(step.loss) == pytest.approx(expected.item(), rel=1e-5)
    assert run.stack.diagnostics(run=run)[0]["co_teaching.selected_share"] == pytest.approx(0.6)


def test_a_short_batch_counts_less(make_run: Any, train: Any) -> None:
    run, first, _ = pair(make_run, CoTeaching(forget_rate=0.0), batch_size=20, lr=0.0)
    index = torch.arange(5)
    plain = functional.cross_entropy(first(run.source.inputs[:5]), run.targets[:5])
    (gradient,) = torch.autograd.grad(plain, first.weight)
    train(run, index)
    assert torch.allclose(first.weight.grad, gradient * 5 / 20, atol=1e-7)


def test_gradients_of_both_networks_are_clipped(make_run: Any, train: Any) -> None:
    run, first, second = pair(make_run, CoTeaching(forget_rate=0.2, warmup=1), lr=0.0)
    run.clip = 1e-3
    assert run.stack.train_step(run=run, step=_step(run))
    for model in (first, second):
        norm = sum(float(p.grad.square().sum()) for p in model.parameters()) ** 0.5
        assert norm == pytest.approx(1e-3, rel=1e-3)


def _step(run: Any) -> Any:
    from harness.training.run import Step

    index = torch.arange(run.num_samples)
    return Step(index, run.source.gather(index), run.targets)


def test_prediction_is_by_the_first_network_or_by_both(make_run: Any) -> None:
    run, first, second = pair(make_run, CoTeaching(forget_rate=0.2))
    inputs = torch.randn(5, 4)
    assert torch.allclose(run.predict(inputs), first(inputs).log_softmax(1))
    run, first, second = pair(make_run, CoTeaching(forget_rate=0.2, ensemble=True))
    product = (first(inputs).softmax(1) * second(inputs).softmax(1)).sqrt()
    both = run.predict(inputs).exp()
    assert torch.allclose(both, product / product.sum(1, keepdim=True), atol=1e-6)


def test_plus_trains_on_disagreement_after_its_first_epochs(make_run: Any, train: Any) -> None:
    algorithm = CoTeachingPlus(forget_rate=0.5, warmup=1, init_epoch=2)
    run, first, second = pair(make_run, algorithm, lr=0.0, size=60)
    inputs = run.source.inputs
    disagree = first(inputs).argmax(1) != second(inputs).argmax(1)
    assert 4 < int(disagree.sum()) < 56
    loss = functional.cross_entropy(first(inputs), run.targets, reduction="none").detach()
    for epoch, count in ((1, 30), (2, int(0.5 * int(disagree.sum())))):
        run.epoch = epoch
        mask = algorithm.select(run, _step(run), loss, disagree)
        assert int(mask.sum()) == count
    assert not (mask & ~disagree).any()
    assert float(loss[mask].max()) <= float(loss[disagree & ~mask].min())


def test_plus_weighs_a_sample_alike_however_many_are_in_disagreement(make_run: Any, train: Any) -> None:
    algorithm = CoTeachingPlus(forget_rate=0.0, warmup=1, init_epoch=0)
    run, first, second = pair(make_run, algorithm, lr=0.0, size=60)
    run.epoch = 6000
    inputs = run.source.inputs
    disagree = first(inputs).argmax(1) != second(inputs).argmax(1)
    loss = functional.cross_entropy(first(inputs), run.targets, reduction="none")
    (gradient,) = torch.autograd.grad(loss[disagree].sum() / 60, first.weight)
    train(run, number=1)
    assert torch.allclose(first.weight.grad, gradient, atol=1e-7)


def test_plus_without_disagreement_trains_on_all_early_and_on_nothing_later(make_run: Any) -> None:
    algorithm = CoTeachingPlus(forget_rate=0.5, warmup=1, init_epoch=0)
    run, _, _ = pair(make_run, algorithm)
    step, nothing = _step(run), torch.zeros(20, dtype=torch.bool)
    run.epoch, step.number = 10, 499
    assert int(algorithm.select(run, step, torch.rand(20), nothing).sum()) == 20
    step.number = 500
    assert int(algorithm.select(run, step, torch.rand(20), nothing).sum()) == 0


def test_losses_of_both_networks_score_the_samples(make_run: Any, train: Any) -> None:
    run, first, second = pair(make_run, CoTeaching(forget_rate=0.2), lr=0.0)
    expected = torch.stack(
        [functional.cross_entropy(m(run.source.inputs), run.targets, reduction="none") for m in (first, second)]
    ).mean(0)
    train(run)
    run.stack.epoch_end(run=run)
    assert torch.allclose(run.sample_scores["co_teaching.loss"][0], expected.detach())
