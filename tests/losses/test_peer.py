"""Peer loss: its two terms, the drawn samples, alpha's schedule, and a step of the optimizer, against closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.losses.peer import ALPHAS, PeerLoss, expected_peer, scheduled_alpha, smoothed_cross_entropy
from harness_plugins.losses.peers import draw_peers
from torch import Tensor, nn

import harness

RNG = np.random.default_rng(0)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(exponents / exponents.sum(1, keepdims=True))


def ce(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.asarray(-np.log(softmax(logits)[np.arange(len(labels)), labels] + 1e-5))


def ce_gradient(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of the mean, with respect to the logits."""
    p, y = softmax(logits), np.arange(logits.shape[1]) == labels[:, None]
    p_y = (p * y).sum(1, keepdims=True)
    return np.asarray(-(p_y / (p_y + 1e-5)) * (y - p) / len(labels))


def problem(samples: int = 20) -> tuple[nn.Linear, Tensor, Tensor]:
    torch.manual_seed(1)
    return nn.Linear(4, 3).double(), torch.randn(samples, 4).double(), torch.arange(samples) % 3


def test_the_first_term_is_cross_entropy_of_a_probability_that_is_never_zero() -> None:
    logits, labels = RNG.normal(size=(9, 4)) * 3, np.arange(9) % 4
    given = smoothed_cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels))
    np.testing.assert_allclose(given.numpy(), ce(logits, labels), rtol=1e-12)
    assert float(smoothed_cross_entropy(torch.tensor([[0.0, 900.0]]).double(), torch.tensor([0]))) == pytest.approx(
        -np.log(1e-5)
    )


def test_the_expected_term_is_the_mean_over_labels_by_their_shares() -> None:
    logits, prior = RNG.normal(size=(7, 4)), np.array([0.5, 0.3, 0.2, 0.0])
    given = expected_peer(torch.from_numpy(logits), torch.from_numpy(prior)).numpy()
    wanted = sum(prior[k] * ce(logits, np.full(7, k)) for k in range(4))
    np.testing.assert_allclose(given, wanted, rtol=1e-12)


@pytest.mark.parametrize(("samples", "size", "count"), [(100, 16, 16), (20, 16, 10), (3, 2, 1), (2, 8, 1)])
def test_inputs_and_labels_are_drawn_from_disjoint_samples(samples: int, size: int, count: int) -> None:
    first, second = draw_peers(0, 3, 7, samples, size)
    drawn = torch.cat([first, second])
    assert len(first) == len(second) == count and len(drawn.unique()) == 2 * count
    assert int(drawn.min()) >= 0 and int(drawn.max()) < samples
    again = draw_peers(0, 3, 7, samples, size)
    assert torch.equal(first, again[0]) and torch.equal(second, again[1])


def test_one_sample_is_its_own_peer() -> None:
    assert [draw.tolist() for draw in draw_peers(0, 1, 0, 1, 4)] == [[0], [0]]


def test_every_sample_is_drawn_alike_often_on_either_side() -> None:
    counts = torch.zeros(2, 10)
    for step in range(4000):
        for side, drawn in enumerate(draw_peers(5, 1, step, 10, 3)):
            counts[side, drawn] += 1
    spread = (counts - 1200).abs() / (4000 * 0.3 * 0.7) ** 0.5
    assert float(spread.max()) < 4.5


def test_alpha_goes_evenly_through_each_piece_both_ends_included() -> None:
    pieces = ALPHAS["cifar10"]
    official = np.concatenate([np.linspace(start, end, int(epochs)) for start, end, epochs in pieces])
    given = [scheduled_alpha(pieces, epoch) for epoch in range(1, len(official) + 1)]
    np.testing.assert_allclose(given, official, rtol=1e-12)
    assert scheduled_alpha(pieces, 10_000) == 5
    assert [scheduled_alpha(ALPHAS["cifar100"], epoch) for epoch in (1, 100, 101, 300)] == [0, 0, 0.95, 0.95]


@pytest.mark.parametrize("peer", ["drawn", "expected"])
def test_a_step_is_that_of_both_terms_at_the_rate_over_one_plus_alpha(peer: str) -> None:
    model, inputs, targets = problem()
    x, y = inputs.numpy(), targets.numpy()
    weight, bias = (p.detach().numpy().copy() for p in model.parameters())
    z = x @ weight.T + bias
    batch = [0, 3, 4, 8, 11, 13]
    gradient = ce_gradient(z[batch], y[batch])
    of_weight, of_bias = gradient.T @ x[batch], gradient.sum(0)
    loss = ce(z[batch], y[batch]).mean()
    if peer == "drawn":
        first, second = (drawn.numpy() for drawn in draw_peers(7, 1, 0, 20, 6))
        loss -= 1.5 * ce(z[first], y[second]).mean()
        gradient = ce_gradient(z[first], y[second])
        of_weight, of_bias = of_weight - 1.5 * gradient.T @ x[first], of_bias - 1.5 * gradient.sum(0)
    else:
        for k, share in enumerate(np.bincount(y) / 20):
            labels = np.full(6, k)
            loss -= 1.5 * share * ce(z[batch], labels).mean()
            gradient = ce_gradient(z[batch], labels)
            of_weight, of_bias = (
                of_weight - 1.5 * share * gradient.T @ x[batch],
                of_bias - 1.5 * share * gradient.sum(0),
            )
    optimizer = {"name": "sgd", "lr": 0.5, "momentum": 0.0}
    (epoch,) = harness.drive(
        {"loss": {"name": "peer", "alpha": 1.5, "peer": peer}},
        model,
        inputs,
        targets,
        seed=7,
        batches=[batch],
        optimizer=optimizer,
    )
    assert epoch["losses"] == pytest.approx([loss], rel=1e-10) and epoch["diagnostics"] == {"peer.alpha": 1.5}
    np.testing.assert_allclose(model.weight.detach().numpy(), weight - 0.2 * of_weight, atol=1e-12)
    np.testing.assert_allclose(model.bias.detach().numpy(), bias - 0.2 * of_bias, atol=1e-12)


def test_the_schedule_goes_on_from_its_own_rate() -> None:
    model, inputs, targets = problem()
    epochs = harness.drive(
        {"loss": {"name": "peer", "alpha": 3.0}},
        model,
        inputs,
        targets,
        seed=0,
        batches=[[[0, 1, 2, 3]]] * 3,
        optimizer={"name": "sgd", "lr": 0.8},
        schedule={"name": "step", "milestones": [1], "gamma": 0.1},
    )
    assert [epoch["lr"] for epoch in epochs] == pytest.approx([0.8, 0.08, 0.08])


@pytest.mark.parametrize("reset", [True, False])
def test_every_epoch_has_a_new_optimizer_unless_told_otherwise(reset: bool) -> None:
    loss: dict[str, Any] = {"name": "peer", "alpha": 0.0, "reset_optimizer": reset}
    weights = []
    for epochs in (1, 2):
        model, inputs, targets = problem()
        harness.drive(
            {"loss": loss}, model, inputs, targets, seed=0, batches=[[list(range(20))]] * epochs,
            optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.9},
        )  # fmt: skip
        weights.append(model.weight.detach().numpy())
        if epochs == 1:
            logits = model(inputs).detach().numpy()
    gradient = ce_gradient(logits, targets.numpy()).T @ inputs.numpy()
    assert np.allclose(weights[1] - weights[0], -0.1 * gradient, atol=1e-12) == reset


def test_a_class_without_samples_has_no_share_and_a_batch_of_one_trains() -> None:
    model, inputs, targets = problem(4)
    (epoch,) = harness.drive(
        {"loss": {"name": "peer", "alpha": 1.0, "peer": "expected"}},
        model,
        inputs,
        targets.clamp(max=1),
        seed=0,
        batches=[[0], [1]],
    )
    assert np.isfinite(epoch["losses"]).all() and len(epoch["losses"]) == 2


def test_passes_that_score_samples_see_the_first_term_alone(make_run: Any) -> None:
    loss = PeerLoss(alpha=2.0)
    inputs, targets = torch.randn(8, 4), torch.arange(8) % 3
    run = make_run(loss, inputs, targets, 3)
    run.epoch = 1
    expected = smoothed_cross_entropy(run.model(inputs), targets).detach()
    torch.testing.assert_close(run.score_losses(), expected)


@pytest.mark.parametrize(
    "alpha", [[[0.0, 1.0]], [[0.0, 1.0, 0.5]], [[0.0, -1.0, 5.0]], [[0.0, 1.0, 0.0]], [], -1.0, "cifar"]
)
def test_a_schedule_that_is_none_is_refused_in_one_line(alpha: Any) -> None:
    with pytest.raises(harness.HarnessError, match=r"^losses\.peer") as caught:
        harness.create("loss", "peer", alpha=alpha)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("algorithm", ["forward", "aux"])
def test_what_would_change_outputs_of_the_first_term_only_is_refused(algorithm: str) -> None:
    model, inputs, targets = problem()
    stack = {
        "loss": "peer",
        "algorithms": [algorithm if algorithm != "forward" else {"name": "forward", "matrix": "estimated"}],
    }
    with pytest.raises(harness.HarnessError, match="cannot stand with"):
        harness.drive(stack, model, inputs, targets, seed=0, batches=[[0, 1]])
