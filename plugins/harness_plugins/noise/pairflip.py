"""Pair-flip label noise: each class is mistaken for the next."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness import LabelledData
from harness.parameters import Rate
from harness_plugins.noise.matrix import Count, classes_of, corrupt_by_matrix


def pairflip_matrix(rate: float, num_classes: int) -> np.ndarray:
    """(K, K): ``1 - rate`` on the diagonal, ``rate`` at ``(i, (i + 1) mod K)``."""
    eye = np.eye(num_classes)
    return (1 - rate) * eye + rate * np.roll(eye, 1, axis=1)


class Pairflip:
    """Class `i` becomes `(i + 1) mod K` with probability `rate` (co-teaching, CDR).

    Args:
        rate: probability in [0, 1].
        count: `binomial` (each sample by itself) or `exact` (`int(rate * N)` samples over the whole set).
    """

    def __init__(self, rate: Rate, count: Count = "binomial") -> None:
        self.rate = rate
        self.count: Count = count

    def __call__(self, data: LabelledData, *, rng: np.random.Generator) -> Tensor:
        """(N,) noisy classes."""
        matrix = pairflip_matrix(self.rate, classes_of(data, "pairflip"))
        return corrupt_by_matrix(data.targets, matrix, rng, rate=self.rate, count=self.count)

    def transition_matrix(self, data: LabelledData) -> Tensor:
        """(K, K), rows are the clean class."""
        return torch.from_numpy(pairflip_matrix(self.rate, classes_of(data, "pairflip")))
