"""Means and ranks, made once from :class:`~harness.results.statistics.Scores`: whatever shows a board shows these."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.results.collapse import collapsed
from harness.results.quantities import Quantity
from harness.results.records import FINISHED
from harness.results.report.cells import COLLAPSE_AT, Board, BoardCell, BoardRow
from harness.words import counted

if TYPE_CHECKING:
    from harness.results.statistics import Scores


def arrange(suite: str, metric: Quantity, at: str, lines: list[tuple[Any, ...]], higher: bool, snapshot: str) -> Board:
    settings = tuple(dict.fromkeys(line[1] for line in lines))
    cells: dict[str, dict[str, BoardCell]] = {}
    oracle: dict[str, bool] = {}
    estimated = {line[0] for line in lines if line[12]}
    lines = [line[:12] for line in lines]
    tries: dict[str, int] = {}
    grouped: dict[tuple[str, str], list[tuple[Any, ...]]] = {}
    for line in lines:
        grouped.setdefault((line[0], line[1]), []).append(line)
        oracle[line[0]] = oracle.get(line[0], False) or bool(line[3])
        tries[line[0]] = int(line[4] or 1)
    for (method, setting), group in grouped.items():
        cells.setdefault(method, {})[setting] = _cell(metric.name, at, group)
    comparable = all(bool(line[5]) for line in lines)
    search_over = str(lines[0][8]) if lines else "setting"
    facts = Board(suite, metric, at, settings, (), {}, comparable, higher, snapshot, search_over=search_over)
    return _rank(facts, cells, oracle, tries, estimated)


def _cell(metric: str, at: str, lines: list[tuple[Any, ...]]) -> BoardCell:
    """The cell of the planned runs of one method on one setting."""
    values: dict[int, float] = {}
    told, fell = False, 0
    for line in lines:
        seed, status, value, _, share, classes, samples = int(line[2]), *line[6:]
        if status not in FINISHED or value is None or not math.isfinite(value):
            continue
        values[seed] = float(value)
        if status == "done" and metric == "accuracy" and at in COLLAPSE_AT and classes is not None:
            told, fell = True, fell + collapsed(float(value), share, int(classes), samples)
    failed = {int(line[2]) for line in lines if line[6] == "failed"}
    aside = {int(line[2]) for line in lines if line[6] == "quarantined"}
    pending = frozenset(int(line[2]) for line in lines) - values.keys() - failed - aside
    ended = [line[6] for line in lines if line[6] in FINISHED]
    return BoardCell(
        values,
        len(lines),
        len(failed),
        len(aside),
        pending,
        diverged=ended.count("diverged"),
        collapsed=fell if told else None,
        runs=len(ended),
        samples=max((int(line[-1]) for line in lines if line[-1]), default=None),
    )


def _rank(
    board: Board,
    cells: dict[str, dict[str, BoardCell]],
    oracle: Mapping[str, bool],
    tries: Mapping[str, int],
    estimated: Collection[str],
) -> Board:
    """A board's rows in order and the best of every setting; its own rows are ignored."""
    import numpy as np

    from harness.results import statistics

    seeds: dict[str, set[int]] = {setting: set() for setting in board.settings}
    for by_setting in cells.values():
        for setting, cell in by_setting.items():
            seeds[setting].update(cell.values)
    begun = [setting for setting in board.settings if seeds[setting]]
    rows = []
    for method, by_setting in cells.items():
        mine = {s: dataclasses.replace(c, missing=len(c.pending & seeds[s])) for s, c in by_setting.items()}
        covered = sum(cell.complete for cell in mine.values())
        withheld = _withheld(mine, begun)
        own = method in estimated
        rows.append(BoardRow(method, mine, oracle[method], tries[method], None, None, covered, withheld, own))
    part = dataclasses.replace(board, rows=tuple(rows))
    table = statistics.cells(scores_of(part), intervals=False)
    for m, row in enumerate(rows):
        for s, setting in enumerate(board.settings):
            if setting in row.cells:
                mean, std = (None if math.isnan(v) else float(v) for v in (table.mean[m, s], table.std[m, s]))
                row.cells[setting] = dataclasses.replace(row.cells[setting], mean=mean, std=std)
    columns = [board.settings.index(setting) for setting in begun]
    ranked = [m for m, row in enumerate(rows) if begun and not row.withheld]
    means = table.mean[np.ix_(ranked, columns)].mean(axis=1) if ranked else np.zeros(0)
    ranks = statistics.competition_ranks(means, higher_is_better=board.higher_is_better)
    for m, mean, rank in zip(ranked, means, ranks, strict=True):
        rows[m] = dataclasses.replace(rows[m], rank=int(rank), mean=float(mean))
    best = {}
    for setting in begun:
        present = [m for m, row in enumerate(rows) if setting in row.cells and row.cells[setting].complete]
        means = table.mean[present, board.settings.index(setting)]
        places = statistics.competition_ranks(means, higher_is_better=board.higher_is_better)
        best[setting] = {rows[m].method for m, place in zip(present, places, strict=True) if place == 1}
    rows.sort(key=lambda row: (row.rank is None, row.rank or 0, -row.covered))
    return dataclasses.replace(board, rows=tuple(rows), best=best)


def _withheld(cells: Mapping[str, BoardCell], begun: Sequence[str]) -> str:
    """What a method lacks for a mean over the settings in which anybody has a result; empty where it lacks nothing."""
    nothing = [s for s in begun if s not in cells or not (cells[s].values or cells[s].failed or cells[s].quarantined)]
    others = [s for s in begun if s not in nothing]
    failed = sum(cells[s].failed for s in others)
    aside = sum(cells[s].quarantined for s in others)
    missing = sum(cells[s].missing for s in others)
    parts = []
    if failed:
        parts.append(f"{counted(failed, 'run')} failed")
    if aside:
        parts.append(f"{counted(aside, 'run')} in quarantine")
    if missing:
        parts.append(f"{counted(missing, 'run')} missing")
    if nothing:
        parts.append(f"no result in {len(nothing)} of {counted(len(begun), 'setting')}")
    return ", ".join(parts)


def narrow(
    board: Board,
    methods: Collection[str] | None = None,
    settings: Collection[str] | None = None,
    filters: tuple[str, ...] = (),
) -> Board:
    """The part of a board with these methods and settings (``None``: all), ranked anew; ties are left behind."""
    kept = tuple(name for name in board.settings if settings is None or name in settings)
    rows = [row for row in board.rows if methods is None or row.method in methods]
    cells = {row.method: {name: row.cells[name] for name in kept if name in row.cells} for row in rows}
    part = dataclasses.replace(board, settings=kept, filters=filters, marks={}, gaps={}, conclusion="")
    oracle, tries = {row.method: row.oracle for row in rows}, {row.method: row.tries for row in rows}
    return _rank(part, cells, oracle, tries, {row.method for row in rows if row.estimated})


def scores_of(board: Board, *, complete: bool = False) -> Scores:
    """The board as the table that the statistics take, in recorded units.

    Args:
        board: of any state.
        complete: leave cells out that lack a run: runs that fail are not like those that end.

    Accuracies lie on the grid of the test set, whose step is then known; of settings with unequal test sets it is the
    finest. For other metrics the statistics take the least gap between two scores.
    """
    import numpy as np

    from harness.results.statistics import Scores

    seeds = tuple(sorted({seed for row in board.rows for cell in row.cells.values() for seed in cell.values}))
    column = {seed: position for position, seed in enumerate(seeds)}
    values = np.full((len(board.rows), len(board.settings), len(seeds)), np.nan)
    collapsed, diverged = (np.zeros(values.shape[:2], dtype=np.int64) for _ in range(2))
    for m, row in enumerate(board.rows):
        for s, setting in enumerate(board.settings):
            cell = row.cells.get(setting)
            if cell is None or (complete and not cell.complete):
                continue
            for seed, value in cell.values.items():
                values[m, s, column[seed]] = value
            collapsed[m, s], diverged[m, s] = cell.collapsed or 0, cell.diverged
    share = board.metric.percent and board.at != "best_minus_last"
    sizes = [cell.samples for row in board.rows for cell in row.cells.values() if cell.values]
    known = board.metric.name == "accuracy" and board.at in COLLAPSE_AT and None not in sizes
    return Scores(
        tuple(row.method for row in board.rows),
        board.settings,
        seeds,
        values,
        board.higher_is_better,
        step=1 / max(size or 1 for size in sizes) if known and sizes else None,
        bounds=(0.0, 1.0) if share else None,
        collapsed=collapsed,
        diverged=diverged,
    )
