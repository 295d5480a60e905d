"""Who is separable from whom: simultaneous comparisons of all methods, in a setting and over settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from harness.errors import HarnessError
from harness.results.statistics.additive import components, fit_additive, residual_df
from harness.results.statistics.power import detectable_difference
from harness.results.statistics.scores import (
    ROUNDING,
    BoolArray,
    FloatArray,
    IntArray,
    Interval,
    Scores,
    coverage,
    divide,
    least_gap,
    t_quantile,
)
from harness.results.statistics.studentized_range import studentized_range_quantile, studentized_range_sf
from harness.results.statistics.variances import moderate

State = Literal["separable", "equal", "undecided"]

PAIRED = "paired t test"
_MIN_DF_SHARE = 1 / 3  # blocks are used when they keep at least this share of the degrees of freedom
_ROUNDS = 3  # of weighting the methods by their variances to find the effect of the seeds


@dataclass(frozen=True, eq=False)
class Pairwise:
    """All pairs of comparable methods with simultaneous intervals: row method minus column method.

    Attributes:
        methods: the M comparable methods (two runs or more, none of which collapsed, diverged or failed).
        not_comparable: ``(method, reason)`` of the others.
        n: ``[M]`` runs that each mean rests on.
        estimate: ``[M]`` the means compared (adjusted for seeds where some are missing).
        mean_variance: ``[M]`` variance of each mean by the method's own moderated variance.
        standard_error, df, half_width: ``[M, M]``; the interval of a difference is ``difference +- half_width``.
        added_df: ``[M, M]`` of ``df``, what does not grow with the seeds: what the methods know together of variances.
        margin: differences up to it do not matter; see :meth:`state`.
        test: name of the test, for people.
        alpha: family-wise error over all pairs.
    """

    methods: tuple[str, ...]
    not_comparable: tuple[tuple[str, str], ...]
    n: tuple[int, ...]
    estimate: FloatArray
    mean_variance: FloatArray
    standard_error: FloatArray
    df: FloatArray
    added_df: FloatArray
    half_width: FloatArray
    margin: float
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

    @cached_property
    def detectable(self) -> FloatArray:
        """``[M, M]`` the least true difference that this comparison finds with a chance of 0.8; 0 on the diagonal."""
        critical = divide(self.half_width, self.standard_error)
        gap = detectable_difference(self.standard_error, self.df, critical)
        return np.where(np.eye(len(gap), dtype=bool), 0.0, np.where(np.isnan(critical), np.inf, gap))

    def state(self, row: int, column: int) -> State:
        """What can be said of a pair.

        ``separable``: the simultaneous interval of the difference excludes zero. ``equal``: it does not, although a
        difference of ``margin`` would have been found with a chance of 0.8. ``undecided``: it would not; the runs are too
        few or too noisy to tell.
        """
        if row != column and self.separable[row, column]:
            return "separable"
        return "equal" if row == column or self.detectable[row, column] <= self.margin else "undecided"

    @property
    def order(self) -> IntArray:
        """Positions of the methods from best to worst; equal ones keep their order."""
        return np.argsort(-self.estimate if self.higher_is_better else self.estimate, kind="stable")

    @property
    def ahead(self) -> BoolArray:
        """``[M, M]`` True where the row is separably better than the column."""
        sign = 1.0 if self.higher_is_better else -1.0
        return self.separable & (sign * self.difference > 0)

    @property
    def rank_span(self) -> tuple[Interval, ...]:
        """For every method the ranks that the simultaneous intervals allow (Al Mohamad et al., 2022).

        One more than the methods that are separably better, to M minus those that are separably worse: the spans hold for
        all methods together, and never contradict a tier or a mark of the same table.
        """
        count = len(self.methods)
        best, worst = 1 + self.ahead.sum(axis=0), count - self.ahead.sum(axis=1)
        return tuple(Interval(float(a), float(b)) for a, b in zip(best, worst, strict=True))

    def adjusted_p(self, row: int) -> FloatArray:
        """``[M]`` p-values of one method against each other, adjusted for all pairs (1 against itself).

        Without any spread at all nothing is known of chance, and p is 1.
        """
        count = len(self.methods)
        if count < 2:
            return np.ones(count)
        q = divide(math.sqrt(2) * np.abs(self.difference[row]), self.standard_error[row], 0.0)
        return np.where(np.arange(count) == row, 1.0, studentized_range_sf(q, count, self.df[row]))


class Simultaneous(NamedTuple):
    """Means and simultaneous intervals of tables ``[..., M, R]``; see :func:`simultaneous`."""

    estimate: FloatArray  # [..., M]
    mean_variance: FloatArray  # [..., M]
    standard_error: FloatArray  # [..., M, M]
    df: FloatArray  # [..., M, M]
    added_df: FloatArray  # [..., M, M]
    half_width: FloatArray  # [..., M, M]


class _Errors(NamedTuple):
    """:class:`Simultaneous` before the quantile, with squared standard errors."""

    estimate: FloatArray
    mean_variance: FloatArray
    squared: FloatArray
    df: FloatArray
    added: FloatArray


def simultaneous(values: FloatArray, *, blocked: bool, alpha: float = 0.05, step: float = 0.0) -> Simultaneous:
    """All pairs of M methods from ``values[..., M, R]``, two runs or more each, for all leading axes at once.

    The arithmetic of :func:`compare_methods`, which says what it does; simulations call it on thousands of tables.

    Args:
        values: NaN = missing. Blocked tables are connected.
        blocked: whether the columns are blocks.
        alpha: family-wise error.
        step: of the grid of the scores.
    """
    floor, methods = step**2 / 12, values.shape[-2]
    if methods == 2:
        found = _paired(values, floor) if blocked else _welch(values, floor)
    else:
        found = _moderated_blocks(values, floor) if blocked else _moderated_means(values, floor)
    error = np.sqrt(np.maximum(found.squared, 0.0))
    error[..., np.arange(methods), np.arange(methods)] = 0.0
    quantile = _quantile(alpha, methods, found.df)
    scale = ROUNDING * np.asarray(np.nanmax(np.abs(values), axis=(-2, -1)))[..., None, None]
    half_width = np.where(error > scale, np.maximum(quantile * error, scale), np.inf)  # no spread says nothing
    half_width[..., np.arange(methods), np.arange(methods)] = 0.0
    return Simultaneous(found.estimate, found.mean_variance, error, found.df, found.added, half_width)


def _quantile(alpha: float, methods: int, df: FloatArray) -> FloatArray:
    """Standard errors that a difference must exceed: Student's t for two methods, else Tukey's studentized range."""
    if methods == 2:
        return t_quantile(1 - alpha, df)
    return studentized_range_quantile(alpha, methods, df) / math.sqrt(2)


def _pairs(squared: FloatArray, like: FloatArray) -> FloatArray:
    """A number per table ``[...]`` for every pair ``[..., M, M]``."""
    return np.broadcast_to(squared[..., None, None], (*like.shape[:-2], like.shape[-2], like.shape[-2])).copy()


def _paired(values: FloatArray, floor: float) -> _Errors:
    """Two methods on shared seeds: the paired t-test (Student, 1908), which asks nothing of their variances."""
    gaps = values[..., 0, :] - values[..., 1, :]
    n = np.asarray((~np.isnan(gaps)).sum(axis=-1))
    gap = np.asarray(np.nanmean(gaps, axis=-1))
    variance = np.maximum(np.nanvar(gaps, axis=-1, ddof=1), 2 * floor) / n
    middle = np.asarray(np.nanmean(values, axis=(-2, -1)))
    estimate = middle[..., None] + gap[..., None] * np.array([0.5, -0.5])
    own = np.repeat(variance[..., None] / 2, 2, axis=-1)
    return _Errors(estimate, own, _pairs(variance, values), _pairs(n - 1.0, values), _pairs(0.0 * variance, values))


def _welch(values: FloatArray, floor: float) -> _Errors:
    """Two methods without shared seeds: Welch's (1947) test."""
    n = (~np.isnan(values)).sum(axis=-1)
    of_mean = np.maximum(np.nanvar(values, axis=-1, ddof=1), floor) / n
    total = of_mean.sum(axis=-1)
    df = divide(total**2, (of_mean**2 / (n - 1)).sum(axis=-1), 1.0)
    return _Errors(
        np.nanmean(values, axis=-1), of_mean, _pairs(total, values), _pairs(df, values), _pairs(0.0 * total, values)
    )


def _moderated_blocks(values: FloatArray, floor: float) -> _Errors:
    """Methods + seeds by weighted least squares, each method by its moderated variance."""
    present = ~np.isnan(values)
    weights = np.ones(values.shape[:-1])
    for _ in range(_ROUNDS):
        fit = fit_additive(values, weights)
        own_df = np.maximum(fit.row_df, 1e-3)
        own = np.maximum(np.nansum(fit.residual**2, axis=-1) / own_df, floor)
        variance, added = moderate(own, own_df)
        known = np.asarray((variance > 0).all(axis=-1))
        weights = 1 / np.where(known[..., None], variance, 1.0)
    fit = fit_additive(values, weights)
    diagonal = np.diagonal(fit.inverse, axis1=-2, axis2=-1)
    squared = diagonal[..., :, None] + diagonal[..., None, :] - 2 * fit.inverse
    squared = np.where(known[..., None, None], squared, 0.0)
    df, added = _pair_df(own_df, added, residual_df(present))
    return _Errors(fit.row, variance / present.sum(axis=-1), squared, df, added)


def _moderated_means(values: FloatArray, floor: float) -> _Errors:
    """Plain means with moderated variances."""
    n = (~np.isnan(values)).sum(axis=-1)
    own = np.maximum(np.nanvar(values, axis=-1, ddof=1), floor)
    variance, added = moderate(own, n - 1.0)
    of_mean = variance / n
    df, added = _pair_df(n - 1.0, added, (n - 1.0).sum(axis=-1))
    return _Errors(np.nanmean(values, axis=-1), of_mean, of_mean[..., :, None] + of_mean[..., None, :], df, added)


def _pair_df(own: FloatArray, added: FloatArray, pooled: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Degrees of freedom of every pair, and which of them are the other methods': those of the less known variance."""
    fewer = np.minimum(own[..., :, None], own[..., None, :])
    df = np.minimum(fewer + added[..., None, None], pooled[..., None, None])
    return df, df - np.minimum(fewer, df)


def compare_methods(
    methods: Sequence[str],
    values: ArrayLike,
    *,
    alpha: float = 0.05,
    higher_is_better: bool = True,
    step: float | None = None,
    margin: float | None = None,
    aside: Mapping[str, str] | None = None,
) -> Pairwise:
    """All pairs of methods in one setting, with family-wise error ``alpha``.

    1. Methods with fewer than two runs, and those that stand ``aside``, are not compared.
    2. *Blocks.* Seeds are blocks (same split, same noisy labels): ``y[m, r] = method[m] + seed[r] + error``, fitted by
       least squares; some runs may be missing. Blocks are used when the seeds connect all methods, every method has two
       runs on shared seeds, and at least a third of the degrees of freedom of the unblocked analysis remain; otherwise
       plain means are compared.
    3. *Moderated variances* (Smyth, 2004; see :func:`~harness.results.statistics.variances.moderate`). Methods differ in
       spread. Each keeps its own variance, drawn towards the common one as strongly as the methods are alike; the seeds'
       effects are fitted with weights from these variances, so that one method that jumps does not blur the others.
    4. The interval of a pair is ``q(alpha; M, df) / sqrt(2) * se`` (Tukey, 1953; Kramer, 1956) with the degrees of freedom
       of the less known of the two variances, at most those of pooling all. Two methods alone are compared by the paired
       t-test, or Welch's without shared seeds: neither asks for equal variances.

    What it holds, by simulation, is in docs/statistics.md: about 5 % where methods have equal variances, up to 11 % at
    three seeds and 7 % at five where they differ as much as those of the packaged board.

    Args:
        methods: M names.
        values: ``[M, R]``, one column per seed, NaN = missing.
        alpha: family-wise error in (0, 1).
        higher_is_better: direction of the score.
        step: of the grid of the scores, which bounds variances from below; default the least gap between two scores.
        margin: the difference that would matter; see :meth:`Pairwise.state`. Default 10 % of the best mean.
        aside: methods that must not be compared, with the reason.

    Raises:
        HarnessError: shapes do not fit, or a score is infinite.
    """
    return _compared(
        [_comparable(methods, values, aside or {}, step, margin)], alpha=alpha, higher_is_better=higher_is_better
    )[0]


class _Comparable(NamedTuple):
    """One table on its way to :class:`Pairwise`: its comparable methods, and what is compared of them."""

    methods: tuple[str, ...]
    excluded: tuple[tuple[str, str], ...]
    table: FloatArray  # [M, R]
    blocked: bool
    step: float
    margin: float | None


def _comparable(
    methods: Sequence[str], values: ArrayLike, aside: Mapping[str, str], step: float | None, margin: float | None
) -> _Comparable:
    """Rules 1 and 2 of :func:`compare_methods`."""
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or len(table) != len(methods):
        raise HarnessError(f"expected one row of scores per method ({len(methods)}), got shape {table.shape}")
    if np.isinf(table).any():
        raise HarnessError("a score is infinite", remedy="leave the run out or give it a finite score")
    runs = (~np.isnan(table)).sum(axis=1)
    kept = [i for i, count in enumerate(runs) if count >= 2 and methods[i] not in aside]
    excluded = tuple(
        (methods[i], aside.get(methods[i], f"n = {runs[i]}")) for i in range(len(runs)) if i not in set(kept)
    )
    step = least_gap(table) if step is None else step
    table = table[kept]
    blocks = _blocked_part(table) if len(kept) > 1 else None
    return _Comparable(
        tuple(methods[i] for i in kept), excluded, table if blocks is None else blocks, blocks is not None, step, margin
    )


def _compared(tables: Sequence[_Comparable], *, alpha: float, higher_is_better: bool) -> list[Pairwise]:
    """Rules 3 and 4 of :func:`compare_methods` for many tables; those of one shape are computed together."""
    together: dict[tuple[tuple[int, ...], bool, float], list[int]] = {}
    for place, one in enumerate(tables):
        together.setdefault((one.table.shape, one.blocked, one.step), []).append(place)
    found: dict[int, Simultaneous] = {}
    for (_, blocked, step), places in together.items():
        stacked = np.stack([tables[place].table for place in places])
        if stacked.shape[1] < 2:
            blank = np.zeros((*stacked.shape[:2], stacked.shape[1]))
            mean = np.nanmean(stacked, axis=-1) if stacked.shape[1] else np.zeros(stacked.shape[:2])
            whole = Simultaneous(mean, np.zeros(stacked.shape[:2]), blank, blank + 1, blank, blank)
        else:
            whole = simultaneous(stacked, blocked=blocked, alpha=alpha, step=step)
        for row, place in enumerate(places):
            found[place] = Simultaneous(*(part[row] for part in whole))
    return [_pairwise(one, found[place], alpha, higher_is_better) for place, one in enumerate(tables)]


def _pairwise(one: _Comparable, found: Simultaneous, alpha: float, higher_is_better: bool) -> Pairwise:
    count = len(one.methods)
    return Pairwise(
        one.methods,
        one.excluded,
        tuple(int(runs) for runs in (~np.isnan(one.table)).sum(axis=1)),
        found.estimate,
        found.mean_variance,
        found.standard_error,
        found.df,
        found.added_df,
        found.half_width,
        _relative_margin(found.estimate, higher_is_better) if one.margin is None else one.margin,
        _test_name(one.blocked, count) if count > 1 else "no test",
        alpha,
        higher_is_better,
    )


def _relative_margin(estimate: FloatArray, higher_is_better: bool) -> float:
    """10 % of the best mean."""
    return 0.1 * abs(float(estimate.max() if higher_is_better else estimate.min())) if estimate.size else 0.0


def _test_name(blocked: bool, methods: int) -> str:
    if methods == 2:
        return PAIRED if blocked else "Welch's t test"
    return "moderated block Tukey" if blocked else "moderated Tukey-Kramer"


def _blocked_part(table: FloatArray) -> FloatArray | None:
    """The columns that at least two methods share, if they allow a blocked analysis (rule 2 of compare_methods)."""
    present = ~np.isnan(table)
    shared = table[:, present.sum(axis=0) >= 2]
    here = ~np.isnan(shared)
    if not shared.size or here.sum(axis=1).min() < 2 or len(set(components(here))) > 1:
        return None
    enough = residual_df(here) >= max(1.0, _MIN_DF_SHARE * (present.sum() - len(table)))
    return shared if enough else None


@dataclass(frozen=True)
class ToTop:
    """One method against the top: difference (method minus top), simultaneous interval, adjusted p-value.

    ``state`` is ``separable`` where the top or any other method is separably better, else ``equal`` or ``undecided``, as
    :meth:`Pairwise.state` says of it and the top; ``detectable`` is the least difference that would have been found with
    a chance of 0.8.
    """

    method: str
    n: int
    difference: float
    interval: Interval
    p_value: float
    separable: bool
    test: str
    state: State
    detectable: float


@dataclass(frozen=True)
class TopGroup:
    """Who is not separable from the best of a setting.

    Attributes:
        top: the comparable method with the best mean; None when there is none.
        not_separable: the top and every method that the test cannot tell from it, best first: ``equal`` ones, of which
            a difference that matters would have been found, and ``undecided`` ones, too noisy to tell.
        equal, undecided: the two parts of ``not_separable`` without the top.
        not_comparable: ``(method, reason)``: too few runs for any test, or runs that collapsed, diverged or failed.
        comparisons: every comparable method against the top, best first (the top itself is left out).
        test, alpha, n: which test, its family-wise error, and the runs per method (smallest, largest).
        margin: the difference that matters.
        detectable: the differences from the top that are found with a chance of 0.8 (smallest, largest); None without
            comparisons.
    """

    top: str | None
    not_separable: tuple[str, ...]
    not_comparable: tuple[tuple[str, str], ...]
    comparisons: tuple[ToTop, ...]
    test: str
    alpha: float
    n: tuple[int, int]
    margin: float
    detectable: Interval | None

    @property
    def equal(self) -> tuple[str, ...]:
        """Not separable, and a difference of ``margin`` would have been found."""
        return tuple(c.method for c in self.comparisons if c.state == "equal")

    @property
    def undecided(self) -> tuple[str, ...]:
        """Not separable, but too noisy to tell."""
        return tuple(c.method for c in self.comparisons if c.state == "undecided")


def top_group(pairwise: Pairwise) -> TopGroup:
    """The methods that may be the best, by the simultaneous intervals of :func:`compare_methods`: no other is separably better.

    The intervals hold for all pairs together, so they also hold against a top that was picked for its score. A method that
    the top is too noisy to be told from, but another is separably better than, is not among them: its rank span, which
    the same intervals make, does not begin at 1.
    """
    if not pairwise.methods:
        return TopGroup(None, (), pairwise.not_comparable, (), "no test", pairwise.alpha, (0, 0), pairwise.margin, None)
    order = pairwise.order
    top = int(order[0])
    p, states = pairwise.adjusted_p(top), states_to_top(pairwise)
    comparisons = []
    for i in order[1:]:
        difference, half = float(pairwise.estimate[i] - pairwise.estimate[top]), float(pairwise.half_width[top, i])
        state = states[i]
        comparisons.append(
            ToTop(
                pairwise.methods[i], pairwise.n[i], difference, Interval(difference - half, difference + half),
                float(p[i]), state == "separable", pairwise.test, state, float(pairwise.detectable[top, i]),
            )
        )  # fmt: skip
    tied = (pairwise.methods[top], *(c.method for c in comparisons if not c.separable))
    gaps = [c.detectable for c in comparisons]
    return TopGroup(
        pairwise.methods[top],
        tied,
        pairwise.not_comparable,
        tuple(comparisons),
        pairwise.test,
        pairwise.alpha,
        (min(pairwise.n), max(pairwise.n)),
        pairwise.margin,
        Interval(min(gaps), max(gaps)) if gaps else None,
    )


def states_to_top(pairwise: Pairwise) -> tuple[State, ...]:
    """How each of the methods, one or more, stands to the top, as :class:`ToTop` says; the top itself is ``equal``."""
    top, behind = int(pairwise.order[0]), np.asarray(pairwise.ahead.any(axis=0))
    return tuple("separable" if behind[i] else pairwise.state(top, i) for i in range(len(pairwise.methods)))


def describe(group: TopGroup) -> str:
    """The tie as a sentence.

    ``A is at the top, B is equal to it; C and D are too noisy to tell (n = 3, moderated block Tukey, 0.05)``.
    """
    left_out = [f"{method} ({reason})" for method, reason in group.not_comparable]
    tail = f"; {_listed(left_out)} {'is' if len(left_out) == 1 else 'are'} not comparable" if left_out else ""
    if group.top is None:
        return "No method can be tested" + tail
    if not group.comparisons:
        return f"{group.top} alone can be tested: nothing can be compared" + tail
    few, many = group.n
    n = f"n = {few}" if few == many else f"n = {few} to {many}"
    how = f"({n}, {group.test}, {group.alpha:g})"
    if len(group.not_separable) == 1:
        return f"{group.top} is alone at the top {how}" + tail
    said = f"{_listed((group.top, *group.equal))} are equal at the top" if group.equal else f"{group.top} is at the top"
    if group.undecided:
        verb = "is" if len(group.undecided) == 1 else "are"
        said += f"; {_listed(group.undecided)} {verb} too noisy to tell from it"
    return f"{said} {how}{tail}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def tiers(pairwise: Pairwise) -> tuple[tuple[str, ...], ...]:
    """Group the comparable methods for display: tier 1 is the top group, tier 2 the top group of the rest, and so on.

    Each tier is those of the remaining methods than which no remaining one is separably better, by the one set of
    simultaneous intervals of all pairs (no new test per tier, so the family-wise error holds for the whole list). Best first within a tier, equal means in the order given. A method of lower mean but large variance may stand
    in a higher tier than a better, steadier one: it is ``undecided`` there, which a page must say.
    """
    ahead, remaining, result = pairwise.ahead, [int(i) for i in pairwise.order], []
    while remaining:
        behind = set(np.flatnonzero(ahead[remaining].any(axis=0)))
        result.append(tuple(pairwise.methods[i] for i in remaining if i not in behind))
        remaining = [i for i in remaining if i in behind]
    return tuple(result)


def _margin_of(scores: Scores) -> float | None:
    """One point of a hundred where the range of the scores is known; else left to the comparison."""
    return None if scores.bounds is None else 0.01 * (scores.bounds[1] - scores.bounds[0])


def compare_in_setting(scores: Scores, setting: str, *, alpha: float = 0.05, margin: float | None = None) -> Pairwise:
    """:func:`compare_methods` on one setting of a table.

    ``margin`` is by default a hundredth of the scores' range (one point of an accuracy), or 10 % of the best mean where
    the range is not known. Methods with runs in this setting that collapsed, diverged or failed stand aside.
    """
    return compare_in_settings(scores, [setting], alpha=alpha, margin=margin)[0]


def compare_in_settings(
    scores: Scores, settings: Sequence[str], *, alpha: float = 0.05, margin: float | None = None
) -> list[Pairwise]:
    """:func:`compare_in_setting` of each of several settings, computed together."""
    step = scores.grid
    margin = _margin_of(scores) if margin is None else margin
    tables = []
    for setting in settings:
        part = scores.select(settings=[setting])
        tables.append(_comparable(part.methods, part.values[:, 0], part.standing_aside(), step, margin))
    return _compared(tables, alpha=alpha, higher_is_better=scores.higher_is_better)


def compare_over_settings(
    scores: Scores, settings: Sequence[str] | None = None, *, alpha: float = 0.05, margin: float | None = None
) -> Pairwise:
    """All pairs of methods on their means over settings (default: all of them), for the overall tiers.

    The settings are fixed (the statement is about them, not about settings in general) and their runs independent:
    ``se^2 = sum_s se_s^2 / S^2`` from the comparison within each setting, with Satterthwaite (1946) degrees of freedom,
    and the studentized-range quantile for the number of methods. Methods without two runs in every setting are not
    comparable: their mean would be over other settings. Nor are those of which any run collapsed, diverged or failed.
    """
    part = scores.select(settings=settings)
    if not part.settings:
        raise HarnessError("no setting to compare over")
    aside = part.standing_aside()
    runs = (~np.isnan(part.values)).sum(axis=2)
    covered = coverage(part, min_seeds=2)
    complete = [i for i, m in enumerate(part.methods) if covered[i].done == covered[i].total and m not in aside]
    excluded = tuple(
        (name, aside.get(name, str(covered[i]))) for i, name in enumerate(part.methods) if i not in set(complete)
    )
    kept = part.select(methods=[part.methods[i] for i in complete])
    each = compare_in_settings(kept, kept.settings, alpha=alpha)
    estimate = np.mean([p.estimate for p in each], axis=0)
    squared = np.array([p.standard_error**2 for p in each])
    total = squared.sum(axis=0)
    uncertainty = squared**2 / np.array([p.df for p in each])
    df = divide(total**2, uncertainty.sum(axis=0), 1.0)
    added = df * divide(
        (uncertainty * np.array([p.added_df / p.df for p in each])).sum(axis=0), uncertainty.sum(axis=0), 0.0
    )
    error = np.sqrt(total) / len(each)
    half_width = error
    if len(complete) >= 2:
        half_width = _quantile(alpha, len(complete), df) * error
        half_width = np.where(np.all([np.isinf(p.half_width) for p in each], axis=0), np.inf, half_width)
    test = f"{each[0].test} over {len(each)} setting{'s' * (len(each) != 1)}" if len(complete) >= 2 else "no test"
    if margin is None:
        known = _margin_of(part)
        margin = _relative_margin(estimate, part.higher_is_better) if known is None else known
    return Pairwise(
        kept.methods,
        excluded,
        tuple(int(count) for count in runs[complete].min(axis=1)) if complete else (),
        estimate,
        np.sum([p.mean_variance for p in each], axis=0) / len(each) ** 2,
        error,
        df,
        added,
        half_width,
        margin,
        test,
        alpha,
        scores.higher_is_better,
    )
