"""Symmetric (uniform) label noise, in the two conventions that the field mixes up."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness import LabelledData
from harness.parameters import Rate
from harness_plugins.noise.matrix import Count, classes_of, corrupt_by_matrix


def symmetric_matrix(rate: float, num_classes: int, inclusive: bool = False) -> np.ndarray:
    """(K, K) transition matrix: ``1 - rate`` on the diagonal and ``rate / (K - 1)`` off it; inclusive:
    ``1 - rate + rate / K`` and ``rate / K``."""
    if num_classes < 2:
        return np.eye(num_classes)
    if inclusive:
        return (1 - rate) * np.eye(num_classes) + rate / num_classes
    matrix = np.full((num_classes, num_classes), rate / (num_classes - 1))
    np.fill_diagonal(matrix, 1 - rate)
    return matrix


class Symmetric:
    """Every class is mistaken for every other alike.

    Exclusive (the default; KPD, CDR+AUX and RRM papers, CDR, co-teaching, Patrini, APL): to another class with
    probability `rate`. Inclusive (SOP, ELR, DivideMix): a uniform label, perhaps the same, with probability `rate`, so
    the effective rate is `rate * (K - 1) / K`; SOP's table caption says "another class", its code is inclusive.

    Args:
        rate: probability in [0, 1].
        inclusive: whether the drawn label may be the true one.
        count: `binomial` (each sample by itself) or `exact` (`int(rate * N)` samples over the whole set).
    """

    def __init__(self, rate: Rate, inclusive: bool = False, count: Count = "binomial") -> None:
        self.rate = rate
        self.inclusive = inclusive
        self.count: Count = count

    def __call__(self, data: LabelledData, *, rng: np.random.Generator) -> Tensor:
        """(N,) noisy classes."""
        matrix = symmetric_matrix(self.rate, classes_of(data, "symmetric"), self.inclusive)
        return corrupt_by_matrix(data.targets, matrix, rng, rate=self.rate, count=self.count)

    def transition_matrix(self, data: LabelledData) -> Tensor:
        """(K, K), rows are the clean class."""
        return torch.from_numpy(symmetric_matrix(self.rate, classes_of(data, "symmetric"), self.inclusive))
