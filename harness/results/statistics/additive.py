"""The additive model method + setting (or method + seed) by least squares, with values missing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from harness.results.statistics.scores import BoolArray, FloatArray, Scores, cells, divide


@dataclass(frozen=True, eq=False)
class Design:
    """What a pattern of missing values alone decides; see :func:`design_of`."""

    generalised_inverse: FloatArray  # [M, M]: covariance of the row effects / sigma^2, for contrasts
    leverage: FloatArray  # [M, C]: variance of a fitted value / sigma^2, NaN where nothing was observed
    labels: tuple[int, ...]  # [M]: rows with the same label are connected through shared columns
    df: int  # residual degrees of freedom


@dataclass(frozen=True, eq=False)
class Fit:
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
def design_of(pattern: bytes, rows: int) -> Design:
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
    return Design(np.asarray(inverse, dtype=np.float64), np.asarray(leverage, dtype=np.float64), labels, df)


def fit_additive(values: FloatArray) -> tuple[Fit, Design]:
    """Fit row and column effects to ``values[M, C]`` (NaN = missing)."""
    present = ~np.isnan(values)
    design = design_of(present.tobytes(), len(values))
    filled = np.where(present, values, 0.0)
    per_column = present.sum(axis=0)
    column_mean = divide(filled.sum(axis=0), per_column)
    adjusted = (filled - np.where(present, column_mean, 0.0)).sum(axis=1)
    effect = design.generalised_inverse @ adjusted
    column = column_mean - divide((present * effect[:, None]).sum(axis=0), per_column)
    residual = values - effect[:, None] - column
    row_df = np.where(present, 1 - design.leverage, 0.0).sum(axis=1)
    row = effect + (np.nanmean(column) if per_column.any() else np.nan)
    return Fit(row, column, residual, design.generalised_inverse, row_df, design.df), design


def fit_means(values: FloatArray) -> Fit:
    """Fit row means alone (no columns shared)."""
    n = (~np.isnan(values)).sum(axis=1)
    mean = np.nanmean(values, axis=1)
    residual = values - mean[:, None]
    return Fit(mean, np.zeros(values.shape[1]), residual, np.diag(1 / n), n - 1.0, int(n.sum() - len(n)))


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
        fit, design = fit_additive(means[part])
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


def _prediction_leverage(present: BoolArray, design: Design) -> FloatArray:
    """Variance of every fitted value / sigma^2, also where nothing was observed, for a connected part."""
    share = present / present.sum(axis=0)
    inverse = design.generalised_inverse
    within = ((inverse @ share) * share).sum(axis=0)
    leverage = 1 / present.sum(axis=0) + np.diag(inverse)[:, None] - 2 * inverse @ share + within
    return np.asarray(leverage, dtype=np.float64)
