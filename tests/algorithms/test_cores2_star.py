"""CORES2*: what phase 1 hands over, and steps of phase 2 against numpy and a loop by hand."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from harness_plugins.algorithms.cores2_star import SECOND, CORES2Star, cut_out, second_rate, spread_by_class
from torch import Tensor, nn
from torch.nn import functional

from harness.training.loop import Loop
from harness.training.run import Step


def test_the_rate_is_the_official_one_over_1600_epochs() -> None:
    for time in (0.0, 0.5, 60.0, 120.0):
        assert second_rate(time, 1600, 0.3) == pytest.approx(0.001 * (1 + 299 * time / 120), abs=1e-15)
    for time in (121.0, 700.0, 1600.0):
        expected = 0.15 * (1 + math.cos(math.pi * (time - 120) / 1480))
        assert second_rate(time, 1600, 0.3) == pytest.approx(expected, abs=1e-15)


def test_a_square_of_half_the_side_is_cut_out_of_each_image() -> None:
    cut = cut_out(torch.ones(50, 1, 8, 8), torch.Generator().manual_seed(0))
    hidden = (cut == 0).sum((1, 2, 3))
    assert int(hidden.max()) == 16 and int(hidden.min()) >= 4 and len(hidden.unique()) > 2


def net() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)).double()


def made(make_run: Any, star: CORES2Star, size: int = 20, batch: int = 4, epochs: int = 4) -> tuple[Any, nn.Sequential]:
    torch.manual_seed(0)
    first, second = net(), net()
    inputs = torch.randn(size, 1, 4, 4, dtype=torch.float64)
    run = make_run(
        first, inputs, torch.arange(size) % 3, [star], batch_size=batch, epochs=epochs, second_model=lambda: second
    )
    run.dtype, star.scores = torch.float64, star.scores.double()
    star.strong = lambda run, index: 0.5 * run.source.gather(index)  # type: ignore[method-assign]
    return run, second


def second_step(run: Any, index: Tensor, beside: Tensor | None, number: int = 0) -> Step:
    step = Step(index, run.source.gather(index), run.targets[index], "train", number, SECOND, SECOND)
    if beside is not None:
        step.beside = Step(beside, run.source.gather(beside), run.targets[beside])
    run.under(step)
    return step


@pytest.mark.parametrize("gradual", [False, True])
@pytest.mark.parametrize("alone", [False, True])
def test_a_step_of_phase_2_is_that_of_its_definition(make_run: Any, gradual: bool, alone: bool) -> None:
    star = CORES2Star(phase1=1, ratio=0.7, gradual=gradual, optimizer="setting")
    run, second = made(make_run, star)
    run.epoch = 3
    index, beside = torch.tensor([3, 1, 8, 2]), torch.tensor([5, 9])
    hand = copy.deepcopy(second)
    x = run.source.inputs
    rows = [0.5 * x[index]] if alone else [0.5 * x[index], x[beside], 0.5 * x[beside]]
    z = hand(torch.cat(rows))
    loss = -z[:4].log_softmax(1)[torch.arange(4), run.targets[index]].mean()
    if not alone:
        p = z[4:6].softmax(1).detach()
        loss = loss + 0.7 * (2 / 3 if gradual else 1) * (p * (p.log() - z[6:].log_softmax(1))).sum(1).mean()
    gradients = torch.autograd.grad(loss, list(hand.parameters()))
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    assert norm < 5
    step = second_step(run, index, None if alone else beside)
    assert star.train_step(run, step)
    assert float(step.loss.detach()) == pytest.approx(loss.item(), abs=1e-12)  # type: ignore[union-attr]
    for weight, before, gradient in zip(second.parameters(), hand.parameters(), gradients, strict=True):
        assert torch.allclose(weight, before - 0.1 * gradient, atol=1e-12)
    assert torch.allclose(second[2].running_mean, hand[2].running_mean)


@pytest.mark.parametrize(("clip", "expected"), [(None, 5.0), (2.0, 2.0), (9.0, 5.0)])
def test_gradients_of_phase_2_are_clipped(make_run: Any, clip: float | None, expected: float) -> None:
    star = CORES2Star(phase1=1, optimizer="setting")
    run, second = made(make_run, star)
    run.epoch, run.clip = 2, clip
    with torch.no_grad():
        run.source.inputs.mul_(0.0)  # the first layer's features are alike, so that batch normalisation gives nothing
        second[4].bias.copy_(torch.tensor([500.0, 0.0, 0.0]))
        second[4].weight.mul_(1e3)
        second[2].bias.fill_(1e3)
    star.train_step(run, second_step(run, torch.tensor([1, 2, 4, 5]), None))
    norm = sum(float(p.grad.square().sum()) for p in second.parameters() if p.grad is not None) ** 0.5
    assert norm == pytest.approx(expected, rel=1e-3) and run.clip == clip


def test_what_the_sieve_removed_stands_beside_what_it_kept(make_run: Any) -> None:
    star = CORES2Star(phase1=1, share=0.5)
    run, _ = made(make_run, star)
    assert star.next_pass(run, 0).index is None and star.next_pass(run, 1) is None  # type: ignore[union-attr]
    star.scores = torch.tensor([0.5, 0.0, -1.0, 2.0] * 5, dtype=torch.float64)
    run.epoch = 2
    one = star.next_pass(run, 0)
    assert one is not None and one.index is not None and one.beside is not None
    assert one.index.tolist() == [i for i in range(20) if i % 4 in (1, 2)]
    assert one.beside.tolist() == [i for i in range(20) if i % 4 in (0, 3)]
    assert (one.network, one.beside_size, one.drop_last, star.steps) == (SECOND, 2, True, 2)


def test_an_order_spreads_each_class_evenly_as_the_official_shuffle_does() -> None:
    targets = torch.tensor([2] * 50 + [0] * 10 + [4] * 100)[torch.randperm(160)]
    order = spread_by_class(targets, 5, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    shuffled = torch.randperm(160, generator=generator).tolist()
    members = {label: [i for i in shuffled if int(targets[i]) == label] for label in (0, 2, 4)}
    jitter = iter(torch.rand(160, generator=generator, dtype=torch.float64).tolist())
    steps = {label: [0.8 + 0.4 * next(jitter) for _ in own] for label, own in members.items()}
    starts = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
    places = {}
    for start, (label, own) in zip(starts, members.items(), strict=True):
        place = start / len(own)
        for number, sample in enumerate(own):
            place += steps[label][number] / len(own) if number else 0.0
            places[sample] = place
    assert order.tolist() == sorted(places, key=places.__getitem__)
    for quarter in targets[order].split(40):  # each class has about a quarter of its samples there
        assert torch.allclose(
            torch.bincount(quarter, minlength=5) / 40, torch.tensor([2.5, 0, 12.5, 0, 25]) / 40, atol=0.06
        )


@pytest.mark.parametrize("score", [None, 1.0])
def test_labelled_samples_are_walked_in_a_balanced_order_where_that_is_asked_for(make_run: Any, score: Any) -> None:
    star = CORES2Star(phase1=1, share=0.5, order="balanced")
    run, _ = made(make_run, star)
    star.scores = torch.tensor([0.5, 0.0, -1.0, 2.0] * 5, dtype=torch.float64)
    if score is not None:
        star.scores.fill_(score)
    walks = []
    for epoch in (2, 3, 3):
        run.epoch = epoch
        walk = star.next_pass(run, 0)
        assert walk is not None and walk.index is not None and not walk.shuffle
        expected = list(range(20)) if score else [i for i in range(20) if i % 4 in (1, 2)]
        assert sorted(walk.index.tolist()) == expected
        walks.append(walk.index.tolist())
    assert walks[0] != walks[1] == walks[2]


@pytest.mark.parametrize(("score", "kept", "removed"), [(1.0, None, None), (-1.0, 20, 0)])
def test_a_part_without_samples_ends_no_run(make_run: Any, score: float, kept: Any, removed: Any) -> None:
    star = CORES2Star(phase1=1)
    run, _ = made(make_run, star)
    run.epoch, star.scores = 2, torch.full((20,), score, dtype=torch.float64)
    one = star.next_pass(run, 0)
    assert one is not None and one.network == SECOND
    assert (None if one.index is None else len(one.index)) == kept
    assert (None if one.beside is None else len(one.beside)) == removed


def test_the_official_rate_moves_with_every_step(make_run: Any) -> None:
    star = CORES2Star(phase1=1, lr=0.2)
    run, _ = made(make_run, star, epochs=101)
    run.epoch = 3
    assert star.next_pass(run, 0) is not None and star.steps == 5
    for number in range(3):
        star.train_step(run, second_step(run, torch.arange(4), None, number))
        rate = run.of(SECOND).optimizer.param_groups[0]["lr"]
        assert rate == pytest.approx(second_rate(1 + (number + 1) / 5, 100, 0.2))


def test_the_scores_recorded_while_training_decide_and_phase_2_predicts(make_run: Any) -> None:
    class Journal:
        def epoch(self, *_: Any) -> None: ...

        def checkpoint(self, *_: Any) -> None: ...

        def should_stop(self) -> bool:
            return False

    star = CORES2Star(phase1=2, warmup=0, ramp=1, sieve_after=1, optimizer="setting")
    run, second = made(make_run, star)
    seen: dict[int, float] = {}
    plain = star.compute_losses

    def recording(run: Any, step: Any) -> bool:
        done = plain(run, step)
        logs = -(step.outputs.softmax(1) + 1e-8).log()
        score = functional.cross_entropy(step.outputs, step.targets, reduction="none") - logs.mean(1)
        seen.update(zip(step.index.tolist(), score.tolist(), strict=True))
        return done

    run.stack.compute_losses = recording
    loop = Loop(run, None, Journal())  # type: ignore[arg-type]
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    for epoch in (1, 2, 3):
        loop._run_epoch(epoch)
        loop._batch = loop._number = 0
        with run.evaluating(), torch.no_grad():
            judge = run.model if epoch < 3 else second
            assert torch.allclose(run.predict(x), judge(x).log_softmax(1))
    assert star.scores.tolist() == pytest.approx([seen[i] for i in range(20)])
    assert run.trained == {SECOND}
