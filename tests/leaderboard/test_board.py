"""The board: who is ranked, what is tied, what is narrowed, and how it is exported."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import latex
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_results import HOSTILE, SETTINGS, Folder

from harness.api import open_store
from harness.errors import ResultsError
from harness.results.report import Board, narrow, read_board, with_ties
from harness.results.report.export import caption, escape_latex, export, to_csv, to_json, to_latex, to_markdown


def board_of(folder: Folder, metric: str = "last") -> Board:
    with open_store(folder.path) as connection:
        return read_board(connection, "made", metric)


def test_methods_are_ranked_by_their_mean_over_all_settings(filled):
    board = board_of(filled)
    assert [row.method for row in board.rows] == ["ELR", HOSTILE, "CE"]
    assert [row.rank for row in board.rows] == [1, 2, 3]


def test_a_method_that_skips_the_hard_settings_does_not_come_first(empty):
    for seed in range(3):
        for position, place in enumerate(SETTINGS):
            empty.trial("CE", place, seed, 0.9 - 0.2 * position)
        empty.trial("ELR", SETTINGS[0], seed, 0.89)
    empty.collect()
    first, second = board_of(empty).rows
    assert (first.method, first.rank) == ("CE", 1)
    assert (second.method, second.rank, second.mean, second.covered) == ("ELR", None, None, 1)


def test_methods_that_have_different_settings_are_not_ranked_against_each_other(empty):
    for seed in range(3):
        empty.trial("CE", SETTINGS[0], seed, 0.9)
        empty.trial("ELR", SETTINGS[1], seed, 0.5)
    empty.collect()
    assert [row.rank for row in board_of(empty).rows] == [None, None]


def test_a_narrowed_board_is_ranked_anew(filled):
    board = board_of(filled)
    part = narrow(board, ["CE", "ELR"], board.settings[:1], ("noise symmetric",))
    assert [row.method for row in part.rows] == ["ELR", "CE"]
    assert part.settings == board.settings[:1]
    assert part.best == {board.settings[0]: {"ELR"}}
    assert "noise symmetric" in caption(part)


def test_ties_name_who_cannot_be_told_from_the_best(filled):
    board = with_ties(board_of(filled))
    assert all(tied == {"ELR", HOSTILE} for tied in board.ties.values())
    assert board.conclusion.startswith(f"ELR ° and {HOSTILE} are equal at the top (n = 3, moderated block Tukey")
    assert {mark for marks in board.marks.values() for mark in marks.values()} == {"best", "undecided", "worse"}


def test_best_minus_last_is_better_low(filled):
    assert not board_of(filled, "best_minus_last").higher_is_better


def test_an_export_carries_every_cell_with_its_seeds(filled):
    board = with_ties(board_of(filled))
    lines = list(csv.DictReader(io.StringIO(to_csv(board))))
    assert len(lines) == 9
    hostile = next(line for line in lines if line["method"] == HOSTILE)
    assert hostile["seeds"] == "0 1 2" and hostile["tied"] == "True"
    assert {row["method"] for row in json.loads(to_json(board))} == {"CE", "ELR", HOSTILE}


def test_markdown_shows_markup_in_names_as_text(filled):
    table = to_markdown(with_ties(board_of(filled)))
    assert "<script>" not in table
    row = next(line for line in table.splitlines() if "script" in line)
    assert row.replace("\\|", "").count("|") == 6  # a bar in the name makes no column


def test_latex_marks_best_ties_and_says_where_it_comes_from(filled):
    board = with_ties(board_of(filled))
    table = to_latex(board)
    elr = next(line for line in table.splitlines() if line.startswith("ELR"))
    assert elr.count(r"\textbf{") == 3 and elr.count(r"{\scriptsize(3)}") == 3
    assert table.count(r"\underline{") == 3
    assert r"\toprule" in table and board.snapshot in table


@given(st.text(max_size=40))
def test_escaped_latex_holds_no_character_that_latex_obeys(text):
    """Every backslash starts a macro of ours, and every other special character is behind one."""
    escaped = escape_latex(text)
    known = (
        "textbackslash{}", "textasciitilde{}", "textasciicircum{}", "textless{}", "textgreater{}", "textbar{}", "pm",
        "char34", "times", "to", "leq", "geq", "dots{}", "{", "}", "$", "&", "%", "#", "_", "alpha", "beta", "gamma",
        "delta", "varepsilon", "eta", "theta", "lambda", "mu", "pi", "rho", "sigma", "tau", "phi", "chi", "psi",
        "omega",
    )  # fmt: skip
    rest = escaped.replace(r"$^{\circ}$", "")
    for macro in sorted(known, key=len, reverse=True):
        rest = rest.replace("\\" + macro, "")
    assert "\\" not in rest and not set(rest) & set("&%#_~^<>|\n")


@pytest.mark.skipif(bool(latex.missing()), reason=latex.missing())
def test_latex_compiles_whatever_the_names_are(empty, tmp_path):
    names = [HOSTILE, "ε-softmax α=½ → 中文 😀", "a -- b --- c ''quoted'' ``so``", "Müller–Łukasz"]
    for name in names:
        for place in SETTINGS:
            for seed in range(3):
                empty.trial(name, place, seed, 0.7 + 0.01 * seed)
    empty.collect()
    assert latex.compile_table(to_latex(with_ties(board_of(empty))), tmp_path).stat().st_size > 5000


def test_an_unknown_format_is_one_line(filled):
    with pytest.raises(ResultsError, match="unknown format 'latexx'"):
        export(board_of(filled), "latexx", None)


def test_parquet_reads_back(filled, tmp_path: Path):
    import pyarrow.parquet as pq

    export(board_of(filled), "parquet", tmp_path / "board.parquet")
    assert pq.read_table(tmp_path / "board.parquet").num_rows == 9


def test_a_single_lucky_seed_is_neither_ranked_nor_best(empty):
    for place in SETTINGS[:2]:
        empty.trial("CE", place, 0, 0.83)
        for seed in (1, 2):
            empty.trial("CE", place, seed, None)
        for seed, value in enumerate((0.80, 0.84, 0.82)):
            empty.trial("ELR", place, seed, value)
    empty.collect()
    board = with_ties(board_of(empty))
    first, second = board.rows
    assert (first.method, first.rank) == ("ELR", 1)
    assert (second.method, second.rank, second.mean, second.covered) == ("CE", None, None, 0)
    assert all(best == {"ELR"} for best in board.best.values())
    assert r"\textbf{83" not in to_latex(board)


def test_names_that_a_spreadsheet_would_run_get_an_apostrophe_and_numbers_none(empty):
    names = ["=1+1", "+1", "-1", "@sum", "\tx", "\rx", "a=1"]
    for name in names:
        empty.trial(name, SETTINGS[0], 0, 0.5, metrics={"validation_loss": {"last": -0.5}})
    empty.collect()
    with open_store(empty.path) as connection:
        text = to_csv(read_board(connection, "made", "validation_loss"))
    lines = list(csv.DictReader(io.StringIO(text, newline="")))
    assert {line["method"] for line in lines} == {f"'{name}" for name in names[:-1]} | {"a=1"}
    assert {line["mean"] for line in lines} == {"-0.5"}
