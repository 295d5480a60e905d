"""`harness board --power`: the seeds that it says are enough find the difference as often as it says."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from harness import open_store
from harness.cli.power import power_json, power_rows, print_power
from harness.errors import ResultsError
from harness.results import statistics
from harness.results.report import narrow, over_settings, read_board


def board_of(folder):
    with open_store(folder.path) as connection:
        return read_board(connection, "made")


def test_every_method_is_set_against_the_best_and_the_one_above(filled):
    board = board_of(filled)
    rows = power_rows(board)
    pairwise = over_settings(board)
    order = [pairwise.methods[i] for i in pairwise.order]
    assert [row.method for row in rows] == order[1:]
    assert [row.above.first for row in rows] == order[:-1]
    assert {row.best.first for row in rows} == {order[0]}
    assert rows[0].best == statistics.seeds_needed(pairwise, order[0], order[1])
    assert power_json(rows)[0]["best"]["now"] == 3
    out = Console(file=io.StringIO(), width=200)
    print_power(board, rows, out)
    said = out.file.getvalue()
    best = next(row for row in board.rows if row.method == order[0])
    assert best.oracle and best.label == f"{order[0]} °"
    assert "more seeds" in said and f"Best: {best.label}; 3 seeds in each setting now." in said


def test_one_method_alone_is_an_error_in_one_line(filled):
    with pytest.raises(ResultsError, match="fewer than two methods"):
        power_rows(narrow(board_of(filled), ["CE"]))


def test_so_many_seeds_find_the_difference_in_about_80_percent():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(6, 3))
    residual = noise - noise.mean(axis=1, keepdims=True) - noise.mean(axis=0) + noise.mean()
    residual *= np.sqrt(5 * 2 / (residual**2).sum())  # a pooled variance of one
    means = np.array([1.5, 0, 0, 0, 0, 0])
    names = tuple("abcdef")
    needed = statistics.seeds_needed(statistics.compare_methods(names, residual + means[:, None]), "a", "b")
    assert needed.more is not None and needed.more > 3
    found = 0
    for _ in range(300):
        runs = rng.normal(size=(6, 3 + needed.more)) + means[:, None]
        found += bool(statistics.compare_methods(names, runs).separable[0, 1])
    assert 0.7 <= found / 300 <= 0.97  # the three seeds' variances of a and b are drawn to the common one, not known
