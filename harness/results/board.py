"""The board: mean, standard deviation and n for every method on every setting of a suite, and who is ahead.

It never averages what happens to be there: ranked are the methods that have every setting in which anybody has a
result, and a method that lacks one says so ("2/3") and is listed after those that are complete. A run that diverged counts
as chance level; a run that failed is no result, and its method has no rank until it ran.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import ResultsError, unknown
from harness.plugins import load_host
from harness.results.collapse import collapsed
from harness.results.metrics import METRICS, Metric, find_metric, parse_metric
from harness.results.records import FINISHED
from harness.source import renewed

COLLAPSE_AT = ("last", "selected", "best")
"""Epochs of which the largest predicted share is recorded."""

if TYPE_CHECKING:
    import duckdb

    from harness.results.statistics import Scores


@dataclasses.dataclass(frozen=True)
class BoardCell:
    """One method on one setting.

    Attributes:
        values: by seed; a run that diverged stands there at chance level, where the metric has one.
        expected: how many seeds the suite asks for.
        failed: runs that ended in an error: they are no result.
        diverged: runs whose loss, weights or outputs were no longer finite.
        collapsed: runs that did not diverge and have collapsed at the shown epoch (:mod:`harness.results.collapse`);
            ``None`` where that cannot be told: in regression, and for metrics and epochs other than accuracy at
            ``last``, ``selected`` and ``best``.
    """

    values: dict[int, float]
    expected: int
    failed: int = 0
    diverged: int = 0
    collapsed: int | None = None

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def missing(self) -> int:
        """Runs that there is no value of, for whatever reason."""
        return self.expected - self.n

    @property
    def notes(self) -> tuple[str, ...]:
        """What the mean does not say: ``1 of 3 collapsed``, ``1 of 3 diverged``, ``1 failed``."""
        said = [f"{self.collapsed} of {self.expected} collapsed"] if self.collapsed else []
        said += [f"{self.diverged} of {self.expected} diverged"] if self.diverged else []
        return (*said, *([f"{self.failed} failed"] if self.failed else []))

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

    @property
    def failed(self) -> int:
        """Runs that ended in an error, over the settings."""
        return sum(cell.failed for cell in self.cells.values())

    @property
    def missing(self) -> int:
        """Runs that there is no value of, over the settings."""
        return sum(cell.missing for cell in self.cells.values())

    @property
    def diverged(self) -> int:
        """Runs that diverged, over the settings; where the metric has a chance level, they count as that."""
        return sum(cell.diverged for cell in self.cells.values())

    @property
    def collapsed(self) -> int:
        """Runs that have collapsed, over the settings where that can be told."""
        return sum(cell.collapsed or 0 for cell in self.cells.values())

    @property
    def withheld(self) -> bool:
        """Whether it has no rank because runs of it failed: those that did not are not a fair choice of all."""
        return self.failed > 0


@dataclasses.dataclass(frozen=True)
class Board:
    """A suite's table.

    Attributes:
        best: the leading methods of every setting.
        higher_is_better: of the shown quantity; ``best_minus_last`` is better low whatever the metric.
        snapshot: name of the snapshot that it was read from.
        filters: what it was narrowed to, in words; empty for a whole suite.
        ties: for every setting, the methods that are not separable from its top, when asked for (:func:`with_ties`).
        search_over: ``suite`` where the parameters of each method were chosen for all settings together.
        conclusion: what can be concluded over the settings, in a sentence; empty without ties.
        owners: for a method with third-party components, the distributions or files that they come from.
        differing: what results differ in beyond method, setting and seed, by its name (``threads``, ``epochs``,
            ``batch size``), with its values.
        mixed: components of whose source the shown results hold several versions, with the methods that use them.
    """

    suite: str
    metric: Metric
    at: str
    settings: tuple[str, ...]
    rows: tuple[BoardRow, ...]
    best: dict[str, set[str]]
    comparable: bool
    higher_is_better: bool = True
    snapshot: str = ""
    filters: tuple[str, ...] = ()
    search_over: str = "setting"
    ties: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)
    conclusion: str = ""
    owners: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    mixed: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    differing: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of these runs beyond their numbers, in sentences."""
        said = [f"The trials differ in {name}: {', '.join(values)}." for name, values in self.differing.items()]
        for words, counted in (
            ("failed, so that its rank is withheld until `harness retry --failed` and another run", "failed"),
            ("diverged and count as chance level", "diverged"),
            ("collapsed (one class gets at least 95 % of the predictions, or accuracy at chance)", "collapsed"),
        ):
            found = [f"{row.method} {count}" for row in self.rows if (count := getattr(row, counted))]
            said += [f"Runs that {words}: {', '.join(found)}."] if found else []
        return tuple(said)

    @property
    def tuning(self) -> str:
        """What the numbers of tries are and what was chosen for, in a sentence; empty where nothing was tuned."""
        if all(row.tries == 1 for row in self.rows):
            return ""
        once = " once for all settings" if self.search_over == "suite" else ""
        return (
            f"Tries: the number of candidates that a method's parameters were chosen among{once}, on noisy validation."
        )

    @property
    def caution(self) -> str:
        """What a reader must know of results that one source has not made, in a sentence; empty where one has."""
        methods = {row.method for row in self.rows}
        parts = {name: [m for m in using if m in methods] for name, using in self.mixed.items()}
        said = "; ".join(f"{name} ({', '.join(using)})" for name, using in parts.items() if using)
        return f"These results mix versions of {said}; `harness run SUITE --stale rerun` updates them." if said else ""


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
            raise ResultsError(
                "the store holds " + (f"the suites {', '.join(known)}" if known else "no suite"), "--suite", "name one"
            )
        suite = known[0]
    if suite not in known:
        raise ResultsError(unknown("suite", suite, known), "--suite")
    name, at = parse_metric(metric)
    if not name:
        name = main_metric(connection, suite)
    lines = connection.execute(
        """
        SELECT s.method, s.setting, s.seed, s.oracle, s.tries, s.comparable, t.status, m.value, s.search_over,
               p.value, t.num_classes, t.test_samples
        FROM suite_trials s
        LEFT JOIN trials t USING (trial)
        LEFT JOIN metrics m ON m.trial = s.trial AND m.metric = ? AND m.at = ?
        LEFT JOIN metrics p ON p.trial = s.trial AND p.metric = 'predicted_share' AND p.at = ?
        WHERE s.suite = ? AND s.newest AND NOT s.tuning
        ORDER BY s.method_position, s.setting_position, s.seed
        """,
        [name, at, at, suite],
    ).fetchall()
    if lines and all(line[7] is None for line in lines) and any(line[6] == "done" for line in lines):
        raise _no_such_metric(connection, suite, metric, name, at)
    metric_facts = find_metric(name)
    higher = metric_facts.higher_is_better if at != "best_minus_last" else False
    databases = connection.execute("PRAGMA database_list").fetchall()
    snapshot = Path(databases[0][2] or "memory").stem
    board = _arrange(suite, metric_facts, at, lines, higher, snapshot)
    return dataclasses.replace(
        board,
        owners=owners_in(connection, suite),
        mixed=mixed_in(connection, suite),
        differing=differing_in(connection, suite),
    )


def differing_in(connection: duckdb.DuckDBPyConnection, suite: str) -> dict[str, tuple[str, ...]]:
    """What a suite's results differ in though it is no part of method, setting or seed, with the values: a method may
    have epochs and a batch size of its own, and threads, which change results on a CPU, are in no trial's id."""
    found = {}
    for name, column in (("threads", "threads"), ("epochs", "epochs"), ("batch size", "batch_size")):
        lines = connection.execute(
            f"""
            SELECT DISTINCT t.{column} FROM suite_trials s JOIN trials t USING (trial)
            WHERE s.suite = ? AND s.newest AND NOT s.tuning AND t.status IN ('done', 'diverged')
                  AND t.{column} IS NOT NULL ORDER BY 1
            """,
            [suite],
        ).fetchall()
        if len(lines) > 1:
            found[name] = tuple(str(line[0]) for line in lines)
    return found


def _no_such_metric(connection: duckdb.DuckDBPyConnection, suite: str, metric: str, name: str, at: str) -> ResultsError:
    """Why a board has no value of a metric: there is none of that name, or no trial here has it."""
    rows = connection.execute(
        """
        SELECT DISTINCT m.metric || CASE WHEN m.at = 'last' THEN '' ELSE '@' || m.at END
        FROM metrics m JOIN suite_trials s USING (trial)
        WHERE s.suite = ? AND s.newest AND NOT s.tuning AND m.value IS NOT NULL
        """,
        [suite],
    ).fetchall()
    available = sorted(row[0] for row in rows)
    known = METRICS.get(name.partition("@")[0])
    if known is None or at not in known.at:
        return ResultsError(unknown("metric", metric, available), "--metric")
    return ResultsError(
        f"no trial of {suite!r} has {metric!r} ({known.title})", "--metric", f"its trials have {', '.join(available)}"
    )


def owners_in(connection: duckdb.DuckDBPyConnection, suite: str) -> dict[str, tuple[str, ...]]:
    """Methods of a suite that use third-party components, with the distributions or files that these come from."""
    lines = connection.execute(
        """
        SELECT DISTINCT s.method, json_extract(t.options, '$.owners')
        FROM suite_trials s JOIN trials t USING (trial)
        WHERE s.suite = ? AND s.newest AND json_extract(t.options, '$.owners') IS NOT NULL
        """,
        [suite],
    ).fetchall()
    found: dict[str, set[str]] = {}
    for method, owners in lines:
        found.setdefault(method, set()).update(json.loads(owners).values())
    return {method: tuple(sorted(owners)) for method, owners in found.items()}


def mixed_in(connection: duckdb.DuckDBPyConnection, suite: str) -> dict[str, tuple[str, ...]]:
    """Components of whose source a suite's results hold several versions, with the methods that use them."""
    lines = connection.execute(
        """
        SELECT s.method, CAST(json_extract(t.options, '$.digests') AS VARCHAR),
               CAST(json_extract(t.options, '$.owners') AS VARCHAR)
        FROM suite_trials s JOIN trials t USING (trial)
        WHERE s.suite = ? AND s.newest AND NOT s.tuning AND t.status IN ('done', 'diverged')
        GROUP BY ALL ORDER BY min(s.method_position)
        """,
        [suite],
    ).fetchall()
    versions: dict[str, set[str]] = {}
    using: dict[str, dict[str, None]] = {}
    owned: dict[str, str] = {}
    for method, digests, owners in lines:
        owned.update(json.loads(owners or "{}"))
        for name, found in json.loads(digests or "{}").items():
            versions.setdefault(name, set()).add(found)
            using.setdefault(name, {})[method] = None
    return {
        name: tuple(using[name])
        for name, found in versions.items()
        if len(found) > 1 and len(_by_one_rule(name, found, owned.get(name, ""))) > 1
    }


def _by_one_rule(component: str, digests: set[str], owner: str) -> set[str]:
    """The digests of one component, those of the old rule by the present one where their source is as it was. A plugin
    file is read, not run: looking at results runs nothing that they name."""
    if owner.endswith(".py"):
        return {renewed(digest, f"file:{owner}", Path(owner)) for digest in digests}
    registry = load_host().registry
    return {registry.renewed({component: digest})[component] for digest in digests}


def main_metric(connection: duckdb.DuckDBPyConnection, suite: str) -> str:
    """``accuracy``, or ``mae`` for a suite of regression settings."""
    found = connection.execute(
        "SELECT 1 FROM metrics m WHERE metric = 'mae' AND trial IN (SELECT trial FROM suite_trials WHERE suite = ?) LIMIT 1",
        [suite],
    ).fetchone()
    return "mae" if found else "accuracy"


def _arrange(suite: str, metric: Metric, at: str, lines: list[tuple[Any, ...]], higher: bool, snapshot: str) -> Board:
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
        cells.setdefault(method, {})[setting] = _cell(metric.name, at, group)
    comparable = all(bool(line[5]) for line in lines)
    search_over = str(lines[0][8]) if lines else "setting"
    facts = Board(suite, metric, at, settings, (), {}, comparable, higher, snapshot, search_over=search_over)
    return _rank(facts, cells, oracle, tries)


def _cell(metric: str, at: str, group: list[tuple[Any, ...]]) -> BoardCell:
    values: dict[int, float] = {}
    told, fallen = False, 0
    for line in group:
        seed, status, value, _, share, classes, samples = int(line[2]), *line[6:]
        if status not in FINISHED or value is None:
            continue
        values[seed] = float(value)
        if status == "done" and metric == "accuracy" and at in COLLAPSE_AT and classes is not None:
            told, fallen = True, fallen + collapsed(float(value), share, int(classes), samples)
    counts = Counter(line[6] for line in group)
    return BoardCell(values, len(group), counts["failed"], counts["diverged"], fallen if told else None)


def _rank(
    board: Board, cells: dict[str, dict[str, BoardCell]], oracle: Mapping[str, bool], tries: Mapping[str, int]
) -> Board:
    """A board's rows in order and the best of every setting; its own rows are ignored."""
    settings, higher = board.settings, board.higher_is_better
    # a cell counts as in statistics.default_min_seeds: with two runs where any cell has as many
    needed = min(2, max((cell.n for by_setting in cells.values() for cell in by_setting.values()), default=0)) or 1
    covered = {m: sum(cell.n >= needed for cell in by_setting.values()) for m, by_setting in cells.items()}
    begun = {s for by_setting in cells.values() for s, cell in by_setting.items() if cell.n}
    means: dict[str, float | None] = {}
    for method, by_setting in cells.items():
        found = [cell.mean for cell in by_setting.values() if cell.mean is not None]
        means[method] = sum(found) / len(found) if found and covered[method] == len(begun) else None
    sign = -1.0 if higher else 1.0
    unranked = {m: means[m] is None or any(cell.failed for cell in cells[m].values()) for m in cells}
    order = sorted(cells, key=lambda m: (unranked[m], means[m] is None, sign * (means[m] or 0.0), -covered[m]))
    ranks: dict[str, int | None] = {}
    for position, method in enumerate(order):
        tied = position and means[method] == means[order[position - 1]]
        ranks[method] = None if unranked[method] else (ranks[order[position - 1]] if tied else position + 1)
    best: dict[str, set[str]] = {}
    for setting in settings:
        present = {m: c[setting].mean for m, c in cells.items() if setting in c and c[setting].n >= needed}
        if present:
            top = (max if higher else min)(value for value in present.values() if value is not None)
            best[setting] = {m for m, value in present.items() if value == top}
    rows = tuple(BoardRow(m, cells[m], oracle[m], tries[m], ranks[m], means[m], covered[m]) for m in order)
    return dataclasses.replace(board, rows=rows, best=best)


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
    part = dataclasses.replace(board, settings=kept, filters=filters, ties={}, conclusion="")
    return _rank(part, cells, {row.method: row.oracle for row in rows}, {row.method: row.tries for row in rows})


def scores_of(board: Board) -> Scores:
    """The board as the table that the statistics take, in recorded units."""
    import numpy as np

    from harness.results.statistics import Scores

    seeds = tuple(sorted({seed for row in board.rows for cell in row.cells.values() for seed in cell.values}))
    column = {seed: position for position, seed in enumerate(seeds)}
    values = np.full((len(board.rows), len(board.settings), len(seeds)), np.nan)
    for m, row in enumerate(board.rows):
        for s, setting in enumerate(board.settings):
            cell = row.cells.get(setting)
            for seed, value in cell.values.items() if cell is not None else ():
                if math.isfinite(value):
                    values[m, s, column[seed]] = value
    return Scores(tuple(row.method for row in board.rows), board.settings, seeds, values, board.higher_is_better)


def ties_in(scores: Scores, settings: Collection[str], alpha: float = 0.05) -> dict[str, frozenset[str]]:
    """For every setting with two comparable methods: those not separable from its top, itself included."""
    from harness.results import statistics

    ties = {}
    for setting in settings:
        pairwise = statistics.compare_in_setting(scores, setting, alpha=alpha)
        if len(pairwise.methods) > 1:
            ties[setting] = frozenset(statistics.tiers(pairwise)[0])
    return ties


def with_ties(board: Board, alpha: float = 0.05) -> Board:
    """The board with who is not separable from the top of every setting, and what that comes to over all of them."""
    from harness.results import statistics

    scores = scores_of(board)
    ties = ties_in(scores, board.settings, alpha)
    conclusion = ""
    if board.settings and board.rows:
        conclusion = statistics.describe(statistics.top_group(statistics.compare_over_settings(scores, alpha=alpha)))
    return dataclasses.replace(board, ties=ties, conclusion=conclusion)


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
