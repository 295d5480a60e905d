"""Two to six methods: paired differences per setting, probability of improvement, performance profile."""

from __future__ import annotations

import streamlit as st

from harness.errors import HarnessError
from harness.results.board import shorten
from harness_leaderboard import shell, tables
from harness_leaderboard.shell import View
from harness_leaderboard.views import compare

MOST = 6


def page(view: View) -> None:
    """Compare methods."""
    shell.titled("Compare")
    try:
        part = shell.narrowed(view)
    except HarnessError as error:
        shell.problem(error)
        return
    names = [row.method for row in part.rows]
    plain_ones = [name for name in shell.references(view.snapshot, view.suite) if name in names]
    default = list(dict.fromkeys([*plain_ones[:1], *names]))[:3]
    chosen = st.multiselect(
        "Methods, the reference first (two to six)", names, default, key="with", bind="query-params",
        max_selections=MOST,
    )  # fmt: skip
    if len(chosen) < 2:
        shell.show('<p class="lead">Choose at least two methods.</p>', "compare")
        return
    found = compare(part, chosen)
    if found is None:
        shell.show('<p class="lead">These methods share no setting in which none lacks a run.</p>', "compare")
        return
    metric = part.metric
    direction = "" if part.higher_is_better else " Lower is better, so a negative difference is an improvement."
    count = len(found.settings)
    where = "the one setting" if count == 1 else f"the {count} settings"
    shell.show(
        f'<p class="note">{tables.text(part.title[:1].upper() + part.title[1:])}, on {where} that all '
        f"of them have; differences are paired by seed.{direction}</p>"
        + tables.comparison_tables(found, metric, shorten(found.settings))
        + '<h2>Performance profile</h2><p class="note">Share of runs (every setting counts the same) that are better than '
        f"a score, with 95 % bands. A curve further {'right' if part.higher_is_better else 'left'} is better.</p>"
        + tables.profile_chart(found, metric)
        + shell.snapshot_note(view.snapshot),
        "compare",
    )
