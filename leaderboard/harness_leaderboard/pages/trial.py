"""One trial: its seeds, curves, labels, diagnostics, configuration, origin, log, and the command that runs it again."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import streamlit as st

from harness.papers import departure
from harness.results.board import BoardCell, cell_text
from harness.results.quantities import find_quantity
from harness.results.statistics import cell
from harness_leaderboard import progress, queries, shell, tables
from harness_leaderboard.shell import View


def page(view: View) -> None:
    """The trial that the URL names, or the first of the suite."""
    shell.titled("Trial")
    wanted = st.query_params.get("trial", "")
    if not wanted:
        wanted = next(iter(shell.cell_trials(view.snapshot, view.suite).values()), "")
    found = queries.trial(Path(view.snapshot), wanted)
    if found is None:
        shell.show(f'<p class="lead">There is no trial {tables.text(wanted[:80])} in this snapshot.</p>', "trial")
        return
    shell.show(_top(view, found), "trial")
    with st.expander("Configuration"):
        shell.show(tables.configuration(found.trial["identity"], found.trial["options"]), "configuration")
    with st.expander("Difference to the paper's configuration"):
        shell.show(_paper(found), "paper")
    with st.expander("Log"):
        text = queries.log(view.results, wanted, str(found.trial["attempt"] or ""))
        shell.show(tables.code(text) if text else '<p class="note">The log is empty or no longer there.</p>', "log")


def _top(view: View, found: queries.TrialFacts) -> str:
    row, known = found.trial, shell.quantities(view.snapshot)
    place = next((p for p in found.places if p["suite"] == view.suite), found.places[0] if found.places else None)
    parts = []
    if place is not None:
        parts.append(
            f'<p class="lead"><b>{tables.text(place["method"])}</b> on {tables.text(place["setting"])}, seed {place["seed"]}</p>'
        )
        parts.append(_seeds(view, place, str(row["trial"])))
    if row["status"] == "failed":
        parts.append(
            f'<h2><span class="bad">✕ Failed</span></h2><p>{tables.text(row["error_type"])}: {tables.text(row["error"])}</p>'
        )
        parts.append(tables.code(row["traceback"] or ""))
    parts.append("<h2>Training</h2>" + tables.curves(found.epochs, found.diagnostics, known))
    parts.append(
        '<h2>Labels</h2><div class="charts"><div>' + tables.transition_chart(row["transitions"]) + "</div></div>"
    )
    histograms = tables.histogram_charts(row["histograms"])
    if found.diagnostics or histograms:
        parts.append("<h2>Diagnostics</h2>" + tables.diagnostics(found.diagnostics, known) + histograms)
    parts.append("<h2>Metrics</h2>" + tables.metric_rows(found, known))
    parts.append("<h2>Where it comes from</h2>" + tables.facts_list(tables.trial_facts(found)))
    parts.append("<h2>Run it again</h2>" + tables.code(command(view, place, str(row["trial"]))))
    return "".join(parts)


def _seeds(view: View, place: dict[str, Any], trial_id: str) -> str:
    name, at = shell.parse(view.metric, view.snapshot, place["suite"])
    rows = queries.siblings(Path(view.snapshot), place["suite"], place["method"], place["setting"], name, at)
    values = {int(r["seed"]): float(r["value"]) for r in rows if r["value"] is not None}
    summary = cell(list(values.values()))
    interval = summary.interval if summary is not None else None
    metric = find_quantity(name, shell.quantities(view.snapshot))
    chart = tables.seeds_chart(rows, trial_id, metric, at, interval, tables.trial_link) if values else ""
    words = ""
    if summary is not None:
        span = f", 95 % interval {tables.interval_text(metric, interval)}" if interval is not None else ""
        said = cell_text(BoardCell(values, len(rows), mean=summary.mean, std=summary.std), metric)
        words = f'<p class="note">{tables.text(metric.words(at))}: {tables.text(said)}{span}</p>'
    return tables.seed_chips(rows, trial_id, tables.trial_link) + chart + words


def command(view: View, place: dict[str, Any] | None, trial_id: str) -> str:
    """What runs just this trial again, into another folder, so that the two can be compared."""
    manifest = progress.newest_manifest(view.results, place["suite"]) if place is not None else None
    words = manifest.get("arguments", ()) if manifest is not None else ()  # a plan of an earlier harness has none
    again = ["--select", f"id={trial_id}", "--results", f"{shell.own_folder()}-again"]
    return shlex.join(["harness", "run", *map(str, words or ["SUITE.toml"]), *again])


def _paper(found: queries.TrialFacts) -> str:
    methods = tuple(dict.fromkeys(place["method"] for place in found.places))
    theirs = departure.configurations(found.trial["identity"], methods)
    if not theirs:
        return (
            '<p class="note">No packaged suite of a paper has this method on this data set, noise and rate '
            "(<code>harness suites</code> lists them).</p>"
        )
    return "".join(
        f"<h2>{tables.text(name)}</h2>"
        + tables.difference_list(departure.differences(found.trial["identity"], identity), "paper")
        for name, identity in theirs.items()
    )
