"""Score against cost: which methods no other beats."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from harness.errors import HarnessError
from harness.results.statistics.scores import BoolArray


def pareto_front(cost: ArrayLike, score: ArrayLike, *, higher_is_better: bool = True) -> BoolArray:
    """Which of N points no other beats: none costs at most as much, scores at least as well, and is better in one.

    Args:
        cost: ``[N]``, lower is better, any unit.
        score: ``[N]``.
        higher_is_better: direction of the score.

    Returns:
        ``[N]``; equal points stand or fall together, points with a NaN are never on the front.
    """
    price = np.asarray(cost, dtype=np.float64)
    merit = np.asarray(score, dtype=np.float64) * (1.0 if higher_is_better else -1.0)
    if price.shape != merit.shape or price.ndim != 1:
        raise HarnessError(f"cost and score must be columns of one length, not {price.shape} and {merit.shape}")
    front = np.zeros(len(price), dtype=bool)
    known = np.flatnonzero(~np.isnan(price) & ~np.isnan(merit))
    order = known[np.lexsort((-merit[known], price[known]))]
    if not order.size:
        return front
    best_before = np.concatenate([[-np.inf], np.maximum.accumulate(merit[order])[:-1]])
    leads = merit[order] > best_before
    # An exact copy of the point that set the record is as good as it.
    leader = np.maximum.accumulate(np.where(leads, np.arange(len(order)), 0))
    front[order] = (merit[order] == merit[order][leader]) & (price[order] == price[order][leader])
    return front
