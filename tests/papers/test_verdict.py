"""Printed means against our seeds: Welch's prediction interval, and what it may not say."""

import numpy as np
import pytest
import scipy.stats

from harness.errors import HarnessError
from harness.papers import verdict
from harness.results import statistics as stats

NAN = float("nan")


def test_the_interval_is_welchs():
    ours, theirs = np.array([88.1, 88.9, 88.4]), np.array([89.0, 88.2, 88.8, 89.3, 88.6])
    check = verdict.compare_with_published(ours, theirs.mean(), theirs.std(ddof=1), 5)
    expected = scipy.stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    assert check.interval == pytest.approx(tuple(expected))
    assert (check.verdict, check.assumptions) == ("inconclusive", ())
    wide = verdict.compare_with_published(ours, theirs.mean(), theirs.std(ddof=1), 5, gap=2.0)
    assert (wide.verdict, wide.interval) == ("consistent", check.interval)


def test_the_gap_that_could_have_been_seen_is_found_in_80_percent():
    rng = np.random.default_rng(0)
    detectable = verdict.reach([(1 / 3, 2.0)]).detectable  # three runs of standard deviation 1 against a known number
    runs = rng.normal(detectable, 1, size=(40_000, 3))
    found = np.abs(runs.mean(1)) > scipy.stats.t.ppf(0.975, 2) * runs.std(1, ddof=1) / np.sqrt(3)
    assert found.mean() == pytest.approx(0.8, abs=0.01)
    other = verdict.reach([(0.5, 4.0), (0.1, 2.0)], rounding=0.05)
    df = 0.6**2 / (0.5**2 / 4 + 0.1**2 / 2)
    critical, nc = scipy.stats.t.ppf(0.975, df), (other.detectable - 0.05) / np.sqrt(0.6)
    assert other.half == pytest.approx(critical * np.sqrt(0.6) + 0.05)
    power = scipy.stats.nct.sf(critical, df, nc) + scipy.stats.nct.cdf(-critical, df, nc)
    assert power == pytest.approx(0.8, abs=1e-4)


@pytest.mark.parametrize("ours, theirs", [(3, 3), (3, 5), (5, 3)])
@pytest.mark.parametrize("spread", [1.0, 5**0.5, 5**-0.5])
def test_unequal_variances_make_few_false_verdicts(ours, theirs, spread):
    """Equal means; the paper's variance is the same, five times ours, and a fifth of it."""
    rng, sets = np.random.default_rng(1), 4000
    here, there = rng.normal(80, 1, (sets, ours)), rng.normal(80, spread, (sets, theirs))
    checks = [
        verdict.compare_with_published(a, b.mean(), b.std(ddof=1), theirs) for a, b in zip(here, there, strict=True)
    ]
    assert sum(c.verdict in ("below", "above") for c in checks) / sets <= 0.07


def test_what_could_not_have_been_seen_is_inconclusive_and_what_is_seen_stays_so():
    scattered = verdict.compare_with_published([60.2, 62.5, 64.8], 71.64, decimals=2)
    assert scattered.verdict == "inconclusive" and scattered.interval.low < 0 < scattered.interval.high
    assert scattered.detectable > 10
    sharp = verdict.compare_with_published([62.4, 62.5, 62.6], 62.5, decimals=2)
    assert sharp.verdict == "consistent" and sharp.detectable < 1
    seen = verdict.compare_with_published([60.2, 62.5, 64.8], 90.0, decimals=2)
    assert seen.verdict == "below" and seen.detectable == pytest.approx(scattered.detectable)
    elsewhere = verdict.compare_with_published([60.2, 62.5, 64.8], 71.64, departure="another budget")
    assert (elsewhere.verdict, elsewhere.by_numbers) == ("not comparable", "inconclusive")


def test_each_side_has_at_least_the_variance_of_the_grid():
    check = verdict.compare_with_published([98.61, 98.61], 98.63, 0.0, 2, step=0.06)
    half = scipy.stats.t.ppf(0.975, 2) * 0.06 / np.sqrt(12)
    assert check.interval == pytest.approx((-0.02 - half, -0.02 + half))


def test_what_is_not_printed_is_assumed_and_said():
    ours = np.array([70.0, 71.0, 72.0, NAN])
    no_std = verdict.compare_with_published(ours, 80.0, None, 5)
    half = scipy.stats.t.ppf(0.975, 2) * 1.0 * np.sqrt(1 / 5 + 1 / 3)
    assert no_std.interval == pytest.approx((-9 - half, -9 + half))
    assert no_std.verdict == "below"
    assert no_std.assumptions == ("std not printed: the reproduced one assumed",)
    nothing = verdict.compare_with_published(ours, 70.0)
    half = scipy.stats.t.ppf(0.975, 2) * np.sqrt(1 + 1 / 3)
    assert nothing.interval == pytest.approx((1 - half, 1 + half))
    assert nothing.verdict == "inconclusive"
    assert nothing.assumptions[0] == "n not printed: 1 assumed"
    no_n = verdict.compare_with_published(ours, 60.0, 0.5)
    assert no_n.verdict == "above"
    assert no_n.assumptions == ("n not printed: 2 assumed",)
    one_seed = verdict.compare_with_published([70.0], 71.0, 1.0, 4)
    half = scipy.stats.t.ppf(0.975, 3) * np.sqrt(1 / 4 + 1)
    assert one_seed.interval == pytest.approx((-1 - half, -1 + half))
    assert one_seed.assumptions == ("one reproduced seed: the printed std assumed",)


def test_not_comparable_has_a_reason():
    assert verdict.compare_with_published([70.0], 71.0).reason == "neither side has a spread (one seed)"
    assert verdict.compare_with_published([NAN], 71.0).verdict == "not comparable"
    other = verdict.compare_with_published([70.0, 71.0], 71.0, not_comparable="another model")
    assert (other.verdict, other.reason, other.difference) == ("not comparable", "another model", -0.5)
    with pytest.raises(HarnessError, match="impossible"):
        verdict.compare_with_published([70.0, 71.0], 71.0, -1.0)


def test_a_printed_mean_may_be_any_number_that_is_printed_so():
    plain = verdict.compare_with_published([98.30, 98.35, 98.40], 98.0)
    rounded = verdict.compare_with_published([98.30, 98.35, 98.40], 98.0, decimals=0)
    assert (plain.verdict, rounded.verdict) == ("above", "consistent")
    assert rounded.interval.high - rounded.interval.low == pytest.approx(plain.interval.high - plain.interval.low + 1.0)


def test_equal_scores_of_a_finite_test_set_do_not_claim_to_know_everything():
    assert verdict.compare_with_published([98.61, 98.61], 98.63, decimals=2).verdict == "below"
    assert verdict.compare_with_published([98.61, 98.61], 98.63, decimals=2, step=0.01).verdict == "consistent"
    assert verdict.compare_with_published([98.61, 98.61], 99.63, decimals=2, step=0.01).verdict == "below"


@pytest.mark.parametrize("runs", [2, 3])
@pytest.mark.parametrize("decimals", [0, 1, 2])
@pytest.mark.parametrize("std", [0.01, 0.1, 0.5])
def test_rounding_and_grid_make_no_false_verdicts(runs, decimals, std):
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(500):
        ours, theirs = np.split(np.round(rng.normal(98 + rng.random(), std, runs + 1), 2), [runs])
        check = verdict.compare_with_published(ours, np.round(theirs[0], decimals), decimals=decimals, step=0.01)
        wrong += check.verdict in ("below", "above")
    assert wrong / 500 <= 0.08


def test_equal_constants_are_consistent():
    assert verdict.compare_with_published([0.3, 0.3], 0.1 + 0.2, 0.0, 3).verdict == "consistent"
    assert verdict.compare_with_published([0.3, 0.3], 0.4, 0.0, 3).verdict == "below"


def test_a_table_is_summed_up():
    checks = [
        verdict.compare_with_published([70.0, 71.0], 70.0, 1.0, 3),
        verdict.compare_with_published([70.0, 70.1], 70.0, 0.1, 3),
        verdict.compare_with_published([70.0, 70.1], 90.0, 1.0, 3),
        verdict.compare_with_published([70.0, 70.1], 50.0, 1.0, 3),
        verdict.compare_with_published([70.0, 70.1], 90.0, 1.0, 3, not_comparable="another metric"),
    ]
    summary = verdict.summarise_published(checks)
    assert (summary.cells, summary.not_comparable, summary.measured) == (5, 1, 4)
    assert (summary.consistent, summary.inconclusive, summary.below, summary.above) == (1, 1, 1, 1)
    assert summary.mean_absolute_difference == pytest.approx((0.5 + 0.05 + 19.95 + 20.05) / 4)
    assert verdict.summarise_published([]).mean_absolute_difference is None


def test_the_papers_ordering_is_judged_on_decided_pairs_only():
    rng = np.random.default_rng(21)
    values = np.array([[10.0], [20.0], [20.01], [40.0]]) + 0.05 * rng.normal(size=(4, 3))
    pairwise = stats.compare_methods(("A", "B", "C", "D"), values)
    printed = {"A": 1.0, "B": 3.0, "C": 2.0, "D": 0.5, "E": 7.0}
    agreement = verdict.ordering_agreement(printed, pairwise)
    assert agreement.methods == ("A", "B", "C", "D")
    assert (agreement.agree, agreement.disagree, agreement.undecided) == (2, 3, 1)
    assert set(agreement.disagreements) == {("D", "A"), ("D", "B"), ("D", "C")}
    assert agreement.tau_b == pytest.approx(scipy.stats.kendalltau([1, 3, 2, 0.5], pairwise.estimate).statistic)
    partial = verdict.ordering_agreement({"A": 1.0, "B": NAN}, pairwise)
    assert (partial.methods, partial.agree, partial.tau_b) == (("A",), 0, None)
    losses = stats.compare_methods(("A", "B", "C", "D"), values, higher_is_better=False)
    assert ("A", "D") in verdict.ordering_agreement(printed, losses).disagreements


@pytest.mark.parametrize("printed", [(True, True), (False, True)])
def test_a_faithful_reproduction_is_called_below_or_above_in_5_percent(printed):
    rng = np.random.default_rng(5)
    theirs, ours = rng.normal(80, 1, size=(4000, 5)), rng.normal(80, 1, size=(4000, 3))
    with_std, with_n = printed
    verdicts = [
        verdict.compare_with_published(b, a.mean(), a.std(ddof=1) if with_std else None, 5 if with_n else None).verdict
        for a, b in zip(theirs, ours, strict=True)
    ]
    assert 0.035 <= sum(said in ("below", "above") for said in verdicts) / 4000 <= 0.06


def test_runs_of_two_heights_get_no_interval():
    """Scores of which some collapsed are no sample of a normal distribution; where all did, they agree on that."""
    runs, said = [31.1, 31.1, 79.0, 79.1], "2 of 4 collapsed"
    check = verdict.compare_with_published(runs, 180.0, 0.1, 5, fallen=said, mixed=True)
    assert (check.verdict, check.interval, check.fallen, check.measured) == ("inconclusive", None, said, True)
    assert verdict.compare_with_published(runs, 180.0, 0.1, 5).verdict == "below"
    departing = verdict.compare_with_published(runs, 180.0, 0.1, 5, fallen=said, mixed=True, departure="20 epochs")
    assert (departing.verdict, departing.by_numbers) == ("not comparable", "inconclusive")
    every = verdict.compare_with_published([31.1, 31.2, 31.1], 67.0, 0.1, 5, fallen="3 of 3 collapsed")
    assert (every.verdict, every.fallen) == ("below", "3 of 3 collapsed")
