"""What the leaderboard needs of the statistics: means over settings, kept quantile curves, a summary without IQM."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.results import statistics as stats
from harness.results.statistics.studentized_range import compute_curve, kept_curves


def made(methods: int, settings: int, runs: int, seed: int = 0) -> stats.Scores:
    values = np.random.default_rng(seed).normal(size=(methods, settings, runs))
    names = tuple(f"m{i}" for i in range(methods)), tuple(f"s{i}" for i in range(settings))
    return stats.Scores(*names, tuple(range(runs)), values)


def test_over_one_setting_the_interval_is_the_cells():
    scores = made(4, 1, 3)
    for method, interval in zip(scores.methods, stats.mean_over_settings(scores), strict=True):
        assert interval == pytest.approx(stats.cell(scores.runs(method, "s0")).interval)


def test_over_two_settings_it_is_welchs_interval_of_a_sum():
    scores = made(1, 2, 4)
    first, second = scores.values[0, 0], -scores.values[0, 1]
    welch = scipy_stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    interval = stats.mean_over_settings(scores)[0]
    assert interval == pytest.approx((welch.low / 2, welch.high / 2))


def test_it_covers_the_mean_when_settings_differ_in_spread():
    rng = np.random.default_rng(1)
    spread = np.array([0.5, 1, 2, 4])[:, None]
    values = rng.normal(size=(4000, 4, 3)) * spread
    scores = stats.Scores(tuple(f"m{i}" for i in range(4000)), ("a", "b", "c", "d"), (0, 1, 2), values)
    covered = [interval.low < 0 < interval.high for interval in stats.mean_over_settings(scores)]
    assert 0.94 <= np.mean(covered) <= 0.975  # Welch-Satterthwaite is a little careful at n = 3


def test_a_method_with_a_single_run_has_no_interval():
    values = np.array([[[1.0, np.nan], [1.0, 2.0]]])
    assert stats.mean_over_settings(stats.Scores(("m",), ("a", "b"), (0, 1), values)) == (None,)


@pytest.mark.parametrize("groups", [2, 3, 20, 60])
def test_the_kept_curves_are_the_studentized_range(groups):
    for df in (2, 7.5, 40, 400):
        exact = scipy_stats.studentized_range.ppf(0.95, groups, df)
        assert stats.studentized_range_quantile(0.05, groups, df) == pytest.approx(exact, rel=3e-6)


def test_the_kept_curves_are_those_that_are_computed():
    np.testing.assert_allclose(kept_curves()[11], compute_curve(0.05, 13), rtol=1e-9, atol=1e-12)


def test_without_the_iqm_everything_else_stays():
    scores = made(5, 6, 3)
    full = stats.compare_across_settings(scores, "m0")
    lean = stats.compare_across_settings(scores, "m0", iqm=False)
    for a, b in zip(full.methods, lean.methods, strict=True):
        assert b.iqm is None and b.iqm_interval is None
        assert (a.method, a.rank, a.rank_interval) == (b.method, b.rank, b.rank_interval)
        assert a.difference == pytest.approx(b.difference, abs=1e-12)
        assert a.difference_interval == pytest.approx(b.difference_interval, abs=1e-12)
