"""Truncated GCE: who is pruned, when, and that nothing else changes the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import harness
from harness.training.run import Run

N = 12
L_K = (1 - 0.5**0.7) / 0.7


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(N, 3, generator=generator), torch.arange(N) % 2


def probabilities(run: Run) -> np.ndarray:
    """``p_y`` of all samples under the run's present network, by hand."""
    weight, bias = (parameter.detach().double().numpy() for parameter in run.model.parameters())
    logits = run.source.gather(torch.arange(N)).double().numpy() @ weight.T + bias
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return np.asarray(p[np.arange(N), run.targets.numpy()])


def test_pruned_samples_lose_value_and_gradient() -> None:
    loss = harness.create("loss", "truncated_gce")
    outputs = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    targets, index = torch.tensor([0, 1, 0]), torch.tensor([4, 0, 2])
    before = loss(outputs, targets, index)
    p_y = 1 / (1 + np.exp([-2.0, 2.0, 0.0]))
    assert before.detach().numpy() == pytest.approx((1 - p_y**0.7) / 0.7 - L_K)
    loss.prune(outputs, targets, index)
    after = loss(outputs, targets, index)
    assert after[0].item() == before[0].item()
    assert after[1:].tolist() == [0.0, 0.0], "p_y at or below k"
    (gradient,) = torch.autograd.grad(after.sum(), outputs)
    assert gradient[0].abs().min() > 0 and gradient[1:].abs().max() == 0


def test_right_after_a_prune_it_is_the_clamped_loss_less_a_constant() -> None:
    outputs = 3 * torch.randn(40, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    targets, index = torch.arange(40) % 5, torch.arange(40)
    loss = harness.create("loss", "truncated_gce")
    loss.prune(outputs, targets, index)
    clamped = harness.create("loss", "truncated_gce", mode="clamp")(outputs, targets)
    torch.testing.assert_close(loss(outputs, targets, index) + L_K, clamped)


def test_samples_without_an_index_and_samples_never_seen_count() -> None:
    loss = harness.create("loss", "truncated_gce")
    outputs, targets = torch.tensor([[0.0, 5.0]], dtype=torch.float64), torch.tensor([0])
    loss.prune(outputs, targets, torch.tensor([3]))
    assert loss(outputs, targets, torch.tensor([3])).item() == 0
    for index in (None, torch.tensor([2]), torch.tensor([100])):
        assert loss(outputs, targets, index).item() > 0


@pytest.mark.parametrize(
    ("start_epoch", "every", "expected"),
    [(40, 10, [40, 50, 60]), (35, 10, [40, 50, 60]), (1, 25, [25, 50]), (61, 1, []), (60, 1, [60])],
)
def test_it_prunes_before_every_epoch_that_every_divides_from_start_epoch_on(
    start_epoch: int, every: int, expected: list[int], data: Any, make_run: Callable[..., Run], monkeypatch: Any
) -> None:
    loss = harness.create("loss", "truncated_gce", start_epoch=start_epoch, every=every)
    run = make_run(loss, *data, num_classes=2, epochs=60)
    pruned: list[int] = []
    monkeypatch.setattr(loss, "prune", lambda outputs, targets, index: pruned.append(run.epoch))
    for run.epoch in range(1, 61):
        run.stack.epoch_start(run=run)
    assert pruned == expected


def test_the_current_network_prunes_in_eval_mode(data: Any, make_run: Callable[..., Run]) -> None:
    loss = harness.create("loss", "truncated_gce", start_epoch=1, every=1)
    run = make_run(loss, *data, num_classes=2)
    modes: list[bool] = []
    run.model.register_forward_pre_hook(lambda module, inputs: modes.append(module.training))
    run.epoch = 1
    run.stack.epoch_start(run=run)
    assert loss.weights.data.tolist() == (probabilities(run) > 0.5).astype(float).tolist()
    assert modes == [False] and run.model.training
    run.stack.epoch_end(run=run)
    scores, detects = run.sample_scores["truncated_gce.pruned"]
    assert detects and scores.tolist() == (probabilities(run) <= 0.5).astype(float).tolist()
    (found,) = run.stack.diagnostics(run=run)
    assert found == {"truncated_gce.pruned_share": pytest.approx((probabilities(run) <= 0.5).mean())}


def test_training_and_extra_passes_leave_the_weights_alone(
    data: Any, make_run: Callable[..., Run], make_loop: Callable[..., Any]
) -> None:
    loss = harness.create("loss", "truncated_gce", start_epoch=2, every=2)
    run = make_run(loss, *data, num_classes=2, epochs=1)
    make_loop(run).fit()
    run.score_losses()
    assert loss.weights.data.tolist() == [1.0] * N


def test_a_pruned_sample_no_longer_moves_the_network(
    data: Any, make_run: Callable[..., Run], make_loop: Callable[..., Any]
) -> None:
    loss = harness.create("loss", "truncated_gce", start_epoch=1, every=1, k=1.0)
    run = make_run(loss, *data, num_classes=2, epochs=2)
    before = run.model.weight.detach().clone()
    make_loop(run).fit()
    assert torch.equal(run.model.weight, before), "with k = 1 every sample is pruned"


def test_clamp_mode_keeps_and_scores_nothing(
    data: Any, make_run: Callable[..., Run], make_loop: Callable[..., Any]
) -> None:
    loss = harness.create("loss", "truncated_gce", mode="clamp", start_epoch=1, every=1)
    run = make_run(loss, *data, num_classes=2, epochs=1)
    make_loop(run).fit()
    assert loss.weights.data.tolist() == [1.0] * N and not run.sample_scores
    assert run.stack.diagnostics(run=run) == [{}]


def test_a_checkpoint_brings_the_weights_back(data: Any, make_run: Callable[..., Run]) -> None:
    loss = harness.create("loss", "truncated_gce", start_epoch=1, every=1)
    run = make_run(loss, *data, num_classes=2)
    run.epoch = 1
    run.stack.epoch_start(run=run)
    other = harness.create("loss", "truncated_gce")
    second = make_run(other, *data, num_classes=2)
    second.load_state_dict(run.state_dict())
    kept = loss.weights.data.clone()
    assert torch.equal(other.weights.data, kept) and 0 < kept.sum() < N
    other.weights.write(torch.arange(N), 1 - kept)
    assert torch.equal(loss.weights.data, kept), "no shared memory"


def test_in_a_trial_there_is_a_weight_for_each_training_sample_and_no_more(
    data: Any, make_run: Callable[..., Run]
) -> None:
    loss = harness.create("loss", "truncated_gce")
    make_run(loss, *data, num_classes=2)
    with pytest.raises(IndexError):
        loss(torch.zeros(1, 2), torch.tensor([0]), torch.tensor([N]))
    assert len(loss.weights.data) == N
