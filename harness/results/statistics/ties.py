"""Who is separable from whom: simultaneous comparisons of all methods, in a setting and over settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from harness.errors import HarnessError
from harness.results.statistics.additive import Fit, design_of, fit_additive, fit_means
from harness.results.statistics.scores import (
    ROUNDING,
    BoolArray,
    Coverage,
    FloatArray,
    IntArray,
    Interval,
    Scores,
    divide,
    scipy_special,
)
from harness.results.statistics.studentized_range import studentized_range_quantile, studentized_range_sf

_HETEROGENEITY_LEVEL = 0.01  # of the two tests of equal variances; see compare_methods
_MIN_DF_SHARE = 1 / 3  # blocks are used when they keep at least this share of the degrees of freedom


@dataclass(frozen=True, eq=False)
class Pairwise:
    """All pairs of comparable methods with simultaneous intervals: row method minus column method.

    Attributes:
        methods: the M comparable methods (two runs or more).
        not_comparable: ``(method, reason)`` of the others.
        n: ``[M]`` runs that each mean rests on.
        estimate: ``[M]`` the means compared (adjusted for seeds where some are missing).
        standard_error, df, half_width: ``[M, M]``; the interval of a difference is ``difference +- half_width``.
        variance_outliers: methods whose variance clearly differs; their pairs use Games-Howell.
        games_howell: ``[M, M]`` which pairs use Games-Howell.
        test: name of the test, for people.
        alpha: family-wise error over all pairs.
    """

    methods: tuple[str, ...]
    not_comparable: tuple[tuple[str, str], ...]
    n: tuple[int, ...]
    estimate: FloatArray
    standard_error: FloatArray
    df: FloatArray
    half_width: FloatArray
    variance_outliers: tuple[str, ...]
    games_howell: BoolArray
    test: str
    alpha: float
    higher_is_better: bool

    @property
    def difference(self) -> FloatArray:
        """``[M, M]`` row minus column, in the units of the scores."""
        return np.asarray(self.estimate[:, None] - self.estimate, dtype=np.float64)

    @property
    def separable(self) -> BoolArray:
        """``[M, M]`` True where the simultaneous interval of the difference excludes zero."""
        return np.abs(self.difference) > self.half_width

    @property
    def order(self) -> IntArray:
        """Positions of the methods from best to worst; equal ones keep their order."""
        return np.argsort(-self.estimate if self.higher_is_better else self.estimate, kind="stable")

    def adjusted_p(self, row: int) -> FloatArray:
        """``[M]`` p-values of one method against each other, adjusted for all pairs (1 against itself)."""
        count = len(self.methods)
        if count < 2:
            return np.ones(count)
        error = self.standard_error[row]
        difference = np.abs(self.difference[row])
        q = np.where(self.separable[row], np.inf, 0.0)  # without any variance, a difference is certain
        np.divide(math.sqrt(2) * difference, error, out=q, where=error > 0)
        return np.where(np.arange(count) == row, 1.0, studentized_range_sf(q, count, self.df[row]))


def compare_methods(
    methods: Sequence[str], values: ArrayLike, *, alpha: float = 0.05, higher_is_better: bool = True
) -> Pairwise:
    """All pairs of methods in one setting, with family-wise error ``alpha``.

    Which test, decided from the data in this order:

    1. Methods with fewer than two runs are not comparable.
    2. *Blocks.* Seeds are blocks (same split, same noisy labels): ``y[m, r] = method[m] + seed[r] + error``, fitted by
       least squares. A complete table gives the textbook randomised-block Tukey test with ``(M - 1)(R - 1)`` degrees
       of freedom; some runs may be missing. Blocks are used when the seeds connect all methods, every method has two
       runs on shared seeds, and at least a third of the degrees of freedom of the unblocked analysis remain; otherwise
       the test is Tukey-Kramer (Kramer, 1956) on the plain means.
    3. *Methods whose variance stands out.* While the largest residual sum of squares exceeds what equal variances
       explain (Cochran's C, 1941, for a two-way table; Bonferroni at 0.01; the null distribution is an exact Beta when
       no run is missing), that method leaves the pooled variance. So one method that collapses in one seed does not
       hide all other differences, nor is it called worse on the strength of the others' small spread.
    4. *Graded variances.* If Bartlett's test (1937) rejects equal variances of the rest at 0.01 (n >= 3), no variance
       is pooled.
    5. Pairs of pooled methods: ``q(alpha; M, df) / sqrt(2) * se`` (Tukey, 1953). Pairs with an unpooled method:
       Games-Howell (1976), from the two methods' own variances after seed effects are removed, with
       Welch-Satterthwaite degrees of freedom. Both use the quantile for all M methods.

    The level 0.01 keeps the price low when variances are equal: at n = 3 Games-Howell has next to no power. Simulated
    share of data sets in which any of 20 equal methods is called separable from the observed top: 5 % at n = 3 and 5;
    with one method of tenfold spread 8 and 4 % (pooling all: 35 and 32 %); with spreads graded from 0.3 to 3, 27 and
    9 % (pooling all: 26 and 25 %): three seeds cannot teach a test twenty variances, so mistrust close calls there.

    Args:
        methods: M names.
        values: ``[M, R]``, one column per seed, NaN = missing.
        alpha: family-wise error in (0, 1).
        higher_is_better: direction of the score.

    Raises:
        HarnessError: shapes do not fit, or a score is infinite.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or len(table) != len(methods):
        raise HarnessError(f"expected one row of scores per method ({len(methods)}), got shape {table.shape}")
    if np.isinf(table).any():
        raise HarnessError("a score is infinite", remedy="leave the run out or give it a finite score")
    runs = (~np.isnan(table)).sum(axis=1)
    kept = [i for i, count in enumerate(runs) if count >= 2]
    excluded = tuple((methods[i], f"n = {count}") for i, count in enumerate(runs) if count < 2)
    names = tuple(methods[i] for i in kept)
    table = table[kept]
    if len(kept) < 2:
        blank = np.zeros((len(kept), len(kept)))
        n = tuple(int(count) for count in runs[kept])
        estimate = np.nanmean(table, axis=1) if kept else np.zeros(0)
        return Pairwise(
            names, excluded, n, estimate, blank, blank + 1, blank, (), blank > 0, "no test", alpha, higher_is_better
        )
    blocks = _blocked_part(table)
    blocked = blocks is not None
    table = table if blocks is None else blocks
    core, fit = _pooled_core(table, blocked)
    table = np.where(np.isnan(fit.column), np.nan, table)  # seeds of no pooled method tell nothing
    graded = _variances_are_graded(table[core], fit, blocked)
    estimate, variance = _means_and_variances(table, core, fit)
    n_used = (~np.isnan(table)).sum(axis=1)
    unpooled = ~core | graded
    games_howell = unpooled[:, None] | unpooled

    # Games-Howell for every pair, then Tukey over it where both methods are pooled.
    of_mean = variance / n_used
    squared_error = of_mean[:, None] + of_mean
    spread = of_mean**2 / (n_used - 1)
    df = np.maximum(divide(squared_error**2, spread[:, None] + spread), 1.0)
    df = np.where(np.isnan(df), 1.0, df)
    if not graded:
        pooled = float(np.nansum(fit.residual**2)) / fit.df
        diagonal = np.diag(fit.generalised_inverse)
        within = np.ix_(core, core)
        squared_error[within] = pooled * (diagonal[:, None] + diagonal - 2 * fit.generalised_inverse)
        df[within] = fit.df
    error = np.sqrt(np.maximum(squared_error, 0.0))
    np.fill_diagonal(error, 0.0)
    half_width = studentized_range_quantile(alpha, len(names), df) / math.sqrt(2) * error
    half_width = np.maximum(half_width, ROUNDING * np.nanmax(np.abs(table)))
    test = _test_name(blocked, graded)
    outliers = tuple(names[i] for i in np.flatnonzero(~core))
    return Pairwise(
        names, excluded, tuple(int(count) for count in n_used), estimate, error, df, half_width,
        outliers, games_howell, test, alpha, higher_is_better,
    )  # fmt: skip


def _test_name(blocked: bool, graded: bool) -> str:
    if graded:
        return "block Games-Howell" if blocked else "Games-Howell"
    return "block Tukey" if blocked else "Tukey-Kramer"


def _blocked_part(table: FloatArray) -> FloatArray | None:
    """The columns that at least two methods share, if they allow a blocked analysis (rule 2 of compare_methods)."""
    present = ~np.isnan(table)
    shared = table[:, present.sum(axis=0) >= 2]
    runs = (~np.isnan(shared)).sum(axis=1)
    if not shared.size or runs.min() < 2:
        return None
    design = design_of((~np.isnan(shared)).tobytes(), len(shared))
    enough = design.df >= max(1.0, _MIN_DF_SHARE * (present.sum() - len(table)))
    return shared if len(set(design.labels)) == 1 and enough else None


def _fit_table(table: FloatArray, blocked: bool) -> Fit | None:
    """Fit with or without blocks; None when the blocks no longer connect the methods."""
    if not blocked:
        return fit_means(table)
    fit, design = fit_additive(table)
    return fit if len(set(design.labels)) == 1 and design.df >= 1 else None


def _pooled_core(table: FloatArray, blocked: bool) -> tuple[BoolArray, Fit]:
    """The methods whose variances may be pooled, and the fit to them (rule 3 of compare_methods)."""
    special = scipy_special()
    core = np.ones(len(table), dtype=bool)
    fit = _fit_table(table, blocked)
    assert fit is not None
    while core.sum() >= 3:
        squares = np.nansum(fit.residual**2, axis=1)
        degrees = (~np.isnan(table[core])).sum(axis=1) - 1.0
        total = squares.sum()
        if total <= (ROUNDING * np.nanmax(np.abs(table))) ** 2:
            break
        # A row's residuals live in n - 1 dimensions seen at an angle: its share / (row_df / (n - 1)) is Beta.
        ratio = np.minimum(squares / total / np.maximum(fit.row_df / degrees, 1e-9), 1.0)
        rest = fit.df - degrees
        p = np.ones(len(ratio))
        testable = rest > 0
        p[testable] = special.betaincc(degrees[testable] / 2, rest[testable] / 2, ratio[testable])
        worst = int(np.argmin(p))
        if len(p) * p[worst] >= _HETEROGENEITY_LEVEL:
            break
        smaller = core.copy()
        smaller[np.flatnonzero(core)[worst]] = False
        refit = _fit_table(table[smaller], blocked)
        known = refit is not None and (~np.isnan(table - refit.column)).sum(axis=1).min() >= 2
        if refit is None or not known:
            break
        core, fit = smaller, refit
    return core, fit


def _variances_are_graded(table: FloatArray, fit: Fit, blocked: bool) -> bool:
    """Bartlett's test on the residual variances of the pooled methods (rule 4 of compare_methods)."""
    degrees, squares = fit.row_df, np.nansum(fit.residual**2, axis=1)
    pooled = squares.sum() / degrees.sum()
    # Two blocked methods have mirrored residuals: their variances cannot be told apart.
    fewest = 3 if blocked else 2
    if len(table) < fewest or (~np.isnan(table)).sum(axis=1).min() < 3 or degrees.min() < 0.5 or pooled <= 0:
        return False
    # Scores are fractions of a finite test set: three equal ones are no proof of no variance.
    variance = np.maximum(squares / degrees, 0.01 * pooled)
    total = degrees.sum()
    statistic = total * math.log(pooled) - float((degrees * np.log(variance)).sum())
    correction = 1 + ((1 / degrees).sum() - 1 / total) / (3 * (len(table) - 1))
    return bool(scipy_special().chdtrc(len(table) - 1, max(statistic / correction, 0.0)) < _HETEROGENEITY_LEVEL)


def _means_and_variances(table: FloatArray, core: BoolArray, fit: Fit) -> tuple[FloatArray, FloatArray]:
    """Means and own variances, ``[M]`` each, after the seed effects that the pooled methods determine are removed."""
    estimate, variance = np.empty(len(table)), np.empty(len(table))
    estimate[core] = fit.row
    squares = np.nansum(fit.residual**2, axis=1)
    pooled = squares.sum() / fit.df
    variance[core] = np.where(fit.row_df > 0.5, squares / np.maximum(fit.row_df, 0.5), pooled)
    if not core.all():
        without_seeds = table[~core] - fit.column
        estimate[~core] = np.nanmean(without_seeds, axis=1) + np.nanmean(fit.column)
        variance[~core] = np.nanvar(without_seeds, axis=1, ddof=1)
    return estimate, variance


@dataclass(frozen=True)
class ToTop:
    """One method against the top: difference (method minus top), simultaneous interval, adjusted p-value."""

    method: str
    n: int
    difference: float
    interval: Interval
    p_value: float
    separable: bool
    test: str


@dataclass(frozen=True)
class TopGroup:
    """Who is not separable from the best of a setting.

    Attributes:
        top: the comparable method with the best mean; None when there is none.
        not_separable: the top and every method that the test cannot tell from it, best first.
        not_comparable: ``(method, reason)``: too few runs for any test.
        comparisons: every comparable method against the top, best first (the top itself is left out).
        test, alpha, n: which test, its family-wise error, and the runs per method (smallest, largest).
    """

    top: str | None
    not_separable: tuple[str, ...]
    not_comparable: tuple[tuple[str, str], ...]
    comparisons: tuple[ToTop, ...]
    test: str
    alpha: float
    n: tuple[int, int]


def top_group(pairwise: Pairwise) -> TopGroup:
    """The methods that are not separable from the top, by the simultaneous intervals of :func:`compare_methods`.

    The intervals hold for all pairs together, so they also hold against a top that was picked for its score.
    """
    if not pairwise.methods:
        return TopGroup(None, (), pairwise.not_comparable, (), "no test", pairwise.alpha, (0, 0))
    order = pairwise.order
    top = int(order[0])
    separable, p = pairwise.separable[top], pairwise.adjusted_p(top)
    comparisons = []
    for i in order[1:]:
        difference, half = float(pairwise.estimate[i] - pairwise.estimate[top]), float(pairwise.half_width[top, i])
        test = _pair_test(pairwise, top, int(i))
        comparisons.append(
            ToTop(
                pairwise.methods[i], pairwise.n[i], difference, Interval(difference - half, difference + half),
                float(p[i]), bool(separable[i]), test,
            )
        )  # fmt: skip
    tied = (pairwise.methods[top], *(c.method for c in comparisons if not c.separable))
    spread = (min(pairwise.n), max(pairwise.n))
    return TopGroup(
        pairwise.methods[top], tied, pairwise.not_comparable, tuple(comparisons), pairwise.test, pairwise.alpha, spread
    )


def _pair_test(pairwise: Pairwise, top: int, other: int) -> str:
    if not pairwise.games_howell[top, other] or "Games-Howell" in pairwise.test:
        return pairwise.test
    return "block Games-Howell" if "block" in pairwise.test else "Games-Howell"


def describe(group: TopGroup) -> str:
    """The tie as a sentence: ``A, B and C are not separable from the top (n = 3, block Tukey, 0.05)``."""
    left_out = [f"{method} ({reason})" for method, reason in group.not_comparable]
    tail = f"; {_listed(left_out)} {'is' if len(left_out) == 1 else 'are'} not comparable" if left_out else ""
    if group.top is None:
        return "No method has two runs: nothing can be compared" + tail
    if not group.comparisons:
        return f"{group.top} alone has two runs or more: nothing can be compared" + tail
    few, many = group.n
    n = f"n = {few}" if few == many else f"n = {few} to {many}"
    tests = dict.fromkeys([group.test, *(c.test for c in group.comparisons)])
    how = f"({n}, {' and '.join(tests)}, {group.alpha:g})"
    if len(group.not_separable) == 1:
        return f"{group.top} is alone at the top {how}" + tail
    return f"{_listed(group.not_separable)} are not separable from the top {how}" + tail


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def tiers(pairwise: Pairwise) -> tuple[tuple[str, ...], ...]:
    """Group the comparable methods for display: tier 1 is the top group, tier 2 the top group of the rest, and so on.

    Each tier is the best remaining method and those of the remaining ones that are not separable from it, by the one
    set of simultaneous intervals of all pairs (no new test per tier, so the family-wise error holds for the whole
    list). Best first within a tier, equal means in the order given. A method of lower mean but large variance may stand
    in a higher tier than a better, steadier one: it cannot be told from that tier's best.
    """
    separable, remaining, result = pairwise.separable, [int(i) for i in pairwise.order], []
    while remaining:
        best = remaining[0]
        result.append(tuple(pairwise.methods[i] for i in remaining if i == best or not separable[best, i]))
        remaining = [i for i in remaining if i != best and separable[best, i]]
    return tuple(result)


def compare_in_setting(scores: Scores, setting: str, *, alpha: float = 0.05) -> Pairwise:
    """:func:`compare_methods` on one setting of a table."""
    values = scores.values[:, scores.setting_index(setting)]
    return compare_methods(scores.methods, values, alpha=alpha, higher_is_better=scores.higher_is_better)


def compare_over_settings(scores: Scores, settings: Sequence[str] | None = None, *, alpha: float = 0.05) -> Pairwise:
    """All pairs of methods on their means over settings (default: all of them), for the overall tiers.

    The settings are fixed (the statement is about them, not about settings in general) and their runs independent:
    ``se^2 = sum_s se_s^2 / S^2`` from the comparison within each setting, with Satterthwaite (1946) degrees of freedom,
    and the studentized-range quantile for the number of methods. Methods without two runs in every setting are not
    comparable: their mean would be over other settings.
    """
    part = scores.select(settings=settings)
    if not part.settings:
        raise HarnessError("no setting to compare over")
    runs = (~np.isnan(part.values)).sum(axis=2)
    complete = np.flatnonzero((runs >= 2).all(axis=1))
    covered = (runs >= 2).sum(axis=1)
    left_out = [i for i in range(len(part.methods)) if i not in set(complete.tolist())]
    excluded = tuple((part.methods[i], str(Coverage(int(covered[i]), len(part.settings)))) for i in left_out)
    kept = part.select(methods=[part.methods[i] for i in complete])
    each = [compare_in_setting(kept, name, alpha=alpha) for name in kept.settings]
    estimate = np.mean([p.estimate for p in each], axis=0)
    squared = np.array([p.standard_error**2 for p in each])
    total = squared.sum(axis=0)
    df = divide(total**2, (squared**2 / np.array([p.df for p in each])).sum(axis=0))
    df = np.where(np.isnan(df), 1.0, df)
    error = np.sqrt(total) / len(each)
    half_width = error
    if len(complete) >= 2:
        scale = float(np.nanmax(np.abs(kept.values)))
        half_width = studentized_range_quantile(alpha, len(complete), df) / math.sqrt(2) * error
        half_width = np.maximum(half_width, ROUNDING * scale)
    used = [test for p in each for test in ([p.test, "Games-Howell"] if p.variance_outliers else [p.test])]
    kinds = " and ".join(dict.fromkeys(used))
    test = f"{kinds} over {len(each)} setting{'s' * (len(each) != 1)}" if len(complete) >= 2 else "no test"
    n = tuple(int(count) for count in runs[complete].min(axis=1)) if len(complete) else ()
    outliers = tuple(m for m in kept.methods if any(m in p.variance_outliers for p in each))
    games_howell = np.any([p.games_howell for p in each], axis=0)
    return Pairwise(
        kept.methods, excluded, n, estimate, error, df, half_width, outliers, games_howell, test, alpha,
        scores.higher_is_better,
    )  # fmt: skip
