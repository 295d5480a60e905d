"""Which methods of a suite beat another one: ``python benchmarks/beats.py RESULTS [--suite field/tuned] [--reference CE]``.

A Markdown table for each setting: mean and deviation over seeds, the difference to the reference with its interval, which holds
for all pairs of methods of the setting together (the board's test, docs/statistics.md), and what follows: better, worse, or
that the runs cannot tell.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import harness
from harness.results.report import read_board
from harness.results.report.cells import Board
from harness.results.report.rank import scores_of
from harness.results.statistics.ties import compare_methods


def verdict(difference: float, half: float) -> str:
    """What a difference says with the half width of its interval."""
    if not np.isfinite(half):
        return "not compared"
    return "better" if difference > half else "worse" if difference < -half else "cannot tell"


def table(board: Board, setting: str, reference: str) -> str:
    """The methods of a setting against the reference, best first."""
    scores = scores_of(board)
    cells = {row.method: row.cells[setting] for row in board.rows if row.cells.get(setting) and row.cells[setting].n}
    values = np.stack([scores.runs(method, setting) for method in cells])
    aside = {method: "fell" for method, cell in cells.items() if cell.collapsed or cell.diverged}
    found = compare_methods(list(cells), values, higher_is_better=board.higher_is_better, aside=aside)
    place = {method: number for number, method in enumerate(found.methods)}
    labels = {row.method: row.label for row in board.rows}
    lines = [f"| {setting} | {board.title} | - {reference} | |", "|---|---|---|---|"]
    for method, cell in sorted(cells.items(), key=lambda item: -(item[1].mean or 0.0)):
        told, said = "", ""
        if method != reference and method in place and reference in place:
            pair = place[method], place[reference]
            difference, half = float(found.difference[pair]), float(found.half_width[pair])
            told, said = f"{100 * difference:+.1f} ± {100 * half:.1f}", verdict(difference, half)
        notes = f" ({', '.join(cell.notes)})" if cell.notes else ""
        lines.append(
            f"| {labels[method]}{notes} | {board.metric.show(cell.mean)} ± {board.metric.show(cell.std)} | {told} | {said} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--suite", default="field/tuned")
    parser.add_argument("--reference", default="CE")
    arguments = parser.parse_args()
    with harness.open_store(arguments.results) as store:
        board = read_board(store, arguments.suite)
    for setting in board.begun:
        print(f"{table(board, setting, arguments.reference)}\n")


if __name__ == "__main__":
    main()
