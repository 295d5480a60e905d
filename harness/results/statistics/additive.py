"""The additive model method + setting (or method + seed) by least squares, with values missing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from harness.results.statistics.scores import BoolArray, FloatArray, Scores, cells, divide


class Fit(NamedTuple):
    """Least-squares fit of ``y[i, c] = row[i] + column[c] + error`` with ``var(error) = sigma^2 / weight[i]``."""

    row: FloatArray  # [..., M] row effects: adjusted means (plain means of a complete table)
    column: FloatArray  # [..., C] column effects, NaN for a column without values
    residual: FloatArray  # [..., M, C], NaN where nothing was observed
    inverse: FloatArray  # [..., M, M]: covariance of the row effects / sigma^2, for contrasts
    row_df: FloatArray  # [..., M] each row's share of the residual degrees of freedom


def components(present: BoolArray) -> tuple[int, ...]:
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


def residual_df(present: BoolArray) -> FloatArray:
    """Residual degrees of freedom ``[...]`` of connected tables ``[..., M, C]`` without empty rows."""
    used = present.sum(axis=(-2, -1)) - present.any(axis=-2).sum(axis=-1) - present.shape[-2] + 1
    return np.asarray(used, dtype=np.float64)


def fit_additive(values: FloatArray, weights: FloatArray | None = None) -> Fit:
    """Fit row and column effects to connected tables ``values[..., M, C]`` (NaN = missing) with ``weights[..., M]``.

    The rows' reduced normal equations, after the columns are eliminated, for all leading axes at once.
    """
    present = ~np.isnan(values)
    weight = present * (1.0 if weights is None else weights[..., None])
    filled = np.where(present, values, 0.0)
    per_column = weight.sum(axis=-2)
    share = divide(weight, np.broadcast_to(per_column[..., None, :], weight.shape), 0.0)
    column_mean = divide((weight * filled).sum(axis=-2), per_column)
    centered = np.where(present, filled - np.nan_to_num(column_mean)[..., None, :], 0.0)
    inverse = _inverse(weight, share)
    effect = (inverse @ (weight * centered).sum(axis=-1)[..., None])[..., 0]
    column = column_mean - (share * effect[..., None]).sum(axis=-2)
    residual = values - effect[..., None] - column[..., None, :]
    fitted_variance = _fitted_variance(inverse, share, per_column)
    row_df = np.where(present, 1 - weight * fitted_variance, 0.0).sum(axis=-1)
    row = effect + np.nanmean(column, axis=-1, keepdims=True)
    return Fit(row, column, residual, inverse, row_df)


def _inverse(weight: FloatArray, share: FloatArray) -> FloatArray:
    """A generalised inverse of the reduced normal equations, whose null space in a connected table is the constant."""
    rows = weight.shape[-2]
    per_row = weight.sum(axis=-1)
    reduced = np.eye(rows) * per_row[..., None] - share @ np.swapaxes(weight, -1, -2)
    return np.asarray(np.linalg.inv(reduced + per_row.mean(axis=-1)[..., None, None] / rows), dtype=np.float64)


def _fitted_variance(inverse: FloatArray, share: FloatArray, per_column: FloatArray) -> FloatArray:
    """Variance ``[..., M, C]`` of every fitted value / sigma^2, also where nothing was observed."""
    with_share = inverse @ share
    own = (
        np.diagonal(inverse, axis1=-2, axis2=-1)[..., None]
        + (divide(np.ones_like(per_column), per_column))[..., None, :]
    )
    return np.asarray(own - 2 * with_share + (share * with_share).sum(axis=-2)[..., None, :], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class AdditiveModel:
    """Cell means explained as method effect + setting effect, so that missing cells can be estimated.

    Attributes:
        fitted: ``[M, S]`` method effect + setting effect; NaN where the data do not determine it.
        estimated: ``[M, S]`` True where ``fitted`` stands in for a missing cell: show these marked as estimates.
        standard_error: ``[M, S]`` of predicting a cell mean (``s * sqrt(1 + leverage)``), NaN without residual degrees.
        adjusted_mean: ``[M]`` a method's mean over all settings had it run everywhere; equals the plain mean for a
            complete method; NaN where a setting cannot be estimated.
        mean_error: ``[M]`` standard error of predicting that mean, 0 for a complete method, NaN without residual degrees.
        connected: whether every method can be compared with every other through shared settings.
        component: ``[M]`` label of the connected part each method belongs to.
    """

    fitted: FloatArray
    estimated: BoolArray
    standard_error: FloatArray
    adjusted_mean: FloatArray
    mean_error: FloatArray
    connected: bool
    component: tuple[int, ...]


def additive_model(scores: Scores) -> AdditiveModel:
    """Least squares ``mean[m, s] = method[m] + setting[s]`` over the existing cells, equally weighted (Yates, 1933).

    The model assumes that a method's lead is the same everywhere. Where it is not, an estimate is biased (by more than
    three points for a method that skips the settings which are hard for it), so no method is ranked by one; the standard
    errors take what the model leaves unexplained as chance.
    """
    means = cells(scores, intervals=False).mean
    present = ~np.isnan(means)
    fitted, error = np.full(means.shape, np.nan), np.full(means.shape, np.nan)
    mean_error = np.full(len(means), np.nan)
    labels = components(present)
    for label in sorted(set(labels)):
        rows = np.flatnonzero(np.asarray(labels) == label)
        columns = np.flatnonzero(present[rows].any(axis=0))
        if not columns.size:
            continue
        part = np.ix_(rows, columns)
        fit, here = fit_additive(means[part]), present[part]
        effect = fit.row - np.mean(fit.column)
        fitted[part] = effect[:, None] + fit.column
        df = float(residual_df(here))
        if df > 0:
            sigma = math.sqrt(float(np.nansum(fit.residual**2)) / df)
            per_column = here.sum(axis=0).astype(np.float64)
            share = here / per_column
            error[part] = sigma * np.sqrt(1 + _fitted_variance(fit.inverse, share, per_column))
            # A row's missing cells together: n_i e_i minus the shares of their columns, and a new error for each.
            missing = ~here * 1.0
            contrast = np.diag(missing.sum(axis=1)) - missing @ share.T
            variance = np.einsum("ij,jk,ik->i", contrast, fit.inverse, contrast) + missing @ (1 + 1 / per_column)
            mean_error[rows] = sigma * np.sqrt(np.maximum(variance, 0.0)) / means.shape[1]
    adjusted = fitted.mean(axis=1) if means.shape[1] else np.full(len(means), np.nan)
    return AdditiveModel(
        fitted,
        ~present & ~np.isnan(fitted),
        error,
        adjusted,
        np.where(np.isnan(adjusted), np.nan, mean_error),
        len(set(labels)) <= 1 and bool(present.any()),
        labels,
    )
