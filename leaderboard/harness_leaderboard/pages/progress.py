"""What is done, running, failed (with the error) and missing, live while a run goes on."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import streamlit as st

from harness.plugins import load_host
from harness_leaderboard import progress, queries, shell, tables
from harness_leaderboard.render import part

EVERY_S = 2.0


@st.cache_resource(max_entries=4, show_spinner=False)
def _known(snapshot: str, suite: str) -> dict[str, tuple[str, str, float | None]]:
    """Trials that the snapshot holds as finished: status, error, seconds. A result whose components have another source
    now is stale."""
    sql = """
        SELECT DISTINCT s.trial, t.status, coalesce(t.error_type || ': ' || t.error, '') AS error, a.seconds,
               CAST(json_extract(t.options, '$.digests') AS VARCHAR) AS digests
        FROM suite_trials s JOIN trials t USING (trial)
        LEFT JOIN (SELECT trial, max(seconds) AS seconds FROM attempts WHERE final GROUP BY trial) a USING (trial)
        WHERE s.suite = ? AND t.status IN ('done', 'diverged', 'failed')
    """
    found = queries.rows(Path(snapshot), sql, [suite])
    changed = functools.cache(lambda digests: load_host().registry.has_changed(json.loads(digests)))
    return {
        row["trial"]: (
            "stale" if row["status"] != "failed" and row["digests"] and changed(row["digests"]) else row["status"],
            row["error"],
            row["seconds"],
        )
        for row in found
    }


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
    found = progress.read_progress(shell.results_folder(), manifest, known)
    bar, shown = tables.progress_bar(found), tables.progress_tables(found)
    shell.show(part("progress.html", "page", suite=suite, bar=bar, unread=found.unread, tables=shown), "progress")
