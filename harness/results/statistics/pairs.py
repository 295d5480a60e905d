"""Two methods: one planned comparison, and the chance that a run of one beats a run of the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from harness.errors import HarnessError
from harness.results.statistics.across import percentiles
from harness.results.statistics.scores import (
    Interval,
    Scores,
    common_settings,
    default_min_seeds,
    least_gap,
    scipy_special,
)
from harness.results.statistics.ties import PAIRED, compare_methods

LEAST_SETTINGS, LEAST_SEEDS, LEAST_RUNS = 6, 3, 30
"""From which the interval of :func:`probability_of_improvement` covers 90 % or more."""


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


def compare_pair(
    first: ArrayLike, second: ArrayLike, *, level: float = 0.95, step: float | None = None
) -> PairedComparison:
    """Paired t-test on shared seeds (Student, 1908), else Welch's (1947): one planned comparison, not adjusted.

    The variance of a run is at least ``step^2 / 12``: two seeds with the same gap do not prove that all seeds have it. Where
    the gaps differ by no more than one step, no spread was seen, and p is not given as less than 0.001.

    Args:
        first, second: ``[R]`` scores aligned by seed, NaN = missing.
        level: coverage of the interval.
        step: of the grid of the scores; default the least gap between two of them.

    Returns:
        ``n`` is the number of shared seeds, or for Welch the smaller number of runs. Welch's test is taken where the
        shared seeds leave less than a third of its degrees of freedom.
    """
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise HarnessError(f"scores must be aligned by seed, got shapes {x.shape} and {y.shape}")
    found = compare_methods(("first", "second"), np.stack([x, y]), alpha=1 - level, step=step)
    gaps = (x - y)[~np.isnan(x - y)]
    if len(found.methods) < 2:
        ours, theirs = x[~np.isnan(x)], y[~np.isnan(y)]
        known = min(len(ours), len(theirs)) >= 1
        gap = float(gaps.mean()) if len(gaps) else float(ours.mean() - theirs.mean()) if known else None
        return PairedComparison(gap, None, None, min(len(ours), len(theirs)), len(gaps) == 1)
    difference, half, error = (float(a[0, 1]) for a in (found.difference, found.half_width, found.standard_error))
    n, paired = min(found.n), found.test == PAIRED
    if math.isinf(half):  # not even a grid is known: every score is the same
        return PairedComparison(difference, None, None, n, paired)
    p = 2 * float(scipy_special().stdtr(found.df[0, 1], -abs(difference) / error))
    if gaps.size and float(np.ptp(gaps)) <= (least_gap(np.stack([x, y])) if step is None else step):
        p = max(p, 0.001)
    return PairedComparison(difference, Interval(difference - half, difference + half), p, n, paired)


@dataclass(frozen=True)
class Improvement:
    """P(X > Y): chance that a run of X beats a run of Y, averaged over settings; 0.5 is a draw.

    Show it only with its interval: ``reason`` says why there is none, and then the estimate is worth little too.
    """

    probability: float
    interval: Interval | None
    settings: tuple[str, ...]
    reason: str = ""


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
    result clipped to [0, 1].

    Simulated coverage for a true probability of 0.5, 0.75 and 0.9: 75, 61 and 49 % over one setting with three seeds, 95,
    94 and 88 % over six with three, 94, 95 and 97 % over six with five, 96, 94 and 93 % over twelve with three. The
    interval is given where it is 90 % or more: from six settings, three seeds and 30 runs on.

    Returns:
        None when the two share no setting; interval None, with a ``reason``, where too little is known.
    """
    part = scores.select(methods=[method, other], settings=settings)
    needed = default_min_seeds(part) if min_seeds is None else min_seeds
    names = common_settings(part, min_seeds=needed)
    if not names:
        return None
    rng = np.random.default_rng(seed)
    total, drawn, fewest = 0.0, np.zeros(resamples), len(part.seeds)
    for name in names:
        ours, theirs = part.runs(method, name), part.runs(other, name)
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
        fewest = min(fewest, few)
        widen = math.sqrt(few / (few - 1)) if few > 1 else 1.0
        total += float(wins.mean())
        drawn += wins.mean() + widen * (raw - wins.mean())
    if len(names) < LEAST_SETTINGS or fewest < LEAST_SEEDS or len(names) * fewest < LEAST_RUNS:
        reason = f"too few runs: it takes {LEAST_SETTINGS} settings, {LEAST_SEEDS} seeds and {LEAST_RUNS} runs in all"
        return Improvement(total / len(names), None, names, reason)
    return Improvement(total / len(names), percentiles(np.clip(drawn / len(names), 0, 1), level), names)
