"""What is done, running, failed (with the error) and missing, live while a run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from harness.execution.queues import ask_queues
from harness.plugins import load_host
from harness_leaderboard import progress, queries, shell, tables
from harness_leaderboard.render import part

EVERY_S = 2.0
QUEUE_S = 20.0
"""Between two questions to a cluster's queue, which is asked by everybody."""


@st.cache_resource(max_entries=4, show_spinner=False)
def _known(snapshot: str, suite: str) -> dict[str, tuple[str, str, float | None]]:
    """Trials that the snapshot holds as finished: status, error, seconds."""
    sql = f"""
        SELECT DISTINCT s.trial, {queries.STANDING} AS status, coalesce(t.error_type || ': ' || t.error, '') AS error,
               a.seconds
        FROM suite_trials s JOIN trials t USING (trial)
        LEFT JOIN (SELECT trial, max(seconds) AS seconds FROM attempts WHERE final GROUP BY trial) a USING (trial)
        WHERE s.suite = ? AND t.status IN ('done', 'diverged', 'failed')
    """
    found = queries.rows(Path(snapshot), sql, [queries.stale_digests(Path(snapshot)), suite])
    return {row["trial"]: (row["status"], row["error"], row["seconds"]) for row in found}


@st.cache_data(ttl=QUEUE_S, max_entries=4, show_spinner=False)
def _queue(results: str) -> dict[str, dict[str, Any]]:
    """What executors with a queue have in hand."""
    return ask_queues(load_host(), {}, Path(results)).trials


def page(suite: str | None) -> None:
    """Progress of a suite; works before anything has been collected."""
    shell.titled("Progress")
    names = progress.suites_on_disk(shell.results_folder())
    chosen = suite if suite in names else (names[0] if names else None)
    if chosen is None:
        if suite is None:
            shell.explain_empty()
        else:
            shell.show(tables.lead("The suite's plan is not in this results folder."), "progress")
        return
    _live(chosen)


@st.fragment(run_every=EVERY_S)
def _live(suite: str) -> None:
    manifest = progress.newest_manifest(shell.results_folder(), suite)
    if manifest is None:
        return
    snapshot = shell.newest_snapshot()
    known = _known(snapshot, suite) if snapshot is not None else {}
    results = shell.results_folder()
    found = progress.read_progress(results, manifest, known, _queue(str(results)))
    bar, shown = tables.progress_bar(found), tables.progress_tables(found)
    shell.show(part("progress.html", "page", suite=suite, bar=bar, unread=found.unread, tables=shown), "progress")
