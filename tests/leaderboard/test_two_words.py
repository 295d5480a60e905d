"""Equal is one thing, too noisy to tell another; what one table says of ranks, tiers and marks agrees."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from harness_leaderboard.site import publish
from harness_leaderboard.tables import leaderboard_questions, leaderboard_table
from harness_leaderboard.views import rank_methods
from made_results import SETTINGS, Folder
from test_one_rank import board_of, method_rows, terminal
from test_pages import html_of, words_of

from harness.cli.board import board_json
from harness.results.quantities import find_quantity
from harness.results.report import with_ties
from harness.results.report.export import caption, rows, to_csv, to_latex, to_markdown
from harness.results.report.rank import arrange

LEVEL = {"CE": 0.900, "AUX": 0.8999, "L1": 0.85, "CDR": 0.5}
SPREAD = {"CE": 0.0005, "AUX": 0.0005, "L1": 0.08, "CDR": 0.0005}


@pytest.fixture
def spread(empty: Folder) -> Folder:
    """AUX is as good as CE, L1 may be, CDR is not."""
    rng = np.random.default_rng(0)
    for method, level in LEVEL.items():
        for seed in range(5):
            empty.trial(method, SETTINGS[0], seed, level + SPREAD[method] * float(rng.normal()))
    empty.collect()
    return empty


def test_equal_and_too_noisy_are_two_words_and_two_signs_everywhere(spread, app, tmp_path):
    board = board_of(spread)
    (setting,) = board.settings
    assert board.marks[setting] == {"CE": "best", "AUX": "equal", "L1": "undecided", "CDR": "worse"}
    lines = {line.split("│")[2].strip(): line for line in terminal(board).splitlines() if line.startswith("│")}
    assert {method: line.split("│")[-2].strip()[-1] for method, line in lines.items()} == {
        "CE": "*", "AUX": "=", "L1": "?", "CDR": ")",
    }  # fmt: skip
    marked = {row["method"]: row["to_best"] for row in csv.DictReader(io.StringIO(to_csv(board)))}
    assert marked == {
        "CE": "best of its setting", "AUX": "equal to the best", "L1": "too noisy to tell from the best",
        "CDR": "worse than the best",
    }  # fmt: skip
    by_name = {line.split("|")[2].strip(): line for line in to_markdown(board).splitlines() if line.startswith("|")}
    assert by_name["CE"].count("**") == 2
    assert "</u> =" in by_name["AUX"] and "</u> ?" in by_name["L1"] and "<u>" not in by_name["CDR"]
    latex = to_latex(board)
    assert r"}$^{=}$ {\scriptsize" in latex and r"}$^{?}$ {\scriptsize" in latex
    publish(spread.path, tmp_path / "site")
    for html in (html_of(app(spread.path)), (tmp_path / "site" / "made.html").read_text()):
        cell = {method: row[-1] for method, row in method_rows(html).items()}
        assert "★ best of its setting" in cell["CE"] and "= equal to the best" in cell["AUX"]
        assert "? too noisy to tell from the best" in cell["L1"] and "best" not in cell["CDR"]
    for said in (terminal(board, 1000), caption(board), latex):
        assert "equal to the best" in said and "too noisy to tell from the best" in said


def test_the_gap_that_would_have_been_seen_is_where_a_reader_asks(spread, app, tmp_path):
    board = board_of(spread)
    (setting,) = board.settings
    gaps = board.gaps[setting]
    assert gaps["AUX"] <= 0.01 < gaps["L1"]
    gap = board.metric.show(gaps["L1"])
    for said in (terminal(board, 1000), caption(board)):
        assert f"found with a chance of 0.8: {gap})" in said
    assert board_json(board)["gaps"][setting] == gaps
    exported = {row["method"]: row["detectable"] for row in rows(board)}
    assert exported == {"CE": None, **gaps}
    publish(spread.path, tmp_path / "site")
    for html in (html_of(app(spread.path)), (tmp_path / "site" / "made.html").read_text()):
        assert f'title="too noisy to tell: a gap of {gap} is found' in html
        question = html.partition("Which gaps would have been seen?")[2].partition("</details>")[0]
        assert gap in question and "harness board --power" in question


def test_the_column_head_says_that_the_intervals_hold_together(filled, app, tmp_path):
    publish(filled.path, tmp_path / "site")
    for html in (html_of(app(filled.path)), (tmp_path / "site" / "made.html").read_text()):
        assert "vs CE, 95 % for all together (Dunnett)</button>" in html
    assert "95 % for all together (Dunnett)</button>" in html_of(app(filled.path, page="compare"))


def test_a_chance_is_shown_only_where_its_interval_covers_it(filled, app):
    html = html_of(app(filled.path, page="compare"))
    row = method_rows(html.replace("<tr><th", '<tr class=""><th'))["ELR"]
    assert "%" not in row[-1] and "few runs" in row[-1]


def test_intervals_stay_inside_the_possible_range(empty):
    for seed, value in enumerate((0.999, 0.60, 0.999)):
        empty.trial("CE", SETTINGS[0], seed, value)
        empty.trial("AUX", SETTINGS[0], seed, 0.9 + 0.001 * seed)
    empty.collect()
    (standing,) = (s for s in rank_methods(board_of(empty), ["AUX"]).standings if s.method == "CE")
    assert standing.mean_interval.high == 1.0 and standing.mean_interval.low >= 0.0


@pytest.fixture
def lacking(empty: Folder) -> Folder:
    """AUX has no result in the hard setting."""
    for seed in range(3):
        for method in ("CE", "L1"):
            for place, level in zip(SETTINGS[:2], (0.9, 0.5), strict=True):
                empty.trial(method, place, seed, level + 0.01 * seed - (0.1 if method == "L1" else 0.0))
        empty.trial("AUX", SETTINGS[0], seed, 0.92 + 0.01 * seed)
        empty.trial("AUX", SETTINGS[1], seed, None)
    empty.collect()
    return empty


def test_an_estimate_has_its_error_and_is_shown_only_where_asked(lacking, app):
    view = rank_methods(board_of(lacking), ["CE"])
    ((name, value, error),) = view.estimates
    assert name == "AUX" and value == pytest.approx(0.73) and error is not None and error >= 0
    assert [standing.method for standing in view.standings] == ["CE", "L1", "AUX"]  # though the estimate is the best
    shown = board_of(lacking).metric.show(value)
    assert shown not in words_of(leaderboard_table(view, {})) and "est." not in leaderboard_table(view, {})
    asked = leaderboard_questions(view).partition("What might the methods without a rank reach?")[2]
    assert shown in asked and board_of(lacking).metric.show(error) in asked and "not a result" in asked
    assert "What might the methods without a rank reach?" in html_of(app(lacking.path))


def test_where_nothing_is_missing_nothing_is_said_of_estimates(filled):
    view = rank_methods(board_of(filled), ["CE"])
    assert view.estimates == () and "without a rank" not in leaderboard_questions(view)


def random_board(seed: int, settings: int):
    rng = np.random.default_rng(seed)
    names = [f"m{i}" for i in range(rng.integers(3, 9))]
    level, scale = rng.normal(0.7, 0.05, len(names)), rng.lognormal(-4, 1, len(names))
    lines = [
        (name, f"s{s}", r, False, 1, True, "done", float(np.clip(level[i] + scale[i] * rng.normal(), 0, 1)), "setting",
         0.2, 10, 1000, False)
        for i, name in enumerate(names) for s in range(settings) for r in range(3)
    ]  # fmt: skip
    return arrange("made", find_quantity("accuracy"), "last", lines, True, "")


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("settings", [1, 3])
def test_rank_span_tier_mark_and_headline_of_one_table_do_not_contradict(seed, settings):
    board = with_ties(random_board(seed, settings))
    view = rank_methods(board, [])
    leaders = {s.method for s in view.standings if s.tier == 1 or s.tier is None}
    for standing in view.standings:
        span = standing.rank_interval
        assert span.low <= standing.row.rank <= span.high
        assert (span.low == 1) == (standing.method in leaders)
        named = standing.method in board.conclusion.replace(",", " ").replace(";", " ").split()
        assert named == (standing.method in leaders)
        if settings == 1:
            assert (board.marks["s0"][standing.method] == "worse") == (standing.method not in leaders)
            if standing.row.rank == 1:
                assert board.marks["s0"][standing.method] == "best"
