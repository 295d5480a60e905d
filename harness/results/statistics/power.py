"""What a comparison could have found: the detectable difference, and the seeds that it would take to separate two methods."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from harness.errors import HarnessError
from harness.results.statistics.scores import FloatArray, scipy_special
from harness.results.statistics.studentized_range import studentized_range_quantile

if TYPE_CHECKING:
    from harness.results.statistics.ties import Pairwise

MOST_SEEDS = 1000
"""Beyond it a number of seeds is not looked for."""


def detectable_difference(
    standard_error: ArrayLike, df: ArrayLike, critical: ArrayLike, *, power: float = 0.8
) -> FloatArray:
    """The least true difference whose ``t`` exceeds ``critical`` with probability ``power``.

    ``t`` has a noncentral t distribution with noncentrality difference / standard error; the difference is that whose
    ``1 - power`` quantile is ``critical``.

    Args:
        standard_error: of the estimated difference, in the units of the scores.
        df: degrees of freedom of the standard error.
        critical: what ``|difference| / standard error`` has to exceed; NaN gives NaN.
        power: in (0, 1).
    """
    error, degrees, limit = np.broadcast_arrays(
        np.asarray(standard_error, dtype=np.float64), np.asarray(df, dtype=np.float64), np.asarray(critical)
    )
    result = np.full(error.shape, np.nan)
    known = np.isfinite(limit)
    # Far fewer triples differ than there are pairs of methods.
    triples, place = np.unique(np.column_stack([degrees[known], limit[known]]).round(9), axis=0, return_inverse=True)
    shift = scipy_special().nctdtrinc(triples[:, 0], 1 - power, triples[:, 1]) if len(triples) else np.zeros(0)
    result[known] = error[known] * shift[place.ravel()]
    return result


@dataclass(frozen=True)
class SeedsNeeded:
    """How many seeds separate two methods if their difference is what it looks like.

    Attributes:
        first, second: the better one first.
        difference: first minus second, in the units of the scores.
        detectable: the least difference that the present seeds find with a chance of ``power``.
        now: seeds that both have (in every setting).
        more: further seeds (in every setting) with which a difference of this size is found with a chance of ``power``;
            0 when the present ones do, None when :data:`MOST_SEEDS` do not.
        separable: whether the two are separable already.
    """

    first: str
    second: str
    difference: float
    detectable: float
    now: int
    more: int | None
    separable: bool


def seeds_needed(pairwise: Pairwise, first: str, second: str, *, power: float = 0.8) -> SeedsNeeded:
    """How many more seeds separate two methods, with a chance of ``power``.

    The observed difference is taken as the true one and the present variances as those of further seeds: with ``n'``
    instead of ``n`` seeds the squared standard error shrinks by ``n / n'`` and the methods' own degrees of freedom grow by
    ``(n' - 1) / (n - 1)``. Of two methods that were picked because they lie apart the difference is exaggerated.

    Args:
        pairwise: from :func:`~harness.results.statistics.ties.compare_in_setting` or
            :func:`~harness.results.statistics.ties.compare_over_settings`.
        first, second: two of its methods, in any order.
        power: in (0, 1).

    Raises:
        HarnessError: a method that is not compared there.
    """
    for name in (first, second):
        if name not in pairwise.methods:
            reason = dict(pairwise.not_comparable).get(name)
            raise HarnessError(f"{name} is not comparable ({reason})" if reason else f"no method {name!r} is compared")
    i, j = pairwise.methods.index(first), pairwise.methods.index(second)
    if (pairwise.estimate[i] < pairwise.estimate[j]) == pairwise.higher_is_better:
        i, j = j, i
    n = min(pairwise.n[i], pairwise.n[j])
    gap = abs(float(pairwise.difference[i, j]))
    seeds = np.arange(n, MOST_SEEDS + 1)
    error = float(pairwise.standard_error[i, j]) * np.sqrt(n / seeds)
    added = float(pairwise.added_df[i, j])
    df = added + (float(pairwise.df[i, j]) - added) * (seeds - 1) / (n - 1)
    critical = studentized_range_quantile(pairwise.alpha, len(pairwise.methods), df) / math.sqrt(2)

    def found(at: int) -> bool:
        return bool(detectable_difference(error[at], df[at], critical[at], power=power) <= gap)

    more: int | None = None
    if error[0] > 0 and found(len(seeds) - 1):
        low, high = 0, len(seeds) - 1  # the least position that is enough: more seeds never find less
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if found(middle) else (middle + 1, high)
        more = low
    return SeedsNeeded(
        pairwise.methods[i],
        pairwise.methods[j],
        float(pairwise.difference[i, j]),
        float(pairwise.detectable[i, j]),
        n,
        more,
        bool(pairwise.separable[i, j]),
    )
