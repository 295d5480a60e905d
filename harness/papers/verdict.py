"""A paper's printed numbers against our seeds: one cell, a table, an ordering."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from harness.errors import HarnessError
from harness.results.statistics.scores import ROUNDING, Interval, cell, t_quantile
from harness.results.statistics.ties import Pairwise

Verdict = Literal["consistent", "below", "above", "not comparable"]


@dataclass(frozen=True)
class PublishedCheck:
    """A printed mean against our seeds.

    Attributes:
        verdict: ``below`` and ``above`` say where the reproduced mean lies; ``not comparable`` has a ``reason``.
        difference: reproduced minus printed mean; None when nothing was reproduced.
        interval: of that difference; it contains 0 exactly when the verdict is ``consistent``.
        assumptions: what had to be assumed because the paper does not print it.
        by_numbers: the verdict that the numbers alone would get where only the configuration departs from the paper's.
        measured: whether both sides measure one thing, if perhaps in different configurations or without a spread.
    """

    verdict: Verdict
    difference: float | None
    interval: Interval | None
    reason: str = ""
    assumptions: tuple[str, ...] = ()
    by_numbers: Verdict | None = None
    measured: bool = False


def compare_with_published(
    reproduced: ArrayLike,
    printed_mean: float,
    printed_std: float | None = None,
    printed_n: int | None = None,
    *,
    decimals: int | None = None,
    step: float = 0.0,
    level: float = 0.95,
    not_comparable: str = "",
    departure: str = "",
) -> PublishedCheck:
    """Is a printed mean what our seeds would predict? Student-t prediction interval (Whitmore, 1986).

    If the paper's runs and ours are draws from one distribution, the difference of the means has variance
    ``sigma^2 (1 / n_printed + 1 / n)``; sigma^2 is pooled from both standard deviations with ``n + n_printed - 2``
    degrees of freedom, or comes from the one that is known. What is not printed is assumed, and said: no std, then
    ours; no n, then the fewest runs possible (1 without a std, 2 with one), which gives the widest interval.

    Two roundings are allowed for. The printed mean may be any number that is printed so: the interval is half a unit of
    its last place wider. Scores are shares of a finite test set: their variance is at least that of a uniform number
    within one ``step`` of their grid, ``step^2 / 12``, or equal runs would claim to know everything.

    Args:
        reproduced: our scores, in the units of the printed mean; NaN is ignored.
        printed_mean, printed_std, printed_n: as printed; the std is the sample standard deviation over runs.
        decimals: places after the point with which the mean is printed; None allows for no rounding.
        step: what the least change of a prediction does to our scores.
        level: coverage, in (0, 1).
        not_comparable: why the two measure different things (another metric or model); it decides the verdict.
        departure: in what ours was run otherwise (another budget); the verdict is ``not comparable``, the numbers' own
            is kept beside it.

    Raises:
        HarnessError: a negative printed std, or fewer than one run.
    """
    if (printed_std is not None and not printed_std >= 0) or (printed_n is not None and printed_n < 1):
        raise HarnessError(f"published value {printed_mean}: std {printed_std} or n {printed_n} is impossible")
    ours = cell(reproduced, level=level)
    difference = None if ours is None else ours.mean - printed_mean
    if not_comparable or ours is None or difference is None or math.isnan(printed_mean):
        return PublishedCheck("not comparable", difference, None, not_comparable or "nothing to compare")

    def judged(verdict: Verdict, interval: Interval | None, reason: str) -> PublishedCheck:
        if not departure:
            return PublishedCheck(verdict, difference, interval, reason, tuple(assumptions), None, True)
        by_numbers = verdict if verdict != "not comparable" else None
        return PublishedCheck("not comparable", difference, interval, departure, tuple(assumptions), by_numbers, True)

    assumptions = []
    n_printed = printed_n
    if n_printed is None:
        n_printed = 1 if printed_std is None else 2
        assumptions.append(f"n not printed: {n_printed} assumed")
    sources = []
    if ours.std is not None:
        sources.append((ours.std, ours.n - 1))
    if printed_std is not None and n_printed > 1:
        sources.append((printed_std, n_printed - 1))
    elif ours.std is not None:
        assumptions.append("std not printed: the reproduced one assumed")
    if not sources:
        return judged("not comparable", None, NO_SPREAD)
    if ours.std is None:
        assumptions.append("one reproduced seed: the printed std assumed")
    df = sum(degrees for _, degrees in sources)
    variance = max(sum(std**2 * degrees for std, degrees in sources) / df, step**2 / 12)
    half = float(t_quantile(level, df)) * math.sqrt(variance * (1 / n_printed + 1 / ours.n))
    if decimals is not None:
        half += 0.5 * 10.0**-decimals
    interval = Interval(difference - half, difference + half)
    verdict: Verdict = "consistent"
    if abs(difference) > max(half, ROUNDING * abs(printed_mean)):
        verdict = "above" if difference > 0 else "below"
    return judged(verdict, interval, "")


NO_SPREAD = "neither side has a spread (one seed)"
"""Why a difference that is known gets no verdict."""


@dataclass(frozen=True)
class PublishedSummary:
    """A whole table against its reproduction: verdict counts, and the mean absolute difference of the ``measured`` cells,
    those that measure what the paper does, a verdict or (for want of a spread, or in another configuration) none.
    ``departing`` of them were run in another configuration; ``by_numbers`` counts what their numbers alone say."""

    cells: int
    consistent: int
    below: int
    above: int
    not_comparable: int
    measured: int
    mean_absolute_difference: float | None
    departing: int
    by_numbers: Mapping[Verdict, int]


def summarise_published(checks: Iterable[PublishedCheck]) -> PublishedSummary:
    """Count verdicts and average ``|reproduced - printed|`` over the measured cells."""
    every = list(checks)
    verdicts = [check.verdict for check in every]
    gaps = [abs(c.difference) for c in every if c.difference is not None and c.measured]
    departing = [c for c in every if c.measured and c.verdict == "not comparable" and c.reason != NO_SPREAD]
    alone: tuple[Verdict, ...] = ("consistent", "below", "above")
    return PublishedSummary(
        len(every),
        verdicts.count("consistent"),
        verdicts.count("below"),
        verdicts.count("above"),
        verdicts.count("not comparable"),
        len(gaps),
        float(np.mean(gaps)) if gaps else None,
        len(departing),
        {verdict: sum(c.by_numbers == verdict for c in departing) for verdict in alone},
    )


@dataclass(frozen=True)
class OrderingAgreement:
    """Does the paper's ordering of methods hold here?

    ``agree`` and ``disagree`` count the pairs whose order our intervals decide and the paper prints as unequal;
    ``undecided`` the rest. ``tau_b`` is Kendall's over the means, None when either side is constant or has one method.
    """

    methods: tuple[str, ...]
    agree: int
    disagree: int
    undecided: int
    disagreements: tuple[tuple[str, str], ...]
    tau_b: float | None


def ordering_agreement(printed: Mapping[str, float], pairwise: Pairwise) -> OrderingAgreement:
    """Compare the printed order of methods with ours, pair by pair, over the methods that both have.

    Args:
        printed: method -> printed mean (NaN: not printed), same direction as the scores.
        pairwise: our comparison, from :func:`compare_methods` or :func:`compare_over_settings`.

    ``disagreements`` names the pairs that we decide against the paper, the better one here first.
    """
    kept = [i for i, name in enumerate(pairwise.methods) if name in printed and not math.isnan(printed[name])]
    names = tuple(pairwise.methods[i] for i in kept)
    theirs = np.array([printed[name] for name in names])
    ours = pairwise.estimate[kept]
    decided = pairwise.separable[np.ix_(kept, kept)]
    rows, columns = np.triu_indices(len(kept), 1)
    their_order = np.sign(theirs[rows] - theirs[columns])
    our_order = np.sign(ours[rows] - ours[columns])
    product = their_order * our_order
    settled = decided[rows, columns]
    better = our_order if pairwise.higher_is_better else -our_order
    against = tuple(
        (names[i], names[j]) if sign > 0 else (names[j], names[i])
        for i, j, sign in zip(
            rows[settled & (product < 0)],
            columns[settled & (product < 0)],
            better[settled & (product < 0)],
            strict=True,
        )
    )
    agree = int((settled & (product > 0)).sum())
    return OrderingAgreement(
        names, agree, len(against), len(rows) - agree - len(against), against, _tau_b(theirs, ours)
    )


def _tau_b(x: ArrayLike, y: ArrayLike) -> float | None:
    from scipy.stats import kendalltau

    tau = float(kendalltau(x, y).statistic) if np.size(x) > 1 else math.nan
    return None if math.isnan(tau) else tau
