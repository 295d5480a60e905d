"""What the tables may say: every statistical statement of the boards, exports and pages, as pure functions on arrays.

It sits between the store (long-form scores) and whatever shows them; it knows no user interface and no file.

Conventions. A score table is ``values[M, S, R]``: M methods, S settings, R seeds, NaN where a run is missing.
Differences and intervals are in the units of the scores; ``higher_is_better`` says which direction is an improvement.
Intervals are two-sided at ``level`` (0.95), tests at ``alpha`` (0.05). Every function is deterministic: resampling is
seeded.

Only ``scipy.special`` is imported, when first needed (0.3 s; ``scipy.stats`` takes 1.1 s, ``statsmodels`` 1.9 s): the
studentized range, the bootstrap and Kendall's tau are computed here, and the tests hold them against scipy and
statsmodels. :func:`cells` with ``intervals=False`` imports nothing but numpy.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.errors import HarnessError

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
Verdict = Literal["consistent", "below", "above", "not comparable"]

_KEPT_ALPHA = 0.05  # whose studentized-range curves lie in studentized_range.npy
_ROUNDING = 1e-12  # differences below this share of the largest value are rounding, not differences
_HETEROGENEITY_LEVEL = 0.01  # of the two tests of equal variances; see compare_methods
_MIN_DF_SHARE = 1 / 3  # blocks are used when they keep at least this share of the degrees of freedom


def _special() -> Any:
    """``scipy.special``, imported when first needed (it has no type stubs, hence ``Any``)."""
    return importlib.import_module("scipy.special")


class Interval(NamedTuple):
    """A two-sided interval, ``low <= high``."""

    low: float
    high: float


class Coverage(NamedTuple):
    """How many of the settings a method has results in; prints as ``8/12``."""

    done: int
    total: int

    def __str__(self) -> str:
        return f"{self.done}/{self.total}"


# --- the table of scores ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Scores:
    """One metric of a suite as a dense table.

    Attributes:
        methods, settings, seeds: the labels of the three axes, each without repetition.
        values: ``[M, S, R]`` floats in the metric's units, NaN where a run is missing. Kept as a read-only copy.
        higher_is_better: True for accuracies, False for losses and error measures.

    Raises:
        HarnessError: the shape does not fit the labels, a label is repeated, or a value is infinite.
    """

    methods: tuple[str, ...]
    settings: tuple[str, ...]
    seeds: tuple[int, ...]
    values: FloatArray
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=np.float64)
        shape = (len(self.methods), len(self.settings), len(self.seeds))
        if values.shape != shape:
            raise HarnessError(f"scores have shape {values.shape}, their labels say {shape}")
        for axis, labels in (("method", self.methods), ("setting", self.settings), ("seed", self.seeds)):
            if len(set(labels)) != len(labels):
                raise HarnessError(f"scores name a {axis} twice")
        if np.isinf(values).any():
            m, s, r = np.argwhere(np.isinf(values))[0]
            place = f"{self.methods[m]}, {self.settings[s]}, seed {self.seeds[r]}"
            raise HarnessError("a score is infinite", where=place, remedy="leave the run out or give it a finite score")
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    @classmethod
    def from_columns(
        cls,
        method: Sequence[str],
        setting: Sequence[str],
        seed: Sequence[int],
        value: Sequence[float | None],
        *,
        higher_is_better: bool = True,
    ) -> Scores:
        """The table of a long-form result set (four columns of one length; ``None`` and NaN are missing runs).

        Methods and settings keep the order in which they first appear, seeds ascend. 100,000 rows take about 0.05 s.

        Raises:
            HarnessError: columns of different length, or two values for one (method, setting, seed).
        """
        if not len(method) == len(setting) == len(seed) == len(value):
            raise HarnessError("the columns method, setting, seed and value have different lengths")
        methods, settings = tuple(dict.fromkeys(method)), tuple(dict.fromkeys(setting))
        seeds = tuple(sorted(set(seed)))
        shape = (len(methods), len(settings), len(seeds))
        flat = np.zeros(len(value), dtype=np.int64)
        columns: tuple[tuple[Sequence[Any], tuple[Any, ...]], ...] = (
            (method, methods),
            (setting, settings),
            (seed, seeds),
        )
        for column, labels in columns:
            position = {label: i for i, label in enumerate(labels)}
            codes = np.fromiter(map(position.__getitem__, column), dtype=np.int64, count=len(column))
            flat = flat * len(labels) + codes
        uses = np.bincount(flat, minlength=math.prod(shape)) if len(flat) else np.zeros(0, dtype=np.int64)
        if (uses > 1).any():
            m, s, r = np.unravel_index(int(np.argmax(uses > 1)), shape)
            place = f"{methods[m]}, {settings[s]}, seed {seeds[r]}"
            raise HarnessError("two scores for one run", where=place, remedy="keep one attempt per trial")
        values = np.full(math.prod(shape), np.nan)
        values[flat] = np.asarray(value, dtype=np.float64)
        return cls(methods, settings, seeds, values.reshape(shape), higher_is_better)

    @classmethod
    def from_rows(cls, rows: Iterable[tuple[str, str, int, float | None]], *, higher_is_better: bool = True) -> Scores:
        """The table of ``(method, setting, seed, value)`` rows; see :meth:`from_columns`."""
        columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
        return cls.from_columns(*columns, higher_is_better=higher_is_better)

    def select(self, methods: Sequence[str] | None = None, settings: Sequence[str] | None = None) -> Scores:
        """The part of the table with these methods and settings, in the order given (``None``: all, as they are)."""
        chosen_methods = self.methods if methods is None else tuple(methods)
        chosen_settings = self.settings if settings is None else tuple(settings)
        rows = [self.method_index(name) for name in chosen_methods]
        columns = [self.setting_index(name) for name in chosen_settings]
        part = self.values[np.ix_(rows, columns, range(len(self.seeds)))]
        return Scores(chosen_methods, chosen_settings, self.seeds, part, self.higher_is_better)

    def runs(self, method: str, setting: str) -> FloatArray:
        """The scores ``[R]`` of one cell, NaN where a seed is missing."""
        return np.asarray(self.values[self.method_index(method), self.setting_index(setting)])

    def method_index(self, method: str) -> int:
        """Row of a method; HarnessError when there is none of that name."""
        return _index("method", method, self.methods)

    def setting_index(self, setting: str) -> int:
        """Column of a setting; HarnessError when there is none of that name."""
        return _index("setting", setting, self.settings)


def _index(kind: str, name: str, names: tuple[str, ...]) -> int:
    try:
        return names.index(name)
    except ValueError:
        raise HarnessError(f"no {kind} {name!r} among the scores") from None


# --- one cell ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One method in one setting: mean over seeds, sample standard deviation (ddof 1), and Student-t interval.

    ``std`` and ``interval`` are None for one seed: a single run says nothing about spread.
    """

    mean: float
    std: float | None
    n: int
    interval: Interval | None


@dataclass(frozen=True, eq=False)
class CellTable:
    """All cells at once, each array ``[M, S]``: NaN mean where n = 0, NaN std, low and high where n < 2."""

    mean: FloatArray
    std: FloatArray
    n: IntArray
    low: FloatArray
    high: FloatArray


def t_quantile(level: float, df: ArrayLike) -> FloatArray:
    """Half-width factor of a two-sided Student-t interval: the ``(1 + level) / 2`` quantile with ``df`` degrees."""
    return np.asarray(_special().stdtrit(np.asarray(df, dtype=np.float64), 0.5 + level / 2), dtype=np.float64)


def cell(values: ArrayLike, *, level: float = 0.95) -> Cell | None:
    """Mean, sample standard deviation, n and Student-t interval ``mean +- t * s / sqrt(n)`` (Student, 1908).

    With three seeds a percentile bootstrap covers the truth in about 75 % of cells, the t interval in 95 %.

    Args:
        values: scores of the seeds, any shape; NaN is ignored.
        level: coverage of the interval, in (0, 1).

    Returns:
        None when there is no score at all; std and interval None when there is just one.
    """
    scores = np.asarray(values, dtype=np.float64)
    scores = scores[~np.isnan(scores)]
    n = scores.size
    if n == 0:
        return None
    mean = float(scores.mean())
    if n == 1:
        return Cell(mean, None, 1, None)
    std = float(scores.std(ddof=1))
    half = float(t_quantile(level, n - 1)) * std / math.sqrt(n)
    return Cell(mean, std, n, Interval(mean - half, mean + half))


def cells(scores: Scores, *, level: float = 0.95, intervals: bool = True) -> CellTable:
    """:func:`cell` for every method and setting, vectorised.

    Args:
        scores: the table.
        level: coverage of the intervals.
        intervals: False leaves ``low`` and ``high`` NaN and spares the import of ``scipy.special``.
    """
    present = ~np.isnan(scores.values)
    n = present.sum(axis=2)
    mean = _divide(np.where(present, scores.values, 0.0).sum(axis=2), n)
    residual = np.where(present, scores.values - mean[:, :, None], 0.0)
    std = np.sqrt(_divide((residual**2).sum(axis=2), n - 1))
    low, high = np.full(n.shape, np.nan), np.full(n.shape, np.nan)
    repeated = n > 1
    if intervals and repeated.any():
        half = t_quantile(level, n[repeated] - 1) * std[repeated] / np.sqrt(n[repeated])
        low[repeated], high[repeated] = mean[repeated] - half, mean[repeated] + half
    return CellTable(mean, std, n, low, high)


def _divide(numerator: FloatArray, denominator: NDArray[Any]) -> FloatArray:
    """Quotient, NaN where the denominator is not positive."""
    result = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=result, where=denominator > 0)
    return result


# --- additive model ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Design:
    """What a pattern of missing values alone decides; see :func:`_design`."""

    generalised_inverse: FloatArray  # [M, M]: covariance of the row effects / sigma^2, for contrasts
    leverage: FloatArray  # [M, C]: variance of a fitted value / sigma^2, NaN where nothing was observed
    labels: tuple[int, ...]  # [M]: rows with the same label are connected through shared columns
    df: int  # residual degrees of freedom


@dataclass(frozen=True, eq=False)
class _Fit:
    """Least-squares fit of ``y[i, c] = row[i] + column[c] + error``, or of ``row[i] + error`` when unblocked."""

    row: FloatArray  # [M] row effects: adjusted means when blocked on a connected design, else plain means
    column: FloatArray  # [C] column effects, NaN for a column without values
    residual: FloatArray  # [M, C], NaN where nothing was observed
    generalised_inverse: FloatArray
    row_df: FloatArray  # [M] each row's share of the residual degrees of freedom
    df: int


def _components(present: BoolArray) -> tuple[int, ...]:
    """Label rows by connected component of the rows-columns graph (Weeks & Williams, 1964); empty rows stand alone."""
    if not len(present):
        return ()
    links = present.astype(np.float64)
    reach = (links @ links.T > 0) | np.eye(len(present), dtype=bool)
    while True:
        further = (reach.astype(np.float64) @ reach.astype(np.float64)) > 0
        if (further == reach).all():
            return tuple(int(label) for label in reach.argmax(axis=1))
        reach = further


@lru_cache(maxsize=256)
def _design(pattern: bytes, rows: int) -> _Design:
    """Reduced normal equations of the additive model (rows after columns are eliminated) for one pattern."""
    present = np.frombuffer(pattern, dtype=np.bool_).reshape(rows, -1).astype(np.float64)
    per_row, per_column = present.sum(axis=1), present.sum(axis=0)
    share = present / np.where(per_column > 0, per_column, 1)
    inverse = np.linalg.pinv(np.diag(per_row) - share @ present.T, hermitian=True)
    within = ((inverse @ share) * share).sum(axis=0)
    leverage = 1 / np.where(per_column > 0, per_column, np.nan)
    leverage = leverage + np.diag(inverse)[:, None] - 2 * inverse @ share + within
    labels = _components(present > 0)
    parts = len({labels[i] for i in range(rows) if per_row[i] > 0})
    df = int(present.sum()) - int((per_row > 0).sum()) - int((per_column > 0).sum()) + parts
    leverage = np.where(present > 0, leverage, np.nan)
    return _Design(np.asarray(inverse, dtype=np.float64), np.asarray(leverage, dtype=np.float64), labels, df)


def _fit_additive(values: FloatArray) -> tuple[_Fit, _Design]:
    """Fit row and column effects to ``values[M, C]`` (NaN = missing)."""
    present = ~np.isnan(values)
    design = _design(present.tobytes(), len(values))
    filled = np.where(present, values, 0.0)
    per_column = present.sum(axis=0)
    column_mean = _divide(filled.sum(axis=0), per_column)
    adjusted = (filled - np.where(present, column_mean, 0.0)).sum(axis=1)
    effect = design.generalised_inverse @ adjusted
    column = column_mean - _divide((present * effect[:, None]).sum(axis=0), per_column)
    residual = values - effect[:, None] - column
    row_df = np.where(present, 1 - design.leverage, 0.0).sum(axis=1)
    row = effect + (np.nanmean(column) if per_column.any() else np.nan)
    return _Fit(row, column, residual, design.generalised_inverse, row_df, design.df), design


def _fit_means(values: FloatArray) -> _Fit:
    """Fit row means alone (no columns shared)."""
    n = (~np.isnan(values)).sum(axis=1)
    mean = np.nanmean(values, axis=1)
    residual = values - mean[:, None]
    return _Fit(mean, np.zeros(values.shape[1]), residual, np.diag(1 / n), n - 1.0, int(n.sum() - len(n)))


@dataclass(frozen=True, eq=False)
class AdditiveModel:
    """Cell means explained as method effect + setting effect, so that missing cells can be estimated.

    Attributes:
        fitted: ``[M, S]`` method effect + setting effect; NaN where the data do not determine it.
        estimated: ``[M, S]`` True where ``fitted`` stands in for a missing cell: show these marked as estimates.
        standard_error: ``[M, S]`` of predicting a cell mean (``s * sqrt(1 + leverage)``), NaN without residual degrees.
        adjusted_mean: ``[M]`` a method's mean over all settings had it run everywhere; equals the plain mean for a
            complete method; NaN where a setting cannot be estimated.
        connected: whether every method can be compared with every other through shared settings.
        component: ``[M]`` label of the connected part each method belongs to.
    """

    fitted: FloatArray
    estimated: BoolArray
    standard_error: FloatArray
    adjusted_mean: FloatArray
    connected: bool
    component: tuple[int, ...]


def additive_model(scores: Scores) -> AdditiveModel:
    """Least squares ``mean[m, s] = method[m] + setting[s]`` over the existing cells, equally weighted (Yates, 1933).

    A method that skipped hard settings gets their difficulty added back, so skipping does not pay. The model assumes
    that a method's lead is the same everywhere; its estimates are for ordering and orientation, never results.
    """
    means = cells(scores, intervals=False).mean
    present = ~np.isnan(means)
    fitted, error = np.full(means.shape, np.nan), np.full(means.shape, np.nan)
    labels = _components(present)
    for label in sorted(set(labels)):
        rows = np.flatnonzero(np.asarray(labels) == label)
        columns = np.flatnonzero(present[rows].any(axis=0))
        if not columns.size:
            continue
        part = np.ix_(rows, columns)
        fit, design = _fit_additive(means[part])
        effect = fit.row - np.mean(fit.column)
        fitted[part] = effect[:, None] + fit.column
        if fit.df > 0:
            sigma = math.sqrt(float(np.nansum(fit.residual**2)) / fit.df)
            error[part] = sigma * np.sqrt(1 + _prediction_leverage(present[part], design))
    return AdditiveModel(
        fitted,
        ~present & ~np.isnan(fitted),
        error,
        fitted.mean(axis=1) if means.shape[1] else np.full(len(means), np.nan),
        len(set(labels)) <= 1 and bool(present.any()),
        labels,
    )


def _prediction_leverage(present: BoolArray, design: _Design) -> FloatArray:
    """Variance of every fitted value / sigma^2, also where nothing was observed, for a connected part."""
    share = present / present.sum(axis=0)
    inverse = design.generalised_inverse
    within = ((inverse @ share) * share).sum(axis=0)
    leverage = 1 / present.sum(axis=0) + np.diag(inverse)[:, None] - 2 * inverse @ share + within
    return np.asarray(leverage, dtype=np.float64)


def coverage(scores: Scores, *, min_seeds: int = 1) -> tuple[Coverage, ...]:
    """For every method, in how many of the settings it has at least ``min_seeds`` runs."""
    done = ((~np.isnan(scores.values)).sum(axis=2) >= min_seeds).sum(axis=1)
    return tuple(Coverage(int(count), len(scores.settings)) for count in done)


def common_settings(scores: Scores, methods: Sequence[str] | None = None, *, min_seeds: int = 1) -> tuple[str, ...]:
    """The settings in which every one of the methods (default: all) has at least ``min_seeds`` runs."""
    part = scores.select(methods=methods)
    shared = ((~np.isnan(part.values)).sum(axis=2) >= min_seeds).all(axis=0)
    return tuple(name for name, is_shared in zip(part.settings, shared, strict=True) if is_shared)


# --- studentized range ------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def _legendre(nodes: int) -> tuple[FloatArray, FloatArray]:
    x, w = np.polynomial.legendre.leggauss(nodes)
    return np.asarray(x, dtype=np.float64), np.asarray(w, dtype=np.float64)


def studentized_range_sf(q: ArrayLike, groups: int, df: ArrayLike) -> FloatArray:
    """P(range of ``groups`` standard normals / independent chi estimate of their sd > q), vectorised.

    ``sf = int f(s) [1 - P_k(q s)] ds`` with ``P_k(w) = k int phi(z) [Phi(z) - Phi(z - w)]^(k-1) dz`` and f the
    density of ``sqrt(chi2_df / df)`` (Copenhaver & Holland, 1988), both by Gauss-Legendre. Absolute
    error below 1e-7 up to 50 groups, 3e-6 at 100 groups; some thirty times as fast as the adaptive integration of
    ``scipy.stats.studentized_range``, and without the import of ``scipy.stats``.

    Args:
        q: quantiles >= 0; infinity gives 0.
        groups: number of means, at least 2.
        df: degrees of freedom, at least 1; broadcast against ``q``.
    """
    special = _special()
    quantile, degrees = np.broadcast_arrays(np.asarray(q, dtype=np.float64), np.asarray(df, dtype=np.float64))
    flat_q, flat_df = quantile.ravel(), degrees.ravel()
    x, x_weight = _legendre(48)
    start_z = float(special.ndtri(1e-16 ** (1 / (groups - 1))))  # below it Phi(z)^(k-1) vanishes
    z = start_z + (8.5 - start_z) * (x + 1) / 2
    z_weight = groups * x_weight * (8.5 - start_z) / 2 * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    upper = special.ndtr(z)
    u, u_weight = _legendre(160)
    result = np.zeros(flat_q.shape)
    finite = np.flatnonzero(np.isfinite(flat_q))
    for start in range(0, len(finite), 64):
        chunk = finite[start : start + 64]
        nu = flat_df[chunk][:, None]
        ends = 0.5 * np.log(special.chdtri(nu, np.array([1 - 1e-10, 1e-13])) / nu)  # log s, all but 1e-10 of the mass
        low, high = ends[:, :1], ends[:, 1:]
        log_s = low + (high - low) * (u + 1) / 2
        log_density = nu * log_s - nu * np.expm1(2 * log_s) / 2
        density = np.exp(log_density - log_density.max(axis=1, keepdims=True)) * u_weight
        density /= density.sum(axis=1, keepdims=True)
        width = flat_q[chunk][:, None] * np.exp(log_s)
        inner = (upper - special.ndtr(z - width[:, :, None])) ** (groups - 1) @ z_weight
        result[chunk] = ((1 - inner) * density).sum(axis=1)
    return np.clip(result, 0.0, 1.0).reshape(quantile.shape)


@lru_cache(maxsize=1)
def _kept_curves() -> FloatArray:
    """The curves at ``_KEPT_ALPHA`` for 2, 3, ... groups, one row each, as computed by :func:`_compute_curve`."""
    with (files("harness.results") / "studentized_range.npy").open("rb") as file:
        return np.asarray(np.load(file, allow_pickle=False), dtype=np.float64)


@lru_cache(maxsize=256)
def _range_quantile_curve(alpha: float, groups: int) -> FloatArray:
    """Chebyshev coefficients of log q against 1/df on [0, 1]: one curve serves every degree of freedom.

    Those of the usual alpha are kept in a file: a page that is filtered cannot wait half a second for each.
    """
    if alpha == _KEPT_ALPHA and 0 <= groups - 2 < len(_kept_curves()):
        return np.asarray(_kept_curves()[groups - 2], dtype=np.float64)
    return _compute_curve(alpha, groups)


def _compute_curve(alpha: float, groups: int) -> FloatArray:
    """:func:`_range_quantile_curve` without the file."""
    count = 28
    inverse_df = (np.polynomial.chebyshev.chebpts1(count) + 1) / 2
    df = 1 / inverse_df
    pairs = groups * (groups - 1) / 2
    # Student's t of one pair and of all pairs by Bonferroni bracket the quantile.
    low, high = (np.log(math.sqrt(2) * t_quantile(1 - alpha / many, df)) for many in (1.0, pairs))
    target = math.log(alpha)

    def excess(log_q: FloatArray) -> FloatArray:
        return np.asarray(np.log(studentized_range_sf(np.exp(log_q), groups, df)) - target, dtype=np.float64)

    if groups > 2:
        f_low, f_high = excess(low), excess(high)
        for _ in range(60):  # Illinois variant of the false position, all nodes together
            middle = (low * f_high - high * f_low) / (f_high - f_low)
            f_middle = excess(middle)
            above = f_middle > 0
            f_high = np.where(above, f_high / 2, f_middle)
            f_low = np.where(above, f_middle, f_low / 2)
            high, low = np.where(above, high, middle), np.where(above, middle, low)
            if np.abs(f_middle).max() < 1e-10:
                low = middle
                break
    return np.asarray(np.polynomial.chebyshev.chebfit(2 * inverse_df - 1, low, count - 1), dtype=np.float64)


def studentized_range_quantile(alpha: float, groups: int, df: ArrayLike) -> FloatArray:
    """Upper ``alpha`` quantile of the studentized range of ``groups`` means, for any ``df >= 1``.

    Interpolated in 1/df from a curve that is kept in a file for alpha 0.05 and up to 60 groups, else computed once per
    (alpha, groups) in 0.1 to 0.5 s; relative error below 1e-6 up to 50 groups.
    """
    degrees = np.asarray(df, dtype=np.float64)
    curve = _range_quantile_curve(float(alpha), int(groups))
    return np.asarray(np.exp(np.polynomial.chebyshev.chebval(2 / degrees - 1, curve)), dtype=np.float64)


# --- ties within a setting --------------------------------------------------------------------------------------------


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
    df = np.maximum(_divide(squared_error**2, spread[:, None] + spread), 1.0)
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
    half_width = np.maximum(half_width, _ROUNDING * np.nanmax(np.abs(table)))
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
    design = _design((~np.isnan(shared)).tobytes(), len(shared))
    enough = design.df >= max(1.0, _MIN_DF_SHARE * (present.sum() - len(table)))
    return shared if len(set(design.labels)) == 1 and enough else None


def _fit_table(table: FloatArray, blocked: bool) -> _Fit | None:
    """Fit with or without blocks; None when the blocks no longer connect the methods."""
    if not blocked:
        return _fit_means(table)
    fit, design = _fit_additive(table)
    return fit if len(set(design.labels)) == 1 and design.df >= 1 else None


def _pooled_core(table: FloatArray, blocked: bool) -> tuple[BoolArray, _Fit]:
    """The methods whose variances may be pooled, and the fit to them (rule 3 of compare_methods)."""
    special = _special()
    core = np.ones(len(table), dtype=bool)
    fit = _fit_table(table, blocked)
    assert fit is not None
    while core.sum() >= 3:
        squares = np.nansum(fit.residual**2, axis=1)
        degrees = (~np.isnan(table[core])).sum(axis=1) - 1.0
        total = squares.sum()
        if total <= (_ROUNDING * np.nanmax(np.abs(table))) ** 2:
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


def _variances_are_graded(table: FloatArray, fit: _Fit, blocked: bool) -> bool:
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
    return bool(_special().chdtrc(len(table) - 1, max(statistic / correction, 0.0)) < _HETEROGENEITY_LEVEL)


def _means_and_variances(table: FloatArray, core: BoolArray, fit: _Fit) -> tuple[FloatArray, FloatArray]:
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
    df = _divide(total**2, (squared**2 / np.array([p.df for p in each])).sum(axis=0))
    df = np.where(np.isnan(df), 1.0, df)
    error = np.sqrt(total) / len(each)
    half_width = error
    if len(complete) >= 2:
        scale = float(np.nanmax(np.abs(kept.values)))
        half_width = studentized_range_quantile(alpha, len(complete), df) / math.sqrt(2) * error
        half_width = np.maximum(half_width, _ROUNDING * scale)
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


# --- across settings --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MethodSummary:
    """One method over the settings.

    Attributes:
        coverage: settings with enough runs, of all settings compared.
        mean: mean score over all settings; None unless the coverage is full.
        difference, difference_interval: mean over settings of method minus reference, on the settings both have.
        iqm, iqm_interval: inter-quartile mean of the same differences.
        difference_settings: how many settings that is.
        rank, rank_interval: position by mean among the methods with full coverage, 1 is best, equal ones share;
            None without full coverage.
        estimate: mean over all settings, missing cells filled by the additive model; None when it cannot be known.
        estimated: whether ``estimate`` contains any filled cell: show it marked.

    Intervals are None where a setting offers a single seed only.
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
    estimate: float | None
    estimated: bool


@dataclass(frozen=True)
class AcrossSettings:
    """Every method over the settings: ranked methods first, then those with missing settings by their estimate."""

    settings: tuple[str, ...]
    reference: str | None
    level: float
    resamples: int
    min_seeds: int
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
    if np.ptp(share) <= _ROUNDING * share.max():
        cut = count // 4
        return np.asarray(np.sort(data, axis=-1)[..., cut : count - cut].mean(axis=-1), dtype=np.float64)
    order = np.argsort(data, axis=-1)
    weight = (share / share.sum())[order]
    upto = np.cumsum(weight, axis=-1)
    kept = weight * ((upto > 0.25 + _ROUNDING) & (1 - upto + weight > 0.25 + _ROUNDING))
    total = (kept * np.take_along_axis(data, order, axis=-1)).sum(axis=-1)
    return np.asarray(total / kept.sum(axis=-1), dtype=np.float64)


def _percentiles(samples: FloatArray, level: float) -> Interval:
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def default_min_seeds(scores: Scores) -> int:
    """Runs that make a cell count: 2 where any cell has as many (one run has no spread), else 1."""
    return 2 if (~np.isnan(scores.values)).sum(axis=2).max(initial=0) >= 2 else 1


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
) -> AcrossSettings:
    """Mean and inter-quartile mean of the difference to a reference, and ranks, over settings.

    Stratified bootstrap (Agarwal et al., 2021): seeds are resampled within settings, jointly for all methods where
    they share seeds (differences stay paired), residuals widened by ``sqrt(n / (n - 1))`` (Davison & Hinkley, 1997),
    percentile intervals; ranks come from the same resamples. Own vectorised code, since ``scipy.stats.bootstrap``
    cannot share resamples between statistics; the tests hold it against that. Simulated coverage of the 95 % interval
    of the mean at n = 3: 94 % over 12 settings, 93 % over 8, 89 % over 3, 80 % over one, for which there is
    :func:`compare_pair`.

    Never averaged: what happens to be there. A mean and a rank need every setting; a difference to the reference is
    over the settings that both have, and says how many; methods without full coverage come after all ranked ones,
    ordered by the additive model's estimate. Means and ranks are those of all runs of a method; a difference is paired,
    over the seeds that both have (where they share enough).

    Args:
        scores: the table.
        reference: method to subtract, such as ``CE``; None leaves the differences out.
        settings: the settings compared; default all. :func:`common_settings` gives those that all methods have.
        min_seeds: runs that make a cell count; default 2, or 1 if no cell has two.
        level: coverage of the intervals.
        resamples: number of resamples.
        seed: of the resampling.
        iqm: False leaves the inter-quartile mean out, which takes most of the time of a large table.

    Raises:
        HarnessError: unknown reference or setting, or no setting at all.
    """
    part = scores.select(settings=settings)
    if not part.settings:
        raise HarnessError("no setting to compare over")
    base = None if reference is None else part.method_index(reference)
    needed = default_min_seeds(part) if min_seeds is None else min_seeds
    has = (~np.isnan(part.values)).sum(axis=2) >= needed
    ranked = np.flatnonzero(has.all(axis=1))
    position = {int(m): i for i, m in enumerate(ranked)}
    rng = np.random.default_rng(seed)
    strata = [_stratum(part.values[ranked, s], rng, resamples, needed) for s in range(len(part.settings))]
    resampled, drawn = _mean_over_strata(strata, len(ranked), resamples)
    means = cells(part, intervals=False).mean[ranked].mean(axis=1)  # of all runs, as the cells beside it show
    drawn += means - resampled
    every_run = int((~np.isnan(part.values[ranked])).sum())
    whole = every_run == sum(r.size for stratum in strata for r in stratum.runs)  # no seed is left out as not shared
    ranks, rank_intervals = _ranks(means, drawn, part.higher_is_better, level)
    certain = all(len(r) > 1 for stratum in strata for r in stratum.runs)
    model = additive_model(part)
    adjusted = np.where(has.all(axis=1), np.nan, model.adjusted_mean)
    summaries = []
    for m, name in enumerate(part.methods):
        i = position.get(m)
        delta: _Difference = _Difference(None, None, None, None)
        count = 0
        if base is not None:
            if i is not None and base in position and whole and not iqm:
                theirs, count = position[base], len(strata)
                gap = _percentiles(drawn[:, i] - drawn[:, theirs], level) if certain else None
                delta = _Difference(float(means[i] - means[theirs]), gap, None, None)
            elif i is not None and base in position and whole:
                delta, count = _difference_to_reference(strata, i, position[base], level, iqm), len(strata)
            else:
                both = np.flatnonzero(has[m] & has[base])
                own = np.random.default_rng([seed, m])
                pair = [_stratum(part.values[[m, base], s], own, resamples, needed) for s in both]
                delta, count = _difference_to_reference(pair, 0, 1, level, iqm), len(pair)
        estimate = float(means[i]) if i is not None else float(adjusted[m])
        summaries.append(
            MethodSummary(
                method=name,
                coverage=Coverage(int(has[m].sum()), len(part.settings)),
                mean=None if i is None else float(means[i]),
                difference=delta.mean,
                difference_interval=delta.mean_interval,
                iqm=delta.iqm,
                iqm_interval=delta.iqm_interval,
                difference_settings=count,
                rank=None if i is None else int(ranks[i]),
                rank_interval=rank_intervals[i] if i is not None and certain else None,
                estimate=None if math.isnan(estimate) else estimate,
                estimated=i is None and not math.isnan(estimate),
            )
        )
    sign = -1.0 if part.higher_is_better else 1.0

    def place(summary: MethodSummary) -> tuple[bool, int, bool, float]:
        unknown = summary.estimate is None
        value = 0.0 if summary.estimate is None else sign * summary.estimate
        return summary.rank is None, summary.rank or 0, unknown, value

    return AcrossSettings(part.settings, reference, level, resamples, needed, tuple(sorted(summaries, key=place)))


def mean_over_settings(scores: Scores, *, level: float = 0.95) -> tuple[Interval | None, ...]:
    """For every method, the interval of its mean over all settings of the table.

    The settings are fixed and their runs independent: ``mean +- t * sqrt(sum_s s_s^2 / n_s) / S``, with the
    Welch-Satterthwaite (1946) degrees of freedom ``(sum v_s)^2 / sum (v_s^2 / (n_s - 1))``, ``v_s = s_s^2 / n_s``; for
    one setting it is the interval of :func:`cell`. None for a method without two runs in every setting.
    """
    table = cells(scores, intervals=False)
    intervals: list[Interval | None] = []
    for mean, std, n in zip(table.mean, table.std, table.n, strict=True):
        if not n.size or (n < 2).any():
            intervals.append(None)
            continue
        variance = std**2 / n
        total, center = float(variance.sum()), float(mean.mean())
        df = total**2 / float((variance**2 / (n - 1)).sum()) if total > 0 else 1.0
        half = float(t_quantile(level, df)) * math.sqrt(total) / len(n)
        intervals.append(Interval(center - half, center + half))
    return tuple(intervals)


def _mean_over_strata(strata: list[_Stratum], methods: int, resamples: int) -> tuple[FloatArray, FloatArray]:
    """Mean over settings of the cell means: observed ``[M]`` and resampled ``[B, M]``."""
    means, drawn = np.zeros(methods), np.zeros((resamples, methods))
    for stratum in strata:
        if stratum.paired and methods:
            # All methods share the draws, so their resampled means are one product with the draws' shares.
            runs, draw = np.stack(stratum.runs), stratum.draws[0]
            n = runs.shape[1]
            share = (draw[:, :, None] == np.arange(n)).mean(axis=1)
            widen = math.sqrt(n / (n - 1)) if n > 1 else 1.0
            center = runs.mean(axis=1)
            means += center / len(strata)
            drawn += (center + widen * (share @ (runs - center[:, None]).T)) / len(strata)
            continue
        for m in range(methods):
            means[m] += stratum.runs[m].mean() / len(strata)
            drawn[:, m] += stratum.resampled(m).mean(axis=1) / len(strata)
    return means, drawn


def _ranks(
    means: FloatArray, drawn: FloatArray, higher_is_better: bool, level: float
) -> tuple[IntArray, list[Interval]]:
    """Competition ranks (equal ones share the better rank) of ``means[M]``, with percentile intervals."""
    sign = -1.0 if higher_is_better else 1.0
    scale = _ROUNDING * float(np.abs(means).max(initial=0.0))

    def rank(values: FloatArray) -> IntArray:
        ordered = np.sort(sign * values, axis=-1)
        places = [np.searchsorted(row, key - scale) for row, key in zip(ordered, sign * values, strict=True)]
        return np.asarray(places, dtype=np.int64).reshape(values.shape) + 1

    samples = rank(drawn)
    tail = (1 - level) / 2
    low = np.quantile(samples, tail, axis=0, method="lower")
    high = np.quantile(samples, 1 - tail, axis=0, method="higher")
    intervals = [Interval(float(a), float(b)) for a, b in zip(low, high, strict=True)]
    return rank(means[None])[0], intervals


class _Difference(NamedTuple):
    """Mean and inter-quartile mean of differences with their intervals."""

    mean: float | None
    mean_interval: Interval | None
    iqm: float | None
    iqm_interval: Interval | None


def _difference_to_reference(
    strata: list[_Stratum], method: int, reference: int, level: float, with_iqm: bool
) -> _Difference:
    """Mean and inter-quartile mean of the run-level differences over settings, each with its interval."""
    if not strata:
        return _Difference(None, None, None, None)
    observed, resampled = zip(*(_differences(s, method, reference) for s in strata), strict=True)
    weights = np.concatenate([np.full(len(d), 1 / (len(strata) * len(d))) for d in observed])
    runs, drawn = np.concatenate(observed), np.concatenate(resampled, axis=1)
    mean, iqm = float(runs @ weights), float(interquartile_mean(runs, weights)) if with_iqm else None
    if min(len(s.runs[i]) for s in strata for i in (method, reference)) < 2:
        return _Difference(mean, None, iqm, None)
    iqm_interval = _percentiles(interquartile_mean(drawn, weights), level) if with_iqm else None
    return _Difference(mean, _percentiles(drawn @ weights, level), iqm, iqm_interval)


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
    interval = _percentiles(np.clip(drawn / len(columns), 0, 1), level) if certain else None
    return Improvement(total / len(columns), interval, names)


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
    needed = default_min_seeds(part) if min_seeds is None else min_seeds
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


# --- published against reproduced -------------------------------------------------------------------------------------


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
    if abs(difference) > max(half, _ROUNDING * abs(printed_mean)):
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
    return OrderingAgreement(names, agree, len(against), len(rows) - agree - len(against), against, tau_b(theirs, ours))


def tau_b(x: ArrayLike, y: ArrayLike) -> float | None:
    """Kendall's tau-b: (concordant - discordant) / sqrt(pairs untied in x * pairs untied in y) (Kendall, 1945).

    None when either has no untied pair. ``x`` and ``y`` are ``[N]`` without NaN; memory grows with N^2.
    """
    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    rows, columns = np.triu_indices(len(first), 1)
    a, b = np.sign(first[rows] - first[columns]), np.sign(second[rows] - second[columns])
    untied = math.sqrt(float((a != 0).sum()) * float((b != 0).sum()))
    return float((a * b).sum()) / untied if untied else None


# --- cost, and two methods --------------------------------------------------------------------------------------------


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
    scale = _ROUNDING * float(np.abs(np.concatenate([ours, theirs])).max(initial=0.0))
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
        p = 2 * float(_special().stdtr(df, -abs(difference) / error))
    else:
        p = 0.0 if abs(difference) > scale else 1.0
    return PairedComparison(difference, Interval(difference - half, difference + half), p, n, len(gaps) >= 2)
