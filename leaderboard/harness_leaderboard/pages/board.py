"""Who leads, whether the lead is real, at what cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st
from markupsafe import Markup

from harness.errors import HarnessError
from harness.results.report import narrow, read_board
from harness_leaderboard import queries, shell, tables
from harness_leaderboard.render import joined, part
from harness_leaderboard.shell import Asked
from harness_leaderboard.views import Filters, Leaderboard


def page(asked: Asked) -> None:
    """The leaderboard."""
    shell.titled("Leaderboard")
    try:
        html = _html(asked.snapshot, asked.suite, asked.metric, asked.filters)
    except HarnessError as error:
        shell.problem(error)
        return
    shell.show(html, "board")


@st.cache_data(max_entries=64, show_spinner=False)
def _html(snapshot: str, suite: str, metric: str, filters: Filters) -> Markup:
    ranked = shell.ranking(snapshot, suite, metric, filters)
    if not ranked.settings:
        return _nothing_done(snapshot, suite, ranked)
    return joined(
        (
            tables.leaderboard_head(ranked),
            tables.leaderboard_table(ranked, shell.cell_trials(snapshot, suite), plugin_columns(snapshot, ranked)),
            tables.leaderboard_legend(ranked),
            tables.leaderboard_questions(ranked),
            part("board.html", "how"),
            shell.snapshot_note(snapshot),
        )
    )


def _nothing_done(snapshot: str, suite: str, ranked: Leaderboard) -> Markup:
    """A board without a single result: failures with their errors, or a hint at the filters."""
    if ranked.board.filters:
        return tables.lead("Nothing passes these filters.")
    failed = queries.failures(Path(snapshot), suite)
    if not failed:
        return part("board.html", "nothing_done", suite=suite)
    rows = [{**row, "href": tables.trial_link(row["trial"])} for row in failed[: tables.MOST_ROWS]]
    return part("board.html", "failures", suite=suite, rows=rows, count=len(failed))


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
