"""Score against cost: which methods no other beats."""

from __future__ import annotations

from typing import Literal

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


Certainty = Literal["on", "perhaps", "off"]


def front_certainty(cheaper: BoolArray, better: BoolArray) -> tuple[Certainty, ...]:
    """What is certain of N methods' place on the front, from which pairs are separable in cost and in score.

    ``on``: against every other method, this one is separably cheaper or separably better. ``off``: some other method is
    both to it. Else ``perhaps``: the runs do not decide. With simultaneous intervals at 95 % for either quantity all
    decisions hold together in at least 90 % (Bonferroni).

    Args:
        cheaper, better: ``[N, N]``, True where the row is separably cheaper, or better, than the column.
    """
    if cheaper.shape != better.shape or cheaper.shape != (len(cheaper),) * 2:
        raise HarnessError(f"cost and score must be squares of one size, not {cheaper.shape} and {better.shape}")
    itself = np.eye(len(cheaper), dtype=bool)
    on = np.flatnonzero((cheaper | better | itself).all(axis=1))
    off = np.flatnonzero((cheaper & better & ~itself).any(axis=0))
    return tuple("on" if i in on else "off" if i in off else "perhaps" for i in range(len(cheaper)))
