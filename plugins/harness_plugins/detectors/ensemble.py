"""An ensemble's disagreement: a label is suspect when heads that have not seen it predict another class."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional

from harness.parameters import Positive, PositiveRate
from harness_plugins.detectors.held_out import HeldOutDetector, Judged


def disagreement(predicted: Tensor, labels: Tensor) -> Judged:
    """What the probabilities of several heads say of the labels.

    The score is ``(v + 1 - p) / (M + 1)``: ``v`` of the ``M`` heads predict another class than the given one, and ``p``
    is the mean probability of the given one, which orders samples of equal ``v``. Flagged is where ``v`` is more than
    half of the heads. Suggested is the class that most heads predict, of several that with the larger mean probability.

    Args:
        predicted: (M, N, K) float64 held-out probabilities.
        labels: (N,) classes.
    """
    heads, _, classes = predicted.shape
    chosen = predicted.argmax(2)
    against = (chosen != labels).sum(0)
    mean = predicted.mean(0)
    own = mean.gather(1, labels[:, None]).squeeze(1)
    votes = functional.one_hot(chosen, classes).sum(0)
    return Judged(2 * against > heads, (against + 1 - own) / (heads + 1), (votes + mean).argmax(1))


class Ensemble(HeldOutDetector):
    """The majority filter (Brodley and Friedl, JAIR 1999): a label is wrong when more than half of the heads say so.

    Each head is a cross-validated logistic regression on a random part of the features (the random subspaces of Ho,
    TPAMI 1998), with folds of its own, and predicts samples that it has not seen.

    Deviation: the paper's heads are a decision tree, nearest neighbours and a linear machine.

    Args:
        heads: how many.
        share: of the features that a head sees, at least one.
        folds: parts of each cross-validation.
        strength: `C` of the regressions, the inverse of their penalty, on standardised features.
    """

    name = "ensemble"

    def __init__(
        self,
        heads: Annotated[int, Ge(2)] = 5,
        share: PositiveRate = 0.5,
        folds: Annotated[int, Ge(2)] = 5,
        strength: Positive = 0.01,
    ) -> None:
        super().__init__(folds, strength)
        self.heads = heads
        self.share = share

    def judge(self, rows: Tensor, labels: Tensor, num_classes: int, rng: np.random.Generator) -> Judged:
        """By the votes of the heads."""
        seen = math.ceil(self.share * rows.shape[1])
        parts = [torch.from_numpy(rng.permutation(rows.shape[1])[:seen]) for _ in range(self.heads)]
        return disagreement(
            torch.stack([self.predict(rows[:, part], labels, num_classes, rng) for part in parts]), labels
        )
