"""The statistics against independent computations: scipy.stats, statsmodels, hand formulas, and invariances."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
import statsmodels.api as sm
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harness.errors import HarnessError
from harness.results import statistics as stats
from harness.results.statistics.additive import fit_additive, residual_df
from harness.results.statistics.variances import moderate

NAN = float("nan")


def names(count: int) -> tuple[str, ...]:
    return tuple(f"m{i}" for i in range(count))


def table(values, **kwargs) -> stats.Scores:
    values = np.asarray(values, dtype=float)
    methods, columns, seeds = values.shape
    return stats.Scores(names(methods), tuple(f"s{i}" for i in range(columns)), tuple(range(seeds)), values, **kwargs)


def unshared(samples) -> np.ndarray:
    """Rows of a method x seed table in which no two methods share a seed."""
    total = sum(len(s) for s in samples)
    values, start = np.full((len(samples), total), NAN), 0
    for row, sample in zip(values, samples, strict=True):
        row[start : start + len(sample)] = sample
        start += len(sample)
    return values


# --- the table --------------------------------------------------------------------------------------------------------


def test_rows_become_a_table_in_order_of_appearance():
    rows = [("CE", "sym", 1, 0.5), ("SOP", "sym", 0, 0.75), ("CE", "pair", 0, None), ("CE", "sym", 0, 0.25)]
    scores = stats.Scores.from_rows(rows)
    assert scores.methods == ("CE", "SOP")
    assert scores.settings == ("sym", "pair")
    assert scores.seeds == (0, 1)
    np.testing.assert_array_equal(scores.values, [[[0.25, 0.5], [NAN, NAN]], [[0.75, NAN], [NAN, NAN]]])
    np.testing.assert_array_equal(scores.runs("CE", "sym"), [0.25, 0.5])


def test_no_rows_are_an_empty_table():
    assert stats.Scores.from_rows([]).values.shape == (0, 0, 0)


def test_a_hundred_thousand_rows_are_read():
    methods, columns, seeds = (a.ravel() for a in np.meshgrid(range(100), range(200), range(5), indexing="ij"))
    values = np.random.default_rng(0).normal(size=methods.size)
    labels = [f"m{i}" for i in methods], [f"s{i}" for i in columns]
    scores = stats.Scores.from_columns(*labels, seeds.tolist(), values.tolist())
    stats.cells(scores)
    np.testing.assert_array_equal(scores.values.ravel(), values)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: stats.Scores.from_rows([("a", "s", 0, 1.0), ("a", "s", 0, 2.0)]), "a, s, seed 0: two scores"),
        (lambda: table([[[1.0, np.inf]]]), "m0, s0, seed 1: a score is infinite"),
        (lambda: stats.Scores(("a", "a"), ("s",), (0,), np.zeros((2, 1, 1))), "a method twice"),
        (lambda: stats.Scores(("a",), ("s",), (0,), np.zeros((1, 1, 2))), r"shape \(1, 1, 2\)"),
        (lambda: stats.Scores.from_columns(["a"], ["s"], [0], []), "different lengths"),
        (lambda: table([[[1.0]]]).select(methods=["b"]), "no method 'b'"),
        (lambda: table([[[1.0]]]).runs("m0", "b"), "no setting 'b'"),
    ],
)
def test_a_bad_table_is_refused(make, message):
    with pytest.raises(HarnessError, match=message):
        make()


def test_the_values_of_a_table_are_a_read_only_copy():
    values = np.zeros((1, 1, 2))
    scores = table(values)
    values[0, 0, 0] = 5
    assert scores.values[0, 0, 0] == 0
    with pytest.raises(ValueError, match="read-only"):
        scores.values[0, 0, 0] = 1


# --- cells ------------------------------------------------------------------------------------------------------------


def test_a_cell_has_the_student_interval():
    values = [70.1, 71.4, 70.9, NAN]
    cell = stats.cell(values)
    expected = scipy.stats.t.interval(0.95, 2, np.mean(values[:3]), scipy.stats.sem(values[:3]))
    assert cell is not None
    assert cell.n == 3
    assert cell.std == pytest.approx(np.std(values[:3], ddof=1))
    assert cell.interval == pytest.approx(expected)


def test_one_seed_shows_the_value_alone_and_none_shows_nothing():
    assert stats.cell([NAN, 3.0]) == stats.Cell(3.0, None, 1, None, 0, 3.0, 3.0)
    assert stats.cell([NAN]) is None
    assert stats.cell([]) is None


@given(arrays(float, (3, 2, 4), elements=st.one_of(st.just(NAN), st.floats(-100, 100))))
@settings(max_examples=50, deadline=None)
def test_all_cells_at_once_are_the_cells_one_by_one(values):
    scores = table(values)
    every = stats.cells(scores, level=0.9)
    for m, s in np.ndindex(3, 2):
        one = stats.cell(values[m, s], level=0.9, step=scores.grid)
        together = [every.mean[m, s], every.std[m, s], every.low[m, s], every.high[m, s]]
        assert every.n[m, s] == (0 if one is None else one.n)
        if one is None:
            assert np.isnan(together).all()
        elif one.std is None or one.interval is None:
            assert together[0] == one.mean
            assert np.isnan(together[1:]).all()
        else:
            np.testing.assert_allclose(together, [one.mean, one.std, *one.interval], rtol=1e-9, atol=1e-9)


def test_a_plain_board_imports_no_scipy_and_ties_no_scipy_stats():
    code = """
import sys
from harness.results import statistics as s
scores = s.Scores(("a", "b"), ("x",), (0, 1, 2), [[[1.0, 2, 3]], [[1.0, 4, 3]]])
s.cells(scores, intervals=False)
assert not any(name.startswith("scipy") for name in sys.modules)
s.describe(s.top_group(s.compare_in_setting(scores, "x")))
s.compare_across_settings(scores, "a")
assert not {"scipy.stats", "statsmodels", "pandas"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


# --- studentized range ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [2, 3, 13, 20, 50])
def test_the_studentized_range_is_scipys(groups):
    q = np.array([0.0, 0.5, 2.0, 3.5, 5.0, 9.0, 40.0])
    for df in (1, 2.3, 4, 38, 1000):
        expected = scipy.stats.studentized_range.sf(q, groups, df)
        np.testing.assert_allclose(stats.studentized_range_sf(q, groups, df), expected, atol=2e-7)
    assert stats.studentized_range_sf(np.inf, groups, 3) == 0


@pytest.mark.parametrize("groups", [2, 3, 20])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_its_quantile_has_that_probability(groups, alpha):
    df = np.array([1, 1.7, 2, 8, 38, 500, 10_000])
    quantile = stats.studentized_range_quantile(alpha, groups, df)
    np.testing.assert_allclose(scipy.stats.studentized_range.sf(quantile, groups, df), alpha, rtol=1e-5)


def test_of_two_means_it_is_students_t():
    df = np.array([1.0, 2.5, 30])
    expected = np.sqrt(2) * scipy.stats.t.ppf(0.975, df)
    np.testing.assert_allclose(stats.studentized_range_quantile(0.05, 2, df), expected, rtol=1e-9)


# --- ties within a setting --------------------------------------------------------------------------------------------


def ols(values):
    """Method + seed least squares by statsmodels, with the first seed as baseline and no intercept."""
    m, r = np.nonzero(~np.isnan(values))
    design = np.column_stack([m[:, None] == np.arange(len(values)), r[:, None] == np.arange(1, values.shape[1])])
    return sm.OLS(values[m, r], design.astype(float)).fit()


@pytest.mark.parametrize("missing", [[], [(0, 0), (1, 2), (4, 1)]])
def test_the_weighted_fit_is_weighted_least_squares(missing):
    rng = np.random.default_rng(1)
    values = rng.normal(size=(6, 4)) + 3 * rng.normal(size=4) + np.arange(6)[:, None]
    weights = rng.uniform(0.2, 5, size=6)
    for place in missing:
        values[place] = NAN
    m, r = np.nonzero(~np.isnan(values))
    design = np.column_stack([m[:, None] == np.arange(6), r[:, None] == np.arange(1, 4)]).astype(float)
    theirs = sm.WLS(values[m, r], design, weights=weights[m]).fit()
    ours = fit_additive(values, weights)
    covariance = theirs.normalized_cov_params
    np.testing.assert_allclose(ours.row - ours.row[0], theirs.params[:6] - theirs.params[0], atol=1e-9)
    np.testing.assert_allclose(ours.residual[m, r], theirs.resid, atol=1e-9)
    leverage = weights[m] * np.einsum("ij,jk,ik->i", design, covariance, design)
    expected = [(1 - leverage)[m == i].sum() for i in range(6)]
    np.testing.assert_allclose(ours.row_df, expected, atol=1e-9)
    assert residual_df(~np.isnan(values)) == theirs.df_resid == pytest.approx(sum(expected))
    for i, j in itertools.combinations(range(6), 2):
        contrast = np.zeros(9)
        contrast[i], contrast[j] = 1, -1
        ours_too = ours.inverse[i, i] + ours.inverse[j, j] - 2 * ours.inverse[i, j]
        assert ours_too == pytest.approx(contrast @ covariance @ contrast)
    batch = fit_additive(np.stack([values, values + 1]), np.stack([weights, weights]))
    np.testing.assert_allclose(batch.residual[1], ours.residual, atol=1e-9)


@pytest.mark.parametrize("df", [2.0, np.array([1.9, 0.7, 3.5, 2.0])])
def test_moderated_variances_are_posterior_means(df):
    variance = np.array([0.3, 1.1, 4.0, 0.02])
    degrees = np.broadcast_to(df, 4)
    log_s = np.log(np.median(variance)) + np.linspace(-3.125, 4.125, 2001)
    log_likelihood, log_variance = [], []
    for prior in 2.0 ** np.arange(9):
        ratio = variance[:, None] / np.exp(log_s)
        density = scipy.stats.f.logpdf(ratio, degrees[:, None], prior) - log_s  # of s_i^2, given the prior's scale
        log_likelihood.append(density.sum(axis=0))
        moved = (prior * np.exp(log_s) + degrees[:, None] * variance[:, None]) / (prior + degrees[:, None])
        log_variance.append(np.log(moved))
    weight = np.exp(log_likelihood - np.max(log_likelihood))
    weight /= weight.sum()
    expected = np.exp((np.array(log_variance) * weight[:, None]).sum(axis=(0, 2)))
    added = 1 / (weight.sum(axis=1) / (2.0 ** np.arange(9) + 2)).sum() - 2
    ours = moderate(variance, np.asarray(degrees))
    np.testing.assert_allclose(ours.variance, expected, rtol=5e-3)
    assert float(ours.prior_df) == pytest.approx(added, rel=5e-3)


def test_moderated_variances_lie_between_own_and_common_ones():
    rng = np.random.default_rng(2)
    alike, apart = rng.chisquare(2, (500, 14)) / 2, rng.chisquare(2, (500, 14)) / 2 * np.geomspace(1e-3, 1e3, 14)
    two = np.full(14, 2.0)
    together, separate = moderate(alike, two), moderate(apart, two)
    assert np.median(together.prior_df) > 15 > 3 > np.median(separate.prior_df)
    assert np.log(together.variance).std() < 0.4 * np.log(alike).std()
    np.testing.assert_allclose(moderate(9 * alike, two).variance, 9 * together.variance, rtol=1e-9)
    assert not moderate(np.zeros(5), np.full(5, 2.0)).variance.any()


def test_with_many_seeds_of_equal_spread_it_is_the_textbook_block_design():
    values = np.random.default_rng(2).normal(size=(5, 400)) + np.random.default_rng(3).normal(size=400)
    residual = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    half = scipy.stats.studentized_range.ppf(0.95, 5, 4 * 399) * np.sqrt((residual**2).sum() / (4 * 399) / 400)
    pairwise = stats.compare_methods(names(5), values)
    np.testing.assert_allclose(pairwise.half_width[~np.eye(5, dtype=bool)], half, rtol=0.05)
    np.testing.assert_allclose(pairwise.difference, np.subtract.outer(values.mean(1), values.mean(1)), atol=1e-12)


@pytest.mark.parametrize("sizes", [(4, 4, 4), (3, 5, 4)])
def test_unshared_seeds_are_tukey_kramer_with_moderated_variances(sizes):
    rng = np.random.default_rng(3)
    samples = [rng.normal(loc, 1, size) for loc, size in zip((0, 1, 3), sizes, strict=True)]
    pairwise = stats.compare_methods(names(3), unshared(samples))
    n = np.array(sizes)
    variance, added = moderate(np.array([s.var(ddof=1) for s in samples]), n - 1.0)
    assert pairwise.test == "moderated Tukey-Kramer"
    for i, j in itertools.permutations(range(3), 2):
        df = min(min(n[i], n[j]) - 1 + added, n.sum() - 3)
        error = np.sqrt(variance[i] / n[i] + variance[j] / n[j])
        q = scipy.stats.studentized_range.ppf(0.95, 3, df)
        assert pairwise.df[i, j] == pytest.approx(df)
        assert pairwise.half_width[i, j] == pytest.approx(q / np.sqrt(2) * error, rel=1e-5)
        gap = abs(samples[i].mean() - samples[j].mean())
        p = scipy.stats.studentized_range.sf(np.sqrt(2) * gap / error, 3, df)
        assert pairwise.adjusted_p(i)[j] == pytest.approx(p, abs=1e-6)


def test_a_noisy_method_has_wider_intervals_than_a_steady_one():
    rng = np.random.default_rng(4)
    samples = rng.normal(size=(4, 8)) * np.array([0.05, 0.4, 3.0, 20.0])[:, None]
    half = stats.compare_methods(names(4), samples).half_width
    assert half[0, 1] < half[0, 2] < half[0, 3]


def test_one_method_that_jumps_does_not_hide_the_other_differences():
    rng = np.random.default_rng(5)
    values = 80 + rng.normal(size=(8, 3)) * 0.3 + rng.normal(size=3)
    values[0] += 5
    values[7] = [80.0, 9.8, 79.5]
    group = stats.top_group(stats.compare_methods(names(8), values))
    assert group.not_separable == ("m0", "m7")  # three seeds, one of them lost: nobody can tell
    assert (group.equal, group.undecided) == ((), ("m7",))
    assert stats.describe(group) == (
        "m0 is at the top; m7 is too noisy to tell from it (n = 3, moderated block Tukey, 0.05)"
    )


def test_runs_that_collapsed_are_not_tested_but_counted():
    rng = np.random.default_rng(5)
    values = 0.8 + rng.normal(size=(4, 2, 3)) * 0.003
    values[3, 1, 1] = 0.1
    marks = (values < 0.2).sum(axis=2)
    scores = table(values, bounds=(0, 1), collapsed=marks)
    within, over = stats.compare_in_setting(scores, "s1"), stats.compare_over_settings(scores)
    assert within.methods == over.methods == ("m0", "m1", "m2")
    assert within.not_comparable == (("m3", "1 of 3 runs collapsed"),)
    assert over.not_comparable == (("m3", "1 of 6 runs collapsed"),)
    assert "m3 (1 of 3 runs collapsed) is not comparable" in stats.describe(stats.top_group(within))
    assert "m3" in stats.compare_in_setting(scores, "s0").methods
    broken = stats.cells(scores)
    assert np.isnan(broken.low[3, 1]) and broken.broken[3, 1] == 1 and not np.isnan(broken.low[3, 0])
    cell = stats.cell(values[3, 1], broken=1)
    assert cell is not None
    assert (cell.interval, cell.low, cell.broken) == (None, 0.1, 1)
    rows = summaries(stats.compare_across_settings(scores, "m0"))
    assert rows["m3"].rank == 4 and rows["m3"].rank_interval is None and rows["m3"].collapsed == 1
    assert rows["m3"].difference is not None and rows["m3"].difference_interval is None
    assert stats.mean_over_settings(scores)[3] is None
    assert all(rows[m].rank_interval.high <= 4 for m in names(3))


def test_a_method_with_a_failed_run_has_no_rank_and_says_why():
    values = np.random.default_rng(6).normal(size=(3, 2, 3))
    values[0] += 50
    values[0, 1, 2] = NAN
    failed = np.isnan(values).sum(axis=2)
    rows = summaries(stats.compare_across_settings(table(values, failed=failed), "m2"))
    assert (rows["m0"].rank, rows["m0"].withheld) == (None, "1 run failed")
    assert sorted(rows[m].rank for m in ("m1", "m2")) == [1, 2]
    assert summaries(stats.compare_across_settings(table(values), "m2"))["m0"].rank == 1
    with pytest.raises(HarnessError, match="counts 'failed' have shape"):
        table(values, failed=failed[0])


def test_states_follow_the_detectable_gap():
    rng = np.random.default_rng(7)
    values = np.repeat([[0.9], [0.9], [0.7]], 5, axis=1) + rng.normal(size=(3, 5)) * 0.001
    pairwise = stats.compare_methods(("A", "B", "C"), values, margin=0.01)
    assert [pairwise.state(0, j) for j in range(3)] == ["equal", "equal", "separable"]
    assert stats.describe(stats.top_group(pairwise)).count("equal at the top") == 1
    noisy = stats.compare_methods(("A", "B", "C"), values, margin=0.0001)
    assert noisy.state(0, 1) == "undecided"
    scores = table(values[:, None], bounds=(0, 1))
    assert stats.compare_in_setting(scores, "s0").margin == pytest.approx(0.01)
    assert stats.compare_over_settings(scores).state(0, 1) == "equal"


def test_the_detectable_difference_is_that_of_the_noncentral_t():
    for df, critical in ((2, 4.3), (8.5, 3.1), (26, 3.6)):
        gap = float(stats.detectable_difference(0.5, df, critical))
        assert scipy.stats.nct.sf(critical, df, gap / 0.5) == pytest.approx(0.8, abs=1e-5)
    assert np.isnan(stats.detectable_difference(0.0, 3, NAN))


def test_rank_spans_tiers_and_states_do_not_contradict_each_other():
    rng = np.random.default_rng(8)
    for _ in range(20):
        pairwise = stats.compare_methods(names(8), rng.normal(size=(8, 4)) + 2 * np.arange(8)[:, None] * rng.random())
        group, spans = stats.top_group(pairwise), dict(zip(pairwise.methods, pairwise.rank_span, strict=True))
        for comparison in group.comparisons:
            assert comparison.separable == (comparison.state == "separable")
            assert not comparison.separable or spans[comparison.method].low > 1
        for rank, i in enumerate(pairwise.order, 1):
            assert spans[pairwise.methods[i]].low <= rank <= spans[pairwise.methods[i]].high
        assert {m for m, s in spans.items() if s.low == 1} <= set(group.not_separable)


def test_two_methods_are_the_paired_t_test_and_welchs():
    rng = np.random.default_rng(6)
    values = rng.normal(size=(2, 5)) + 2 * rng.normal(size=5)
    blocked = stats.compare_methods(names(2), values)
    assert blocked.test == "paired t test"
    assert blocked.adjusted_p(0)[1] == pytest.approx(scipy.stats.ttest_rel(*values).pvalue, abs=1e-7)
    apart = stats.compare_methods(names(2), unshared(values))
    assert apart.test == "Welch's t test"
    assert apart.adjusted_p(0)[1] == pytest.approx(scipy.stats.ttest_ind(*values, equal_var=False).pvalue, abs=1e-7)


def test_seeds_of_one_method_alone_add_nothing_to_a_blocked_comparison():
    rng = np.random.default_rng(7)
    values = np.full((4, 9), NAN)
    values[:, :3] = rng.normal(size=(4, 3))
    alone = stats.compare_methods(names(4), values[:, :3])
    values[0, 3:] = 50.0
    more = stats.compare_methods(names(4), values)
    assert more.test == "moderated block Tukey"
    np.testing.assert_allclose(more.half_width, alone.half_width)
    np.testing.assert_allclose(more.difference, alone.difference)


def test_seeds_that_are_hardly_shared_are_not_blocks():
    values = np.full((2, 8), NAN)
    values[0, :5] = [1, 2, 3, 4, 5]
    values[1, 3:] = [2, 3, 4, 5, 7]
    assert stats.compare_methods(names(2), values).test == "Welch's t test"


def test_a_single_run_is_not_comparable_and_the_sentence_says_so():
    values = [[1.0, 2.0, 3.0], [1.1, 2.1, 2.9], [99.0, NAN, NAN], [NAN] * 3]
    group = stats.top_group(stats.compare_methods(("A", "B", "C", "D"), values))
    assert group.top == "B"
    assert group.not_comparable == (("C", "n = 1"), ("D", "n = 0"))
    assert stats.describe(group) == (
        "B is at the top; A is too noisy to tell from it (n = 3, paired t test, 0.05); C (n = 1) and D (n = 0) are not comparable"
    )


def test_the_sentence_without_any_test():
    alone = stats.top_group(stats.compare_methods(("A", "B"), [[1.0, 2.0], [3.0, NAN]]))
    assert alone.not_separable == ("A",)
    assert stats.describe(alone) == ("A alone can be tested: nothing can be compared; B (n = 1) is not comparable")
    none = stats.top_group(stats.compare_methods(("A",), [[1.0]]))
    assert none.top is None
    assert stats.describe(none) == "No method can be tested; A (n = 1) is not comparable"
    assert stats.top_group(stats.compare_methods((), np.zeros((0, 3)))).not_separable == ()


def test_a_clear_winner_stands_alone():
    rng = np.random.default_rng(8)
    values = rng.normal(size=(3, 3)) * 0.1 + np.array([[9.0], [5.0], [1.0]])
    pairwise = stats.compare_methods(("A", "B", "C"), values, alpha=0.01)
    group = stats.top_group(pairwise)
    assert stats.describe(group) == "A is alone at the top (n = 3, moderated block Tukey, 0.01)"
    assert [c.method for c in group.comparisons] == ["B", "C"]
    assert all(c.p_value < 0.01 and c.interval.high < 0 for c in group.comparisons)
    assert stats.tiers(pairwise) == (("A",), ("B",), ("C",))
    losses = stats.compare_methods(("A", "B", "C"), values, higher_is_better=False)
    assert stats.top_group(losses).top == "C"
    assert stats.tiers(losses)[0] == ("C",)


def test_a_spread_of_zero_is_no_certainty():
    values = np.array([[0.91, 0.92], [0.81, 0.82], [0.71, 0.72]])
    known = stats.compare_methods(names(3), values, step=0.01)
    assert (known.mean_variance >= 0.01**2 / 12 / 2).all()
    assert known.separable[0, 1]
    coarse = stats.compare_methods(names(3), values, step=0.2)
    assert not coarse.separable.any()
    constant = stats.compare_methods(names(3), np.ones((3, 3)))
    assert not constant.separable.any() and constant.state(0, 1) == "undecided"
    assert constant.adjusted_p(0) == pytest.approx(1)


@given(
    seed=st.integers(0, 10_000),
    shift=st.floats(-50, 50),
    scale=st.floats(0.01, 100),
    holes=st.integers(0, 2),
    data=st.data(),
)
@settings(max_examples=30, deadline=None)
def test_shift_scale_order_and_direction_change_no_verdict(seed, shift, scale, holes, data):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(6, 4)) * rng.choice([1, 1, 1, 5], size=(6, 1)) + rng.normal(size=4)
    values[rng.integers(6, size=holes), rng.integers(4, size=holes)] = NAN
    order = data.draw(st.permutations(range(6)))
    seeds = data.draw(st.permutations(range(4)))
    base = stats.compare_methods(names(6), values)
    moved = stats.compare_methods([f"m{i}" for i in order], (shift + scale * values)[order][:, seeds])
    # A block effect is a shift too: it must not matter while the blocks are used.
    blocks = stats.compare_methods(names(6), values + 10 * np.arange(4)) if "block" in base.test else base
    flipped = stats.compare_methods(names(6), -values, higher_is_better=False)
    assert moved.test == base.test == blocks.test
    np.testing.assert_allclose(moved.half_width, scale * base.half_width[np.ix_(order, order)], rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(moved.difference, scale * base.difference[np.ix_(order, order)], rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(blocks.half_width, base.half_width, rtol=1e-5, atol=1e-9)
    assert set(stats.top_group(moved).not_separable) == set(stats.top_group(base).not_separable)
    assert stats.top_group(flipped).not_separable == stats.top_group(base).not_separable
    assert stats.tiers(flipped) == stats.tiers(base)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_a_method_without_runs_changes_nothing_for_the_others(seed):
    values = np.random.default_rng(seed).normal(size=(5, 3))
    base = stats.compare_methods(names(5), values)
    with_empty = stats.compare_methods([*names(5), "new"], np.vstack([values, [1.0, NAN, NAN]]))
    np.testing.assert_array_equal(base.half_width, with_empty.half_width)
    np.testing.assert_array_equal(base.adjusted_p(0), with_empty.adjusted_p(0))


@example(seed=384, spread=0.0)
@given(seed=st.integers(0, 10_000), spread=st.floats(0, 5))
@settings(max_examples=25, deadline=None)
def test_p_values_intervals_and_tiers_say_the_same(seed, spread):
    rng = np.random.default_rng(seed)
    pairwise = stats.compare_methods(names(7), rng.normal(size=(7, 3)) + spread * np.arange(7)[:, None])
    for i in range(7):
        others = np.arange(7) != i
        np.testing.assert_array_equal((pairwise.adjusted_p(i) < 0.05)[others], pairwise.separable[i][others])
    tiers = stats.tiers(pairwise)
    assert sorted(m for tier in tiers for m in tier) == sorted(pairwise.methods)
    assert tiers[0] == stats.top_group(pairwise).not_separable
    position = {m: i for i, m in enumerate(pairwise.methods)}
    best = [position[tier[0]] for tier in tiers]
    assert list(pairwise.estimate[best]) == sorted(pairwise.estimate[best], reverse=True)
    for upper, lower in itertools.pairwise(tiers):
        # the first of a tier may vary too much to be told from one of the next, as at seed 384
        assert all(any(pairwise.ahead[position[u], position[m]] for u in upper) for m in lower)


def test_shapes_that_do_not_fit_and_infinite_scores_are_refused():
    with pytest.raises(HarnessError, match="one row of scores per method"):
        stats.compare_methods(names(3), np.zeros((2, 3)))
    with pytest.raises(HarnessError, match="infinite"):
        stats.compare_methods(names(2), [[1.0, 2.0], [np.inf, 1.0]])


# --- over settings ----------------------------------------------------------------------------------------------------


def test_over_one_setting_the_comparison_is_that_of_the_setting():
    scores = table(np.random.default_rng(9).normal(size=(4, 2, 3)))
    over, within = stats.compare_over_settings(scores, ["s1"]), stats.compare_in_setting(scores, "s1")
    np.testing.assert_allclose(over.half_width, within.half_width)
    np.testing.assert_allclose(over.estimate, within.estimate)
    assert over.test == "moderated block Tukey over 1 setting"


def test_over_settings_variances_add_up():
    scores = table(np.random.default_rng(10).normal(size=(4, 5, 3)) * np.arange(1, 6)[:, None])
    over = stats.compare_over_settings(scores)
    within = [stats.compare_in_setting(scores, s) for s in scores.settings]
    each = np.array([p.standard_error[0, 1] ** 2 for p in within])
    df = each.sum() ** 2 / (each**2 / [p.df[0, 1] for p in within]).sum()
    q = scipy.stats.studentized_range.ppf(0.95, 4, df)
    assert over.df[0, 1] == pytest.approx(df)
    assert over.half_width[0, 1] == pytest.approx(q / np.sqrt(2) * np.sqrt(each.sum()) / 5, rel=1e-6)
    np.testing.assert_allclose(over.estimate, scores.values.mean(axis=(1, 2)))


def test_over_settings_only_complete_methods_are_compared():
    values = np.random.default_rng(11).normal(size=(3, 4, 3))
    values[2, :3] = NAN
    over = stats.compare_over_settings(table(values))
    assert over.methods == ("m0", "m1")
    assert over.not_comparable == (("m2", "1/4"),)
    assert "m2 (1/4) is not comparable" in stats.describe(stats.top_group(over))
    values[:, 0] = NAN
    nobody = stats.compare_over_settings(table(values))
    assert stats.tiers(nobody) == ()
    with pytest.raises(HarnessError, match="no setting"):
        stats.compare_over_settings(table(values), [])


# --- across settings --------------------------------------------------------------------------------------------------


def summaries(result: stats.AcrossSettings) -> dict[str, stats.MethodSummary]:
    return {summary.method: summary for summary in result.methods}


def test_the_iqm_is_scipys_trimmed_mean():
    rng = np.random.default_rng(12)
    for count in range(1, 14):
        values = rng.normal(size=(3, count))
        expected = scipy.stats.trim_mean(values, 0.25, axis=1)
        np.testing.assert_allclose(stats.interquartile_mean(values), expected)
        uneven = np.full(count, 1 / 3) + 1e-16 * np.arange(count)
        np.testing.assert_allclose(stats.interquartile_mean(values, uneven), expected)
    with pytest.raises(HarnessError, match="no values"):
        stats.interquartile_mean([])


def test_iqm_weights_count_like_copies():
    values, copies = np.array([3.0, -1.0, 8.0, 4.0, 0.5]), np.array([2, 1, 2, 1, 2])
    # 8 copies, two go at each end; a value of weight two falls off whole or stays whole.
    assert stats.interquartile_mean(values, copies) == pytest.approx((0.5 * 2 + 3 * 2 + 4) / 5)
    assert stats.interquartile_mean([1.0, 2.0, 3.0, 10.0], [1, 1, 1, 1]) == pytest.approx(2.5)


def test_the_difference_to_the_reference_is_the_mean_of_paired_differences():
    values = np.random.default_rng(13).normal(size=(3, 4, 3))
    result = stats.compare_across_settings(table(values), "m0")
    rows = summaries(result)
    paired = values[1] - values[0]
    assert rows["m1"].difference == pytest.approx(paired.mean())
    assert rows["m1"].iqm == pytest.approx(scipy.stats.trim_mean(paired.ravel(), 0.25))
    assert rows["m1"].coverage == (4, 4)
    assert str(rows["m1"].coverage) == "4/4"
    assert rows["m0"].difference == 0
    assert rows["m0"].difference_interval == (0, 0)
    means = values.mean(axis=(1, 2))
    assert [s.method for s in result.methods] == [f"m{i}" for i in np.argsort(-means)]
    assert [s.rank for s in result.methods] == [1, 2, 3]
    assert stats.compare_across_settings(table(values), "m0") == result


def test_the_stratified_interval_of_the_iqm_is_scipys():
    values = np.random.default_rng(14).normal(size=(2, 8, 4)) + np.arange(8)[:, None]
    gaps = values[1] - values[0]
    center = gaps.mean(axis=1, keepdims=True)
    wide = center + np.sqrt(4 / 3) * (gaps - center)
    ours = summaries(stats.compare_across_settings(table(values), "m0", resamples=20_000))["m1"]

    def iqm(*strata, axis=-1):
        return scipy.stats.trim_mean(np.concatenate(strata, axis=axis), 0.25, axis=axis)

    theirs = scipy.stats.bootstrap(
        tuple(wide), iqm, n_resamples=20_000, method="percentile", rng=np.random.default_rng(0)
    )
    assert ours.iqm_interval == pytest.approx(tuple(theirs.confidence_interval), abs=0.03)
    fewer = summaries(stats.compare_across_settings(table(values[:, :7]), "m0"))["m1"]
    assert fewer.iqm is not None and fewer.iqm_interval is None


def test_differences_to_the_reference_are_dunnetts():
    rng = np.random.default_rng(15)
    scores = table(rng.normal(size=(5, 3, 4)))
    against = stats.compare_to_reference(scores, "m0")
    within = [stats.compare_in_setting(scores, s) for s in scores.settings]
    rows = summaries(stats.compare_across_settings(scores, "m0"))
    for k, method in enumerate(against.methods):
        i = k + 1
        squared = np.array([p.standard_error[i, 0] ** 2 for p in within])
        df = squared.sum() ** 2 / (squared**2 / [p.df[i, 0] for p in within]).sum()
        assert against.standard_error[k] == pytest.approx(np.sqrt(squared.sum()) / 3)
        assert against.df[k] == pytest.approx(df)
        assert against.difference[k] == pytest.approx((scores.values[i] - scores.values[0]).mean())
        own = sum(p.mean_variance[0] for p in within)
        assert against.share[k] == pytest.approx(own / squared.sum())
        assert rows[method].difference_interval == pytest.approx(against.interval(method))
    t = np.abs(against.difference) / against.standard_error
    np.testing.assert_array_equal(against.p_value < 0.05, t > against.half_width / against.standard_error)
    assert against.interval("m0") is None


def test_the_quantile_against_a_reference_is_dunnetts():
    tables = {(5, 1): 2.57, (5, 3): 3.29, (10, 2): 2.57, (10, 5): 2.99, (20, 9): 2.95, (60, 4): 2.51}  # Dunnett, 1964
    for (df, count), printed in tables.items():
        assert float(stats.dunnett_quantile(0.05, [0.5] * count, df)) == pytest.approx(printed, abs=0.006)
    samples = np.random.default_rng(16).normal(size=(4, 5)) + np.array([0, 0, 1, 3])[:, None]
    theirs = scipy.stats.dunnett(*samples[1:], control=samples[0], rng=np.random.default_rng(0))
    error = np.sqrt(2 / 5 * samples.var(axis=1, ddof=1).mean())
    half = np.diff([theirs.confidence_interval(0.95).low, theirs.confidence_interval(0.95).high], axis=0)[0] / 2
    assert stats.dunnett_quantile(0.05, [0.5] * 3, 16) * error == pytest.approx(half, rel=5e-3)
    gaps = np.abs(samples[1:].mean(axis=1) - samples[0].mean()) / error
    assert stats.dunnett_sf(gaps, [0.5] * 3, 16) == pytest.approx(theirs.pvalue, abs=2e-3)


def test_the_quantile_with_unequal_shares_has_its_probability():
    rng = np.random.default_rng(17)
    share, df = np.linspace(0.1, 0.9, 12), np.array([3.0, 8.0, 26.0])
    common, own = rng.normal(size=(100_000, 1)), rng.normal(size=(100_000, 12))
    quantile = stats.dunnett_quantile(0.05, share, df)
    for nu, limit in zip(df, quantile, strict=True):
        t = (np.sqrt(share) * common + np.sqrt(1 - share) * own) / np.sqrt(rng.chisquare(nu, (100_000, 1)) / nu)
        assert (np.abs(t).max(axis=1) > limit).mean() == pytest.approx(0.05, abs=0.003)


def test_skipping_hard_settings_does_not_bring_the_first_place():
    rng = np.random.default_rng(15)
    difficulty = np.array([90.0, 85.0, 40.0, 30.0])[:, None]
    values = difficulty + np.array([0.0, 2.0, 1.0])[:, None, None] + 0.1 * rng.normal(size=(3, 4, 3))
    values[2, 2:] = NAN  # m2 shows itself on the easy settings only
    result = stats.compare_across_settings(table(values), "m0", estimates=True)
    assert [s.method for s in result.methods] == ["m1", "m0", "m2"]
    assert summaries(stats.compare_across_settings(table(values), "m0"))["m2"].estimate is None
    skipper = summaries(result)["m2"]
    assert (skipper.mean, skipper.rank, skipper.rank_interval) == (None, None, None)
    assert str(skipper.coverage) == "2/4"
    assert skipper.difference_settings == 2
    assert skipper.difference == pytest.approx(1, abs=0.2)
    assert skipper.estimated
    assert skipper.estimate == pytest.approx(difficulty.mean() + 1, abs=0.3)
    assert skipper.estimate_error is not None and skipper.estimate_error < 0.3
    assert not summaries(result)["m1"].estimated
    common = stats.common_settings(table(values))
    assert common == ("s0", "s1")
    ranked = stats.compare_across_settings(table(values), settings=common)
    assert [(s.method, s.rank) for s in ranked.methods] == [("m1", 1), ("m2", 2), ("m0", 3)]
    assert all(s.difference is None for s in ranked.methods)


def test_single_seeds_have_values_and_ranks_but_no_intervals():
    result = stats.compare_across_settings(table([[[1.0], [2.0]], [[2.0], [4.0]]]), "m0")
    best = result.methods[0]
    assert (best.method, best.rank, best.rank_interval, best.difference) == ("m1", 1, None, 1.5)
    assert best.difference_interval is None
    assert best.iqm_interval is None
    assert result.min_seeds == (1, 1)


def test_a_cell_with_one_seed_among_cells_with_three_does_not_count():
    values = np.random.default_rng(16).normal(size=(2, 3, 3))
    values[1, 0, 1:] = NAN
    rows = summaries(stats.compare_across_settings(table(values), "m0"))
    assert str(rows["m1"].coverage) == "2/3"
    assert rows["m1"].rank is None
    assert rows["m0"].rank == 1


def test_unshared_seeds_are_compared_through_their_means():
    values = np.full((2, 2, 6), NAN)
    values[0, :, :3] = [[1, 2, 3], [4, 5, 6]]
    values[1, :, 3:] = [[3, 4, 5], [8, 9, 10]]
    row = summaries(stats.compare_across_settings(table(values), "m0"))["m1"]
    assert row.difference == pytest.approx(3)
    # Independent samples: the variances of both add up, over the settings with Satterthwaite's degrees of freedom.
    error, df = np.sqrt((1 / 3 + 1 / 3) * 2) / 2, 2 * 4
    half = scipy.stats.t.ppf(0.975, df) * error
    assert row.difference_interval == pytest.approx([3 - half, 3 + half], rel=1e-6)


def test_ranks_share_places_and_follow_the_direction():
    values = np.array([[[1.0, 1.0]], [[3.0, 3.0]], [[0.1 + 0.2 + 2.7, 3.0]], [[0.0, 0.0]]])
    up = summaries(stats.compare_across_settings(table(values)))
    assert [up[m].rank for m in names(4)] == [3, 1, 1, 4]
    down = summaries(stats.compare_across_settings(table(values, higher_is_better=False)))
    assert [down[m].rank for m in names(4)] == [2, 3, 3, 1]


def test_rank_intervals_widen_with_noise():
    values = np.random.default_rng(17).normal(size=(5, 3, 3)) + np.array([0, 0, 0, 0, 50.0])[:, None, None]
    rows = summaries(stats.compare_across_settings(table(values)))
    assert rows["m4"].rank_interval == (1, 1)
    for name in names(4):
        interval, rank = rows[name].rank_interval, rows[name].rank
        assert interval is not None
        assert rank is not None
        assert 2 <= interval.low <= rank <= interval.high <= 5


@given(seed=st.integers(0, 1000), shift=st.floats(-9, 9), order=st.permutations(range(4)))
@settings(max_examples=15, deadline=None)
def test_the_order_of_methods_and_a_shift_of_a_setting_change_no_summary(seed, shift, order):
    values = np.random.default_rng(seed).normal(size=(4, 3, 3))
    moved = values + np.array([0, shift, 0])[:, None]
    base = summaries(stats.compare_across_settings(table(values), "m0", resamples=200))
    shuffled = stats.Scores(tuple(f"m{i}" for i in order), ("s0", "s1", "s2"), (0, 1, 2), moved[order])
    other = summaries(stats.compare_across_settings(shuffled, "m0", resamples=200))
    for name, row in base.items():
        assert row.difference_interval is not None
        assert other[name].difference == pytest.approx(row.difference, abs=1e-9)
        assert other[name].difference_interval == pytest.approx(row.difference_interval, abs=1e-9)
        assert other[name].iqm_interval == pytest.approx(row.iqm_interval, abs=1e-9)
        assert other[name].rank == row.rank
        assert other[name].rank_interval == row.rank_interval


def test_a_table_without_methods_has_no_summaries():
    empty = stats.Scores((), ("s0",), (0, 1), np.zeros((0, 1, 2)))
    assert stats.compare_across_settings(empty).methods == ()
    assert stats.performance_profile(empty).fraction.shape == (0, 0)


def test_nobody_complete_gives_no_rank():
    values = np.ones((2, 2, 2))
    values[0, 0], values[1, 1] = NAN, NAN
    rows = summaries(stats.compare_across_settings(table(values), "m0"))
    assert [rows[m].rank for m in names(2)] == [None, None]
    assert rows["m1"].difference is None
    assert rows["m1"].difference_settings == 0
    assert rows["m1"].estimate is None
    with pytest.raises(HarnessError, match="no method 'CE'"):
        stats.compare_across_settings(table(values), "CE")


def test_probability_of_improvement_is_mann_whitneys():
    values = np.random.default_rng(18).integers(0, 6, size=(2, 5, 4)).astype(float)
    values[1, 4] = NAN
    scores = table(values)
    expected = np.mean([scipy.stats.mannwhitneyu(values[1, s], values[0, s]).statistic / 16 for s in range(4)])
    ours = stats.probability_of_improvement(scores, "m1", "m0")
    back = stats.probability_of_improvement(scores, "m0", "m1")
    losses = stats.probability_of_improvement(table(values, higher_is_better=False), "m0", "m1")
    assert ours is not None
    assert back is not None
    assert losses is not None
    assert ours.probability == pytest.approx(expected)
    assert ours.settings == ("s0", "s1", "s2", "s3")
    assert back.probability == pytest.approx(1 - expected)
    assert losses.probability == pytest.approx(expected)
    assert ours.interval is None and "too few runs" in ours.reason
    assert stats.probability_of_improvement(scores, "m1", "m0", settings=["s4"]) is None
    same = stats.probability_of_improvement(table(np.ones((2, 1, 3))), "m0", "m1")
    assert same is not None and same.probability == 0.5
    many = stats.probability_of_improvement(table(np.random.default_rng(0).normal(size=(2, 10, 3))), "m0", "m1")
    assert many is not None and many.interval is not None and many.reason == ""
    assert 0 <= many.interval.low <= many.probability <= many.interval.high <= 1


def test_the_performance_profile_counts_runs_above_tau():
    values = np.random.default_rng(19).normal(size=(2, 4, 3))
    values[1, 0] = NAN
    tau = [-1.0, 0.0, 0.7]
    profile = stats.performance_profile(table(values), tau)
    np.testing.assert_allclose(profile.fraction[0], [(values[0] > t).mean() for t in tau])
    assert np.isnan(profile.fraction[1]).all()
    assert (profile.low[0] <= profile.fraction[0]).all()
    assert (profile.high[0] >= profile.fraction[0]).all()
    losses = stats.performance_profile(table(values, higher_is_better=False), tau)
    np.testing.assert_allclose(losses.fraction[0], [(values[0] < t).mean() for t in tau])
    single = stats.performance_profile(table(values[:, :, :1]))
    assert single.tau.shape == (101,)
    assert np.isnan(single.low).all()
    assert single.fraction[0, 0] == pytest.approx((values[0, :, 0] > np.nanmin(values[:, :, 0])).mean())


# --- missing cells ----------------------------------------------------------------------------------------------------


def test_the_additive_model_is_least_squares():
    rng = np.random.default_rng(20)
    means = rng.normal(size=(5, 6)) + 4 * rng.normal(size=6)
    means[[0, 1, 2, 2], [0, 3, 1, 5]] = NAN
    model = stats.additive_model(table(means[:, :, None]))
    fit = ols(means)
    every = np.column_stack([np.repeat(np.eye(5), 6, axis=0), np.tile(np.eye(6)[:, 1:], (5, 1))])
    prediction = fit.get_prediction(every)
    np.testing.assert_allclose(model.fitted.ravel(), prediction.predicted_mean)
    np.testing.assert_allclose(model.standard_error.ravel(), prediction.se_obs)
    np.testing.assert_array_equal(model.estimated, np.isnan(means))
    np.testing.assert_allclose(model.adjusted_mean[3:], means[3:].mean(axis=1))  # complete methods keep their mean
    np.testing.assert_allclose(model.mean_error[3:], 0, atol=1e-9)
    design = every.reshape(5, 6, -1)[2][[1, 5]].sum(axis=0)  # the two cells that m2 lacks
    error = np.sqrt(design @ fit.cov_params() @ design + 2 * fit.mse_resid) / 6
    assert model.mean_error[2] == pytest.approx(error)
    assert model.connected


def test_additive_truth_is_recovered_exactly():
    truth = np.array([1.0, 5.0, 9.0])[:, None] + np.array([0.0, -3.0, 7.0, 2.0])
    means = truth.copy()
    means[2, :3] = NAN
    np.testing.assert_allclose(stats.additive_model(table(means[:, :, None])).fitted, truth)


def test_what_is_not_connected_is_not_estimated():
    means = np.full((4, 4), NAN)
    means[:2, :2] = [[1, 2], [3, 4]]
    means[2, 2:] = [10, 20]
    model = stats.additive_model(table(means[:, :, None]))
    assert not model.connected
    assert model.component[0] == model.component[1] != model.component[2]
    assert np.isnan(model.fitted[:2, 2:]).all()
    assert np.isnan(model.adjusted_mean).all()
    assert not model.estimated.any()
    assert np.isnan(model.fitted[3]).all()


def test_coverage_counts_settings_with_enough_seeds():
    values = np.ones((2, 3, 2))
    values[0, 0], values[1, 1, 0] = NAN, NAN
    assert [str(c) for c in stats.coverage(table(values))] == ["2/3", "3/3"]
    assert [str(c) for c in stats.coverage(table(values), min_seeds=2)] == ["2/3", "2/3"]
    assert stats.common_settings(table(values), ["m1"], min_seeds=2) == ("s0", "s2")


# --- cost, and two methods --------------------------------------------------------------------------------------------


@given(arrays(float, (2, 10), elements=st.one_of(st.just(NAN), st.integers(0, 5).map(float))), st.booleans())
@settings(max_examples=100, deadline=None)
def test_the_pareto_front_is_what_nothing_dominates(points, higher):
    cost, score = points
    merit = score if higher else -score
    expected = [
        not np.isnan(c + s)
        and not any(c2 <= c and s2 >= s and (c2 < c or s2 > s) for c2, s2 in zip(cost, merit, strict=True))
        for c, s in zip(cost, merit, strict=True)
    ]
    np.testing.assert_array_equal(stats.pareto_front(cost, score, higher_is_better=higher), expected)


def test_a_front_needs_points_of_one_length():
    with pytest.raises(HarnessError, match="one length"):
        stats.pareto_front([1.0], [1.0, 2.0])
    assert stats.pareto_front([], []).size == 0


def test_the_paired_comparison_is_the_paired_t_test():
    rng = np.random.default_rng(22)
    x, y = rng.normal(size=(2, 6)) + rng.normal(size=6)
    x[0], y[1] = NAN, NAN
    ours, theirs = stats.compare_pair(x, y), scipy.stats.ttest_rel(x[2:], y[2:])
    assert ours.paired
    assert ours.n == 4
    assert ours.difference == pytest.approx((x - y)[2:].mean())
    assert ours.p_value == pytest.approx(theirs.pvalue)
    assert ours.interval == pytest.approx(tuple(theirs.confidence_interval(0.95)))


def test_without_shared_seeds_it_is_welchs():
    x = np.array([1.0, 2.0, 4.0, NAN, NAN])
    y = np.array([NAN, NAN, 9.0, 3.0, 8.0])
    ours = stats.compare_pair(x, y)
    theirs = scipy.stats.ttest_ind(x[:3], y[2:], equal_var=False)
    assert not ours.paired
    assert ours.p_value == pytest.approx(theirs.pvalue)
    assert ours.interval == pytest.approx(tuple(theirs.confidence_interval(0.95)))


def test_too_few_runs_give_a_difference_at_most():
    assert stats.compare_pair([1.0], [3.0]) == stats.PairedComparison(-2.0, None, None, 1, True)
    assert stats.compare_pair([1.0, NAN], [NAN, 3.0]) == stats.PairedComparison(-2.0, None, None, 1, False)
    assert stats.compare_pair([1.0], [NAN]).difference is None
    with pytest.raises(HarnessError, match="aligned by seed"):
        stats.compare_pair([1.0], [1.0, 2.0])


def test_two_equal_gaps_are_no_certainty():
    for first, second, step in (([1.0, 2.0], [2.0, 3.0], None), ([0.9, 0.91], [0.5, 0.51], 1e-4)):
        found = stats.compare_pair(first, second, step=step)
        assert found.p_value is not None and found.p_value >= 0.001
        assert found.interval is not None and found.interval.low < found.difference < found.interval.high
    error = 0.01 / np.sqrt(12) * np.sqrt(2) / np.sqrt(2)  # of a difference of two runs, over two seeds
    half = scipy.stats.t.ppf(0.975, 1) * error
    assert stats.compare_pair([0.5, 0.6], [0.3, 0.4], step=0.01).interval == pytest.approx((0.2 - half, 0.2 + half))
    same = stats.compare_pair([1.0, 1.0], [1.0, 1.0])
    assert (same.difference, same.interval, same.p_value) == (0.0, None, None)
    assert stats.compare_pair([0.3, 0.5], [0.1 + 0.2, 0.5]).p_value == pytest.approx(1.0)


def test_intervals_of_means_stay_inside_the_possible_range():
    values = np.array([[[0.55, 0.99, 0.98]], [[0.02, 0.3, 0.01]]])
    scores = table(values, bounds=(0, 1))
    wide, inside = stats.cells(table(values)), stats.cells(scores)
    assert wide.high[0, 0] > 1 > 0 > wide.low[1, 0]
    assert (inside.high[0, 0], inside.low[1, 0]) == (1, 0)
    assert inside.low[0, 0] == wide.low[0, 0]
    cell = stats.cell(values[0, 0], bounds=(0, 1))
    assert cell is not None and cell.interval is not None and cell.interval.high == 1
    over = stats.mean_over_settings(scores)
    assert over[0].high == 1 and over[1].low == 0


def test_seeds_needed_shrink_with_the_difference_and_grow_with_the_spread():
    rng = np.random.default_rng(23)
    noise = rng.normal(size=(4, 3))
    needed = []
    for gap in (0.5, 1.0, 2.0, 40.0):
        means = np.array([gap, 0, 0, 0]) - noise.mean(axis=1)
        pairwise = stats.compare_methods(names(4), noise + means[:, None])
        found = stats.seeds_needed(pairwise, "m1", "m0")
        assert (found.first, found.now, found.difference) == ("m0", 3, pytest.approx(gap))
        needed.append(found.more)
    assert needed == sorted(needed, reverse=True) and needed[-1] == 0 and needed[0] > 30
    with pytest.raises(HarnessError, match="no method 'x'"):
        stats.seeds_needed(pairwise, "m0", "x")
    level = stats.compare_methods(
        names(3), np.repeat(rng.normal(size=(1, 3)), 3, axis=0) + noise[:3] - noise[:3].mean(1, keepdims=True)
    )
    assert stats.seeds_needed(level, "m0", "m1").more is None


def test_a_mean_and_its_rank_are_of_all_runs_whatever_seeds_others_lack():
    runs = np.full((3, 2, 5), NAN)
    runs[0] = [0.90, 0.91, 0.92, 0.70, 0.71]
    runs[1, :, :3] = 0.86
    runs[2] = [0.80, 0.81, 0.82, 0.60, 0.61]
    scores = stats.Scores(("A", "B", "CE"), ("s", "t"), (0, 1, 2, 3, 4), runs)
    for iqm in (False, True):
        found = {m.method: m for m in stats.compare_across_settings(scores, "CE", iqm=iqm).methods}
        assert found["A"].mean == pytest.approx(0.828) and found["B"].mean == pytest.approx(0.86)
        assert (found["B"].rank, found["A"].rank, found["CE"].rank) == (1, 2, 3)
        assert found["A"].difference == pytest.approx(0.10), "over the five seeds that both have"
        assert found["B"].difference == pytest.approx(0.05), "over the three seeds that both have"
        assert found["A"].rank_interval.low <= 2 <= found["A"].rank_interval.high
