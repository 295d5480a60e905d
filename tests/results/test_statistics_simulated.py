"""The statistics against simulated truths: coverage, size and power, with and without an effect of the seed."""

from __future__ import annotations

import numpy as np
import pytest

from harness.results import statistics as stats


def names(count: int) -> tuple[str, ...]:
    return tuple(f"m{i}" for i in range(count))


def decisions(means, spread, runs, *, data_sets, block, seed=0):
    """(any other method separable from the observed top, m0 alone at the top), as shares of simulated data sets."""
    rng = np.random.default_rng([seed, runs, int(block)])
    means, spread = np.asarray(means, dtype=float), np.asarray(spread, dtype=float)
    size = (data_sets, len(means), runs)
    values = means[:, None] + spread[:, None] * rng.normal(size=size) + block * rng.normal(size=(data_sets, 1, runs))
    separated = np.zeros((data_sets, len(means)), dtype=bool)
    top = np.zeros(data_sets, dtype=int)
    for i, data in enumerate(values):
        pairwise = stats.compare_methods(names(len(means)), data)
        top[i] = pairwise.order[0]
        separated[i] = pairwise.separable[top[i]]
    return separated.any(axis=1).mean(), ((top == 0) & (separated.sum(axis=1) == len(means) - 1)).mean()


@pytest.mark.parametrize("runs", [3, 5])
def test_the_cell_interval_covers_the_mean(runs):
    values = np.random.default_rng(0).normal(7, 2, size=(20_000, 1, runs))
    cells = stats.cells(stats.Scores(names(20_000), ("s",), tuple(range(runs)), values))
    assert 0.94 <= ((cells.low < 7) & (cells.high > 7)).mean() <= 0.96


@pytest.mark.parametrize("runs", [3, 5])
@pytest.mark.parametrize("block", [0.0, 2.0])
def test_twenty_equal_methods_are_rarely_separated(runs, block):
    wrong, _ = decisions(np.zeros(20), np.ones(20), runs, data_sets=4000, block=block)
    assert 0.04 <= wrong <= 0.06


@pytest.mark.parametrize("block", [0.0, 2.0])
def test_a_winner_by_five_standard_deviations_is_found(block):
    _, found = decisions([5.0] + [0.0] * 12, np.ones(13), 3, data_sets=1500, block=block)
    assert found >= 0.85


@pytest.mark.parametrize(("runs", "bound"), [(3, 0.12), (5, 0.06)])
def test_one_method_of_tenfold_spread_does_not_spoil_the_table(runs, bound):
    wrong, _ = decisions(np.zeros(20), [10.0] + [1.0] * 19, runs, data_sets=1500, block=2.0)
    assert wrong <= bound  # pooling all variances: 0.35 and 0.32
    _, found = decisions([5.0] + [0.0] * 11 + [-150.0], [1.0] * 12 + [10.0], runs, data_sets=1000, block=2.0)
    assert found >= 0.85  # pooling all variances: 0.07


def test_graded_spreads_are_under_control_at_five_seeds():
    wrong, _ = decisions(np.zeros(20), np.geomspace(0.3, 3, 20), 5, data_sets=1500, block=2.0)
    assert wrong <= 0.11  # pooling all variances: 0.25


def test_missing_runs_keep_the_size():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(2000, 12, 3)) + 2 * rng.normal(size=(2000, 1, 3))
    values[:, [0, 3, 5], [0, 2, 1]] = np.nan
    wrong = [stats.compare_methods(names(12), data) for data in values]
    assert all(p.test in {"block Tukey", "block Games-Howell"} for p in wrong)
    assert np.mean([p.separable[p.order[0]].any() for p in wrong]) <= 0.06


@pytest.mark.parametrize("methods", [3, 8])
def test_equal_variances_are_called_unequal_in_one_data_set_of_a_hundred(methods):
    values = np.random.default_rng(2).normal(size=(6000, methods, 3))
    share = np.mean([bool(stats.compare_methods(names(methods), data).variance_outliers) for data in values])
    assert 0.006 <= share <= 0.014


def test_over_settings_the_size_holds_when_settings_differ_in_spread():
    rng = np.random.default_rng(3)
    wrong = []
    for _ in range(400):
        values = rng.normal(size=(8, 4, 3)) * np.array([0.3, 1, 1, 3])[:, None] + rng.normal(size=(4, 3))
        over = stats.compare_over_settings(stats.Scores(names(8), names(4), (0, 1, 2), values))
        wrong.append(over.separable[over.order[0]].any())
    assert np.mean(wrong) <= 0.08


def test_the_interval_over_settings_covers_the_mean_difference():
    rng = np.random.default_rng(4)
    covered = []
    for _ in range(500):
        values = rng.normal(size=(2, 8, 3)) + 2 * rng.normal(size=(1, 8, 3)) + np.arange(8)[:, None]
        values[1] += 1
        scores = stats.Scores(names(2), names(8), (0, 1, 2), values)
        interval = next(
            s.difference_interval
            for s in stats.compare_across_settings(scores, "m0", resamples=500).methods
            if s.method == "m1"
        )
        assert interval is not None
        covered.append(interval.low < 1 < interval.high)
    assert 0.90 <= np.mean(covered) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("runs", [3, 5])
@pytest.mark.parametrize("block", [0.0, 2.0])
def test_size_and_power_to_a_third_of_a_percent(runs, block):
    wrong, _ = decisions(np.zeros(20), np.ones(20), runs, data_sets=30_000, block=block, seed=7)
    assert 0.045 <= wrong <= 0.057
    _, found = decisions([5.0] + [0.0] * 12, np.ones(13), runs, data_sets=10_000, block=block, seed=8)
    assert found >= (0.9 if runs == 3 else 0.98)
