"""Every method against one reference, such as plain cross entropy: differences whose intervals hold all together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from harness.results.statistics.scores import ROUNDING, FloatArray, Interval, Scores, scipy_special, t_quantile
from harness.results.statistics.studentized_range import legendre
from harness.results.statistics.ties import Pairwise, compare_in_settings

_NODES = 4  # of 1 / df, between which the quantile is interpolated


def dunnett_sf(critical: ArrayLike, share: ArrayLike, df: ArrayLike) -> FloatArray:
    """P(any of K differences to a common reference exceeds ``critical`` standard errors), two-sided (Dunnett, 1955).

    ``1 - int f(s) int phi(z) prod_k [Phi((c s - r_k z) / q_k) - Phi((-c s - r_k z) / q_k)] dz ds`` with ``r_k^2`` the
    reference's share in the variance of difference k, ``q_k^2 = 1 - r_k^2``, and f the density of ``sqrt(chi2_df / df)``;
    Gauss-Legendre, error below 1e-5; shares are taken to a hundredth. ``scipy.stats.dunnett`` gives the same for one-way designs with equal variances,
    by random integration; the tests compare the two.

    Args:
        critical: quantiles >= 0.
        share: ``[K]``, each in [0, 1): one half where the reference's mean is as well known as the method's.
        df: degrees of freedom, broadcast against ``critical``.
    """
    special = scipy_special()
    limit, degrees = np.broadcast_arrays(np.asarray(critical, dtype=np.float64), np.asarray(df, dtype=np.float64))
    shares, counts = np.unique(np.clip(np.asarray(share, dtype=np.float64), 0.0, 0.99).round(2), return_counts=True)
    r, q = np.sqrt(shares), np.sqrt(1 - shares)
    x, z_weight = legendre(48)
    z = 8.5 * x
    z_weight = 8.5 * z_weight * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    u, u_weight = legendre(40)
    result = np.zeros(limit.shape)
    for place in np.ndindex(limit.shape):
        nu, c = degrees[place], limit[place]
        low, high = 0.5 * np.log(special.chdtri(nu, np.array([1 - 1e-10, 1e-13])) / nu)
        log_s = low + (high - low) * (u + 1) / 2
        log_density = nu * log_s - nu * np.expm1(2 * log_s) / 2
        density = np.exp(log_density - log_density.max()) * u_weight
        density /= density.sum()
        width = c * np.exp(log_s)[:, None]
        inside = np.ones((len(u), len(z)))
        for r_k, q_k, many in zip(r, q, counts, strict=True):
            inside *= (special.ndtr((width - r_k * z) / q_k) - special.ndtr((-width - r_k * z) / q_k)) ** many
        result[place] = 1 - density @ (inside @ z_weight)
    return np.clip(result, 0.0, 1.0)


def dunnett_quantile(alpha: float, share: ArrayLike, df: ArrayLike) -> FloatArray:
    """The number of standard errors that all differences to a reference stay below with probability ``1 - alpha``.

    Args:
        alpha: family-wise error.
        share: ``[K]`` of :func:`dunnett_sf`.
        df: any shape, at least 1. Interpolated in 1 / df between a few exact values.
    """
    degrees = np.asarray(df, dtype=np.float64)
    inverse = 1 / degrees
    low, high = float(inverse.min()), float(inverse.max())
    nodes = np.unique(np.linspace(low, high, _NODES)) if high - low > 1e-6 else np.array([low])
    exact = np.array([_quantile(alpha, np.asarray(share, dtype=np.float64), 1 / node) for node in nodes])
    if len(nodes) == 1:
        return np.full(degrees.shape, exact[0])
    curve = np.polynomial.Polynomial.fit(nodes, np.log(exact), len(nodes) - 1)
    return np.asarray(np.exp(curve(inverse)), dtype=np.float64)


def _quantile(alpha: float, share: FloatArray, df: float) -> float:
    """:func:`dunnett_quantile` by the secant rule on log c against log p, which is nearly straight.

    It starts from Bonferroni's quantile, an upper bound that is close.
    """
    if len(share) == 1:
        return float(t_quantile(1 - alpha, df))

    def excess(log_c: float) -> float:
        return float(np.log(dunnett_sf(np.exp(log_c), share, df)) - np.log(alpha))

    last = float(np.log(t_quantile(1 - alpha / len(share), df)))
    f_last = excess(last)
    log_c = last - 0.02
    for _ in range(20):
        f = excess(log_c)
        if abs(f) < 1e-6 or f == f_last:
            break
        last, f_last, log_c = log_c, f, log_c - f * (log_c - last) / (f - f_last)
    return float(np.exp(log_c))


@dataclass(frozen=True, eq=False)
class ToReference:
    """Every method minus the reference, with intervals that hold for all of them together.

    Attributes:
        reference: the method that all are compared with.
        methods: the K methods that could be compared with it, in the order of the table.
        settings: ``[K]`` over how many settings each difference is.
        difference, standard_error, df, half_width: ``[K]``; the interval is ``difference +- half_width``.
        share: ``[K]`` the reference's share in the variance of each difference.
        alpha: family-wise error.
    """

    reference: str
    methods: tuple[str, ...]
    settings: tuple[int, ...]
    difference: FloatArray
    standard_error: FloatArray
    df: FloatArray
    half_width: FloatArray
    share: FloatArray
    alpha: float

    def interval(self, method: str) -> Interval | None:
        """The simultaneous interval of a method's difference; None for one that is not compared."""
        if method not in self.methods:
            return None
        k = self.methods.index(method)
        return Interval(float(self.difference[k] - self.half_width[k]), float(self.difference[k] + self.half_width[k]))

    @cached_property
    def p_value(self) -> FloatArray:
        """``[K]`` p-values adjusted for all K comparisons; 1 where there is no spread at all."""
        t = np.divide(
            np.abs(self.difference), self.standard_error, out=np.zeros(len(self.methods)), where=self.standard_error > 0
        )
        return dunnett_sf(t, self.share, self.df)


def compare_to_reference(scores: Scores, reference: str, *, alpha: float = 0.05) -> ToReference:
    """Every method's mean difference to a reference over the settings that both have, adjusted for all (Dunnett, 1955).

    Standard errors and degrees of freedom are those of :func:`~harness.results.statistics.ties.compare_in_setting`, added
    up over settings as in :func:`~harness.results.statistics.ties.compare_over_settings`. Deviations from Dunnett: his
    variances are equal, ours moderated, so each interval takes the quantile at its own degrees of freedom; and methods
    that lack settings are correlated with the others as if they had them.

    Raises:
        HarnessError: no such method.
    """
    scores.method_index(reference)
    aside = scores.standing_aside()
    kept = scores.select(methods=[m for m in scores.methods if m not in aside or m == reference])
    found: dict[str, list[tuple[float, float, float, float]]] = {}
    if reference not in aside:
        for pairwise in compare_in_settings(kept, kept.settings, alpha=alpha):
            if reference not in pairwise.methods:
                continue
            base = pairwise.methods.index(reference)
            for i, method in enumerate(pairwise.methods):
                if i != base:
                    found.setdefault(method, []).append(_against(pairwise, i, base))
    methods = tuple(m for m in kept.methods if m in found)
    if not methods:
        nothing = np.zeros(0)
        return ToReference(reference, (), (), nothing, nothing, nothing, nothing, nothing, alpha)
    count = np.array([len(found[m]) for m in methods])
    difference = np.array([np.mean([gap for gap, *_ in found[m]]) for m in methods])
    squared = np.array([sum(error**2 for _, error, _, _ in found[m]) for m in methods])
    uncertainty = np.array([sum(error**4 / df for _, error, df, _ in found[m]) for m in methods])
    own = np.array([sum(variance for *_, variance in found[m]) for m in methods])
    df = np.divide(squared**2, uncertainty, out=np.ones(len(methods)), where=uncertainty > 0)
    share = np.divide(own, squared, out=np.full(len(methods), 0.5), where=squared > 0)
    error = np.sqrt(squared) / count
    half_width = dunnett_quantile(alpha, share, df) * error
    spread = error > ROUNDING * float(np.nanmax(np.abs(kept.values)))
    return ToReference(
        reference, methods, tuple(int(c) for c in count), difference, error, df,
        np.where(spread, half_width, np.inf), np.clip(share, 0.0, 0.99), alpha,
    )  # fmt: skip


def _against(pairwise: Pairwise, method: int, reference: int) -> tuple[float, float, float, float]:
    """Difference, its standard error and degrees of freedom, and the reference's part of its variance, in one setting."""
    return (
        float(pairwise.difference[method, reference]),
        float(pairwise.standard_error[method, reference]),
        float(pairwise.df[method, reference]),
        float(pairwise.mean_variance[reference]),
    )
