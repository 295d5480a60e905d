"""RegMixup: the mixed loss beside the plain one, each label's share in its own sample's row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.algorithms.mixup import draw_beta
from harness_plugins.algorithms.reg_mixup import RegMixup, mixture_losses
from torch import Tensor, nn

RNG = np.random.default_rng(0)
OUTPUTS, TARGETS = RNG.normal(size=(8, 3)), np.array([0, 1, 2, 0, 1, 2, 1, 1])
PARTNERS = np.array([3, 1, 7, 0, 2, 4, 6, 5])


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return -(logits - np.log(np.exp(logits).sum(1, keepdims=True)))[np.arange(len(labels)), labels]


@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
def test_the_mean_is_that_of_two_cross_entropies_of_one_output(lam: float) -> None:
    rows = mixture_losses(*map(torch.from_numpy, (OUTPUTS, TARGETS, PARTNERS)), lam).numpy()
    whole = lam * cross_entropy(OUTPUTS, TARGETS) + (1 - lam) * cross_entropy(OUTPUTS, TARGETS[PARTNERS])
    assert rows.mean() == pytest.approx(whole.mean(), abs=1e-14)


def test_a_row_holds_what_a_samples_label_asks_for() -> None:
    rows = mixture_losses(*map(torch.from_numpy, (OUTPUTS, TARGETS, PARTNERS)), 0.3).numpy()
    for i, label in enumerate(TARGETS):
        j = int(np.flatnonzero(i == PARTNERS)[0])  # the mixture that sample i entered as a partner
        logits = np.stack([OUTPUTS[i], OUTPUTS[j]])
        own, other = cross_entropy(logits, np.array([label, label]))
        assert rows[i] == pytest.approx(0.3 * own + 0.7 * other, abs=1e-14)


def test_probabilities_as_targets_mix_as_classes_do() -> None:
    arguments = torch.from_numpy(OUTPUTS), torch.from_numpy(PARTNERS), 0.3
    hard, soft = torch.from_numpy(TARGETS), torch.eye(3, dtype=torch.float64)[TARGETS]
    given = [mixture_losses(arguments[0], targets, *arguments[1:]) for targets in (hard, soft)]
    assert torch.allclose(*given)


def linear_run(make_run: Any, algorithms: list[Any], **options: Any) -> tuple[Any, nn.Linear]:
    torch.manual_seed(0)
    model = nn.Linear(4, 3).double()
    run = make_run(model, torch.randn(9, 4, dtype=torch.float64), torch.arange(9) % 3, algorithms, **options)
    run.dtype = torch.float64
    return run, model


def mirrored(run: Any, alpha: float, size: int) -> tuple[float, np.ndarray]:
    generator = torch.Generator()
    generator.set_state(run.generator("algorithm").get_state())
    return draw_beta(alpha, generator), torch.randperm(size, generator=generator).numpy()


@pytest.mark.parametrize("batch", [9, 4, 1])
def test_a_step_is_that_of_both_losses(make_run: Any, train: Any, batch: int) -> None:
    run, model = linear_run(make_run, [RegMixup(alpha=2.0, weight=0.7)], lr=0.5)
    lam, partners = mirrored(run, 2.0, batch)
    weight, bias = (p.detach().numpy().copy() for p in model.parameters())
    x, y = run.source.inputs[:batch].numpy(), run.targets[:batch].numpy()
    mixed = lam * x + (1 - lam) * x[partners]
    onehot = np.eye(3)[y]
    loss, gradient = 0.0, np.zeros_like(weight)
    for inputs, targets, share in ((x, onehot, 1.0), (mixed, lam * onehot + (1 - lam) * onehot[partners], 0.7)):
        logits = inputs @ weight.T + bias
        log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        loss -= share * (targets * log_p).sum() / 9
        gradient += share * (np.exp(log_p) - targets).T @ inputs / 9
    step = train(run, torch.arange(batch))
    assert float(step.loss) == pytest.approx(loss)
    np.testing.assert_allclose(model.weight.detach().numpy(), weight - 0.5 * gradient, atol=1e-12)


def test_a_pruned_sample_is_pruned_from_the_mixtures_too(make_run: Any, train: Any) -> None:
    class Prune:
        def after_losses(self, run: Any, step: Any) -> None:
            step.weights = torch.tensor([0.0] + 8 * [1.0], dtype=torch.float64)

    run, _ = linear_run(make_run, [Prune(), RegMixup(alpha=2.0)], lr=0.0)
    before = run.generator("algorithm").get_state()
    losses = []
    for label in (0, 1, 2):
        run.targets[0] = label
        run.generator("algorithm").set_state(before)
        losses.append(float(train(run).loss))
    assert losses[0] == losses[1] == losses[2]


def test_passes_that_score_samples_see_the_stacks_own_loss(make_run: Any) -> None:
    run, model = linear_run(make_run, [RegMixup()])
    before = run.generator("algorithm").get_state()
    plain = nn.functional.cross_entropy(model(run.source.inputs), run.targets, reduction="none")
    assert torch.allclose(run.score_losses(), plain)
    probe = run.losses(run.source.inputs, run.targets, torch.arange(9), "probe")
    assert torch.allclose(probe, plain) and torch.equal(run.generator("algorithm").get_state(), before)


def test_a_loss_that_exists_per_batch_takes_the_mean(make_run: Any, train: Any) -> None:
    def batch_loss(outputs: Tensor, targets: Tensor, index: Tensor) -> Tensor:
        return outputs.square().mean()

    run, model = linear_run(make_run, [RegMixup(alpha=2.0)], loss=batch_loss, lr=0.0)
    run.stack.per_batch = True
    lam, partners = mirrored(run, 2.0, 9)
    x = run.source.inputs
    outputs = model(lam * x + (1 - lam) * x[partners])
    rows = mixture_losses(outputs, run.targets, torch.from_numpy(partners), lam)
    assert float(train(run).loss) == pytest.approx((model(x).square().mean() + rows.mean()).item())
