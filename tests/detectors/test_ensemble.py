"""The ensemble's votes against a loop over samples and heads, and what its heads see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from harness_plugins.detectors import held_out
from harness_plugins.detectors.ensemble import Ensemble, disagreement

import harness
from harness.errors import HarnessError


def test_disagreement_is_that_of_a_loop_over_samples_and_heads() -> None:
    rng = np.random.default_rng(0)
    heads, samples, classes = 4, 60, 3
    predicted = rng.dirichlet(np.ones(classes), (heads, samples))
    labels = rng.integers(0, classes, samples)
    found = disagreement(torch.from_numpy(predicted), torch.from_numpy(labels))
    for i, label in enumerate(labels):
        chosen = [int(predicted[m, i].argmax()) for m in range(heads)]
        against = sum(c != label for c in chosen)
        mean = [sum(predicted[m, i, j] for m in range(heads)) / heads for j in range(classes)]
        assert float(found.score[i]) == pytest.approx((against + 1 - mean[label]) / (heads + 1))
        assert bool(found.flags[i]) == (against > heads / 2)
        assert int(found.suggested[i]) == max(range(classes), key=lambda j: (chosen.count(j), mean[j]))
    assert {bool(flag) for flag in found.flags} == {True, False}


def test_more_votes_against_a_label_weigh_more_than_any_probability() -> None:
    barely, hardly, surely = [0.49, 0.51], [0.51, 0.49], [0.0, 1.0]  # against label 0, for it, and against it
    predicted = torch.tensor([[barely, surely], [barely, hardly], [hardly, hardly]]).double()
    found = disagreement(predicted, torch.zeros(2, dtype=torch.int64))
    assert found.score[0] > found.score[1] and found.flags.tolist() == [True, False]


def test_each_head_sees_its_own_part_of_the_features(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def recorded(rows: torch.Tensor, labels: torch.Tensor, num_classes: int, *_: object) -> torch.Tensor:
        seen.append(rows[0].tolist())
        return torch.full((len(rows), num_classes), 1 / num_classes, dtype=torch.float64)

    monkeypatch.setattr(held_out, "held_out_probabilities", recorded)
    features = np.tile(np.arange(9.0), (10, 1))
    Ensemble(heads=3, share=0.5)(features, np.arange(10) % 2, 2, rng=np.random.default_rng(0))
    assert [len(set(part)) for part in seen] == [5, 5, 5] and len({tuple(sorted(part)) for part in seen}) > 1


def test_what_a_head_may_see_is_a_share() -> None:
    with pytest.raises(HarnessError, match=r"detectors\.ensemble\.share"):
        harness.create("detector", "ensemble", share=0.0)
