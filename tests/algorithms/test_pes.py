"""PES: weights of classes, sizes of batches, and steps of both kinds against numpy and a loop by hand."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.algorithms.mixup import draw_beta
from harness_plugins.algorithms.pes import PES, batch_sizes, class_weights, renewed, weighted_cross_entropy
from harness_plugins.transforms.kpd import KroneckerProductDecomposition
from torch import Tensor, nn
from torch.nn.utils import parametrize

import harness
from harness.training.run import Step

N, K = 40, 3


def test_classes_count_by_their_rarity_up_to_three_times() -> None:
    rng = np.random.default_rng(0)
    for counts in (rng.integers(0, 40, 10), np.array([0, 0, 7]), np.array([1, 100, 0])):
        weights = np.where(counts > 0, np.minimum(3, counts[counts > 0].mean() / np.maximum(counts, 1)), 0)
        np.testing.assert_allclose(class_weights(torch.from_numpy(counts).double()).numpy(), weights)
    assert class_weights(torch.zeros(3)).tolist() == [0, 0, 0]


def test_the_loss_of_a_row_weighs_each_class() -> None:
    rng = np.random.default_rng(0)
    z, t, w = rng.normal(size=(5, K)), rng.dirichlet(np.ones(K), 5), np.array([0.5, 3.0, 0.0])
    logs = z - np.log(np.exp(z).sum(1, keepdims=True))
    found = weighted_cross_entropy(*map(torch.from_numpy, (z, t, w)))
    np.testing.assert_allclose(found.numpy(), -(w * t * logs).sum(1), rtol=1e-13)


@pytest.mark.parametrize(
    ("labelled", "unlabelled", "expected"),
    [(10, 90, (64, 64)), (50, 50, (64, 64)), (90, 10, (116, 12)), (100, 0, (128, 0))],
)
def test_a_batch_has_both_parts_by_their_sizes(labelled: int, unlabelled: int, expected: tuple[int, int]) -> None:
    assert batch_sizes(labelled, unlabelled, 128) == expected


def test_a_renewed_layer_has_other_weights_and_the_same_form() -> None:
    layer = nn.Linear(4, K).double()
    twin = renewed(layer)
    assert not torch.equal(twin.weight, layer.weight) and twin.weight.dtype == torch.float64
    assert bool((twin.weight.abs() <= 0.5).all())  # torch's bound, 1 / sqrt(4)
    factorised = KroneckerProductDecomposition(rank=2)(nn.Linear(4, 6))
    twin = renewed(factorised)
    assert parametrize.is_parametrized(twin, "weight") and not torch.equal(twin.weight, factorised.weight)


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, K)).double()


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    targets = torch.arange(N) % K
    return torch.randn(N, 4, generator=generator, dtype=torch.float64) + nn.functional.one_hot(targets, 4), targets


def made(make_run: Any, pes: PES, epochs: int = 10) -> tuple[Any, nn.Sequential]:
    model = network()
    run = make_run(model, *data(), [pes], batch_size=8, epochs=epochs, lr=0.3, momentum=0.9, weight_decay=0.01)
    run.dtype = torch.float64
    for name in ("weights", "doubt"):
        setattr(pes, name, getattr(pes, name).double())
    pes.head.double()
    return run, model


def step_of(run: Any, index: Tensor, label: str, beside: Tensor | None = None, number: int = 0) -> Step:
    step = Step(index, run.source.gather(index), run.targets[index], "train", number, "", label)
    if beside is not None:
        step.beside = Step(beside, run.source.gather(beside), run.targets[beside])
    run.under(step)
    return step


def test_the_new_layer_is_trained_alone_by_adam_and_then_takes_its_place(make_run: Any) -> None:
    pes = PES(warmup=1, refine=2, refine_lr=0.05)
    run, model = made(make_run, pes)
    run.epoch = 2
    before = {name: value.clone() for name, value in model.state_dict().items()}
    hand = copy.deepcopy(pes.head)
    body = copy.deepcopy(model[:3]).train()
    adam = torch.optim.Adam(hand.parameters(), lr=0.05)
    for number in range(2):
        walk = pes.next_pass(run, number)
        assert walk is not None and walk.label == "refine" and walk.index is None
        for index in torch.arange(N).split(8):
            with torch.no_grad():
                features = body(run.source.inputs[index])
            adam.zero_grad()
            loss = nn.functional.cross_entropy(hand(features), run.targets[index])
            loss.backward()
            adam.step()
            step = step_of(run, index, "refine")
            assert pes.train_step(run, step)
            assert float(step.loss.detach()) == pytest.approx(loss.item())  # type: ignore[union-attr]
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == ("running" not in name and "num_batches" not in name)
    assert torch.allclose(model[1].running_mean, body[1].running_mean)
    walk = pes.next_pass(run, 2)
    assert walk is not None and walk.label == "mix" and pes.next_pass(run, 3) is None
    assert torch.allclose(model[3].weight, hand.weight) and torch.allclose(model[3].bias, hand.bias)


def test_labelled_is_what_the_network_agrees_with(make_run: Any) -> None:
    pes = PES(warmup=0, refine=0)
    run, model = made(make_run, pes)
    walk = pes.next_pass(run, 0)
    model.eval()
    with torch.no_grad():
        p = model(run.source.inputs).softmax(1).numpy()
    y = run.targets.numpy()
    agreed = p.argmax(1) == y
    assert walk is not None and walk.index is not None and walk.beside is not None and 2 < agreed.sum() < N - 2
    assert walk.index.tolist() == np.flatnonzero(agreed).tolist()
    assert walk.beside.tolist() == np.flatnonzero(~agreed).tolist()
    assert (walk.batch_size, walk.beside_size) == batch_sizes(int(agreed.sum()), int((~agreed).sum()), 8)
    assert walk.steps == N // 8 and walk.drop_last
    counts = np.bincount(y[agreed], minlength=K)
    np.testing.assert_allclose(pes.weights.numpy(), class_weights(torch.from_numpy(counts).double()).numpy())
    run.stack.epoch_end(run=run)
    np.testing.assert_allclose(run.sample_scores["pes.doubt"][0].numpy(), 1 - p[np.arange(N), y])


@pytest.mark.parametrize("classifier", ["frozen", "trained"])
@pytest.mark.parametrize(("epoch", "alpha"), [(5, 4.0), (6, 0.75)])
def test_a_mixed_step_is_that_of_its_definition(make_run: Any, classifier: Any, epoch: int, alpha: float) -> None:
    pes = PES(warmup=2, lambda_u=30.0, classifier=classifier)
    run, model = made(make_run, pes)
    run.epoch, pes.weights = epoch, torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    index, beside = torch.tensor([3, 1, 8, 2, 11]), torch.tensor([5, 9, 0])
    hand = copy.deepcopy(model).train()
    mirror = torch.Generator()
    mirror.set_state(run.generator("algorithm").get_state())
    x, u = run.source.inputs[index], run.source.inputs[beside]
    with torch.no_grad():
        guess = (hand(u).softmax(1) + hand(u).softmax(1)) / 2
    guess = guess**2 / (guess**2).sum(1, keepdim=True)
    given = torch.eye(K, dtype=torch.float64)[run.targets[index]]
    drawn = draw_beta(alpha, mirror)
    lam, partners = max(drawn, 1 - drawn), torch.randperm(16, generator=mirror)
    rows, targets = torch.cat([x, x, u, u]), torch.cat([given, given, guess, guess])
    z = hand(lam * rows + (1 - lam) * rows[partners])
    t = lam * targets + (1 - lam) * targets[partners]
    supervised = -(pes.weights * t[:10] * z[:10].log_softmax(1)).sum(1).mean()
    ramp = (epoch - 1 + 2 / 5 - 2) / 16
    loss = supervised + 30 * ramp * (z[10:].softmax(1) - t[10:]).square().mean()
    gradients = torch.autograd.grad(loss, list(hand.parameters()))
    step = step_of(run, index, "mix", beside, number=2)
    assert pes.train_step(run, step)
    assert float(step.loss.detach()) == pytest.approx(loss.item(), abs=1e-12)  # type: ignore[union-attr]
    assert step.index.tolist() == 2 * index.tolist()
    names = [name for name, _ in model.named_parameters()]
    for name, weight, start, gradient in zip(names, model.parameters(), hand.parameters(), gradients, strict=True):
        held = classifier == "frozen" and name.startswith("3.")
        expected = start if held else start - 0.3 * (gradient + 0.01 * start)
        assert torch.allclose(weight, expected, atol=1e-12), name


def driven(pes: PES, model: nn.Module, epochs: int = 3) -> Any:
    inputs, targets = data()
    batches = [[list(range(k, N, 5)) for k in range(5)]] * epochs
    return harness.drive([pes], model, inputs, targets, seed=0, batches=batches)


class Agreeing(PES):
    """Agrees with the labels of its first samples."""

    def __init__(self, count: int, **parameters: Any) -> None:
        super().__init__(warmup=1, refine=1, **parameters)
        self.count = count

    def predictions(self, run: Any, batch_size: int = 512) -> Tensor:
        moved = (run.targets + (torch.arange(N) >= self.count).long()) % K
        return nn.functional.one_hot(moved, K).to(run.dtype)


@pytest.mark.parametrize("count", [0, 1, 2, 37, 39, 40])
def test_no_division_ends_a_run(count: int) -> None:
    history = driven(Agreeing(count), network())
    assert len(history) == 3 and all(epoch["train_loss"] > 0 for epoch in history)
    assert history[-1]["diagnostics"]["pes.labelled_share"] == count / N


@pytest.mark.parametrize("classifier", ["frozen", "trained"])
def test_a_frozen_classifier_stays_as_adam_left_it(classifier: Any) -> None:
    kept: list[Tensor] = []

    class Looking(PES):
        def epoch_end(self, run: Any) -> None:
            super().epoch_end(run)
            kept.append(run.model[3].weight.detach().clone())
            self.adam = self.head.weight.detach().clone()

    pes = Looking(warmup=1, refine=1, classifier=classifier)
    driven(pes, network(), epochs=4)
    assert not torch.equal(kept[0], kept[1])
    assert torch.equal(kept[1], kept[3]) == (classifier == "frozen") == torch.equal(kept[3], pes.adam)
