"""One trial: its seeds, curves, labels, diagnostics, configuration, origin, log, and the command that runs it again."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import streamlit as st
from markupsafe import Markup

from harness.papers import departure
from harness.results.quantities import find_quantity
from harness.results.report import BoardCell, cell_text
from harness.results.statistics import cell
from harness_leaderboard import progress, queries, shell, tables
from harness_leaderboard.render import joined, part
from harness_leaderboard.shell import Asked


def page(asked: Asked) -> None:
    """The trial that the URL names, or the first of the suite."""
    shell.titled("Trial")
    wanted = st.query_params.get("trial", "")
    if not wanted:
        wanted = next(iter(shell.cell_trials(asked.snapshot, asked.suite).values()), "")
    found = queries.trial(Path(asked.snapshot), wanted)
    if found is None:
        shell.show(tables.lead(f"There is no trial {wanted[:80]} in this snapshot."), "trial")
        return
    shell.show(_top(asked, found), "trial")
    with st.expander("Configuration"):
        shell.show(tables.configuration(found.trial["identity"], found.trial["options"]), "configuration")
    with st.expander("Difference to the paper's configuration"):
        shell.show(_paper(found), "paper")
    with st.expander("Log"):
        text = queries.log(asked.results, wanted, str(found.trial["attempt"] or ""))
        shell.show(tables.code(text) if text else tables.note("The log is empty or no longer there."), "log")


def _top(asked: Asked, found: queries.TrialFacts) -> Markup:
    row, known = found.trial, shell.quantities(asked.snapshot)
    place = next((p for p in found.places if p["suite"] == asked.suite), found.places[0] if found.places else None)
    return part(
        "trial.html",
        "page",
        place=place,
        seeds=_seeds(asked, place, str(row["trial"])) if place is not None else "",
        row=row,
        curves=tables.curves(found.epochs, found.diagnostics, known),
        transitions=tables.transition_chart(row["transitions"]),
        diagnostics=tables.diagnostics(found.diagnostics, known, row["histograms"]),
        metrics=tables.metric_rows(found, known),
        facts=tables.trial_facts(found),
        command=command(asked, place, str(row["trial"])),
    )


def _seeds(asked: Asked, place: dict[str, Any], trial_id: str) -> Markup:
    name, at = shell.parse(asked.metric, asked.snapshot, place["suite"])
    rows = queries.siblings(Path(asked.snapshot), place["suite"], place["method"], place["setting"], name, at)
    values = {int(r["seed"]): float(r["value"]) for r in rows if r["value"] is not None}
    summary = cell(list(values.values()))
    interval = summary.interval if summary is not None else None
    metric = find_quantity(name, shell.quantities(asked.snapshot))
    parts = [tables.seed_chips(rows, trial_id, tables.trial_link)]
    if summary is not None:
        span = f", 95 % interval {tables.interval_text(metric, interval)}" if interval is not None else ""
        said = cell_text(BoardCell(values, len(rows), mean=summary.mean, std=summary.std), metric)
        parts.append(tables.seeds_chart(rows, trial_id, metric, at, interval, tables.trial_link))
        parts.append(tables.note(f"{metric.words(at)}: {said}{span}"))
    return joined(parts)


def command(asked: Asked, place: dict[str, Any] | None, trial_id: str) -> str:
    """What runs just this trial again, into another folder, so that the two can be compared."""
    manifest = progress.newest_manifest(asked.results, place["suite"]) if place is not None else None
    words = manifest.get("arguments", ()) if manifest is not None else ()  # a plan of an earlier harness has none
    again = ["--select", f"id={trial_id}", "--results", f"{shell.own_folder()}-again"]
    return shlex.join(["harness", "run", *map(str, words or ["SUITE.toml"]), *again])


def _paper(found: queries.TrialFacts) -> Markup:
    identity = found.trial["identity"]
    methods = tuple(dict.fromkeys(place["method"] for place in found.places))
    theirs = [
        (name, tables.difference_list(departure.differences(identity, other)))
        for name, other in departure.configurations(identity, methods).items()
    ]
    return part("trial.html", "papers", theirs=theirs)
