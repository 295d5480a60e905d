"""Over few settings an interval is what it says, or its caption says what it is."""

from __future__ import annotations

import numpy as np
import pytest
from harness_leaderboard.site import publish
from harness_leaderboard.tables import comparison_tables, leaderboard_head, leaderboard_table
from harness_leaderboard.views import FEW_COVERED, compare, few_settings, rank_methods
from made_results import SETTINGS, values
from test_pages import html_of, words_of

from harness import open_store
from harness.results import statistics
from harness.results.board import narrow, read_board

ONE = "mnist5k / lenet / symmetric 0.2"
CAVEAT = "Few settings"


def board_of(folder, settings=None):
    with open_store(folder.path) as connection:
        board = read_board(connection, "made")
    return narrow(board, None, settings) if settings else board


def expected(place: int = 0) -> statistics.PairedComparison:
    """ELR minus CE in a made setting."""
    return statistics.compare_pair(*([values(m, place, seed) for seed in range(3)] for m in ("ELR", "CE")))


def test_over_one_setting_leaderboard_and_compare_give_the_paired_interval(filled):
    board = board_of(filled, [ONE])
    (standing,) = [s for s in rank_methods(board, ["CE"]).standings if s.method == "ELR"]
    found = compare(board, ["CE", "ELR"])
    assert found is not None
    (row,) = found.pairs
    summary = found.summaries["ELR"]
    assert row.comparison.interval == pytest.approx(expected().interval)
    for difference, interval in (
        (standing.difference, standing.difference_interval),
        (summary.difference, summary.difference_interval),
    ):
        assert difference == row.comparison.difference
        assert interval == row.comparison.interval
    assert summary.iqm is None
    assert CAVEAT not in leaderboard_head(rank_methods(board, ["CE"]))


def test_one_page_shows_one_interval(filled):
    board = board_of(filled, [ONE])
    found = compare(board, ["CE", "ELR"])
    assert found is not None
    gap = expected().interval
    assert gap is not None
    words = words_of(comparison_tables(found, board.metric, {}))
    assert words.count(f"[{100 * gap.low:+.2f}, {100 * gap.high:+.2f}]") == 2
    assert words.count("[") - words.count("% [") == 2


def test_a_method_that_shares_one_of_many_settings_is_compared_there(empty):
    for position, place in enumerate(SETTINGS):
        for seed in range(3):
            empty.trial("CE", place, seed, values("CE", position, seed))
            empty.trial("ELR", place, seed, values("ELR", position, seed) if position == 1 else None)
    empty.collect()
    view = rank_methods(board_of(empty), ["CE"])
    (standing,) = [s for s in view.standings if s.method == "ELR"]
    assert standing.difference_settings == 1
    assert standing.difference_interval == pytest.approx(expected(1).interval)


def test_over_three_settings_the_caption_says_what_the_interval_covers(app, filled, tmp_path):
    said = f"{FEW_COVERED[3]} % over 3 settings"
    assert said in leaderboard_head(rank_methods(board_of(filled), ["CE"]))
    for page in ("leaderboard", "compare"):
        assert said in words_of(html_of(app(filled.path, page)))
    publish(filled.path, tmp_path / "site")
    assert said in (tmp_path / "site" / "made.html").read_text()


def test_the_site_gives_the_paired_interval_too(empty, tmp_path):
    for method in ("CE", "ELR"):
        for seed in range(3):
            empty.trial(method, SETTINGS[0], seed, values(method, 0, seed))
    empty.collect()
    publish(empty.path, tmp_path / "site")
    gap = expected().interval
    assert gap is not None
    html = (tmp_path / "site" / "made.html").read_text()
    assert f"[{100 * gap.low:+.2f}, {100 * gap.high:+.2f}]" in html
    assert leaderboard_table(rank_methods(board_of(empty), ["CE"]), {}).count("paired t test") == 1


def test_many_settings_or_no_difference_need_no_caption():
    assert few_settings([]) == ""
    assert few_settings([1, 4, 12]) == ""
    assert "84 % over 2 settings and 89 % over 3 settings" in few_settings([3, 2, 12, 3])


@pytest.mark.parametrize("settings", FEW_COVERED)
def test_the_caption_is_true(settings):
    rng = np.random.default_rng(4)
    covered = []
    for _ in range(400):
        runs = rng.normal(size=(2, settings, 3)) + 2 * rng.normal(size=(1, settings, 3))
        runs[1] += 1
        scores = statistics.Scores(("CE", "ELR"), tuple(map(str, range(settings))), (0, 1, 2), runs)
        found = statistics.compare_across_settings(scores, "CE", resamples=500, iqm=False)
        interval = next(s.difference_interval for s in found.methods if s.method == "ELR")
        assert interval is not None
        covered.append(interval.low < 1 < interval.high)
    assert 100 * np.mean(covered) == pytest.approx(FEW_COVERED[settings], abs=4)
