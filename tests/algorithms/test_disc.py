"""DISC: the division and its thresholds, and epochs of both kinds against a loop written out, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.algorithms.disc import DISC, generalized_cross_entropy, select
from torch import Tensor, nn

import harness
from harness.training.run import Run
from harness.training.seeds import torch_stream

RNG = np.random.default_rng(0)


def test_samples_are_divided_by_both_views_and_their_own_thresholds() -> None:
    weak, strong = RNG.dirichlet(np.ones(3) * 0.5, (2, 200))
    labels, tau = RNG.integers(0, 3, 200), RNG.random((2, 200))
    given = select(
        torch.from_numpy(weak), torch.from_numpy(strong), torch.from_numpy(labels), *torch.from_numpy(tau), 0.1
    )
    kinds = set()
    for i in range(200):
        a, b = weak[i, labels[i]] > tau[0, i], strong[i, labels[i]] > tau[1, i]
        q = (weak[i] + strong[i]) / 2
        purified = not (a or b) and q.max() > min(tau[:, i].mean() + 0.1, 0.99)
        wanted = (bool(a and b), bool(a != b), bool(a or b or purified), int(q.argmax() if purified else labels[i]))
        assert (bool(given.clean[i]), bool(given.hard[i]), bool(given.mixed[i]), int(given.labels[i])) == wanted
        kinds.add(wanted[:3])
    assert len(kinds) == 4


def test_a_threshold_of_more_than_one_is_cut() -> None:
    sure, label = torch.tensor([[0.001, 0.999]]), torch.tensor([0])
    one = torch.ones(1)
    assert bool(select(sure, sure, label, one, one, 0.5).mixed[0])
    assert not bool(select(sure - 0.02, sure - 0.02, label, one, one, 0.5).mixed[0])


def test_hard_samples_have_gce() -> None:
    logits, labels = RNG.normal(size=(6, 4)) * 3, np.arange(6) % 4
    p = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True))[np.arange(6), labels]
    given = generalized_cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels))
    np.testing.assert_allclose(given.numpy(), (1 - p**0.7) / 0.7, rtol=1e-12)
    far = torch.tensor([[0.0, 50.0]], dtype=torch.float64)
    assert float(generalized_cross_entropy(far, torch.tensor([0]))) == pytest.approx((1 - 1e-7**0.7) / 0.7)


class Watch:
    """Keeps the run."""

    def setup(self, run: harness.Run) -> None:
        self.run = run


def strong(inputs: Tensor) -> Tensor:
    """In place of a strong view, one that a plain loop can draw too."""
    return 0.5 * inputs + 0.3


@pytest.fixture
def known_views(monkeypatch: pytest.MonkeyPatch) -> None:
    def view(self: Run, index: Tensor, name: str) -> Tensor:
        assert name == "strong"
        return strong(self.source.gather(index))

    monkeypatch.setattr(Run, "view", view)


def plain_loop(model: nn.Linear, x: Tensor, y: Tensor, batches: Any, epochs: int, lam_h: float, m: float) -> Any:
    """Two epochs of warm-up and what follows, sample by sample."""
    size, generator = len(x), torch_stream(0, "algorithm")
    weak, hard_view = torch.zeros(size, 3).double(), torch.zeros(size, 3).double()
    tau = [torch.full((size,), 1 / size).double() for _ in range(2)]
    clean: list[int] = []
    hard: list[int] = []
    mixed: list[int] = []
    labels = y.clone()
    sgd, losses, skipped = torch.optim.SGD(model.parameters(), lr=0.5), [], 0
    for epoch in range(epochs):
        for batch in batches:
            views = [x[batch], strong(x[batch])]
            outputs = model(torch.cat(views)).split(len(batch))
            weak[batch], hard_view[batch] = (z.detach().softmax(1) for z in outputs)
            loss = torch.zeros(()).double()
            for z in outputs:
                for row, sample in enumerate(batch):
                    p = z[row].softmax(0)[y[sample]]
                    if epoch < 2 or sample in clean:
                        loss = loss - p.log() / len(batch)
                    elif sample in hard:
                        loss = loss + lam_h * (1 - p**0.7) / 0.7 / len(batch)
            if epoch >= 2:
                rows = [row for row, sample in enumerate(batch) if sample in mixed]
                if not rows:
                    skipped += 1
                    continue
                for number, v in enumerate(views):
                    chosen, t = v[rows], nn.functional.one_hot(labels[[batch[r] for r in rows]], 3).double()
                    if len(rows) == 1:
                        mixture, target = outputs[number][rows], t
                    else:
                        drawn = torch._sample_dirichlet(
                            torch.full((1, 2), 5.0, dtype=torch.float64), generator=generator
                        )
                        lam = max(float(drawn[0, 0]), 1 - float(drawn[0, 0]))
                        perm = torch.randperm(len(rows), generator=generator)
                        mixture = model(lam * chosen + (1 - lam) * chosen[perm])
                        target = lam * t + (1 - lam) * t[perm]
                    loss = loss - (target * mixture.log_softmax(1)).sum(1).mean()
            losses.append(loss.item())
            sgd.zero_grad()
            loss.backward()
            sgd.step()
        clean, hard, mixed, labels = [], [], [], y.clone()
        for i in range(size):
            a, b = weak[i, y[i]] > tau[0][i], hard_view[i, y[i]] > tau[1][i]
            q = (weak[i] + hard_view[i]) / 2
            if a and b:
                clean.append(i)
            elif a or b:
                hard.append(i)
            elif q.max() > min((tau[0][i] + tau[1][i]) / 2 + 0.02, 0.99):
                labels[i] = q.argmax()
            else:
                continue
            mixed.append(i)
        tau = [m * t + (1 - m) * v.max(1).values for t, v in zip(tau, (weak, hard_view), strict=True)]
    return losses, clean, hard, mixed, labels, tau, skipped


@pytest.mark.usefixtures("known_views")
@pytest.mark.parametrize("momentum", [0.3, 0.0])
def test_epochs_are_those_of_a_plain_loop(momentum: float) -> None:
    torch.manual_seed(3)
    inputs, targets = torch.randn(16, 4).double(), torch.arange(16) % 3
    mine, hand = nn.Linear(4, 3).double(), nn.Linear(4, 3).double()
    hand.load_state_dict(mine.state_dict())
    batches = [[0, 5, 2, 7], [1, 3, 4, 6], [8, 10, 9, 11], [12, 13, 14, 15]]
    watch, method = Watch(), DISC(warmup=2, momentum=momentum, lam_h=0.6, sigma=0.02)
    epochs = harness.drive(
        [watch, method], mine, inputs, targets, seed=0, batches=[batches] * 6,
        optimizer={"name": "sgd", "lr": 0.5, "momentum": 0.0},
    )  # fmt: skip
    losses, clean, hard, mixed, labels, tau, skipped = plain_loop(hand, inputs, targets, batches, 6, 0.6, momentum)
    assert [loss for epoch in epochs for loss in epoch["losses"]] == pytest.approx(losses, rel=1e-9)
    assert len(losses) == 24 - skipped
    for weight, wanted in zip(mine.parameters(), hand.parameters(), strict=True):
        torch.testing.assert_close(weight, wanted, atol=1e-10, rtol=0)
    found = method.selection
    assert [part.nonzero()[:, 0].tolist() for part in found[:3]] == [clean, hard, sorted(mixed)]
    assert torch.equal(found.labels, labels)
    torch.testing.assert_close(torch.stack([method.weak_threshold, method.strong_threshold]), torch.stack(tau))
    assert epochs[-1]["diagnostics"]["disc.clean_share"] == pytest.approx(len(clean) / 16)
    assert epochs[-1]["diagnostics"]["disc.purified_share"] == pytest.approx((len(mixed) - len(clean) - len(hard)) / 16)


@pytest.mark.usefixtures("known_views")
def test_after_the_first_epoch_nearly_all_samples_are_clean_and_a_batch_without_any_takes_no_step() -> None:
    torch.manual_seed(0)
    inputs, targets = torch.randn(16, 4), torch.arange(16) % 3
    model, method = nn.Linear(4, 3), DISC(warmup=1)
    (epoch,) = harness.drive([method], model, inputs, targets, seed=0, batches=[[list(range(16))]])
    assert epoch["diagnostics"]["disc.clean_share"] > 0.9

    class Nothing:
        def epoch_start(self, run: Run) -> None:
            none = torch.zeros_like(method.selection.clean)
            method.selection = method.selection._replace(clean=none, hard=none, mixed=none)

    before = model.weight.detach().clone()
    method = DISC(warmup=0)
    harness.drive([method, Nothing()], model, inputs, targets, seed=0, batches=[[list(range(16))]])
    assert torch.equal(model.weight, before) and bool((method.weak.sum(1) > 0.99).all())


@pytest.mark.usefixtures("known_views")
def test_one_sample_to_mix_with_is_no_trouble_for_batch_normalisation() -> None:
    inputs, targets = torch.randn(8, 4), torch.arange(8) % 2
    model, method = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)), DISC(warmup=0)

    class One:
        def epoch_start(self, run: Run) -> None:
            one = torch.arange(8) == 5
            method.selection = method.selection._replace(clean=one, mixed=one)

    (epoch,) = harness.drive([method, One()], model, inputs, targets, seed=0, batches=[list(range(8))])
    assert np.isfinite(epoch["losses"]).all() and len(epoch["losses"]) == 1


def test_samples_without_strong_views_are_refused_in_one_line() -> None:
    with pytest.raises(harness.HarnessError, match="only images have augmented views") as caught:
        harness.drive("disc", nn.Linear(4, 3), torch.randn(5, 4), torch.arange(5) % 3, seed=0, batches=[[0, 1]])
    assert "\n" not in str(caught.value)
