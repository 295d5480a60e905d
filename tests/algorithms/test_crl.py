"""CRL: the ranking loss against torch's own and a loop as in the official code, and what is counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.algorithms.crl import CRL, learnt_share, ranking_losses
from torch import nn

RNG = np.random.default_rng(0)


def official(confidence: np.ndarray, counts: np.ndarray, index: np.ndarray, rounds: int) -> float:
    """As in the official code: normalised counts of all samples, then torch's margin ranking loss without a margin."""
    normalised = (counts - counts.min()) / (rounds - counts.min())
    one, other = normalised[index], np.roll(normalised[index], -1)
    target = torch.from_numpy(np.sign(one - other))
    c = torch.from_numpy(confidence)
    shifted = c.roll(-1) + torch.from_numpy(np.abs(one - other)) / (target + 1e-7)
    return float(nn.MarginRankingLoss(margin=0)(c, shifted, target))


def test_the_losses_are_those_of_the_official_code() -> None:
    for rounds in (3, 7):
        counts = RNG.integers(0, rounds + 1, 40).astype(float)
        index, confidence = RNG.permutation(40)[:16], RNG.random(16)
        batch = torch.from_numpy(counts[index])
        learnt = learnt_share(batch, torch.tensor(counts.min()), rounds)
        rows = ranking_losses(torch.from_numpy(confidence), learnt)
        assert float(rows.mean()) == pytest.approx(official(confidence, counts, index, rounds), abs=1e-14)


def test_a_pair_in_the_right_order_by_its_margin_costs_nothing() -> None:
    confidence, learnt = torch.tensor([0.9, 0.5]), torch.tensor([0.75, 0.5])
    assert ranking_losses(confidence, learnt).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert ranking_losses(confidence.flip(0), learnt).tolist() == pytest.approx([0.65, 0.65], abs=1e-6)
    assert ranking_losses(confidence, torch.tensor([0.5, 0.5])).tolist() == [0, 0]
    assert ranking_losses(confidence[:1], learnt[:1]).tolist() == [0]


def test_samples_that_were_all_right_in_every_round_are_not_ranked() -> None:
    counts = torch.tensor([1.0, 2.0])
    assert learnt_share(counts, torch.tensor(1.0), 1).tolist() == [0, 0]
    assert learnt_share(counts, torch.tensor(2.0), 1).tolist() == [0, 0]


def made(make_run: Any, crl: CRL, **options: Any) -> tuple[Any, nn.Linear]:
    torch.manual_seed(0)
    model = nn.Linear(4, 3).double()
    inputs, targets = 2 * torch.randn(8, 4, dtype=torch.float64), torch.arange(8) % 3
    run = make_run(model, inputs, targets, [crl], **options)
    run.dtype, crl.counts = torch.float64, crl.counts.double()
    return run, model


@pytest.mark.parametrize(("epoch", "rounds"), [(1, 1), (2, 1), (3, 2), (6, 5)])
def test_a_step_adds_the_ranking_loss_of_the_counts_before_it(
    make_run: Any, train: Any, epoch: int, rounds: int
) -> None:
    crl = CRL(weight=0.3)
    run, model = made(make_run, crl, lr=0.0)
    run.epoch = epoch
    counts = RNG.integers(0, rounds, 8).astype(float)
    counts[0] = 0
    crl.counts = torch.from_numpy(counts.copy())
    index = torch.tensor([5, 2, 7, 0, 1])
    z = model(run.source.inputs).detach().numpy()
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    plain = -np.log(p[np.arange(8), run.targets.numpy()])[index.numpy()]
    ranking = official(p[index.numpy()].max(1), counts, index.numpy(), rounds)
    step = train(run, index)
    assert float(step.loss) == pytest.approx(plain.sum() / 8 + 0.3 * ranking)
    expected = counts.copy()
    expected[index.numpy()] += (p.argmax(1) == run.targets.numpy())[index.numpy()]
    assert crl.counts.tolist() == expected.tolist()
    run.stack.epoch_end(run=run)
    assert run.sample_scores["crl.forgotten"][0].tolist() == (-expected).tolist()


def test_passes_that_score_samples_see_the_stacks_own_loss(make_run: Any, train: Any) -> None:
    crl = CRL(weight=5.0)
    run, model = made(make_run, crl, lr=0.0)
    for _ in range(2):
        train(run)
    counts = crl.counts.clone()
    plain = nn.functional.cross_entropy(model(run.source.inputs), run.targets, reduction="none")
    assert torch.allclose(run.score_losses(), plain) and torch.equal(crl.counts, counts)
