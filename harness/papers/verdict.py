"""A paper's printed numbers against our seeds: one cell, a table, an ordering."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from harness.errors import HarnessError
from harness.results.statistics.scores import ROUNDING, Interval, cell, scipy_special, t_quantile
from harness.results.statistics.ties import Pairwise

Verdict = Literal["consistent", "inconclusive", "below", "above", "not comparable"]
POWER: Final = 0.8
"""With what probability a difference must be found for it to count as one that could have been seen."""
POINT: Final = 1.0
"""The least difference of accuracies that matters where a paper claims none: one point."""
SHARE: Final = 0.1
"""The same for other metrics, as a share of the printed value."""


class Reach(NamedTuple):
    """What a difference of means can tell: how far it may stray by chance, and what it would have shown.

    ``half`` is half the width of its interval, ``detectable`` the least true difference that a test at the same level
    finds with probability ``POWER``.
    """

    half: float
    detectable: float


def reach(parts: Sequence[tuple[float, float]], *, rounding: float = 0.0, level: float = 0.95) -> Reach:
    """Welch's test (1947) of a difference whose variance is a sum of independently estimated ones.

    The degrees of freedom are Welch-Satterthwaite's; the power is that of the noncentral t distribution at the estimated
    standard error. ``rounding``, by which a printed mean may be off, is added to both lengths.

    Args:
        parts: (variance, degrees of freedom) of every mean that the difference is made of.
        rounding: in the units of the scores.
        level: coverage of the interval, in (0, 1).
    """
    variance = sum(part for part, _ in parts)
    if not variance > 0:
        return Reach(rounding, rounding)
    df = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    critical, error = float(t_quantile(level, df)), math.sqrt(variance)
    noncentrality = float(scipy_special().nctdtrinc(df, 1 - POWER, critical))
    return Reach(critical * error + rounding, noncentrality * error + rounding)


@dataclass(frozen=True)
class PublishedCheck:
    """A printed mean against our seeds.

    Attributes:
        verdict: ``below`` and ``above`` say where the reproduced mean lies; ``consistent`` that it may be the printed
            one and a gap that matters would have been seen, ``inconclusive`` that it would not; ``not comparable`` has a
            ``reason``.
        difference: reproduced minus printed mean; None when nothing was reproduced.
        interval: of that difference; it contains 0 exactly when the verdict is ``consistent`` or ``inconclusive``.
        assumptions: what had to be assumed because the paper does not print it.
        by_numbers: the verdict that the numbers alone would get where only the configuration departs from the paper's.
        measured: whether both sides measure one thing, if perhaps in different configurations or without a spread.
        detectable: the least gap that would have been found with a power of 80 %; None where there is no interval.
        fallen: runs of ours that collapsed or diverged, in words.
    """

    verdict: Verdict
    difference: float | None
    interval: Interval | None
    reason: str = ""
    assumptions: tuple[str, ...] = ()
    by_numbers: Verdict | None = None
    measured: bool = False
    detectable: float | None = None
    fallen: str = ""


def compare_with_published(
    reproduced: ArrayLike,
    printed_mean: float,
    printed_std: float | None = None,
    printed_n: int | None = None,
    *,
    decimals: int | None = None,
    step: float = 0.0,
    gap: float = POINT,
    level: float = 0.95,
    not_comparable: str = "",
    departure: str = "",
    fallen: str = "",
    mixed: bool = False,
) -> PublishedCheck:
    """Is a printed mean what our seeds would predict? Welch's (1947) interval of the difference of the two means.

    The variance of the difference is ``s^2 / n + s_printed^2 / n_printed``, each side with its own variance: with one
    pooled variance 11 % of equal means get a verdict where one side's variance is five times the other's and its runs are
    fewer (3 and 5), with Welch's about 6 %. What is not printed is assumed, and said: no std, then ours; no n, then the
    fewest runs possible (1 without a std, 2 with one), which gives the widest interval.

    Where nothing is found, that means little if nothing could have been found: ``consistent`` asks for a power of 80 %
    against a difference of ``gap``, else the verdict is ``inconclusive``. A difference that is found stays one.

    Two roundings are allowed for. The printed mean may be any number that is printed so: the interval is half a unit of
    its last place wider. Scores are shares of a finite test set: the variance of each side is at least that of a uniform
    number within one ``step`` of their grid, ``step^2 / 12``, or equal runs would claim to know everything.

    Args:
        reproduced: our scores, in the units of the printed mean; NaN is ignored.
        printed_mean, printed_std, printed_n: as printed; the std is the sample standard deviation over runs.
        decimals: places after the point with which the mean is printed; None allows for no rounding.
        step: what the least change of a prediction does to our scores.
        gap: the least difference that matters, in the same units: one point of accuracy in percent unless said.
        level: coverage, in (0, 1).
        not_comparable: why the two measure different things (another metric or model); it decides the verdict.
        departure: in what ours was run otherwise (another budget); the verdict is ``not comparable``, the numbers' own
            is kept beside it.
        fallen: runs of ours that collapsed or diverged, in words.
        mixed: whether others did not. Such scores have two heights and no normal spread, so that no interval holds: the
            verdict is ``inconclusive``.

    Raises:
        HarnessError: a negative printed std, or fewer than one run.
    """
    if (printed_std is not None and not printed_std >= 0) or (printed_n is not None and printed_n < 1):
        raise HarnessError(f"published value {printed_mean}: std {printed_std} or n {printed_n} is impossible")
    ours = cell(reproduced, level=level)
    difference = None if ours is None else ours.mean - printed_mean
    if not_comparable or ours is None or difference is None or math.isnan(printed_mean):
        return PublishedCheck("not comparable", difference, None, not_comparable or "nothing to compare", fallen=fallen)
    assumptions = []
    n_printed = printed_n
    if n_printed is None:
        n_printed = 1 if printed_std is None else 2
        assumptions.append(f"n not printed: {n_printed} assumed")
    floor = step**2 / 12
    here = None if ours.std is None else max(ours.std**2, floor)
    there = None if printed_std is None or n_printed < 2 else max(printed_std**2, floor)
    if here is not None and there is not None:
        parts = [(here / ours.n, ours.n - 1.0), (there / n_printed, n_printed - 1.0)]
    elif here is not None:
        parts = [(here / ours.n + here / n_printed, ours.n - 1.0)]
        assumptions.append("std not printed: the reproduced one assumed")
    elif there is not None:
        parts = [(there / ours.n + there / n_printed, n_printed - 1.0)]
        assumptions.append("one reproduced seed: the printed std assumed")
    else:
        reason = departure or NO_SPREAD
        return PublishedCheck("not comparable", difference, None, reason, tuple(assumptions), None, True, fallen=fallen)
    if mixed:
        verdict: Verdict = "not comparable" if departure else "inconclusive"
        alone: Verdict | None = "inconclusive" if departure else None
        return PublishedCheck(verdict, difference, None, departure, tuple(assumptions), alone, True, fallen=fallen)
    found = reach(parts, rounding=0.0 if decimals is None else 0.5 * 10.0**-decimals, level=level)
    interval = Interval(difference - found.half, difference + found.half)
    verdict = "consistent" if found.detectable <= gap else "inconclusive"
    if abs(difference) > max(found.half, ROUNDING * abs(printed_mean)):
        verdict = "above" if difference > 0 else "below"
    of_numbers: Verdict | None = verdict if departure else None
    stated: Verdict = "not comparable" if departure else verdict
    return PublishedCheck(
        stated, difference, interval, departure, tuple(assumptions), of_numbers, True, found.detectable, fallen
    )


NO_SPREAD = "neither side has a spread (one seed)"
"""Why a difference that is known gets no verdict."""


@dataclass(frozen=True)
class PublishedSummary:
    """A whole table against its reproduction: verdict counts, and the mean absolute difference of the ``measured`` cells,
    those that measure what the paper does, a verdict or (for want of a spread, or in another configuration) none.
    ``departing`` of them were run in another configuration; ``by_numbers`` counts what their numbers alone say."""

    cells: int
    consistent: int
    inconclusive: int
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
    alone: tuple[Verdict, ...] = ("consistent", "below", "above", "inconclusive")
    return PublishedSummary(
        len(every),
        verdicts.count("consistent"),
        verdicts.count("inconclusive"),
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
