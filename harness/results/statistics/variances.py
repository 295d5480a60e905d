"""Moderated variances: every method keeps a variance of its own, drawn towards what all methods say together.

Three seeds give a variance two degrees of freedom: taken alone it finds nothing, pooled over methods that differ in spread
it finds what is not there. Empirical Bayes (Smyth, 2004) stands between the two.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from harness.results.statistics.scores import FloatArray, scipy_special

_PRIOR_DF = 2.0 ** np.arange(9)  # 1, 2, 4 ... 256: from hardly any to practically full pooling, log-uniform
_PRIOR_SCALE = np.arange(-3.0, 4.01, 0.25)  # log of the prior variance, from that of the median variance
_CHUNK = 2048


class Moderated(NamedTuple):
    """Moderated variances ``[..., M]`` and the degrees of freedom ``[...]`` that the other methods add to each."""

    variance: FloatArray
    prior_df: FloatArray


def moderate(variance: FloatArray, df: FloatArray) -> Moderated:
    """Draw M variances towards a common one, as strongly as they are alike.

    The model is Smyth's (2004): ``s_i^2 ~ sigma_i^2 chi2(d_i) / d_i`` and ``1 / sigma_i^2 ~ chi2(d_0) / (d_0 s_0^2)``, so
    that ``s_i^2 / s_0^2`` is F-distributed and ``(d_0 s_0^2 + d_i s_i^2) / (d_0 + d_i)`` has ``d_0 + d_i`` degrees of
    freedom. Deviation: limma's ``squeezeVar`` takes one ``d_0``, from the moments of the log variances, and with a dozen
    variances of two degrees each that is infinite, or nearly none, by chance. Here ``d_0`` and ``s_0^2`` are averaged over
    their posterior (``d_0`` log-uniform on 1 to 256, ``s_0^2`` log-uniform): the variance geometrically, the degrees of
    freedom by ``1 / (d_0 + 2)``. In the same simulations (docs/statistics.md) it separates fewer equal methods at equal
    power.

    Args:
        variance: ``[..., M]`` unbiased estimates, >= 0.
        df: ``[..., M]`` their degrees of freedom, > 0.

    Returns:
        Variances ``[..., M]``, all zero where all of ``variance`` are; added degrees of freedom ``[...]``.
    """
    shape = variance.shape
    flat, degrees = variance.reshape(-1, shape[-1]), np.broadcast_to(df, shape).reshape(-1, shape[-1])
    parts = [_moderate(flat[i : i + _CHUNK], degrees[i : i + _CHUNK]) for i in range(0, len(flat), _CHUNK)]
    moderated = np.concatenate([part.variance for part in parts]).reshape(shape)
    return Moderated(moderated, np.concatenate([part.prior_df for part in parts]).reshape(shape[:-1]))


def _moderate(variance: FloatArray, df: FloatArray) -> Moderated:
    """:func:`moderate` for ``[N, M]``."""
    gammaln = scipy_special().gammaln
    center = np.maximum(np.median(variance, axis=1), 1e-3 * variance.mean(axis=1))
    center = np.where(center > 0, center, 1.0)
    scale = center[:, None] * np.exp(_PRIOR_SCALE)  # [N, K]: candidates for s_0^2
    likelihood = np.empty((len(_PRIOR_DF), *scale.shape))
    for row, d0 in zip(likelihood, _PRIOR_DF, strict=True):
        total = df + d0
        row[:] = (gammaln(total / 2) - gammaln(d0 / 2) - df / 2 * np.log(d0)).sum(axis=1)[:, None]
        row -= df.sum(axis=1)[:, None] / 2 * np.log(scale)
        ratio = (df * variance / d0)[:, None] / scale[:, :, None]
        row -= (np.log1p(ratio) * total[:, None] / 2).sum(axis=2)
    weight = np.exp(likelihood - likelihood.max(axis=(0, 2))[:, None])
    weight /= weight.sum(axis=(0, 2))[:, None]
    log_variance = np.zeros_like(variance)
    for share, d0 in zip(weight, _PRIOR_DF, strict=True):
        candidate = (d0 * scale[:, :, None] + (df * variance)[:, None]) / (df + d0)[:, None]
        log_variance += (share[:, :, None] * np.log(candidate)).sum(axis=1)
    by_df = weight.sum(axis=2)
    prior_df = 1 / (by_df / (_PRIOR_DF + 2)[:, None]).sum(axis=0) - 2
    known = variance.any(axis=1, keepdims=True)
    return Moderated(np.where(known, np.exp(log_variance), 0.0), np.asarray(prior_df))
