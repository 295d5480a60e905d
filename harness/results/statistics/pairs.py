"""Two methods: one planned comparison, and the chance that a run of one beats a run of the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from harness.errors import HarnessError
from harness.results.statistics.across import percentiles
from harness.results.statistics.scores import ROUNDING, Interval, Scores, default_min_seeds, scipy_special, t_quantile


@dataclass(frozen=True)
class PairedComparison:
    """Two methods in one setting, first minus second.

    ``paired`` is False when they share fewer than two seeds and Welch's test on all runs took over; interval and p are
    None when there are too few runs for either.
    """

    difference: float | None
    interval: Interval | None
    p_value: float | None
    n: int
    paired: bool


def compare_pair(first: ArrayLike, second: ArrayLike, *, level: float = 0.95) -> PairedComparison:
    """Paired t-test on shared seeds (Student, 1908), else Welch's (1947): one planned comparison, not adjusted.

    Args:
        first, second: ``[R]`` scores aligned by seed, NaN = missing.
        level: coverage of the interval.

    Returns:
        ``n`` is the number of shared seeds, or for Welch the smaller number of runs.
    """
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise HarnessError(f"scores must be aligned by seed, got shapes {x.shape} and {y.shape}")
    gaps = (x - y)[~np.isnan(x - y)]
    ours, theirs = x[~np.isnan(x)], y[~np.isnan(y)]
    scale = ROUNDING * float(np.abs(np.concatenate([ours, theirs])).max(initial=0.0))
    if len(gaps) >= 2:
        n, difference = len(gaps), float(gaps.mean())
        error, df = float(gaps.std(ddof=1)) / math.sqrt(n), n - 1.0
    elif min(len(ours), len(theirs)) >= 2:
        n, difference = min(len(ours), len(theirs)), float(ours.mean() - theirs.mean())
        parts = ours.var(ddof=1) / len(ours), theirs.var(ddof=1) / len(theirs)
        error = math.sqrt(sum(parts))
        spread = parts[0] ** 2 / (len(ours) - 1) + parts[1] ** 2 / (len(theirs) - 1)
        df = float(sum(parts) ** 2 / spread) if spread > 0 else 1.0
    else:
        paired = len(gaps) == 1
        both = min(len(ours), len(theirs)) >= 1
        gap = float(gaps[0]) if paired else float(ours.mean() - theirs.mean()) if both else None
        return PairedComparison(gap, None, None, min(len(ours), len(theirs)), paired)
    half = float(t_quantile(level, df)) * error
    if error > scale:
        p = 2 * float(scipy_special().stdtr(df, -abs(difference) / error))
    else:
        p = 0.0 if abs(difference) > scale else 1.0
    return PairedComparison(difference, Interval(difference - half, difference + half), p, n, len(gaps) >= 2)


@dataclass(frozen=True)
class Improvement:
    """P(X > Y): chance that a run of X beats a run of Y, averaged over settings; 0.5 is a draw."""

    probability: float
    interval: Interval | None
    settings: tuple[str, ...]


def probability_of_improvement(
    scores: Scores,
    method: str,
    other: str,
    *,
    settings: Sequence[str] | None = None,
    min_seeds: int | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Improvement | None:
    """Mean over settings of the Mann-Whitney probability that ``method`` beats ``other`` (Agarwal et al., 2021).

    Per setting ``sum_ij [x_i beats y_j] + [x_i = y_j] / 2`` over all pairs of runs, divided by their number. Interval:
    stratified bootstrap, seeds resampled jointly where shared, deviations widened by ``sqrt(n / (n - 1))`` and the
    result clipped to [0, 1]. When every run of one beats every run of the other it collapses to a point, which is too
    sure of itself.

    Returns:
        None when the two share no setting; interval None when a setting has a single run.
    """
    part = scores.select(methods=[method, other], settings=settings)
    needed = default_min_seeds(part) if min_seeds is None else min_seeds
    has = ((~np.isnan(part.values)).sum(axis=2) >= needed).all(axis=0)
    columns = np.flatnonzero(has)
    if not columns.size:
        return None
    rng = np.random.default_rng(seed)
    total, drawn, certain = 0.0, np.zeros(resamples), True
    for s in columns:
        ours, theirs = part.values[:, s]
        seeds_shared = ~np.isnan(ours) & ~np.isnan(theirs)
        paired = bool((np.isnan(ours) == np.isnan(theirs)).all())
        if not paired and seeds_shared.sum() >= needed:
            ours, theirs, paired = ours[seeds_shared], theirs[seeds_shared], True
        ours, theirs = ours[~np.isnan(ours)], theirs[~np.isnan(theirs)]
        gap = ours[:, None] - theirs if part.higher_is_better else theirs - ours[:, None]
        wins = (np.sign(gap) + 1) / 2
        first = rng.multinomial(len(ours), np.full(len(ours), 1 / len(ours)), size=resamples)
        second = (
            first if paired else rng.multinomial(len(theirs), np.full(len(theirs), 1 / len(theirs)), size=resamples)
        )
        raw = ((first @ wins) * second).sum(axis=1) / wins.size
        few = min(wins.shape)
        certain = certain and few > 1
        widen = math.sqrt(few / (few - 1)) if few > 1 else 1.0
        total += float(wins.mean())
        drawn += wins.mean() + widen * (raw - wins.mean())
    names = tuple(part.settings[s] for s in columns)
    interval = percentiles(np.clip(drawn / len(columns), 0, 1), level) if certain else None
    return Improvement(total / len(columns), interval, names)
