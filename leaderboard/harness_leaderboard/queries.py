"""What the pages read: plain SQL on one immutable snapshot, a cursor per query.

A snapshot is opened read-only through its real path, so a page never locks what a run writes; when the link ``current``
has moved, the path is another one and so is the connection. Values of users go in as parameters, never as SQL.
"""

from __future__ import annotations

import atexit
import dataclasses
import functools
import json
import math
import re
from pathlib import Path
from typing import Any

import duckdb

from harness.plugins import load_host
from harness.results.store import connect
from harness.tasks import TASKS

MEMORY = "600MB"
LOG_BYTES = 64_000
_TRIAL_ID = re.compile(r"[0-9a-f]{8,64}")
_ATTEMPT = re.compile(r"attempt-\d{3,}")


@functools.lru_cache(maxsize=2)
def _connection(snapshot: Path) -> duckdb.DuckDBPyConnection:
    """One read-only connection per snapshot, which can reach no other file."""
    connection = connect(snapshot)
    connection.execute(f"SET memory_limit = '{MEMORY}'")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


atexit.register(_connection.cache_clear)  # DuckDB's bindings complain about connections that outlive the interpreter


def cursor(snapshot: Path) -> duckdb.DuckDBPyConnection:
    """A cursor of its own for one query, safe in any thread."""
    return _connection(snapshot).cursor()


def rows(snapshot: Path, sql: str, parameters: list[Any] | None = None) -> list[dict[str, Any]]:
    """The rows of a query as dictionaries; NaN, which is no number, reads as ``None``."""
    with cursor(snapshot) as connection:
        found = connection.execute(sql, parameters or [])
        names = [column[0] for column in found.description or ()]
        return [{n: _plain(v) for n, v in zip(names, line, strict=True)} for line in found.fetchall()]


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


# --- suites -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class SuiteFacts:
    """A suite and how far it is."""

    name: str
    methods: int
    settings: int
    trials: int
    done: int
    failed: int
    started: float | None


def suites(snapshot: Path) -> list[SuiteFacts]:
    """The suites of a snapshot, the one worked on last first."""
    found = rows(
        snapshot,
        """
        SELECT s.suite AS name, count(DISTINCT method) AS methods, count(DISTINCT setting) AS settings,
               count(*) AS trials, count(*) FILTER (t.status IN ('done', 'diverged')) AS done,
               count(*) FILTER (t.status = 'failed') AS failed, max(a.started) AS started
        FROM compared s LEFT JOIN trials t USING (trial)
        LEFT JOIN (SELECT trial, max(started) AS started FROM attempts GROUP BY trial) a USING (trial)
        GROUP BY s.suite ORDER BY max(a.started) DESC NULLS LAST, s.suite
        """,
    )
    return [SuiteFacts(**row) for row in found]


@dataclasses.dataclass(frozen=True)
class SettingFacts:
    """What the filters know of a setting; ``None`` where none of its trials has begun."""

    setting: str
    dataset: str | None
    noise: str | None
    rate: float | None
    model: str | None


def settings(snapshot: Path, suite: str) -> list[SettingFacts]:
    """The settings of a suite, in its order."""
    found = rows(
        snapshot,
        """
        SELECT s.setting, any_value(t.dataset) AS dataset, any_value(t.noise) AS noise, any_value(t.rate) AS rate,
               any_value(t.model) AS model
        FROM compared s LEFT JOIN trials t USING (trial)
        WHERE s.suite = ?
        GROUP BY s.setting ORDER BY min(s.setting_position)
        """,
        [suite],
    )
    return [SettingFacts(**row) for row in found]


def metrics(snapshot: Path, suite: str) -> list[tuple[str, str]]:
    """The recorded (metric, at) pairs of a suite."""
    found = rows(
        snapshot,
        """
        SELECT DISTINCT m.metric, m."at" AS "at" FROM metrics m
        WHERE m.trial IN (SELECT trial FROM compared WHERE suite = ?)
        ORDER BY ALL
        """,
        [suite],
    )
    return [(row["metric"], row["at"]) for row in found]


def plain_methods(snapshot: Path, suite: str) -> list[str]:
    """Methods that are a loss alone, without transform and algorithm; the plain loss of their task first. One of them is
    the reference."""
    plain = sorted({task.loss for task in TASKS.values()})
    found = rows(
        snapshot,
        """
        SELECT s.method FROM compared s JOIN trials t USING (trial)
        WHERE s.suite = ?
        GROUP BY s.method HAVING bool_and(t.transforms = '' AND t.algorithms = '')
        ORDER BY bool_and(list_contains(?, t.loss)) DESC, min(s.method_position)
        """,
        [suite, plain],
    )
    return [row["method"] for row in found]


def cell_trials(snapshot: Path, suite: str) -> dict[tuple[str, str], str]:
    """The first trial of every cell that has one: done before diverged before failed before the rest, then by seed."""
    found = rows(
        snapshot,
        """
        SELECT s.method, s.setting,
               arg_min(s.trial, CASE t.status WHEN 'done' THEN 0 WHEN 'diverged' THEN 1 WHEN 'failed' THEN 2 ELSE 3 END * 1000000 + s.seed)
                   AS trial
        FROM compared s JOIN trials t USING (trial)
        WHERE s.suite = ?
        GROUP BY s.method, s.setting
        """,
        [suite],
    )
    return {(row["method"], row["setting"]): row["trial"] for row in found}


# --- cost -------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class CellCost:
    """What one cell cost: seconds of all its attempts, seconds per epoch, bytes, parameters; ``None`` if unrecorded."""

    method: str
    setting: str
    seconds: float | None
    per_epoch: float | None
    memory: float | None
    parameters: float | None
    device: str | None


def costs(snapshot: Path, suite: str) -> list[CellCost]:
    """The cost of every cell of a suite."""
    found = rows(
        snapshot,
        """
        WITH mine AS (
            SELECT method, setting, trial FROM compared WHERE suite = ?
        ), spent AS (
            SELECT trial, sum(seconds) AS seconds, any_value(device) AS device
            FROM attempts WHERE trial IN (SELECT trial FROM mine) GROUP BY trial
        ), measured AS (
            SELECT trial,
                   max(value) FILTER (metric = 'seconds_per_epoch') AS per_epoch,
                   max(value) FILTER (metric = 'peak_memory') AS memory,
                   max(value) FILTER (metric = 'parameters') AS parameters
            FROM metrics WHERE metric IN ('seconds_per_epoch', 'peak_memory', 'parameters')
              AND trial IN (SELECT trial FROM mine) GROUP BY trial
        )
        SELECT method, setting, sum(seconds) AS seconds, avg(per_epoch) AS per_epoch, max(memory) AS memory,
               max(parameters) AS parameters, any_value(device) AS device
        FROM mine LEFT JOIN spent USING (trial) LEFT JOIN measured USING (trial)
        GROUP BY method, setting
        """,
        [suite],
    )
    return [CellCost(**row) for row in found]


# --- standings --------------------------------------------------------------------------------------------------------

STANDING = """CASE WHEN t.status IN ('done', 'diverged')
    AND list_contains(?, CAST(json_extract(t.options, '$.digests') AS VARCHAR)) THEN 'stale' ELSE t.status END"""
"""The standing of a trial ``t``, with :func:`stale_digests` as its parameter."""


def stale_digests(snapshot: Path) -> list[str]:
    """The recorded digests, as JSON, of which a component has another source now: results that hold them are stale."""
    changed = load_host().registry.has_changed
    return [digests for digests in _recorded_digests(snapshot) if changed(json.loads(digests))]


@functools.lru_cache(maxsize=4)
def _recorded_digests(snapshot: Path) -> tuple[str, ...]:
    sql = """
        SELECT DISTINCT CAST(json_extract(options, '$.digests') AS VARCHAR) AS digests FROM trials
        WHERE status IN ('done', 'diverged') AND json_extract(options, '$.digests') IS NOT NULL
    """
    return tuple(row["digests"] for row in rows(snapshot, sql))


# --- one trial --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class TrialFacts:
    """All that the store knows of one trial.

    Attributes:
        trial: its row, with ``identity``, ``options``, ``histograms`` and ``transitions`` as values.
        places: the suites it is part of, with method, setting and seed.
        attempts, epochs, environment: as recorded; the environment is the final attempt's.
        metrics: ``{(metric, at): value}``.
        diagnostics: ``{name: [(epoch, value)]}``.
    """

    trial: dict[str, Any]
    places: list[dict[str, Any]]
    attempts: list[dict[str, Any]]
    epochs: list[dict[str, Any]]
    metrics: dict[tuple[str, str], float | None]
    diagnostics: dict[str, list[tuple[int, float]]]
    environment: dict[str, Any]


def is_trial_id(text: str) -> bool:
    """Whether a text from a URL can be a trial's id at all."""
    return _TRIAL_ID.fullmatch(text) is not None


def trial(snapshot: Path, trial_id: str) -> TrialFacts | None:
    """A trial by its id; ``None`` when there is none."""
    if not is_trial_id(trial_id):
        return None
    found = rows(
        snapshot,
        f"SELECT * REPLACE ({STANDING} AS status) FROM trials t WHERE trial = ?",
        [stale_digests(snapshot), trial_id],
    )
    if not found:
        return None
    facts = found[0]
    for key in ("identity", "options", "histograms", "transitions"):
        facts[key] = json.loads(facts[key]) if facts[key] else None
    mine = [trial_id]
    measured = rows(snapshot, 'SELECT metric, "at" AS "at", value FROM metrics WHERE trial = ? ORDER BY ALL', mine)
    diagnostics: dict[str, list[tuple[int, float]]] = {}
    for row in rows(snapshot, "SELECT name, epoch, value FROM diagnostics WHERE trial = ? ORDER BY name, epoch", mine):
        if row["value"] is not None:
            diagnostics.setdefault(row["name"], []).append((row["epoch"], row["value"]))
    environments = rows(
        snapshot, "SELECT environment FROM environments WHERE trial = ? AND attempt = ?", [trial_id, facts["attempt"]]
    )
    places = """
        SELECT suite, method, setting, seed, oracle, tuning, tries, comparable FROM suite_trials
        WHERE trial = ? AND newest ORDER BY tuning, suite, method
    """
    return TrialFacts(
        facts,
        rows(snapshot, places, mine),
        rows(snapshot, "SELECT * FROM attempts WHERE trial = ? ORDER BY number", mine),
        rows(snapshot, "SELECT * FROM epochs WHERE trial = ? ORDER BY epoch", mine),
        {(row["metric"], row["at"]): row["value"] for row in measured},
        diagnostics,
        json.loads(environments[0]["environment"]) if environments else {},
    )


def siblings(snapshot: Path, suite: str, method: str, setting: str, metric: str, at: str) -> list[dict[str, Any]]:
    """The seeds of one cell with status and value."""
    return rows(
        snapshot,
        f"""
        SELECT s.seed, s.trial, {STANDING} AS status, m.value
        FROM compared s LEFT JOIN trials t USING (trial)
        LEFT JOIN metrics m ON m.trial = s.trial AND m.metric = ? AND m."at" = ?
        WHERE s.suite = ? AND s.method = ? AND s.setting = ?
        ORDER BY s.seed
        """,
        [stale_digests(snapshot), metric, at, suite, method, setting],
    )


def log(results: Path, trial_id: str, attempt: str) -> str:
    """The end of an attempt's log; empty when there is none.

    Only a file that really lies in the trial's own folder is read: neither an id from a URL nor a link in the results
    folder leads elsewhere.
    """
    if not is_trial_id(trial_id) or _ATTEMPT.fullmatch(attempt) is None:
        return ""
    home = (results / "trials").resolve()
    path = (home / trial_id / attempt / "log.txt").resolve()
    if path != home / trial_id / attempt / "log.txt":
        return ""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            size = file.tell()
            file.seek(max(0, size - LOG_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return text if size <= LOG_BYTES else f"... the first {size - LOG_BYTES:,} bytes are left out ...\n{text}"


# --- what failed ------------------------------------------------------------------------------------------------------


def failures(snapshot: Path, suite: str) -> list[dict[str, Any]]:
    """The failed trials of a suite with their errors."""
    return rows(
        snapshot,
        """
        SELECT s.method, s.setting, s.seed, s.trial, t.error_type, t.error
        FROM compared s JOIN trials t USING (trial)
        WHERE s.suite = ? AND t.status = 'failed'
        ORDER BY s.method_position, s.setting_position, s.seed
        """,
        [suite],
    )
