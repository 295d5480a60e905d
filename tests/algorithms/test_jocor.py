"""JoCoR: the joint loss, what is kept of it, and one step of both networks, against closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.algorithms.jocor import JoCoR, disagreement, joint_losses, smallest_mask
from scipy.special import rel_entr
from torch import nn

from harness.training.run import Step

RNG = np.random.default_rng(0)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    return exponents / exponents.sum(1, keepdims=True)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return -np.log(softmax(logits)[np.arange(len(labels)), labels])


def divergence(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    p, q = softmax(first), softmax(second)
    return (rel_entr(p, q) + rel_entr(q, p)).sum(1)


def test_the_disagreement_is_kullback_and_leiblers_divergence_both_ways() -> None:
    first, second = RNG.normal(size=(2, 20, 5)) * 3
    given = disagreement(torch.from_numpy(first), torch.from_numpy(second))
    np.testing.assert_allclose(given.numpy(), divergence(first, second), rtol=1e-12)
    assert torch.equal(disagreement(torch.from_numpy(first), torch.from_numpy(first)), torch.zeros(20).double())


def test_the_disagreement_of_sure_networks_is_a_number() -> None:
    first = torch.tensor([[400.0, 0.0]], requires_grad=True)
    given = disagreement(first, torch.tensor([[0.0, 400.0]]))
    given.sum().backward()
    assert float(given.detach()) == 800.0 and first.grad is not None and bool(first.grad.isfinite().all())


def test_the_joint_loss_weighs_agreement_by_lambda() -> None:
    one = torch.ones(1)
    assert joint_losses(one, 2 * one, 10 * one, 0.9).item() == pytest.approx(0.1 * 3 + 0.9 * 10)


@pytest.mark.parametrize(("rate", "kept"), [(0.0, 5), (0.2, 4), (0.5, 2), (0.9, 1), (1.0, 1)])
def test_the_smallest_are_kept_the_first_of_equals_and_at_least_one(rate: float, kept: int) -> None:
    mask = smallest_mask(torch.tensor([2.0, 1.0, 1.0, 3.0, 1.0]), rate)
    assert mask.nonzero()[:, 0].tolist() == sorted([1, 2, 4, 0, 3][:kept])


def pair(make_run: Any, algorithm: JoCoR, size: int = 20, **options: Any) -> tuple[Any, nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    first, second = nn.Linear(4, 3).double(), nn.Linear(4, 3).double()
    inputs, targets = torch.randn(size, 4, dtype=torch.float64), torch.arange(size) % 3
    run = make_run(first, inputs, targets, [algorithm], second_model=lambda: second, **options)
    run.dtype = torch.float64
    algorithm.losses = algorithm.losses.double()
    return run, first, second


@pytest.mark.parametrize("epoch", [1, 3, 7])
def test_both_networks_step_on_the_joint_loss_of_the_same_samples(make_run: Any, train: Any, epoch: int) -> None:
    algorithm = JoCoR(lam=0.65, forget_rate=0.45, warmup=5)
    run, first, second = pair(make_run, algorithm, lr=0.5)
    run.epoch = epoch
    x, y = run.source.inputs.numpy(), run.targets.numpy()
    weights = [[p.detach().numpy().copy() for p in model.parameters()] for model in (first, second)]
    logits = [x @ weight.T + bias for weight, bias in weights]
    joint = 0.35 * sum(cross_entropy(z, y) for z in logits) + 0.65 * divergence(*logits)
    rate = 0.45 * epoch / 4 if epoch < 5 else 0.45
    kept = np.argsort(joint, kind="stable")[: int((1 - rate) * 20)]
    p, q = (softmax(z) for z in logits)
    for one, other, model, (weight, bias) in zip((p, q), (q, p), (first, second), weights, strict=True):
        log_ratio = np.log(one) - np.log(other)
        of_agreement = one * (log_ratio - (one * log_ratio).sum(1, keepdims=True)) + one - other
        z_gradient = (0.35 * (one - np.eye(3)[y]) + 0.65 * of_agreement)[kept] / len(kept)
        if model is first:
            step = train(run)
        np.testing.assert_allclose(model.weight.detach().numpy(), weight - 0.5 * z_gradient.T @ x[kept], atol=1e-12)
        np.testing.assert_allclose(model.bias.detach().numpy(), bias - 0.5 * z_gradient.sum(0), atol=1e-12)
    assert float(step.loss) == pytest.approx(joint[kept].mean())
    run.stack.epoch_end(run=run)
    np.testing.assert_allclose(run.sample_scores["jocor.loss"][0].numpy(), joint)
    assert run.stack.diagnostics(run=run)[0]["jocor.selected_share"] == pytest.approx(len(kept) / 20)


def test_a_batch_of_one_trains_on_its_sample(make_run: Any, train: Any) -> None:
    run, first, _ = pair(make_run, JoCoR(forget_rate=0.8, warmup=1), batch_size=1)
    before = first.weight.detach().clone()
    train(run, torch.tensor([3]))
    assert not torch.equal(first.weight, before)


def test_gradients_of_both_networks_are_clipped(make_run: Any) -> None:
    run, first, second = pair(make_run, JoCoR(lam=0.5, forget_rate=0.2, warmup=1), lr=0.0)
    run.clip = 1e-3
    index = torch.arange(run.num_samples)
    assert run.stack.train_step(run=run, step=Step(index, run.source.gather(index), run.targets))
    for model in (first, second):
        norm = sum(float(p.grad.square().sum()) for p in model.parameters()) ** 0.5
        assert norm == pytest.approx(1e-3, rel=1e-3)


def test_prediction_is_by_the_first_network_or_by_both(make_run: Any) -> None:
    inputs = torch.randn(5, 4, dtype=torch.float64)
    run, first, _ = pair(make_run, JoCoR(forget_rate=0.2))
    assert torch.allclose(run.predict(inputs), first(inputs).log_softmax(1))
    run, first, second = pair(make_run, JoCoR(forget_rate=0.2, ensemble=True))
    product = (first(inputs).softmax(1) * second(inputs).softmax(1)).sqrt()
    assert torch.allclose(run.predict(inputs).exp(), product / product.sum(1, keepdim=True))
