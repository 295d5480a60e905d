"""What was computed once stays: the means of every reference board, and the ids of the suites that are no paper's table.

``python tests/results/test_frozen.py`` writes ``frozen.json`` anew, where a reference file was remade on purpose.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

import harness
from harness import load_suite
from harness.results.records.archive import reference_files, unpack
from harness.results.report import read_board, suites_in
from harness.results.store import collect
from harness.trial import digest

FROZEN = Path(__file__).with_name("frozen.json")
ROOT = Path(harness.__file__).parents[1]
SUITES = ("benchmarks.toml", "tuning.toml")


def boards(file: Path, folder: Path) -> dict[str, Any]:
    """By suite and method: the headline's rank and mean, and how many values each setting has, with their mean."""
    unpack(file, folder)
    collect(folder)
    found: dict[str, Any] = {}
    with harness.open_store(folder) as connection:
        for suite in suites_in(connection):
            try:
                board = read_board(connection, suite)
            except harness.HarnessError as error:  # a suite that only tunes has nothing to compare
                found[suite] = error.what
                continue
            found[suite] = {
                row.method: {
                    "rank": row.rank,
                    "mean": _rounded(row.mean),
                    "cells": {s: [len(cell.values), _rounded(cell.mean)] for s, cell in sorted(row.cells.items())},
                }
                for row in board.rows
            }
    return found


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 10)


def ids(suite: str) -> list[Any]:
    """Number of compared and searched trials of a suite, and the digest of their sorted ids."""
    loaded = load_suite(ROOT / suite)
    seeds = {False: loaded.table.seeds, True: loaded.table.tuning_seeds}
    found = {
        template.entry(seed).trial.id
        for method, setting in loaded.pairs()
        for template in loaded.templates(method, setting)
        for seed in seeds[bool(method.table.search)]
    }
    return [len(found), digest(sorted(found))]


@pytest.fixture(scope="module")
def frozen() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(FROZEN.read_text())
    return read


@pytest.mark.parametrize("suite", SUITES)
def test_the_ids_of_a_suite_are_those_of_its_recorded_results(suite: str, frozen: dict[str, Any]) -> None:
    assert ids(suite) == frozen["ids"][suite]


@pytest.mark.parametrize("file", reference_files(), ids=lambda file: file.stem)
def test_a_reference_board_is_what_it_was(file: Path, tmp_path: Path, frozen: dict[str, Any]) -> None:
    assert boards(file, tmp_path / "r") == frozen["boards"][file.stem]


def main() -> None:
    """Freeze what is computed now."""
    found: dict[str, Any] = {"ids": {suite: ids(suite) for suite in SUITES}, "boards": {}}
    for file in reference_files():
        with tempfile.TemporaryDirectory() as folder:
            found["boards"][file.stem] = boards(file, Path(folder) / "r")
    FROZEN.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
