"""``harness.drive``: a stack on a model and tensors trains as formulas written out do, and as a trial does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import harness
from harness import HarnessError

BATCHES = [[[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]], [[9, 8, 7, 6], [5, 4, 3, 2], [1, 0]]]
"""Two epochs of ten samples, the last batch of each a short one."""
SGD = {"name": "sgd", "lr": 0.3, "momentum": 0.9}


def data(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(10, 5, generator=generator, dtype=torch.float64), torch.arange(10) % 3


def linear(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Linear(5, 3).double()


@pytest.mark.parametrize("last_batch", ["scaled", "mean"])
@pytest.mark.parametrize("stack", ["ce", [], {"loss": "ce"}, {"loss": {"name": "ce"}, "optimizer": SGD}])
def test_cross_entropy_is_the_bare_loop(stack: Any, last_batch: Any) -> None:
    inputs, targets = data()
    model, bare = linear(), linear()
    history = harness.drive(
        stack, model, inputs, targets, seed=0, batches=BATCHES, optimizer=SGD, last_batch=last_batch
    )
    optimizer = torch.optim.SGD(bare.parameters(), lr=0.3, momentum=0.9)
    for epoch, record in zip(BATCHES, history, strict=True):
        losses, sums = [], []
        for batch in epoch:
            optimizer.zero_grad()
            summed = functional.cross_entropy(bare(inputs[batch]), targets[batch], reduction="sum")
            loss = summed / (4 if last_batch == "scaled" else len(batch))
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
            sums.append(float(summed.detach()))
        assert record["losses"] == pytest.approx(losses, rel=1e-14)
        assert record["train_loss"] == pytest.approx(sum(sums) / 10, rel=1e-13)
    for mine, theirs in zip(model.parameters(), bare.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("algorithm", ["aux", "co_teaching", "co_teaching_plus", "cores2", "sop", "elr", "rrm"])
def test_in_a_short_batch_the_mean_is_the_sum_over_its_own_size(algorithm: str) -> None:
    """One short batch after a full one that teaches nothing: every part of the stack follows the option."""
    inputs, targets = data()
    params: dict[str, Any] = {
        "aux": {"lam": 2.0, "lr_b": 0.1},
        "rrm": {"contamination": 0.2},
        "co_teaching": {"forget_rate": 0.5, "warmup": 1},
        "co_teaching_plus": {"forget_rate": 0.5, "warmup": 1, "init_epoch": 5},
    }
    moved = {}
    for last_batch in ("scaled", "mean"):
        model = linear()
        before = [p.detach().clone() for p in model.parameters()]
        part = harness.create("algorithm", algorithm, **params.get(algorithm, {}))
        harness.drive(
            [part], model, inputs, targets,
            seed=0, batches=[[[0, 1]], [[2, 3, 4, 5]]], optimizer={"name": "sgd", "lr": 1e-9}, last_batch=last_batch,
        )  # fmt: skip
        harness.drive(
            [part], model, inputs, targets,
            seed=0, batches=[[[0, 1], [2, 3, 4, 5]]], optimizer={"name": "sgd", "lr": 1e-9}, last_batch=last_batch,
        )  # fmt: skip
        moved[last_batch] = [p.detach() - b for p, b in zip(model.parameters(), before, strict=True)]
    again = linear()
    before = [p.detach().clone() for p in again.parameters()]
    part = harness.create("algorithm", algorithm, **params.get(algorithm, {}))
    for _ in range(2):
        harness.drive(
            [part], again, inputs, targets, seed=0, batches=[[0, 1]], optimizer={"name": "sgd", "lr": 1e-9}
        )  # fmt: skip
    short = [p.detach() - b for p, b in zip(again.parameters(), before, strict=True)]
    for scaled, mean, own in zip(moved["scaled"], moved["mean"], short, strict=True):
        # at a vanishing step the short batches' means add up: half of them is what the scaled sums left out
        torch.testing.assert_close(mean - scaled, own / 2, rtol=2e-3, atol=1e-12)


def test_rows_on_the_summed_loss_step_alike_under_every_reduction() -> None:
    inputs, targets = data()
    rows = []
    for last_batch in ("scaled", "mean"):
        aux = harness.create("algorithm", "aux", lam=2.0, lr_b=0.1)
        harness.drive(
            [aux], linear(), inputs, targets,
            seed=0, batches=[[0, 1, 2, 3], [8, 9]], optimizer={"name": "sgd", "lr": 1e-12}, last_batch=last_batch,
        )  # fmt: skip
        rows.append(aux.b.data)
    p = linear()(inputs).softmax(1).detach()
    expected = -0.1 * 2.0 * (p - functional.one_hot(targets, 3))
    for found in rows:
        torch.testing.assert_close(found[[8, 9]], expected[[8, 9]], rtol=1e-9, atol=1e-10)
        assert found.dtype == torch.float64


def test_a_loss_of_the_whole_batch_counts_by_its_share_of_it() -> None:
    inputs, targets = data()
    gradients = []
    for last_batch in ("scaled", "mean"):
        model = linear()
        before = model.weight.detach().clone()
        harness.drive(
            {"loss": {"name": "dmi", "warmup": 9}}, model, inputs, targets,
            seed=0, batches=[[[0, 1, 2]], [[0, 1, 2, 3, 4, 5]]], optimizer={"name": "sgd", "lr": 1e-8}, last_batch=last_batch,
        )  # fmt: skip
        gradients.append((before - model.weight.detach()) / 1e-8)
    start = linear()
    (short,) = torch.autograd.grad(functional.cross_entropy(start(inputs[:3]), targets[:3]), [start.weight])
    torch.testing.assert_close(gradients[1] - gradients[0], short / 2, rtol=1e-5, atol=1e-6)


def test_it_leaves_the_callers_random_numbers_alone_and_draws_from_its_seed() -> None:
    inputs, targets = data()
    model = nn.Sequential(nn.Dropout(0.5), linear())
    torch.manual_seed(3)
    torch.rand(1)
    expected = torch.rand(2)
    torch.manual_seed(3)
    torch.rand(1)
    first = harness.drive("mixup", model, inputs, targets, seed=1, batches=BATCHES)
    assert torch.equal(torch.rand(2), expected)
    model = nn.Sequential(nn.Dropout(0.5), linear())
    assert harness.drive("mixup", model, inputs, targets, seed=1, batches=BATCHES) == first


def test_regression_takes_the_squared_loss_without_being_told() -> None:
    inputs, _ = data()
    targets = torch.randn(10, 2, dtype=torch.float64)
    torch.manual_seed(0)
    model = nn.Linear(5, 2).double()
    with torch.no_grad():
        expected = (model(inputs[:4]) - targets[:4]).square().sum(1).mean()
    (record,) = harness.drive(["cdr"][:0], model, inputs, targets, seed=0, batches=[[0, 1, 2, 3]])
    assert record["losses"] == pytest.approx([float(expected)])


def test_several_labels_take_binary_cross_entropy_without_being_told() -> None:
    inputs, classes = data()
    targets = functional.one_hot(classes, 3)
    model = linear()
    with torch.no_grad():
        expected = functional.binary_cross_entropy_with_logits(model(inputs[:4]), targets[:4].double())
    (record,) = harness.drive([], model, inputs, targets, seed=0, batches=[[0, 1, 2, 3]])
    assert record["losses"] == pytest.approx([float(expected)])


@pytest.mark.parametrize(
    ("stack", "batches", "message"),
    [
        ("sopp", [[0]], "did you mean 'sop'"),
        (["cdr"], [[0]], "refers to the noise rate"),
        (["forward"], [[0]], "refers to the noise of a setting"),
        ({"algorithm": ["sop"]}, [[0]], "did you mean 'algorithms'"),
        ({"loss": "gce", "algorithms": ["sop"]}, [[0]], "replaces the loss 'ce'"),
        ({"loss": "ce", "optimizer": {"name": "sgd", "lr": 0.1, "nesterov": True}}, [[0]], "needs a momentum above 0"),
        ("ce", [[0, 10]], "outside"),
        ("ce", [[]], "empty batch"),
        ("ce", [], "without batches"),
    ],
)
def test_what_cannot_be_driven_is_refused_in_one_line(stack: Any, batches: Any, message: str) -> None:
    inputs, targets = data()
    with pytest.raises(HarnessError, match=message) as caught:
        harness.drive(stack, linear(), inputs, targets, seed=0, batches=batches)
    assert "\n" not in str(caught.value)


def test_a_run_that_diverges_ends_with_that_epoch() -> None:
    inputs, targets = data()
    history = harness.drive("ce", linear(), inputs * torch.inf, targets, seed=0, batches=BATCHES)
    assert len(history) == 1 and history[0]["train_loss"] is None


def test_passes_over_all_samples_walk_the_given_batches_and_others_their_own() -> None:
    class Passes:
        def __init__(self) -> None:
            self.seen: list[list[int]] = []

        def next_pass(self, number: int) -> harness.Pass | None:
            return (harness.Pass(batch_size=8), harness.Pass(torch.tensor([4, 5, 6])), None)[number]

        def after_losses(self, step: harness.Step) -> None:
            self.seen.append(step.index.tolist())

    inputs, targets = torch.randn(8, 4), torch.arange(8) % 3
    model, algorithm = torch.nn.Linear(4, 3), Passes()
    first = torch.nn.functional.cross_entropy(model(inputs[[0, 2]]), targets[[0, 2]])
    (record,) = harness.drive([algorithm], model, inputs, targets, seed=0, batches=[[0, 2], [1, 3]])
    *given, drawn = algorithm.seen
    assert given == [[0, 2], [1, 3]] and len(drawn) == 2 and set(drawn) < {4, 5, 6}  # no batch of one
    assert record["losses"][0] == pytest.approx(first.item())
