"""Two to six methods: paired differences per setting, probability of improvement, performance profile."""

from __future__ import annotations

import streamlit as st

from harness.errors import HarnessError
from harness.results.report import shorten
from harness_leaderboard import shell, tables
from harness_leaderboard.render import joined, part
from harness_leaderboard.shell import Asked
from harness_leaderboard.views import compare

MOST = 6


def page(asked: Asked) -> None:
    """Compare methods."""
    shell.titled("Compare")
    try:
        board = shell.narrowed(asked)
    except HarnessError as error:
        shell.problem(error)
        return
    names = [row.method for row in board.rows]
    plain_ones = [name for name in shell.references(asked.snapshot, asked.suite) if name in names]
    default = list(dict.fromkeys([*plain_ones[:1], *names]))[:3]
    chosen = st.multiselect(
        "Methods, the reference first (two to six)", names, default, key="with", bind="query-params",
        max_selections=MOST,
    )  # fmt: skip
    if len(chosen) < 2:
        shell.show(tables.lead("Choose at least two methods."), "compare")
        return
    found = compare(board, chosen)
    if found is None:
        shell.show(tables.lead("These methods share no setting in which none lacks a run."), "compare")
        return
    metric = board.metric
    labels = {row.method: row.label for row in board.rows}
    count = len(found.settings)
    where = "the one setting" if count == 1 else f"the {count} settings"
    title = board.title[:1].upper() + board.title[1:]
    chart = tables.profile_chart(found, metric)
    shell.show(
        joined(
            (
                part("compare.html", "intro", title=title, where=where, lower_is_better=not board.higher_is_better),
                tables.comparison_tables(found, metric, shorten(found.settings), labels),
                part("compare.html", "profile", chart=chart, higher_is_better=board.higher_is_better),
                shell.snapshot_note(asked.snapshot),
            )
        ),
        "compare",
    )
