"""The statistics against simulated truths: coverage, size and power, with and without an effect of the seed."""

from __future__ import annotations

import numpy as np
import pytest

from harness.results import statistics as stats
from harness.results.statistics.ties import simultaneous


def names(count: int) -> tuple[str, ...]:
    return tuple(f"m{i}" for i in range(count))


def decisions(means, spread, runs, *, data_sets, block, seed=0):
    """(any other method separable from the observed top, any pair separable, m0 from each other), as shares."""
    rng = np.random.default_rng([seed, runs, int(block)])
    means, spread = np.asarray(means, dtype=float), np.asarray(spread, dtype=float)
    size = (data_sets, len(means), runs)
    values = means[:, None] + spread[..., None] * rng.normal(size=size) + block * rng.normal(size=(data_sets, 1, runs))
    found = simultaneous(values, blocked=True)
    separable = np.abs(found.estimate[:, :, None] - found.estimate[:, None]) > found.half_width
    top = found.estimate.argmax(axis=1)
    from_top = separable[np.arange(data_sets), top].any(axis=1)
    return from_top.mean(), separable.any(axis=(1, 2)).mean(), separable[:, 0, 1:].mean()


@pytest.mark.parametrize("runs", [3, 5])
def test_the_cell_interval_covers_the_mean(runs):
    values = np.random.default_rng(0).normal(7, 2, size=(20_000, 1, runs))
    cells = stats.cells(stats.Scores(names(20_000), ("s",), tuple(range(runs)), values))
    assert 0.94 <= ((cells.low < 7) & (cells.high > 7)).mean() <= 0.96


# Bounds: the rate that docs/statistics.md promises, and 3.3 binomial standard errors of the data sets drawn here.


@pytest.mark.parametrize("runs", [3, 5])
@pytest.mark.parametrize("methods", [3, 14])
def test_equal_methods_of_equal_spread_are_rarely_separated(runs, methods):
    wrong, any_pair, _ = decisions(np.zeros(methods), np.ones(methods), runs, data_sets=1500, block=2.0)
    assert wrong <= any_pair <= 0.06 + 3.3 * np.sqrt(0.06 * 0.94 / 1500)


@pytest.mark.parametrize(("runs", "promised"), [(3, 0.115), (5, 0.08)])
@pytest.mark.parametrize("spread", [0.4, 0.8])
def test_equal_methods_of_unequal_spread_are_separated_as_rarely_as_promised(runs, promised, spread):
    spreads = np.exp(spread * np.random.default_rng(1).normal(size=(1500, 14)))
    wrong, _, _ = decisions(np.zeros(14), spreads, runs, data_sets=1500, block=2.0)
    assert wrong <= promised + 3.3 * np.sqrt(promised * (1 - promised) / 1500)


def test_a_winner_by_five_standard_deviations_is_found():
    _, _, found = decisions([5.0] + [0.0] * 12, np.ones(13), 3, data_sets=1500, block=2.0)
    assert found >= 0.975


def test_one_method_of_tenfold_spread_does_not_spoil_the_table():
    wrong, _, _ = decisions(np.zeros(20), [10.0] + [1.0] * 19, 3, data_sets=1000, block=2.0)
    assert wrong <= 0.12 + 3.3 * np.sqrt(0.12 * 0.88 / 1000)  # pooling all variances: 0.35
    _, _, found = decisions([5.0] + [0.0] * 11 + [-150.0], [1.0] * 12 + [10.0], 3, data_sets=500, block=2.0)
    assert found >= 0.5  # of the pairs; pooling all variances finds the winner in 0.07


def test_missing_runs_keep_the_size():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(600, 12, 3)) + 2 * rng.normal(size=(600, 1, 3))
    values[:, [0, 3, 5], [0, 2, 1]] = np.nan
    wrong = [stats.compare_methods(names(12), data) for data in values]
    assert all(p.test == "moderated block Tukey" for p in wrong)
    assert np.mean([p.separable[p.order[0]].any() for p in wrong]) <= 0.06 + 3.3 * np.sqrt(0.06 * 0.94 / 600)


def test_over_settings_the_size_holds_when_settings_differ_in_spread():
    rng = np.random.default_rng(3)
    wrong = []
    for _ in range(250):
        values = rng.normal(size=(8, 4, 3)) * np.array([0.3, 1, 1, 3])[:, None] + rng.normal(size=(4, 3))
        over = stats.compare_over_settings(stats.Scores(names(8), names(4), (0, 1, 2), values))
        wrong.append(over.separable[over.order[0]].any())
    assert np.mean(wrong) <= 0.06 + 3.3 * np.sqrt(0.06 * 0.94 / 250)


def test_the_interval_over_settings_covers_the_mean_difference():
    rng = np.random.default_rng(4)
    covered = []
    for _ in range(300):
        values = rng.normal(size=(2, 8, 3)) + 2 * rng.normal(size=(1, 8, 3)) + np.arange(8)[:, None]
        values[1] += 1
        scores = stats.Scores(names(2), names(8), (0, 1, 2), values)
        interval = next(
            s.difference_interval
            for s in stats.compare_across_settings(scores, "m0", iqm=False).methods
            if s.method == "m1"
        )
        assert interval is not None
        covered.append(interval.low < 1 < interval.high)
    assert 0.90 <= np.mean(covered) <= 0.995
