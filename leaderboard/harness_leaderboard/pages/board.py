"""Who leads, whether the lead is real, at what cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from harness.errors import HarnessError
from harness.results.board import narrow, read_board
from harness_leaderboard import queries, shell, tables
from harness_leaderboard.shell import View
from harness_leaderboard.views import Filters, Leaderboard

HOW = """
<details><summary>How is this computed?</summary>
<p><b>Cells</b> are the mean over seeds ± sample standard deviation; a Student-t interval stands behind every mean.
<b>Ties</b> in a setting come from a randomised-block Tukey test with the seeds as blocks (all methods face the same noisy
labels) and moderated variances (every method its own, drawn towards the common one); simulated with 14 equal methods it
separates one wrongly in 5 % of tables, in about 11 % where they differ in spread and have three seeds. What is not separable is
<i>equal</i> where a difference of one point would have been found in 80 %, else <i>too noisy to tell</i>.
<b>Tiers</b> and the span beside a <b>rank</b> use the same intervals over all shown settings: tier 1 holds the best method and
those not separable from it. <b>Differences</b> to the reference hold for all methods together (Dunnett). A run that
<b>diverged</b> counts as chance level; a method with collapsed or diverged runs is ranked by its mean and compared by no
test. A method that <b>lacks a run</b> which another has, because it failed or was not run, is not ranked. Everything is
recomputed for what is filtered. The formulas and sources are in docs/statistics.md.</p></details>
"""


def page(view: View) -> None:
    """The leaderboard."""
    shell.titled("Leaderboard")
    try:
        html = _html(view.snapshot, view.suite, view.metric, view.filters)
    except HarnessError as error:
        shell.problem(error)
        return
    shell.show(html, "board")


@st.cache_data(max_entries=64, show_spinner=False)
def _html(snapshot: str, suite: str, metric: str, filters: Filters) -> str:
    ranked = shell.ranking(snapshot, suite, metric, filters)
    if not ranked.settings:
        return _nothing_done(snapshot, suite, ranked)
    return "".join(
        (
            tables.leaderboard_head(ranked),
            tables.leaderboard_table(ranked, shell.cell_trials(snapshot, suite), plugin_columns(snapshot, ranked)),
            tables.LEGEND,
            tables.leaderboard_questions(ranked),
            HOW,
            shell.snapshot_note(snapshot),
        )
    )


def _nothing_done(snapshot: str, suite: str, ranked: Leaderboard) -> str:
    """A board without a single result: failures with their errors, or a hint at the filters."""
    if ranked.board.filters:
        return '<p class="lead">Nothing passes these filters.</p>'
    failed = queries.failures(Path(snapshot), suite)
    if not failed:
        return f'<p class="lead">No trial of {tables.text(suite)} is done yet.</p><p>Progress shows how far it is.</p>'
    heads = [tables.head("Method", first="ascending", left=True, leading=True), tables.head("Setting", left=True)]
    heads += [tables.head("Seed"), tables.head("Error", left=True)]
    body = [
        f'<tr><th scope="row">{tables.link(tables.trial_link(row["trial"]), tables.text(row["method"]))}</th>'
        f'<td class="text">{tables.text(row["setting"])}</td>{tables.number(row["seed"], str(row["seed"]))}'
        f'<td class="wrap bad">✕ {tables.text(row["error_type"])}: {tables.text(row["error"])}</td></tr>'
        for row in failed[: tables.MOST_ROWS]
    ]
    return (
        f'<p class="lead">Every trial of {tables.text(suite)} that ran has failed ({len(failed)}).</p>'
        + tables.table(heads, body, "Failed trials")
    )


def plugin_columns(snapshot: str, ranked: Leaderboard) -> list[tuple[str, str, Mapping[str, tuple[float, str]]]]:
    """Columns that plugins add: the mean of their metric over the shown settings."""
    found: list[tuple[str, str, Mapping[str, tuple[float, str]]]] = []
    for column in _declared():
        metric = str(column["metric"]) + (f"@{column['at']}" if column.get("at", "last") != "last" else "")
        try:
            with queries.cursor(Path(snapshot)) as connection:
                part = narrow(read_board(connection, ranked.board.suite, metric), None, ranked.settings)
        except HarnessError:
            continue
        shape = str(column.get("format") or "")
        values = {
            row.method: (row.mean, _shown(row.mean, shape, part.metric.show(row.mean)))
            for row in part.rows
            if row.mean is not None
        }
        found.append((str(column.get("title") or column["name"]), str(column.get("help") or ""), values))
    return found


def _shown(value: float, shape: str, otherwise: str) -> str:
    try:
        return format(value, shape) if shape else otherwise
    except ValueError:
        return otherwise


@st.cache_resource(show_spinner=False)
def _declared() -> list[Mapping[str, Any]]:
    from harness.plugins import load_host

    found: list[Mapping[str, Any]] = []
    for columns in load_host().call("harness_leaderboard_columns"):
        found += [column for column in columns or () if "metric" in column and ("name" in column or "title" in column)]
    return found
