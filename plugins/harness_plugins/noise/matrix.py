"""Label noise that a transition matrix describes: one draw for every sample from the row of its clean class."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from harness import HarnessError, LabelledData

Count = Literal["binomial", "exact"]


def corrupt_by_matrix(
    targets: Tensor, matrix: np.ndarray, rng: np.random.Generator, *, rate: float | None = None, count: Count = "binomial"
) -> Tensor:
    """Noisy classes drawn from the clean ones.

    Args:
        targets: (N,) int64 clean classes.
        matrix: (K, K), rows are the clean class and sum to 1.
        rng: the stream of the noise.
        rate: for ``count="exact"``: the share of samples that is drawn anew.
        count: ``binomial`` draws every sample from its row. ``exact`` picks exactly ``int(rate * N)`` samples without
            replacement and draws those from the row of ``(matrix - (1 - rate) I) / rate``, as the RRM and APL papers
            do over the whole set.

    Returns:
        (N,) int64.
    """
    clean = targets.numpy()
    noisy = clean.copy()
    chosen = np.arange(len(clean))
    table = matrix
    if count == "exact":
        if rate is None:
            raise HarnessError("an exact count needs a rate")
        if rate == 0:
            return torch.from_numpy(noisy)
        chosen = rng.choice(len(clean), int(rate * len(clean)), replace=False)
        table = (matrix - (1 - rate) * np.eye(len(matrix))) / rate
    cumulative = np.cumsum(table, axis=1)
    cumulative /= cumulative[:, -1:]
    draws = rng.random(len(chosen))
    rows = clean[chosen]
    order = np.argsort(rows, kind="stable")
    bounds = np.searchsorted(rows[order], np.arange(len(matrix) + 1))
    for k in range(len(matrix)):  # over classes, never over samples
        members = order[bounds[k] : bounds[k + 1]]
        noisy[chosen[members]] = np.searchsorted(cumulative[k], draws[members], side="right")
    return torch.from_numpy(np.minimum(noisy, len(matrix) - 1))


def classes_of(data: LabelledData, name: str) -> int:
    """The number of classes of classification data.

    Raises:
        HarnessError: for regression data.
    """
    if data.num_classes is None:
        raise HarnessError("is for classification", f"noise.{name}", "choose a noise for regression")
    return data.num_classes
