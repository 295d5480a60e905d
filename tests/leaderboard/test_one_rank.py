"""One mean and one rank: terminal, page, site and exports show the board's, and withhold it for the same reason."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from harness_leaderboard.site import publish
from harness_leaderboard.views import rank_methods
from made_results import SETTINGS, Folder
from rich.console import Console
from test_pages import html_of, words_of

from harness.api import open_store
from harness.cli.board import board_json, print_board
from harness.results import statistics
from harness.results.report import Board, narrow, read_board, scores_of, with_ties
from harness.results.report.export import caption, to_csv, to_latex, to_markdown

UP, DOWN = (0.1, 0.2, 0.3), (0.3, 0.2, 0.1)


def board_of(folder: Folder, metric: str = "last") -> Board:
    with open_store(folder.path) as connection:
        return with_ties(read_board(connection, "made", metric))


def terminal(board: Board, width: int = 200) -> str:
    out = io.StringIO()
    print_board(board, Console(file=out, width=width))
    return out.getvalue()


def method_rows(html: str) -> dict[str, list[str]]:
    """The words of every cell of a table, by the first word of its row."""
    rows = re.findall(r"<tr class=.*?</tr>", html)
    cells = [[words_of(cell).strip() for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows]
    return {row[0].split()[0]: row for row in cells}


@pytest.fixture
def same_mean(empty: Folder) -> Folder:
    """Two methods whose means over settings are equal but for the order of the sum, and one below them."""
    for seed in range(2):
        for place, up, down in zip(SETTINGS, UP, DOWN, strict=True):
            empty.trial("CE", place, seed, up)
            empty.trial("AUX", place, seed, down)
            empty.trial("L1", place, seed, 0.05)
    empty.collect()
    return empty


def test_sums_that_differ_by_rounding_alone_share_a_rank_everywhere(same_mean, app, tmp_path):
    assert sum(UP) != sum(DOWN)
    board = board_of(same_mean)
    ranks = {"CE": 1, "AUX": 1, "L1": 3}
    assert {row.method: row.rank for row in board.rows} == ranks
    assert {row["method"]: row["rank"] for row in board_json(board)["rows"]} == ranks
    assert {row.row.method: row.row.rank for row in rank_methods(board, ["CE"]).standings} == ranks
    lines = [line.split("│") for line in terminal(board).splitlines() if line.startswith("│")]
    assert {line[2].strip(): int(line[1]) for line in lines if line[1].strip()} == ranks
    exported = csv.DictReader(io.StringIO(to_csv(board)))
    assert {line["method"]: int(line["rank"]) for line in exported} == ranks
    publish(same_mean.path, tmp_path / "site")
    for html in (html_of(app(same_mean.path)), (tmp_path / "site" / "made.html").read_text()):
        shown = method_rows(html)
        assert {method: int(shown[method][2].split()[0]) for method in ranks} == ranks


def test_the_mean_is_that_of_the_statistics(filled):
    board = board_of(filled)
    across = statistics.compare_across_settings(scores_of(board), "CE")
    means = {summary.method: summary.mean for summary in across.methods}
    assert {row.method: row.mean for row in board.rows} == means
    shown = {standing.row.method: standing.row.mean for standing in rank_methods(board, ["CE"]).standings}
    assert shown == means


@pytest.fixture
def one_failed(empty: Folder) -> Folder:
    """AUX leads by far, but one of its runs failed."""
    for seed in range(3):
        for place in SETTINGS[:2]:
            empty.trial("CE", place, seed, 0.8 + 0.01 * seed)
            lost = place == SETTINGS[1] and seed == 2
            empty.trial("AUX", place, seed, None if lost else 0.9 + 0.01 * seed, error="out of memory" if lost else "")
    empty.collect()
    return empty


def test_a_failed_run_withholds_the_rank_and_every_page_says_why(one_failed, app, tmp_path):
    board = board_of(one_failed)
    first, second = board.rows
    assert (first.method, first.rank) == ("CE", 1)
    assert (second.method, second.rank, second.mean, second.withheld) == ("AUX", None, None, "1 run failed")
    why = "AUX (1 run failed)"
    publish(one_failed.path, tmp_path / "site")
    for said in (
        terminal(board), caption(board), html_of(app(one_failed.path)),
        (tmp_path / "site" / "made.html").read_text(), json.dumps(board_json(board)),
    ):  # fmt: skip
        assert why in said
    assert {line["withheld"] for line in csv.DictReader(io.StringIO(to_csv(board)))} == {"", "1 run failed"}


def test_a_cell_that_lacks_a_run_is_neither_best_nor_compared(one_failed):
    board = board_of(one_failed)
    whole, lacking = board.settings
    assert board.best == {whole: {"AUX"}, lacking: {"CE"}}
    assert board.marks.get(lacking) is None


def test_without_the_setting_that_lacks_a_run_the_method_is_ranked(one_failed):
    board = board_of(one_failed)
    assert [(row.method, row.rank) for row in narrow(board, None, board.settings[:1]).rows] == [("AUX", 1), ("CE", 2)]


def test_a_run_that_nobody_has_withholds_nothing(empty):
    for method, lead in (("CE", 0.0), ("AUX", 0.1)):
        for seed in range(3):
            empty.trial(method, SETTINGS[0], seed, 0.8 + lead + 0.01 * seed)
            empty.trial(method, SETTINGS[1], seed, 0.5 + lead if seed == 0 else None)
    empty.collect()
    board = board_of(empty)
    assert [(row.method, row.rank, row.covered) for row in board.rows] == [("AUX", 1, 2), ("CE", 2, 2)]
    assert board.rows[0].mean == pytest.approx((0.91 + 0.6) / 2)
    assert "missing" not in terminal(board)
    assert board.conclusion.startswith("Some cells hold one run")
    standing = rank_methods(board, ["CE"]).standings[0]
    assert standing.difference == pytest.approx(0.1) and standing.difference_settings == 2
    assert standing.difference_interval is None and standing.mean_interval is None and standing.tier is None


def test_tries_stand_beside_every_method_on_terminal_page_site_and_exports(empty, app, tmp_path):
    for seed in range(2):
        for method in ("CE", "AUX"):
            empty.trial(method, SETTINGS[0], seed, 0.8 + 0.01 * seed)
    empty.tries = {"AUX": 8}
    empty.collect()
    board = board_of(empty)
    tries = {"CE": 1, "AUX": 8}
    lines = [line.split("│") for line in terminal(board).splitlines() if line.startswith("│")]
    assert {line[2].strip(): int(line[3]) for line in lines} == tries
    assert {line["method"]: int(line["tries"]) for line in csv.DictReader(io.StringIO(to_csv(board)))} == tries
    assert "| AUX | 8 |" in to_markdown(board) and "AUX & 8 &" in to_latex(board)
    publish(empty.path, tmp_path / "site")
    for html in (html_of(app(empty.path)), (tmp_path / "site" / "made.html").read_text()):
        assert ">Tries</button>" in html
        assert {method: int(row[3]) for method, row in method_rows(html).items()} == tries


def test_where_nothing_was_searched_nothing_is_said_of_tries(filled):
    board = board_of(filled)
    assert all("tries" not in shown.lower() for shown in (terminal(board), to_markdown(board), to_latex(board)))


def test_oracles_keep_their_sign_in_the_headline(filled, app):
    board = board_of(filled)
    assert next(row for row in board.rows if row.method == "ELR").oracle
    assert board.conclusion.startswith("ELR ° and ")
    assert f"Over all settings: {board.conclusion[:20]}" in terminal(board, 2000)
    assert "ELR ° and " in html_of(app(filled.path))


def test_terminal_and_page_conclude_alike(filled):
    board = board_of(filled)
    assert rank_methods(board, ["CE"]).board.conclusion == board.conclusion


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"epochs": 5}, "Runs differ in epochs: 5 (AUX); the others 3."),
        ({"batch_size": 32}, "Runs differ in batch size: 32 (AUX); the others 64."),
        ({"threads": 4}, "Runs differ in threads, which changes results: 4 (AUX); the others 1."),
    ],
)
def test_runs_that_differ_in_epochs_batch_or_threads_are_named(empty, app, changed, said):
    for seed in range(2):
        for method in ("CE", "L1", "AUX"):
            empty.trial(method, SETTINGS[0], seed, 0.8 + 0.01 * seed, **(changed if method == "AUX" else {}))
    empty.collect()
    board = board_of(empty)
    assert board.caution == said
    for shown in (terminal(board, 400), caption(board), html_of(app(empty.path))):
        assert said in shown


def test_settings_may_have_budgets_of_their_own(empty):
    for method in ("CE", "AUX"):
        empty.trial(method, SETTINGS[0], 0, 0.8, epochs=3)
        empty.trial(method, SETTINGS[1], 0, 0.8, epochs=5)
    empty.collect()
    assert board_of(empty).caution == ""


def test_moments_are_shown_by_their_names(filled, app, tmp_path):
    board = board_of(filled, "last10")
    assert "mean of the last 10 epochs" in terminal(board) and "mean of the last 10 epochs" in caption(board)
    publish(filled.path, tmp_path / "site")
    for html in (html_of(app(filled.path, metric="last10")), (tmp_path / "site" / "made--last10.html").read_text()):
        said = words_of(html)
        assert "mean of the last 10 epochs" in said and "last10" not in said


def test_the_star_stands_with_its_ties(filled):
    shown = terminal(board_of(filled))
    assert "* best of its setting; ? too noisy to tell from the best" in shown
    assert shown.count("(3) *") == shown.count("(3) ?") == 3


@pytest.fixture
def fallen(empty: Folder) -> Folder:
    """One run of AUX predicts one class, one of L1 diverged."""
    for seed in range(3):
        for place in SETTINGS[:2]:
            first = seed == 0 and place == SETTINGS[0]
            empty.trial("CE", place, seed, 0.8 + 0.01 * seed)
            empty.trial("AUX", place, seed, 0.2 if first else 0.9 + 0.01 * seed, share=0.97 if first else 0.2)
            empty.trial("L1", place, seed, 0.7 + 0.01 * seed, diverged=first)
    empty.collect()
    return empty


def test_a_diverged_run_counts_as_chance_level_and_the_mean_says_how_many(fallen, app):
    board = board_of(fallen)
    row = next(row for row in board.rows if row.method == "L1")
    assert (row.rank, row.notes) == (3, ("1 of 6 diverged",))
    assert row.mean == pytest.approx(((0.1 + 0.71 + 0.72) / 3 + 0.71) / 2)
    assert row.cells[board.settings[0]].notes == ("1 of 3 diverged",)
    said = words_of(html_of(app(fallen.path)))
    assert "1 of 3 diverged" in said and "1 of 6 diverged" in said


def test_collapsed_and_diverged_runs_are_counted_in_cell_and_headline_everywhere(fallen, app, tmp_path):
    board = board_of(fallen)
    headline = "Runs that collapsed or diverged count in means, and no test compares their methods: AUX (1 of 6 collapsed), L1 (1 of 6 diverged)"
    publish(fallen.path, tmp_path / "site")
    for shown in (
        terminal(board), caption(board), to_markdown(board), to_latex(board), html_of(app(fallen.path)),
        (tmp_path / "site" / "made.html").read_text(),
    ):  # fmt: skip
        assert headline in re.sub(r"\s+", " ", shown)
    for cells in (terminal(board), to_markdown(board), to_latex(board), (tmp_path / "site" / "made.html").read_text()):
        assert "1 of 3 collapsed" in cells and "1 of 3 diverged" in cells
    lines = list(csv.DictReader(io.StringIO(to_csv(board))))
    assert [line["collapsed"] for line in lines if line["method"] == "AUX"] == ["1", "0"]
    assert [line["diverged"] for line in lines if line["method"] == "L1"] == ["1", "0"]


def test_the_grid_of_accuracies_is_that_of_the_test_set(filled):
    """The least gap between two scores is a multiple of it where there are few."""
    assert scores_of(board_of(filled)).grid == pytest.approx(1 / 1000)
    assert scores_of(board_of(filled, "accuracy@last10")).step is None
