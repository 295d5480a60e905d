"""CAL: the sieve, the covariance term and both stages, against loops written out, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.algorithms import cal
from harness_plugins.algorithms.cal import (
    CAL,
    SECOND,
    covariance,
    distilled,
    label_shares,
    scheduled_alpha,
    sieve_scores,
)
from torch import Tensor, nn

import harness

RNG = np.random.default_rng(0)


def test_alpha_is_0_then_rises_then_stays() -> None:
    official = [0.0] * 11 + [2 * (e - 10) / 30 for e in range(11, 40)] + [2.0] * 60
    assert [scheduled_alpha(2.0, epoch) for epoch in range(1, 101)] == pytest.approx(official)


def test_the_sieve_keeps_a_label_that_is_surer_than_the_mean_by_its_threshold() -> None:
    logits, labels = RNG.normal(size=(40, 5)) * 6, np.arange(40) % 5
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    losses = -np.log(p + 1e-8)
    scores = sieve_scores(torch.from_numpy(logits), torch.from_numpy(labels))
    wanted = losses[np.arange(40), labels] - losses.mean(1)
    np.testing.assert_allclose(scores.numpy(), wanted, rtol=1e-10)
    found, counted = distilled(torch.from_numpy(logits), torch.from_numpy(labels), scores, -8.0)
    assert found.tolist() == [y if s < -8 else int(row.argmax()) for y, s, row in zip(labels, wanted, p, strict=True)]
    assert 0 < int((scores < -8).sum()) < 40 and bool(counted.all())
    _, counted = distilled(torch.zeros(2, 3), torch.tensor([0, 1]), torch.tensor([-8.0, -9.0]), -8.0)
    assert counted.tolist() == [False, True]


def by_hand(d: np.ndarray, y: np.ndarray, w: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    that = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            that[i, j] = ((d == i) & (y == j) & w).sum() / max(((d == i) & w).sum(), 1)
    return that, np.array([((d == i) & w).sum() / max(w.sum(), 1) for i in range(size)])


def test_labels_are_counted_within_each_class_of_the_distilled_ones() -> None:
    d, y, w = RNG.integers(0, 3, 30), RNG.integers(0, 4, 30), RNG.random(30) > 0.2  # no sample has D = 3
    that, shares = label_shares(torch.from_numpy(d), torch.from_numpy(y), torch.from_numpy(w), 4)
    wanted = by_hand(d, y, w, 4)
    np.testing.assert_allclose(that.numpy(), wanted[0])
    np.testing.assert_allclose(shares.numpy(), wanted[1])
    nothing, none = label_shares(
        torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.bool), 2
    )
    assert not bool(nothing.any()) and not bool(none.any())


@pytest.mark.parametrize("alone", [False, True])
def test_the_covariance_term_is_a_sum_over_classes_samples_and_labels(alone: bool) -> None:
    losses, y, d = RNG.random((12, 3)), RNG.integers(0, 3, 12), RNG.integers(0, 3, 12)
    d = np.full(12, 1) if alone else d  # one class alone in a batch
    w, that, shares, means = RNG.random(12) > 0.2, RNG.random((3, 3)), RNG.random(3), RNG.random((3, 3))
    wanted = 0.0
    for k in range(3):
        members = [i for i in range(12) if d[i] == k and w[i]]
        for i in members:
            for j in range(3):
                wanted += shares[k] / max(len(members), 1) * ((y[i] == j) - that[k, j]) * (losses[i, j] - means[k, j])
    given = covariance(*(torch.from_numpy(value) for value in (losses, y, d, w, that, shares, means)))
    assert float(given) == pytest.approx(wanted, rel=1e-10)


class Watch:
    """Keeps the run, and how the further network began."""

    def setup(self, run: harness.Run) -> None:
        self.run = run

    def epoch_start(self, run: harness.Run) -> None:
        if run.epoch == 1:
            self.start = {name: value.clone() for name, value in run.of(SECOND).model.state_dict().items()}


def trained(first: nn.Linear, second: nn.Linear, x: Tensor, y: Tensor, batches: Any, a1: float, a2: float) -> Any:
    """Two epochs of each stage: a plain loop. Alpha stands at its height from the start."""
    prior = torch.bincount(y, minlength=3).double() / len(y)
    d, means = y.clone(), torch.zeros(3, 3).double()
    for stage, (model, alpha, lr) in enumerate(((first, a1, 0.3), (second, a2, 0.1))):
        pi = prior if stage else prior.sqrt() / prior.sqrt().sum()
        decay = 5e-4 if stage else 0.0
        sgd = torch.optim.SGD(model.parameters(), lr=lr / (1 + alpha), momentum=0.9, weight_decay=decay)
        that, shares = (torch.from_numpy(v) for v in by_hand(d.numpy(), y.numpy(), np.ones(len(y), dtype=bool), 3))
        for epoch in range(2):
            sums, counts = torch.zeros(3, 3).double(), torch.zeros(3).double()
            for batch in batches:
                p = model(x[batch]).softmax(1)
                ce5, ce8 = -(p + 1e-5).log(), -(p + 1e-8).log()
                loss = ce8[torch.arange(len(batch)), y[batch]].mean() - alpha * (ce5 @ pi).mean()
                if stage:
                    for k in range(3):
                        members = [i for i, sample in enumerate(batch) if d[sample] == k]
                        for i in members:
                            label = nn.functional.one_hot(y[batch[i]], 3)
                            term = ((label - that[k]) * (ce5[i] - means[k])).sum()
                            loss = loss - shares[k] / len(members) * term
                            sums[k] += ce5[i].detach()
                            counts[k] += 1
                elif epoch == 1:
                    scores = ce8[torch.arange(len(batch)), y[batch]] - ce8.mean(1)
                    for i, sample in enumerate(batch):
                        d[sample] = y[sample] if scores[i] < -0.5 else p[i].argmax()
                sgd.zero_grad()
                loss.backward()
                sgd.step()
            if stage:
                means = sums / counts.clamp_min(1)[:, None]
    return d, means


def test_both_stages_are_those_of_a_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cal, "START", -1)
    monkeypatch.setattr(cal, "RAMP", 1)
    torch.manual_seed(3)
    inputs, targets = torch.randn(12, 4).double(), torch.arange(12) % 3
    targets[:3] = 0
    mine, first, second = (nn.Linear(4, 3).double() for _ in range(3))
    first.load_state_dict(mine.state_dict())
    batches = [[0, 5, 2, 7, 9], [1, 3, 4, 6, 8, 10, 11]]
    watch, method = Watch(), CAL(stage1=2, alpha1=0.8, alpha2=0.5, threshold=-0.5)
    epochs = harness.drive(
        [watch, method], mine, inputs, targets, seed=0, batches=[batches] * 4, last_batch="mean",
        optimizer={"name": "sgd", "lr": 0.3, "momentum": 0.9},
    )  # fmt: skip
    second.load_state_dict(watch.start)
    labels, means = trained(first, second, inputs, targets, batches, 0.8, 0.5)
    assert method.distilled.tolist() == labels.tolist() != targets.tolist()
    torch.testing.assert_close(mine.weight, first.weight, atol=1e-10, rtol=0)
    torch.testing.assert_close(watch.run.of(SECOND).model.weight, second.weight, atol=1e-10, rtol=0)
    torch.testing.assert_close(method.means, means, atol=1e-10, rtol=0)
    torch.testing.assert_close(watch.run.predict(inputs), second(inputs).log_softmax(1))
    kept = float((labels == targets).double().mean())
    assert [epoch["diagnostics"].get("cal.kept_share") for epoch in epochs] == [None, kept, kept, kept]


def test_a_prior_without_a_class_and_its_scale() -> None:
    torch.manual_seed(0)
    inputs, targets = torch.randn(8, 4), torch.tensor([0, 0, 0, 1] * 2)
    method = CAL(stage1=1, prior_scale=10.0)
    (first, second) = harness.drive([method], nn.Linear(4, 3), inputs, targets, seed=0, batches=[[list(range(8))]] * 2)
    roots = np.sqrt([0.75, 0.25, 0.0])
    np.testing.assert_allclose(method.root_prior.numpy(), 10 * roots / roots.sum(), rtol=1e-6)
    assert np.isfinite([*first["losses"], *second["losses"]]).all()
