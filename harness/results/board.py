"""The board: mean, standard deviation and n for every method on every setting of a suite, and who is ahead.

It never averages what happens to be there: ranked are the methods that have every run that anybody has a result for. A
method that lacks one, because it failed or was not run, says so and is listed after those that are complete. A run that
diverged counts as chance level. Means and ranks are made here once, from :class:`~harness.results.statistics.Scores`; whatever shows a board shows these.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import ResultsError, unknown
from harness.plugins import load_host
from harness.results.collapse import collapsed
from harness.results.quantities import Quantity, find_quantity, metric_word, parse_metric, quantities_in
from harness.results.records import FINISHED
from harness.source import renewed
from harness.tasks import headline_of
from harness.words import counted

COLLAPSE_AT = ("last", "selected", "best")
"""Epochs of which the largest predicted share is recorded."""

if TYPE_CHECKING:
    import duckdb

    from harness.results.statistics import Pairwise, Scores


Mark = Literal["best", "equal", "undecided", "worse"]
"""How a method stands to the best of a setting: it is that one; equal to it, as far as the test can see; too noisy to
tell, where even a difference that matters would not be seen; or worse."""
TIES: tuple[Mark, ...] = ("equal", "undecided")
SIGNS: Mapping[Mark, str] = {"best": "*", "equal": "=", "undecided": "?", "worse": ""}
WORDS: Mapping[Mark, str] = {
    "best": "best of its setting",
    "equal": "equal to the best",
    "undecided": "too noisy to tell from the best",
    "worse": "worse than the best",
}


@dataclasses.dataclass(frozen=True)
class BoardCell:
    """One method on one setting.

    Attributes:
        values: by seed; a run that diverged stands there at chance level, where the metric has one.
        expected: how many seeds the suite asks for.
        failed: runs that ended in an error: they are no result.
        quarantined: runs whose record is damaged: what it says is not shown.
        pending: seeds without a value and without an error.
        missing: how many of them another method has a value for.
        diverged: runs whose loss, weights or outputs were no longer finite.
        collapsed: runs that did not diverge and have collapsed at the shown epoch (:mod:`harness.results.collapse`);
            ``None`` where that cannot be told: in regression, and for metrics and epochs other than accuracy at
            ``last``, ``selected`` and ``best``.
        runs: runs that ended without an error, diverged ones too.
        samples: test samples of a run, in which an accuracy is counted; ``None`` where that was not recorded.
        mean, std: of the values; the sample standard deviation (ddof 1) needs two.
    """

    values: Mapping[int, float]
    expected: int
    failed: int = 0
    quarantined: int = 0
    pending: frozenset[int] = frozenset()
    missing: int = 0
    diverged: int = 0
    collapsed: int | None = None
    runs: int = 0
    samples: int | None = None
    mean: float | None = None
    std: float | None = None

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def complete(self) -> bool:
        """Whether every run that another method has is there."""
        return bool(self.values) and not self.failed and not self.quarantined and not self.missing

    @property
    def notes(self) -> tuple[str, ...]:
        """What the mean does not say: ``1 of 3 collapsed``, ``1 of 3 diverged``, ``1 failed``, ``1 in quarantine``."""
        failed = [f"{self.failed} failed"] if self.failed else []
        aside = [f"{self.quarantined} in quarantine"] if self.quarantined else []
        return (*fallen(self.collapsed, self.diverged, self.runs), *failed, *aside)


def fallen(collapsed: int | None, diverged: int, runs: int) -> list[str]:
    """Runs that collapsed or diverged, in words: ``1 of 3 collapsed``."""
    counts = ((collapsed, "collapsed"), (diverged, "diverged"))
    return [f"{count} of {runs} {what}" for count, what in counts if count]


@dataclasses.dataclass(frozen=True)
class BoardRow:
    """One method.

    Attributes:
        cells: by setting.
        oracle: whether it uses what only an oracle knows.
        tries: configurations that a search tried; 1 without a search.
        rank, mean: over the settings in which anybody has a result; ``None`` where ``withheld`` says why.
        covered: settings in which it has every run that another method has.
        withheld: what is missing for a mean and a rank, in words; empty where nothing is.
    """

    method: str
    cells: dict[str, BoardCell]
    oracle: bool
    tries: int
    rank: int | None
    mean: float | None
    covered: int
    withheld: str = ""

    @property
    def label(self) -> str:
        """Its name with the sign of an oracle."""
        return f"{self.method} °" if self.oracle else self.method

    @property
    def failed(self) -> int:
        """Runs that ended in an error, over the settings."""
        return sum(cell.failed for cell in self.cells.values())

    @property
    def quarantined(self) -> int:
        """Runs whose record is damaged, over the settings."""
        return sum(cell.quarantined for cell in self.cells.values())

    @property
    def diverged(self) -> int:
        """Runs that diverged, over the settings; where the metric has a chance level, they count as that."""
        return sum(cell.diverged for cell in self.cells.values())

    @property
    def collapsed(self) -> int:
        """Runs that have collapsed, over the settings where that can be told."""
        return sum(cell.collapsed or 0 for cell in self.cells.values())

    @property
    def notes(self) -> tuple[str, ...]:
        """What the mean does not say: ``1 of 9 collapsed``, ``1 of 9 diverged``, ``1 in quarantine``."""
        aside = [f"{self.quarantined} in quarantine"] if self.quarantined else []
        return (*fallen(self.collapsed, self.diverged, sum(cell.runs for cell in self.cells.values())), *aside)


@dataclasses.dataclass(frozen=True)
class Board:
    """A suite's table.

    Attributes:
        best: the leading methods of every setting.
        higher_is_better: of the shown quantity; ``best_minus_last`` is better low whatever the metric.
        snapshot: name of the snapshot that it was read from.
        filters: what it was narrowed to, in words; empty for a whole suite.
        search_over: ``suite`` where the parameters of each method were chosen for all settings together.
        marks: for every setting, how each comparable method stands to its best, when asked for (:func:`with_ties`).
        gaps: for every setting, the least difference from its best that would have been found with a chance of 0.8, by
            method; with the marks.
        conclusion: what can be concluded over the settings, in a sentence; empty without ties.
        owners: for a method with third-party components, the distributions or files that they come from.
        mixed: components of whose source the shown results hold several versions, with the methods that use them.
        budgets: epochs, batch size and threads of the runs of every (method, setting).
    """

    suite: str
    metric: Quantity
    at: str
    settings: tuple[str, ...]
    rows: tuple[BoardRow, ...]
    best: dict[str, set[str]]
    comparable: bool
    higher_is_better: bool = True
    snapshot: str = ""
    filters: tuple[str, ...] = ()
    search_over: str = "setting"
    marks: Mapping[str, Mapping[str, Mark]] = dataclasses.field(default_factory=dict)
    gaps: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    conclusion: str = ""
    owners: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    mixed: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    budgets: Mapping[tuple[str, str], Mapping[str, tuple[int, ...]]] = dataclasses.field(default_factory=dict)

    @property
    def title(self) -> str:
        """What is shown, in words: ``test accuracy, mean of the last 10 epochs``."""
        return self.metric.words(self.at)

    @property
    def begun(self) -> tuple[str, ...]:
        """The settings in which anybody has a result."""
        return tuple(s for s in self.settings if any(s in row.cells and row.cells[s].n for row in self.rows))

    @property
    def ties(self) -> dict[str, frozenset[str]]:
        """For every setting with two comparable methods: those not separable from its best, itself included."""
        return {s: frozenset(m for m, mark in marks.items() if mark != "worse") for s, marks in self.marks.items()}

    @property
    def tuning(self) -> str:
        """What the numbers of tries are and what was chosen for, in a sentence; empty where nothing was tuned."""
        if all(row.tries == 1 for row in self.rows):
            return ""
        chosen = "chosen for all settings" if self.search_over == "suite" else "chosen"
        return f"Tries: the number of candidates from which a method's parameters were {chosen}, on noisy validation."

    @property
    def caution(self) -> str:
        """What a reader must know of results that were not made alike, in sentences; empty where they were."""
        methods = {row.method for row in self.rows}
        parts = {name: [m for m in using if m in methods] for name, using in self.mixed.items()}
        said = "; ".join(f"{name} ({', '.join(using)})" for name, using in parts.items() if using)
        versions = (
            f"These results mix versions of {said}; `harness run SUITE --stale rerun` updates them." if said else ""
        )
        aside = sum(row.quarantined for row in self.rows)
        damaged = (
            f"{counted(aside, 'run is', 'runs are')} in quarantine, since its record is damaged; `harness status SUITE` "
            "says what is wrong and what to do."
            if aside
            else ""
        )
        return " ".join(part for part in (damaged, versions, self._differing_budgets()) if part)

    def _differing_budgets(self) -> str:
        """Epochs, batch sizes and threads that differ within a setting, with who has which."""
        sentences = []
        for quantity in ("epochs", "batch size", "threads"):
            having: dict[int, dict[str, None]] = {}
            differ = False
            for setting in self.settings:
                here = {row.method: self.budgets.get((row.method, setting), {}).get(quantity, ()) for row in self.rows}
                if len({value for values in here.values() for value in values}) < 2:
                    continue
                differ = True
                for method, values in here.items():
                    for value in values:
                        having.setdefault(value, {})[method] = None
            if differ:
                usual = max(having, key=lambda value: len(having[value]))
                rest = [f"{value} ({', '.join(using)})" for value, using in sorted(having.items()) if value != usual]
                why = ", which changes results" if quantity == "threads" else ""
                sentences.append(f"Runs differ in {quantity}{why}: {', '.join(rest)}; the others {usual}.")
        return " ".join(sentences)


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
        SELECT s.method, s.setting, s.seed, s.oracle, s.tries, s.comparable,
               CASE WHEN q.trial IS NULL THEN t.status ELSE 'quarantined' END, m.value, s.search_over,
               p.value, t.num_classes, t.test_samples
        FROM compared s
        LEFT JOIN trials t USING (trial)
        LEFT JOIN quarantine q USING (trial)
        LEFT JOIN metrics m ON m.trial = s.trial AND m.metric = ? AND m.at = ?
        LEFT JOIN metrics p ON p.trial = s.trial AND p.metric = 'predicted_share' AND p.at = ?
        WHERE s.suite = ?
        ORDER BY s.method_position, s.setting_position, s.seed
        """,
        [name, at, at, suite],
    ).fetchall()
    if not lines:
        raise ResultsError(
            f"{suite!r} holds tuning trials only, so there is nothing to compare",
            "--suite",
            "`harness plan` shows what was chosen",
        )
    if all(line[7] is None for line in lines) and any(line[6] == "done" for line in lines):
        raise _no_such_metric(connection, suite, metric, name, at)
    quantity = find_quantity(name, quantities_in(connection))
    databases = connection.execute("PRAGMA database_list").fetchall()
    snapshot = Path(databases[0][2] or "memory").stem
    board = _arrange(suite, quantity, at, lines, quantity.better_high(at), snapshot)
    return dataclasses.replace(
        board,
        owners=owners_in(connection, suite),
        mixed=mixed_in(connection, suite),
        budgets=budgets_in(connection, suite),
    )


def _no_such_metric(connection: duckdb.DuckDBPyConnection, suite: str, metric: str, name: str, at: str) -> ResultsError:
    """Why a board has no value of a metric: there is none of that name, or no trial here has it."""
    rows = connection.execute(
        """
        SELECT DISTINCT m.metric, m.at FROM metrics m JOIN compared s USING (trial)
        WHERE s.suite = ? AND m.value IS NOT NULL
        """,
        [suite],
    ).fetchall()
    available = sorted(metric_word(recorded, taken, headline="") for recorded, taken in rows)
    known = quantities_in(connection).get(name.partition("@")[0])
    if known is None or at not in known.moments:
        return ResultsError(unknown("metric", metric, available), "--metric")
    members = [word for word in available if word.startswith(f"{name}@")]
    return ResultsError(
        f"no trial of {suite!r} has {metric!r} ({known.title})",
        "--metric",
        f"its trials have {', '.join(members or available)}",
    )


def owners_in(connection: duckdb.DuckDBPyConnection, suite: str) -> dict[str, tuple[str, ...]]:
    """Methods of a suite that use third-party components, with the distributions or files that these come from."""
    lines = connection.execute(
        """
        SELECT DISTINCT s.method, json_extract(t.options, '$.owners')
        FROM compared s JOIN trials t USING (trial)
        WHERE s.suite = ? AND json_extract(t.options, '$.owners') IS NOT NULL
        """,
        [suite],
    ).fetchall()
    found: dict[str, set[str]] = {}
    for method, owners in lines:
        found.setdefault(method, set()).update(json.loads(owners).values())
    return {method: tuple(sorted(owners)) for method, owners in found.items()}


def budgets_in(connection: duckdb.DuckDBPyConnection, suite: str) -> dict[tuple[str, str], dict[str, tuple[int, ...]]]:
    """Epochs, batch sizes and threads of the runs with a result, by method and setting."""
    lines = connection.execute(
        """
        SELECT s.method, s.setting, list_sort(list_distinct(list(t.epochs))),
               list_sort(list_distinct(list(t.batch_size))), list_sort(list_distinct(list(t.threads)))
        FROM compared s JOIN trials t USING (trial)
        WHERE s.suite = ? AND t.status IN ('done', 'diverged')
        GROUP BY s.method, s.setting
        """,
        [suite],
    ).fetchall()
    return {
        (method, setting): {"epochs": tuple(epochs), "batch size": tuple(batch), "threads": tuple(threads)}
        for method, setting, epochs, batch, threads in lines
    }


def mixed_in(connection: duckdb.DuckDBPyConnection, suite: str) -> dict[str, tuple[str, ...]]:
    """Components of whose source a suite's results hold several versions, with the methods that use them."""
    lines = connection.execute(
        """
        SELECT s.method, CAST(json_extract(t.options, '$.digests') AS VARCHAR),
               CAST(json_extract(t.options, '$.owners') AS VARCHAR)
        FROM compared s JOIN trials t USING (trial)
        WHERE s.suite = ? AND t.status IN ('done', 'diverged')
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
    """The headline of the suite's task, as its trials have recorded it."""
    found = connection.execute(
        "SELECT DISTINCT metric FROM metrics WHERE trial IN (SELECT trial FROM suite_trials WHERE suite = ?)", [suite]
    ).fetchall()
    return headline_of(name for (name,) in found)


def _arrange(suite: str, metric: Quantity, at: str, lines: list[tuple[Any, ...]], higher: bool, snapshot: str) -> Board:
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
    board: Board, cells: dict[str, dict[str, BoardCell]], oracle: Mapping[str, bool], tries: Mapping[str, int]
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
        rows.append(BoardRow(method, mine, oracle[method], tries[method], None, None, covered, _withheld(mine, begun)))
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
    return _rank(part, cells, {row.method: row.oracle for row in rows}, {row.method: row.tries for row in rows})


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


def to_best(scores: Scores, settings: Collection[str], alpha: float = 0.05) -> tuple[dict[str, Any], dict[str, Any]]:
    """``marks`` and ``gaps`` of a board, for every setting with two comparable methods."""
    from harness.results import statistics

    marks: dict[str, dict[str, Mark]] = {}
    gaps: dict[str, dict[str, float]] = {}
    for setting in settings:
        pairwise = statistics.compare_in_setting(scores, setting, alpha=alpha)
        if len(pairwise.methods) > 1:
            group = statistics.top_group(pairwise)
            marks[setting] = dict.fromkeys(pairwise.methods, "worse")
            marks[setting] |= dict.fromkeys(group.equal, "equal")
            marks[setting] |= dict.fromkeys(group.undecided, "undecided")
            marks[setting] |= dict.fromkeys(group.not_separable[:1], "best")
            gaps[setting] = {found.method: found.detectable for found in group.comparisons}
    return marks, gaps


def over_settings(board: Board, alpha: float = 0.05) -> Pairwise | None:
    """All pairs of ranked methods over the settings in which anybody has a result; ``None`` without any."""
    from harness.results import statistics

    ranked = [row.method for row in board.rows if row.rank is not None]
    if not ranked:
        return None
    scores = scores_of(board, complete=True).select(methods=ranked, settings=board.begun)
    return statistics.compare_over_settings(scores, alpha=alpha)


def with_ties(
    board: Board, alpha: float = 0.05, *, settings: Collection[str] | None = None, pairwise: Pairwise | None = None
) -> Board:
    """The board with how every method stands to the best of a setting, and what that comes to over all of them.

    Args:
        board: of any state.
        alpha: family-wise error of all pairs.
        settings: those marked; default all.
        pairwise: from :func:`over_settings`, where the caller has it already.
    """
    scores = scores_of(board, complete=True)
    marks, gaps = to_best(scores, board.settings if settings is None else settings, alpha)
    pairwise = over_settings(board, alpha) if pairwise is None else pairwise
    return dataclasses.replace(board, marks=marks, gaps=gaps, conclusion=conclude(board, pairwise))


def conclude(board: Board, pairwise: Pairwise | None) -> str:
    """What can be concluded over all settings, in a sentence or two without the last full stop; empty without a result."""
    from harness.results import statistics

    if not board.begun:
        return ""
    said = []
    if max(cell.n for row in board.rows for cell in row.cells.values()) < 2:
        said.append("One seed per cell says nothing about spread: the order is that of single runs")
    elif pairwise is None:
        said.append("No method has every run, so none is ranked")
    elif len(pairwise.methods) < 2:
        alone = [row.label for row in board.rows if row.rank is not None]
        said.append(
            f"Only {alone[0]} has every run: nothing can be compared over all settings"
            if len(alone) == 1
            else "Some cells hold one run, which says nothing about spread: the order is not tested"
        )
    else:
        labels = {row.method: row.label for row in board.rows}
        methods = tuple(labels[method] for method in pairwise.methods)
        named = dataclasses.replace(pairwise, methods=methods, not_comparable=())
        said.append(statistics.describe(statistics.top_group(named)))
    fell = [f"{row.label} ({', '.join(row.notes)})" for row in board.rows if row.notes]
    if fell:
        said.append(
            f"Runs that collapsed or diverged count in means, and no test compares their methods: {_some(fell)}"
        )
    withheld = [f"{row.label} ({row.withheld})" for row in board.rows if row.withheld]
    if withheld:
        said.append(f"Not ranked until their runs are there: {_some(withheld)}")
    return ". ".join(said)


def _some(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def shorten(settings: tuple[str, ...]) -> dict[str, str]:
    """Settings' names without the parts that all share, for column heads; the whole name where nothing is left."""
    split = {name: name.split(" / ") for name in settings}
    if len(split) < 2 or len({len(parts) for parts in split.values()}) > 1:
        return {name: name for name in settings}
    columns = list(zip(*split.values(), strict=True))
    varying = [position for position, column in enumerate(columns) if len(set(column)) > 1]
    return {name: " / ".join(parts[position] for position in varying) or name for name, parts in split.items()}


def cell_text(cell: BoardCell | None, metric: Quantity) -> str:
    """``97.31 ± 0.12 (3)``; a single value alone; ``failed`` or ``-`` without one; ``(2/3)`` where seeds are missing."""
    if cell is None or cell.mean is None:
        return "failed" if cell is not None and cell.failed else "-"
    count = f"({cell.n})" if cell.n == cell.expected else f"({cell.n}/{cell.expected})"
    spread = f" ± {metric.show(cell.std)}" if cell.std is not None else ""
    return f"{metric.show(cell.mean)}{spread} {count}"


def mark_words(board: Board, mark: Mark) -> str:
    """What a mark means on this board; where it is ``undecided``, with the gaps that would have been seen."""
    unseen = [
        board.gaps[setting][method]
        for setting, marks in board.marks.items()
        for method, found in marks.items()
        if found == "undecided" == mark and method in board.gaps[setting]
    ]
    if not unseen:
        return WORDS[mark]
    few, many = (f"{board.metric.show(gap)}" for gap in (min(unseen), max(unseen)))
    reach = few if few == many else f"{few} to {many}"
    return f"{WORDS[mark]} (the least gap that is found with a chance of 0.8: {reach})"


def mark_of(board: Board, method: str, setting: str) -> Mark | None:
    """How a method stands to the best of a setting; without ties only who is the best."""
    if method in board.best.get(setting, ()):
        return "best"
    return board.marks.get(setting, {}).get(method)
