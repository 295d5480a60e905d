"""The board: mean, standard deviation and n for every method on every setting of a suite, and who is ahead.

It never averages what happens to be there: methods are ranked by their mean over the settings that all ranked methods
share, and a method that lacks settings says so ("2/3") and is listed after those that are complete.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from harness.errors import ResultsError, unknown
from harness.results.metrics import Metric, find_metric, parse_metric

if TYPE_CHECKING:
    import duckdb


@dataclasses.dataclass(frozen=True)
class BoardCell:
    """One method on one setting. ``values`` by seed; ``expected`` is how many seeds the suite asks for."""

    values: dict[int, float]
    expected: int
    failed: int = 0

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float | None:
        return math.fsum(self.values.values()) / self.n if self.n else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation (ddof 1); ``None`` for a single value."""
        if self.n < 2:
            return None
        mean = math.fsum(self.values.values()) / self.n
        return math.sqrt(math.fsum((value - mean) ** 2 for value in self.values.values()) / (self.n - 1))


@dataclasses.dataclass(frozen=True)
class BoardRow:
    """One method: its cells by setting, whether it uses what only an oracle knows, and its rank."""

    method: str
    cells: dict[str, BoardCell]
    oracle: bool
    tries: int
    rank: int | None
    mean: float | None
    covered: int


@dataclasses.dataclass(frozen=True)
class Board:
    """A suite's table. ``best`` holds the leading methods of every setting."""

    suite: str
    metric: Metric
    at: str
    settings: tuple[str, ...]
    rows: tuple[BoardRow, ...]
    best: dict[str, set[str]]
    comparable: bool


def suites_in(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Suites with trials in the store."""
    return [row[0] for row in connection.execute("SELECT DISTINCT suite FROM suite_trials ORDER BY suite").fetchall()]


def read_board(connection: duckdb.DuckDBPyConnection, suite: str | None = None, metric: str = "last") -> Board:
    """The board of a suite.

    Args:
        connection: to a snapshot.
        suite: its name; may be left out when the store holds one.
        metric: ``last``, ``best``, ``memorisation``, ``fgsm_accuracy@0.1@selected`` ...

    Raises:
        ResultsError: for an unknown suite or a metric that no trial has.
    """
    known = suites_in(connection)
    if suite is None:
        if len(known) != 1:
            raise ResultsError("the store holds " + (f"the suites {', '.join(known)}" if known else "no suite"), "--suite", "name one")
        suite = known[0]
    if suite not in known:
        raise ResultsError(unknown("suite", suite, known), "--suite")
    name, at = parse_metric(metric)
    if not name:
        name = main_metric(connection, suite)
    lines = connection.execute(
        """
        SELECT s.method, s.setting, s.seed, s.oracle, s.tries, s.comparable, t.status, m.value
        FROM suite_trials s
        LEFT JOIN trials t USING (trial)
        LEFT JOIN metrics m ON m.trial = s.trial AND m.metric = ? AND m.at = ?
        WHERE s.suite = ? AND s.newest AND NOT s.tuning
        ORDER BY s.method_position, s.setting_position, s.seed
        """,
        [name, at, suite],
    ).fetchall()
    if lines and all(line[7] is None for line in lines) and any(line[6] == "done" for line in lines):
        available = connection.execute(
            "SELECT DISTINCT metric || CASE WHEN at = 'last' THEN '' ELSE '@' || at END FROM metrics JOIN suite_trials USING (trial) WHERE suite = ?",
            [suite],
        ).fetchall()
        raise ResultsError(unknown("metric", metric, [row[0] for row in available]), "--metric")
    metric_facts = find_metric(name)
    higher = metric_facts.higher_is_better if at != "best_minus_last" else False
    return _arrange(suite, metric_facts, at, lines, higher)


def main_metric(connection: duckdb.DuckDBPyConnection, suite: str) -> str:
    """``accuracy``, or ``mae`` for a suite of regression settings."""
    found = connection.execute(
        "SELECT count(*) FROM metrics JOIN suite_trials USING (trial) WHERE suite = ? AND metric = 'mae'", [suite]
    ).fetchone()
    return "mae" if found and found[0] else "accuracy"


def _arrange(suite: str, metric: Metric, at: str, lines: list[tuple[Any, ...]], higher: bool) -> Board:
    settings = tuple(dict.fromkeys(line[1] for line in lines))
    cells: dict[str, dict[str, BoardCell]] = {}
    oracle: dict[str, bool] = {}
    tries: dict[str, int] = {}
    grouped: dict[tuple[str, str], list[tuple[Any, ...]]] = {}
    for line in lines:
        grouped.setdefault((line[0], line[1]), []).append(line)
        oracle[line[0]] = oracle.get(line[0], False) or bool(line[3])
        tries[line[0]] = int(line[4] or 1)
    for (method, setting), group in grouped.items():
        values = {int(line[2]): float(line[7]) for line in group if line[6] == "done" and line[7] is not None}
        failed = sum(line[6] == "failed" for line in group)
        cells.setdefault(method, {})[setting] = BoardCell(values, len(group), failed)
    covered = {m: sum(cell.n > 0 for cell in by_setting.values()) for m, by_setting in cells.items()}
    most = max(covered.values(), default=0)
    means: dict[str, float | None] = {}
    for method, by_setting in cells.items():
        found = [cell.mean for cell in by_setting.values() if cell.mean is not None]
        means[method] = sum(found) / len(found) if found and covered[method] == most else None
    sign = -1.0 if higher else 1.0
    order = sorted(cells, key=lambda m: (means[m] is None, sign * (means[m] or 0.0), -covered[m]))
    ranks: dict[str, int | None] = {}
    for position, method in enumerate(order):
        tied = position and means[method] == means[order[position - 1]]
        ranks[method] = None if means[method] is None else (ranks[order[position - 1]] if tied else position + 1)
    best: dict[str, set[str]] = {}
    for setting in settings:
        present = {m: c[setting].mean for m, c in cells.items() if setting in c and c[setting].mean is not None}
        if present:
            top = (max if higher else min)(value for value in present.values() if value is not None)
            best[setting] = {m for m, value in present.items() if value == top}
    rows = tuple(
        BoardRow(m, cells[m], oracle[m], tries[m], ranks[m], means[m], covered[m]) for m in order
    )
    return Board(suite, metric, at, settings, rows, best, all(bool(line[5]) for line in lines))


def shorten(settings: tuple[str, ...]) -> dict[str, str]:
    """Settings' names without the parts that all share, for column heads; the whole name where nothing is left."""
    split = {name: name.split(" / ") for name in settings}
    if len(split) < 2 or len({len(parts) for parts in split.values()}) > 1:
        return {name: name for name in settings}
    columns = list(zip(*split.values(), strict=True))
    varying = [position for position, column in enumerate(columns) if len(set(column)) > 1]
    return {name: " / ".join(parts[position] for position in varying) or name for name, parts in split.items()}


def cell_text(cell: BoardCell | None, metric: Metric) -> str:
    """``97.31 +- 0.12 (3)``; a single value alone; ``failed`` or ``-`` without one; ``(2/3)`` where seeds are missing."""
    if cell is None or cell.mean is None:
        return "failed" if cell is not None and cell.failed else "-"
    count = f"({cell.n})" if cell.n == cell.expected else f"({cell.n}/{cell.expected})"
    spread = f" ± {metric.show(cell.std)}" if cell.std is not None else ""
    return f"{metric.show(cell.mean)}{spread} {count}"
