"""Methods over several settings: means, ranks, differences to a reference, performance profiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from harness.errors import HarnessError
from harness.results.statistics.additive import additive_model
from harness.results.statistics.reference import ToReference, compare_to_reference
from harness.results.statistics.scores import (
    ROUNDING,
    Coverage,
    FloatArray,
    IntArray,
    Interval,
    Scores,
    cells,
    competition_ranks,
    coverage,
    default_min_seeds,
    t_quantile,
)
from harness.results.statistics.ties import Pairwise, compare_over_settings

IQM_SETTINGS = 8
"""From so many settings on the bootstrap interval of an inter-quartile mean covers 90 % or more (simulated, three seeds)."""


@dataclass(frozen=True)
class MethodSummary:
    """One method over the settings.

    Attributes:
        coverage: settings with enough runs, of all settings compared.
        mean: mean score over all settings; None unless the coverage is full.
        difference, difference_interval: mean over settings of method minus reference, on the settings both have; the
            intervals of all methods hold together (Dunnett; see :func:`compare_to_reference`).
        iqm, iqm_interval: inter-quartile mean of the same differences, with an interval of its own.
        difference_settings: how many settings that is.
        rank, rank_interval: position by mean among the methods with full coverage, 1 is best, equal ones share;
            None without full coverage and for a method that is ``withheld``. The interval is
            :attr:`Pairwise.rank_span`; None for a method that is not compared, which may stand before or behind others.
        withheld: why a method has no rank although it has a mean: runs of it failed, and what is missing is not missing
            at random. Empty for the others.
        collapsed, diverged: how many of its runs did; diverged ones count as chance in the mean.
        estimate, estimate_error: mean over all settings, missing cells filled by the additive model, with its standard
            error; only where asked for, and None for a method that lacks nothing or when it cannot be known.
    """

    method: str
    coverage: Coverage
    mean: float | None
    difference: float | None
    difference_interval: Interval | None
    iqm: float | None
    iqm_interval: Interval | None
    difference_settings: int
    rank: int | None
    rank_interval: Interval | None
    withheld: str = ""
    collapsed: int = 0
    diverged: int = 0
    estimate: float | None = None
    estimate_error: float | None = None

    @property
    def estimated(self) -> bool:
        """Whether there is an estimate: show it marked."""
        return self.estimate is not None


@dataclass(frozen=True)
class AcrossSettings:
    """Every method over the settings: ranked methods first, then the others by coverage."""

    settings: tuple[str, ...]
    reference: str | None
    level: float
    resamples: int
    min_seeds: tuple[int, ...]
    methods: tuple[MethodSummary, ...]


@dataclass(frozen=True, eq=False)
class _Stratum:
    """One setting's runs of some methods and the resamples drawn of them."""

    runs: tuple[FloatArray, ...]  # per method: [n] scores
    draws: tuple[IntArray, ...]  # per method: [B, n]; the same array for all when seeds are shared
    paired: bool

    def resampled(self, method: int) -> FloatArray:
        """``[B, n]`` resampled scores, residuals widened by sqrt(n / (n - 1)) so that their variance is unbiased."""
        runs = self.runs[method]
        mean = runs.mean()
        widen = math.sqrt(len(runs) / (len(runs) - 1)) if len(runs) > 1 else 1.0
        return np.asarray((mean + widen * (runs - mean))[self.draws[method]], dtype=np.float64)


def _stratum(values: FloatArray, rng: np.random.Generator, resamples: int, min_seeds: int) -> _Stratum:
    """Resample the seeds of one setting: jointly where the methods share enough seeds, else each on its own."""
    shared = (~np.isnan(values)).all(axis=0)
    if shared.sum() >= min_seeds:
        runs = tuple(values[:, shared])
        draw = rng.integers(int(shared.sum()), size=(resamples, int(shared.sum())))
        return _Stratum(runs, (draw,) * len(runs), True)
    runs = tuple(row[~np.isnan(row)] for row in values)
    return _Stratum(runs, tuple(rng.integers(len(r), size=(resamples, len(r))) for r in runs), False)


def _differences(stratum: _Stratum, method: int, reference: int) -> tuple[FloatArray, FloatArray]:
    """Run-level differences to the reference: as observed ``[n]`` and resampled ``[B, n]``."""
    ours, theirs = stratum.runs[method], stratum.runs[reference]
    ours_drawn, theirs_drawn = stratum.resampled(method), stratum.resampled(reference)
    if stratum.paired:
        return ours - theirs, ours_drawn - theirs_drawn
    return ours - theirs.mean(), ours_drawn - theirs_drawn.mean(axis=1, keepdims=True)


def interquartile_mean(values: ArrayLike, weights: ArrayLike | None = None) -> FloatArray:
    """Mean of the middle half along the last axis (IQM; Agarwal et al., 2021): a quarter is cut off at either end.

    With N equal weights ``floor(N / 4)`` values go at each end, as in ``scipy.stats.trim_mean(x, 0.25)``; with weights
    (here: 1 / runs of the setting, so that every setting counts the same) as many as weigh at most a quarter together.

    Args:
        values: ``[..., N]``, N >= 1, no NaN.
        weights: ``[N]``, positive; default all equal.
    """
    data = np.asarray(values, dtype=np.float64)
    count = data.shape[-1]
    if count == 0:
        raise HarnessError("the inter-quartile mean of no values")
    share = np.ones(count) if weights is None else np.asarray(weights, dtype=np.float64)
    if np.ptp(share) <= ROUNDING * share.max():
        cut = count // 4
        return np.asarray(np.sort(data, axis=-1)[..., cut : count - cut].mean(axis=-1), dtype=np.float64)
    order = np.argsort(data, axis=-1)
    weight = (share / share.sum())[order]
    upto = np.cumsum(weight, axis=-1)
    kept = weight * ((upto > 0.25 + ROUNDING) & (1 - upto + weight > 0.25 + ROUNDING))
    total = (kept * np.take_along_axis(data, order, axis=-1)).sum(axis=-1)
    return np.asarray(total / kept.sum(axis=-1), dtype=np.float64)


def percentiles(samples: FloatArray, level: float) -> Interval:
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def compare_across_settings(
    scores: Scores,
    reference: str | None = None,
    *,
    settings: Sequence[str] | None = None,
    min_seeds: int | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    iqm: bool = True,
    estimates: bool = False,
    pairwise: Pairwise | None = None,
) -> AcrossSettings:
    """Means and ranks over settings, and differences to a reference.

    Never averaged: what happens to be there. A mean and a rank need every setting; a difference to the reference is
    over the settings that both have, and says how many; methods without full coverage come after all ranked ones.
    Means and ranks are those of all runs of a method. Ranks' and differences' intervals are simultaneous, by the
    comparisons of :func:`~harness.results.statistics.ties.compare_over_settings` and
    :func:`~harness.results.statistics.reference.compare_to_reference`.

    The inter-quartile mean has a stratified bootstrap (Agarwal et al., 2021): seeds are resampled within settings, jointly
    where the two methods share seeds (differences stay paired), residuals widened by ``sqrt(n / (n - 1))`` (Davison &
    Hinkley, 1997), percentile intervals, None over fewer than eight settings, where they may cover less than 90 %.

    Args:
        scores: the table.
        reference: method to subtract, such as ``CE``; None leaves the differences out.
        settings: the settings compared; default all. :func:`common_settings` gives those that all methods have.
        min_seeds: runs that make a cell count; default 2 in a setting where any cell has two, else 1.
        level: coverage of the intervals.
        resamples, seed: of the bootstrap.
        iqm: False leaves the inter-quartile mean out, which takes most of the time of a large table.
        estimates: True adds the additive model's estimates of methods that lack settings.
        pairwise: the comparison over these settings at ``1 - level``, where the caller has it already.

    Raises:
        HarnessError: unknown reference or setting, or no setting at all.
    """
    part = scores.select(settings=settings)
    if not part.settings:
        raise HarnessError("no setting to compare over")
    base = None if reference is None else part.method_index(reference)
    needed = default_min_seeds(part) if min_seeds is None else np.full(len(part.settings), min_seeds)
    has = (~np.isnan(part.values)).sum(axis=2) >= needed
    covered = coverage(part, min_seeds=needed)
    table = cells(part, intervals=False)
    complete = has.all(axis=1)
    failed = part.count("failed").sum(axis=1)
    ranked = np.flatnonzero(complete & (failed == 0))
    means = table.mean.mean(axis=1)  # of all runs, as the cells beside it show
    places = competition_ranks(means[ranked], higher_is_better=part.higher_is_better)
    ranks = {int(m): int(place) for m, place in zip(ranked, places, strict=True)}
    found = compare_over_settings(part, alpha=1 - level) if pairwise is None else pairwise
    others = len(ranked) - len(found.methods)  # ranked, but of them nothing is known
    spans = {m: Interval(s.low, s.high + others) for m, s in zip(found.methods, found.rank_span, strict=True)}
    against = None if reference is None else compare_to_reference(part, reference, alpha=1 - level)
    model = additive_model(part) if estimates else None
    collapsed, diverged = part.count("collapsed").sum(axis=1), part.count("diverged").sum(axis=1)
    summaries = []
    for m, name in enumerate(part.methods):
        both = np.zeros(0, dtype=np.int64) if base is None else np.flatnonzero(has[m] & has[base])
        gaps = _Difference(None, None, None, None)
        if base is not None and both.size:
            gaps = _to_reference(
                part, against, m, base, both, needed, np.random.default_rng([seed, m]), resamples, level, iqm
            )
        estimate = error = None
        if model is not None and not complete[m] and not math.isnan(model.adjusted_mean[m]):
            estimate, error = float(model.adjusted_mean[m]), float(model.mean_error[m])
        summaries.append(
            MethodSummary(
                method=name,
                coverage=covered[m],
                mean=float(means[m]) if complete[m] else None,
                difference=gaps.mean,
                difference_interval=gaps.mean_interval,
                iqm=gaps.iqm,
                iqm_interval=gaps.iqm_interval,
                difference_settings=len(both),
                rank=ranks.get(m),
                rank_interval=_span(spans.get(name), ranks.get(m)),
                withheld=f"{failed[m]} run{'s' if failed[m] > 1 else ''} failed" if failed[m] else "",
                collapsed=int(collapsed[m]),
                diverged=int(diverged[m]),
                estimate=estimate,
                estimate_error=None if error is None or math.isnan(error) else error,
            )
        )

    def place(summary: MethodSummary) -> tuple[bool, int, int]:
        return summary.rank is None, summary.rank or 0, -summary.coverage.done

    return AcrossSettings(
        part.settings, reference, level, resamples, tuple(int(n) for n in needed), tuple(sorted(summaries, key=place))
    )


def _span(span: Interval | None, rank: int | None) -> Interval | None:
    """The span of a rank: where seeds are missing the compared means are adjusted for them, the ranked ones are plain."""
    return None if span is None or rank is None else Interval(min(span.low, rank), max(span.high, rank))


def mean_over_settings(scores: Scores, *, level: float = 0.95) -> tuple[Interval | None, ...]:
    """For every method, the interval of its mean over all settings of the table.

    The settings are fixed and their runs independent: ``mean +- t * sqrt(sum_s s_s^2 / n_s) / S``, with the
    Welch-Satterthwaite (1946) degrees of freedom ``(sum v_s)^2 / sum (v_s^2 / (n_s - 1))``, ``v_s = s_s^2 / n_s``; for
    one setting it is the interval of :func:`cell`, and like that it knows the grid and the bounds of the scores. None for
    a method without two runs in every setting, or with a run that collapsed or diverged.
    """
    table = cells(scores, intervals=False)
    intervals: list[Interval | None] = []
    for mean, std, n, broken in zip(table.mean, table.std, table.n, table.broken, strict=True):
        if not n.size or (n < 2).any() or broken.any():
            intervals.append(None)
            continue
        variance = np.maximum(std**2, scores.grid**2 / 12) / n
        total, center = float(variance.sum()), float(mean.mean())
        df = total**2 / float((variance**2 / (n - 1)).sum()) if total > 0 else 1.0
        half = float(t_quantile(level, df)) * math.sqrt(total) / len(n)
        intervals.append(Interval(center - half, center + half).within(scores.bounds))
    return tuple(intervals)


class _Difference(NamedTuple):
    """Mean and inter-quartile mean of differences with their intervals."""

    mean: float | None
    mean_interval: Interval | None
    iqm: float | None
    iqm_interval: Interval | None


def _to_reference(
    scores: Scores,
    against: ToReference | None,
    method: int,
    reference: int,
    settings: IntArray,
    needed: IntArray,
    rng: np.random.Generator,
    resamples: int,
    level: float,
    iqm: bool,
) -> _Difference:
    """The difference to the reference over the settings that both have, and its inter-quartile mean."""
    name = scores.methods[method]
    strata = [
        _stratum(scores.values[[method, reference], s], rng, resamples if iqm else 0, int(needed[s])) for s in settings
    ]
    observed, resampled = zip(*(_differences(s, 0, 1) for s in strata), strict=True)
    weights = np.concatenate([np.full(len(d), 1 / (len(strata) * len(d))) for d in observed])
    runs = np.concatenate(observed)
    mean, interval = float(runs @ weights), None
    if method == reference:
        interval = Interval(0.0, 0.0)
    elif against is not None and name in against.methods:
        k = against.methods.index(name)
        if against.settings[k] == len(settings):
            mean, interval = float(against.difference[k]), against.interval(name)
    if not iqm:
        return _Difference(mean, interval, None, None)
    band = None
    repeated = min(len(s.runs[i]) for s in strata for i in (0, 1)) >= 2
    if repeated and len(strata) >= IQM_SETTINGS and not scores.broken[[method, reference]].any():
        band = percentiles(interquartile_mean(np.concatenate(resampled, axis=1), weights), level)
    return _Difference(mean, interval, float(interquartile_mean(runs, weights)), band)


@dataclass(frozen=True, eq=False)
class PerformanceProfile:
    """Fraction of runs better than tau; arrays ``[M, T]``, NaN rows for methods without full coverage."""

    methods: tuple[str, ...]
    settings: tuple[str, ...]
    tau: FloatArray
    fraction: FloatArray
    low: FloatArray
    high: FloatArray


def performance_profile(
    scores: Scores,
    tau: ArrayLike | None = None,
    *,
    settings: Sequence[str] | None = None,
    min_seeds: int | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> PerformanceProfile:
    """Share of (setting, seed) runs better than tau: run-score distributions (Agarwal et al., 2021).

    Every setting counts the same; pointwise band by stratified bootstrap, deviations widened by ``sqrt(n / (n - 1))``
    and clipped to [0, 1]; NaN where a setting has a single run. A method that lacks a setting has no profile: its
    curve would be over other settings.

    Args:
        scores: the table.
        tau: ``[T]`` thresholds in the units of the scores; default 101 from the smallest to the largest score.
        settings, min_seeds, level, resamples, seed: as in :func:`compare_across_settings`.
    """
    part = scores.select(settings=settings)
    if not part.settings:
        raise HarnessError("no setting to compare over")
    needed = default_min_seeds(part) if min_seeds is None else np.full(len(part.settings), min_seeds)
    counts = (~np.isnan(part.values)).sum(axis=2)
    observed = part.values[~np.isnan(part.values)]
    if tau is None:
        tau = np.linspace(observed.min(), observed.max(), 101) if observed.size else np.zeros(0)
    thresholds = np.asarray(tau, dtype=np.float64)
    shape = (len(part.methods), len(thresholds))
    fraction, low, high = np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, np.nan)
    rng = np.random.default_rng(seed)
    for m in np.flatnonzero((counts >= needed).all(axis=1)):
        center, drawn = np.zeros(shape[1]), np.zeros((resamples, shape[1]))
        for s in range(len(part.settings)):
            runs = part.values[m, s][~np.isnan(part.values[m, s])]
            n = len(runs)
            above = (runs[:, None] > thresholds if part.higher_is_better else runs[:, None] < thresholds) * 1.0
            draws = rng.multinomial(n, np.full(n, 1 / n), size=resamples)
            widen = math.sqrt(n / (n - 1)) if n > 1 else math.nan
            center += above.mean(axis=0)
            drawn += above.mean(axis=0) + widen * (draws @ above / n - above.mean(axis=0))
        fraction[m] = center / len(part.settings)
        if (counts[m] > 1).all():
            band = np.quantile(drawn / len(part.settings), [(1 - level) / 2, (1 + level) / 2], axis=0)
            low[m], high[m] = np.clip(band, 0, 1)
    return PerformanceProfile(part.methods, part.settings, thresholds, fraction, low, high)
