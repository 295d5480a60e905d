"""FGSM training: the sign of the input gradient for the current network, found without touching any state."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from harness_plugins.algorithms.aux import AUX
from harness_plugins.algorithms.elr import ELR
from harness_plugins.algorithms.fgsm import FGSM
from torch import nn
from torch.nn import functional

from harness import HarnessError
from harness.training.run import Step


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def test_training_inputs_move_by_epsilon_times_the_sign_of_the_gradient(make_run: Any, train: Any) -> None:
    model, inputs, targets = network(), torch.randn(12, 4), torch.arange(12) % 3
    run = make_run(model, inputs, targets, [FGSM(epsilon=0.3)], lr=0.1)
    for _ in range(3):
        # in train mode batch normalisation uses the batch's statistics; only the running ones are frozen in a probe
        x = inputs.clone().requires_grad_(True)
        reference = network()
        reference.load_state_dict(model.state_dict())
        functional.cross_entropy(reference(x), targets, reduction="sum").backward()
        step = train(run)
        assert torch.allclose(step.inputs, inputs + 0.3 * x.grad.sign(), atol=1e-7)


def test_a_probe_leaves_every_state_as_it_was(make_run: Any, train: Any) -> None:
    model, inputs, targets = network(), torch.randn(12, 4), torch.arange(12) % 3
    aux, elr = AUX(lam=1.0), ELR()
    run = make_run(model, inputs, targets, [aux, elr, FGSM(epsilon=0.3)])
    train(run)
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    b, t = aux.b.data.clone(), elr.t.data.clone()
    gradients = [p.grad.clone() for p in model.parameters()]
    step = Step(torch.arange(12), inputs, targets)
    run.stack.before_forward(run=run, step=step)
    assert not torch.equal(step.inputs, inputs)
    for name, value in model.named_buffers():
        assert torch.equal(value, buffers[name]), name
    assert torch.equal(aux.b.data, b) and torch.equal(elr.t.data, t)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert run.phase == "train" and all(state._touched == [] for state in run.sample_states.values())


def test_one_step_updates_batch_norm_statistics_once(make_run: Any, train: Any) -> None:
    model, inputs, targets = network(), torch.randn(12, 4), torch.arange(12) % 3
    run = make_run(model, inputs, targets, [FGSM(epsilon=0.3)])
    train(run)
    assert int(model[1].num_batches_tracked) == 1


def test_the_perturbation_sees_what_the_stack_does_to_outputs(make_run: Any, train: Any) -> None:
    model, inputs, targets = nn.Linear(4, 3), torch.randn(9, 4), torch.arange(9) % 3
    aux = AUX(lam=5.0)
    run = make_run(model, inputs, targets, [aux, FGSM(epsilon=1.0)], lr=0.0)
    aux.b.data.normal_(generator=torch.Generator().manual_seed(0))
    p = (model(inputs) + 5 * aux.b.data).softmax(1).detach()
    expected = ((p - functional.one_hot(targets, 3)) @ model.weight.detach()).sign()
    assert torch.allclose(train(run).inputs - inputs, expected, atol=1e-6)


def test_tokens_are_refused(make_run: Any, train: Any) -> None:
    run = make_run(nn.Embedding(5, 3), torch.randint(5, (6,)), torch.arange(6) % 3, [FGSM()])
    with pytest.raises(HarnessError, match="tokens"):
        train(run)
