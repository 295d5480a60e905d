"""From the store to a board, with what a reader must know of how its results were made."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import ResultsError, unknown
from harness.plugins import load_host
from harness.results.quantities import find_quantity, metric_word, parse_metric, quantities_in
from harness.results.report.cells import Board
from harness.results.report.rank import arrange
from harness.source import renewed
from harness.tasks import headline_of

if TYPE_CHECKING:
    import duckdb


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
               p.value, t.num_classes, t.test_samples, s.estimated
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
    board = arrange(suite, quantity, at, lines, quantity.better_high(at), snapshot)
    return dataclasses.replace(
        board,
        owners=owners_in(connection, suite),
        mixed=mixed_in(connection, suite),
        budgets=budgets_in(connection, suite),
        rates=rates_in(connection, suite),
        trusted=trusted_in(connection, suite),
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


def rates_in(connection: duckdb.DuckDBPyConnection, suite: str) -> dict[tuple[str, str], tuple[float, float | None]]:
    """Shares of wrong labels, as estimated by the runs and as they are, means over the runs by method and setting."""
    lines = connection.execute(
        """
        SELECT s.method, s.setting, avg(m.value), avg(t.corrupted)
        FROM compared s JOIN trials t USING (trial) JOIN metrics m USING (trial)
        WHERE s.suite = ? AND m.metric = 'estimated_rate' AND m.at = 'last'
        GROUP BY s.method, s.setting
        ORDER BY min(s.method_position), min(s.setting_position)
        """,
        [suite],
    ).fetchall()
    return {(method, setting): (estimated, true) for method, setting, estimated, true in lines}


def trusted_in(connection: duckdb.DuckDBPyConnection, suite: str) -> dict[str, bool]:
    """Settings of whose training labels nobody knows the truth: whether their test labels are known to be right."""
    lines = connection.execute(
        """
        SELECT s.setting, bool_and(t.test_trusted) FROM compared s JOIN trials t USING (trial)
        WHERE s.suite = ? AND t.test_trusted IS NOT NULL GROUP BY s.setting
        """,
        [suite],
    ).fetchall()
    return dict(lines)


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
