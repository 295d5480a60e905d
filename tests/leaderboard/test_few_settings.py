"""Differences to the reference have intervals that hold for all methods together, over one setting as over many."""

from __future__ import annotations

import numpy as np
import pytest
from harness_leaderboard.views import compare, rank_methods
from made_results import SETTINGS, values
from test_pages import html_of, words_of

from harness import open_store
from harness.results import statistics
from harness.results.report import narrow, read_board, scores_of

ONE = "mnist5k / lenet / symmetric 0.2"


def board_of(folder, settings=None):
    with open_store(folder.path) as connection:
        board = read_board(connection, "made")
    return narrow(board, None, settings) if settings else board


def test_differences_on_the_leaderboard_are_dunnetts(filled):
    board = board_of(filled)
    against = statistics.compare_to_reference(scores_of(board), "CE")
    found = {s.method: s for s in rank_methods(board, ["CE"]).standings}
    assert against.methods
    for method in against.methods:
        assert found[method].difference_interval == pytest.approx(against.interval(method))


def test_over_one_setting_it_is_one_comparison_for_the_pair_and_dunnetts_for_all(filled):
    board = board_of(filled, [ONE])
    found = compare(board, ["CE", "ELR"])
    assert found is not None
    (row,) = found.pairs
    runs = ([values(m, 0, seed) for seed in range(3)] for m in ("ELR", "CE"))
    assert row.comparison == statistics.compare_pair(*runs)
    assert found.summaries["ELR"].difference == pytest.approx(row.comparison.difference)
    assert found.summaries["ELR"].difference_interval == pytest.approx(row.comparison.interval), (
        "two methods are one pair"
    )


def test_a_method_that_shares_one_of_many_settings_is_compared_there(empty):
    for position, place in enumerate(SETTINGS):
        for seed in range(3):
            empty.trial("CE", place, seed, values("CE", position, seed))
            empty.trial("ELR", place, seed, values("ELR", position, seed) if position == 1 else None)
    empty.collect()
    (standing,) = [s for s in rank_methods(board_of(empty), ["CE"]).standings if s.method == "ELR"]
    gaps = [values("ELR", 1, seed) - values("CE", 1, seed) for seed in range(3)]
    assert standing.difference_settings == 1
    assert standing.difference == pytest.approx(sum(gaps) / 3)


def test_a_chance_that_is_not_known_is_not_shown(app, filled):
    words = words_of(html_of(app(filled.path, "compare")))
    assert "too few runs" in words


@pytest.mark.parametrize("settings", [1, 3])
def test_no_interval_against_the_reference_excludes_zero_in_five_percent_of_tables(settings):
    rng, wrong = np.random.default_rng(4), 0
    for _ in range(300):
        runs = rng.normal(size=(6, settings, 3)) + 2 * rng.normal(size=(1, settings, 3))
        scores = statistics.Scores(tuple("abcdef"), tuple(map(str, range(settings))), (0, 1, 2), runs)
        against = statistics.compare_to_reference(scores, "a")
        wrong += bool((np.abs(against.difference) > against.half_width).any())
    assert wrong <= 28  # the 99.9 % binomial limit of 5.7 %
