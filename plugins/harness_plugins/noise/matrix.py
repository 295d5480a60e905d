"""Label noise that a transition matrix describes: one draw for every sample from the row of its clean class."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from harness import HarnessError, LabelledData

Count = Literal["binomial", "exact"]


def exact_count(rate: float, size: int) -> int:
    """``int(rate * size)`` as the papers have it, where a product such as 0.29 * 100 = 28.999... counts as 29."""
    return int(rate * size + 1e-6)


def corrupt_by_matrix(
    targets: Tensor,
    matrix: np.ndarray,
    rng: np.random.Generator,
    *,
    rate: float | None = None,
    count: Count = "binomial",
) -> Tensor:
    """Noisy classes drawn from the clean ones.

    Args:
        targets: (N,) int64 clean classes.
        matrix: (K, K), rows are the clean class and sum to 1.
        rng: the stream of the noise.
        rate: for ``count="exact"``: the share of samples that is drawn anew.
        count: ``binomial`` draws every sample from its row. ``exact`` picks exactly ``int(rate * N)`` samples of the
            whole set without replacement and draws those from the row of ``(matrix - (1 - rate) I) / rate``, as the RRM
            paper and SOP's code do (APL's code is exact within each class instead).

    Returns:
        (N,) int64.
    """
    clean = targets.numpy()
    noisy = clean.copy()
    chosen = None
    table = matrix
    if count == "exact":
        if rate is None:
            raise HarnessError("an exact count needs a rate")
        chosen = rng.choice(len(clean), exact_count(rate, len(clean)), replace=False)
        if not len(chosen):
            return torch.from_numpy(noisy)
        table = np.maximum(matrix - (1 - rate) * np.eye(len(matrix)), 0)
    cumulative = np.cumsum(table, axis=1)
    cumulative /= cumulative[:, -1:]
    rows = clean if chosen is None else clean[chosen]
    draws = rng.random(len(rows))
    order = np.argsort(rows.astype(np.uint16), kind="stable")  # 16-bit keys are sorted by radix, three times faster
    bounds = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(matrix)))])
    drawn = np.empty_like(rows)
    for k in range(len(matrix)):  # over classes, never over samples
        members = order[bounds[k] : bounds[k + 1]]
        drawn[members] = np.searchsorted(cumulative[k], draws[members], side="right")
    if chosen is None:
        return torch.from_numpy(drawn)
    noisy[chosen] = drawn
    return torch.from_numpy(noisy)


def draw_samples(size: int, rate: float, count: Count, rng: np.random.Generator) -> np.ndarray:
    """Indices of the samples that noise falls on: each with probability ``rate``, or exactly ``int(rate * size)``."""
    if count == "exact":
        return rng.choice(size, exact_count(rate, size), replace=False)
    return np.flatnonzero(rng.random(size) < rate)


def mapped_matrix(rate: float, mapping: dict[int, int], num_classes: int) -> np.ndarray:
    """(K, K): a source class keeps its label with ``1 - rate`` and becomes its target with ``rate``."""
    matrix = np.eye(num_classes)
    sources, targets = list(mapping), list(mapping.values())
    matrix[sources, sources] = 1 - rate
    matrix[sources, targets] = rate
    return matrix


def corrupt_by_map(
    targets: Tensor,
    mapping: dict[int, int],
    num_classes: int,
    rate: float,
    rng: np.random.Generator,
    *,
    count: Count = "binomial",
) -> Tensor:
    """(N,) int64: samples of a source class become its target with probability ``rate``, or exactly
    ``int(rate * members)`` of each source class. Every draw is from the clean class, so chains (2 to 7, 7 to 1) and
    swaps never act twice."""
    clean = targets.numpy()
    noisy = clean.copy()
    table = np.arange(num_classes)
    table[list(mapping)] = list(mapping.values())
    if count == "binomial":
        chosen = np.flatnonzero(rng.random(len(clean)) < rate)
        noisy[chosen] = table[clean[chosen]]
        return torch.from_numpy(noisy)
    for source, target in mapping.items():
        members = np.flatnonzero(clean == source)
        noisy[rng.choice(members, exact_count(rate, len(members)), replace=False)] = target
    return torch.from_numpy(noisy)


def classes_of(data: LabelledData, name: str) -> int:
    """The number of classes of classification data.

    Raises:
        HarnessError: for regression data.
    """
    if data.num_classes is None:
        raise HarnessError("is for classification", f"noise.{name}", "choose a noise for regression")
    return data.num_classes
