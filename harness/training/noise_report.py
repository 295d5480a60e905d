"""What an estimator or a detector says of noisy labels: matrix, rate, and which samples are suspect.

Both kinds are functions of features and noisy labels, ``(features, labels, num_classes, *, rng) -> NoiseReport``. They
train no network of the trial and see no clean label.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.errors import HarnessError


@dataclasses.dataclass(frozen=True)
class NoiseReport:
    """What is estimated; ``None`` stands for what a method says nothing of. Tensors are on the CPU.

    Attributes:
        T: (K, K) float64 transition matrix: the row is the true class, the column the given label; rows sum to 1.
        prior: (K,) float64 shares of the true classes, which sum to 1.
        rate: share of the labels that are wrong, in [0, 1].
        flags: (N,) bool: which labels are taken to be wrong.
        score: (N,) float64: the higher, the more suspect.
        suggested: (N,) int64: the class that each sample seems to be of.
    """

    T: Tensor | None = None
    prior: Tensor | None = None
    rate: float | None = None
    flags: Tensor | None = None
    score: Tensor | None = None
    suggested: Tensor | None = None


def wrong_share(matrix: Tensor, prior: Tensor) -> float:
    """The rate that a matrix and a prior stand for, ``1 - sum_i p_i T_ii``, in [0, 1]."""
    return float((1 - (prior * matrix.diagonal()).sum()).clamp(0, 1))


def checked_samples(
    features: Any, labels: Any, num_classes: int, where: str, least: int = 1, *, epochs: bool = False
) -> tuple[Tensor, Tensor]:
    """Features and labels as an estimator or a detector is given them.

    Args:
        features: (N, d) numbers, an array or a tensor.
        labels: (N,) classes.
        num_classes: ``K``.
        where: how errors name the component.
        least: samples that it needs.
        epochs: whether features may be (E, N, d), those of several epochs of augmentation.

    Returns:
        (N, d) or (E, N, d) float32 and (N,) int64, on the CPU.

    Raises:
        HarnessError: for too few samples, features that are not finite or no rows of numbers, labels that do not fit.
    """
    rows = _tensor(features).detach().cpu().to(torch.float32)
    given = _tensor(labels).detach().cpu()
    if given.ndim != 1 or given.is_floating_point():
        raise HarnessError(f"takes (N,) integer labels, got {tuple(given.shape)}", where, "give one class a sample")
    if rows.ndim not in ((2, 3) if epochs else (2,)) or rows.shape[-2] != len(given):
        words = f"takes a row of features for each of the {len(given)} labels, got {tuple(rows.shape)}"
        raise HarnessError(words, where, "give (N, d) features, images flattened")
    if len(given) < least:
        raise HarnessError(f"has {len(given)} samples and needs {least}", where, "give more samples")
    if not bool(rows.isfinite().all()):
        raise HarnessError("has features that are not finite", where, "leave out or mend those samples")
    if int(given.min()) < 0 or int(given.max()) >= num_classes:
        raise HarnessError(f"has labels outside [0, {num_classes})", where, "give classes counted from 0")
    return rows, given.long()


def _tensor(values: Any) -> Tensor:
    return values if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
