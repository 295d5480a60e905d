"""What all pages share: the results folder, the newest snapshot, the filters in the sidebar, and how HTML is shown.

Every filter is bound to the URL, so what is shown can be shared; everything read is cached by the snapshot's path, which never
changes its content.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import urllib.parse
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import streamlit as st
from markupsafe import Markup

from harness.errors import HarnessError
from harness.results.quantities import Quantity, find_quantity, metric_word, offered, parse_metric, quantities_in
from harness.results.records.archive import reference_files, reference_results
from harness.results.report import Board, main_metric, read_board
from harness.results.store import collect, current_snapshot
from harness.results.suspects import kept_suites
from harness_leaderboard import queries, tables
from harness_leaderboard.progress import suites_on_disk
from harness_leaderboard.render import SCRIPTS, part
from harness_leaderboard.shell_variables import RESULTS_VARIABLE
from harness_leaderboard.views import Filters, Leaderboard, filtered, rank_methods

LOOK_EVERY_S = 3.0
OWN, REFERENCE = "this folder", "reference"


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the reader has asked for. ``snapshot`` names the state of the store that everything shown belongs to."""

    results: Path
    snapshot: str
    suite: str
    metric: str
    filters: Filters


def own_folder() -> Path:
    """The results folder that the app was started for."""
    return Path(os.environ.get(RESULTS_VARIABLE) or "results").absolute()


def results_folder() -> Path:
    """The results folder that is shown: the app's own, or the reference results."""
    return reference_folder() if st.session_state.get("source") == REFERENCE else own_folder()


@st.cache_resource(show_spinner="Reading the reference results")
def reference_folder() -> Path:
    """The reference results as a results folder, unpacked and collected when first asked for."""
    folder = reference_results()
    collect(folder)
    return folder


def newest_snapshot() -> str | None:
    """The real path of the newest snapshot."""
    path = current_snapshot(results_folder())
    return str(path) if path is not None else None


# --- reading, cached by snapshot --------------------------------------------------------------------------------------


@st.cache_data(max_entries=4, show_spinner=False)
def suites(snapshot: str) -> list[queries.SuiteFacts]:
    """See :func:`queries.suites`."""
    return queries.suites(Path(snapshot))


@st.cache_data(max_entries=32, show_spinner=False)
def settings(snapshot: str, suite: str) -> list[queries.SettingFacts]:
    """See :func:`queries.settings`."""
    return queries.settings(Path(snapshot), suite)


@st.cache_data(max_entries=32, show_spinner=False)
def metric_choices(snapshot: str, suite: str) -> dict[str, str]:
    """The metrics of a suite, in the words of ``--metric``, with their titles; the main one's first."""
    with queries.cursor(Path(snapshot)) as connection:
        main = main_metric(connection, suite)
    known = quantities(snapshot)
    pairs = offered(queries.metrics(Path(snapshot), suite), main, known)
    return {metric_word(name, at, main): find_quantity(name, known).words(at) for name, at in pairs}


@st.cache_data(max_entries=8, show_spinner=False)
def quantities(snapshot: str) -> dict[str, Quantity]:
    """Every quantity of a snapshot by name: the harness's, and those that plugins have added."""
    with queries.cursor(Path(snapshot)) as connection:
        return quantities_in(connection)


@st.cache_resource(max_entries=8, show_spinner=False)
def board(snapshot: str, suite: str, metric: str) -> Board:
    """The whole board of a suite; shared between sessions, since nothing changes it."""
    with queries.cursor(Path(snapshot)) as connection:
        return read_board(connection, suite, metric)


@st.cache_resource(max_entries=8, show_spinner=False)
def costs(snapshot: str, suite: str) -> list[queries.CellCost]:
    """See :func:`queries.costs`."""
    return queries.costs(Path(snapshot), suite)


@st.cache_resource(max_entries=8, show_spinner=False)
def cell_trials(snapshot: str, suite: str) -> dict[tuple[str, str], str]:
    """See :func:`queries.cell_trials`."""
    return queries.cell_trials(Path(snapshot), suite)


@st.cache_data(max_entries=32, show_spinner=False)
def references(snapshot: str, suite: str) -> list[str]:
    """Methods that may serve as the reference, cross entropy first."""
    return queries.plain_methods(Path(snapshot), suite)


@st.cache_resource(max_entries=32, show_spinner=False)
def ranking(snapshot: str, suite: str, metric: str, filters: Filters) -> Leaderboard:
    """The filtered board with all its conclusions."""
    part = filtered(board(snapshot, suite, metric), settings(snapshot, suite), filters)
    return rank_methods(part, references(snapshot, suite), costs(snapshot, suite))


def narrowed(asked: Asked) -> Board:
    """The filtered board."""
    return filtered(
        board(asked.snapshot, asked.suite, asked.metric), settings(asked.snapshot, asked.suite), asked.filters
    )


# --- the sidebar ------------------------------------------------------------------------------------------------------


def choose_source() -> None:
    """Whose results are shown; where the app's own folder holds none, the reference results come first."""
    if not reference_files():
        st.session_state["source"] = OWN
        return
    own = own_folder()
    nothing = current_snapshot(own) is None and not suites_on_disk(own) and not kept_suites(own)
    with st.sidebar:
        chosen = st.selectbox(
            "Source",
            [OWN, REFERENCE],
            index=int(nothing),
            key="source",
            bind="query-params",
            help="The folder that the leaderboard was started for, or the results that come with the harness.",
        )
    if chosen == REFERENCE:
        try:
            reference_folder()
        except HarnessError as error:
            problem(error)
            st.stop()
    if chosen == REFERENCE and nothing:
        command = f"harness run suite:default --results {own_folder()}"
        show(part("shell.html", "standing_in", folder=own_folder(), command=command), "source")


def sidebar(snapshot: str) -> Asked:
    """The filters; all of them are in the URL."""
    known = suites(snapshot)
    if st.session_state.get("source") == REFERENCE:  # the default suite first, for those who come to look
        known = sorted(known, key=lambda facts: (facts.name != "default", facts.name))
    with st.sidebar:
        suite = (
            st.selectbox("Suite", [facts.name for facts in known], key="suite", bind="query-params") or known[0].name
        )
        metric = _metric(metric_choices(snapshot, suite))
        facts = settings(snapshot, suite)
        chosen = Filters(
            datasets=_among("Data set", "dataset", (f.dataset for f in facts)),
            noises=_among("Noise", "noise", (f.noise for f in facts)),
            rates=tuple(float(rate) for rate in _among("Rate", "rate", (_rate(f.rate) for f in facts))),
            models=_among("Model", "model", (f.model for f in facts)),
            methods=_among("Methods", "method", _methods(snapshot, suite)),
            common=st.toggle(
                "Only settings shared by all methods",
                key="common",
                bind="query-params",
                help="Compare on the settings in which every shown method has a result.",
            ),
        )
    return Asked(results_folder(), snapshot, suite, metric, chosen)


def _metric(choices: dict[str, str]) -> str:
    """The metric: the reader chooses among titles, the URL holds the word of ``--metric`` (Streamlit's own binding would
    put the title there)."""
    asked, usual = st.query_params.get("metric"), next(iter(choices))
    if "metric" not in st.session_state and asked in choices:
        st.session_state["metric"] = asked
    chosen = (
        st.selectbox("Metric", list(choices), key="metric", format_func=lambda word: choices.get(word, word)) or usual
    )
    if chosen != usual:
        st.query_params["metric"] = chosen
    elif asked is not None:
        del st.query_params["metric"]
    return chosen


@st.cache_data(max_entries=32, show_spinner=False)
def _methods(snapshot: str, suite: str) -> list[str]:
    sql = """
        SELECT method FROM compared WHERE suite = ?
        GROUP BY method ORDER BY min(method_position)
    """
    return [row["method"] for row in queries.rows(Path(snapshot), sql, [suite])]


def _rate(rate: float | None) -> str | None:
    return None if rate is None else f"{rate:g}"


def _among(label: str, key: str, values: Iterable[str | None]) -> tuple[str, ...]:
    """A choice of several; one that leaves nothing to choose is not shown."""
    options = list(dict.fromkeys(value for value in values if value is not None))
    if len(options) < 2:
        return ()
    if key in ("dataset", "noise", "model", "rate"):
        options.sort()
    return tuple(st.multiselect(label, options, key=key, bind="query-params", placeholder="all"))


# --- showing ----------------------------------------------------------------------------------------------------------


@st.cache_resource(show_spinner=False)
def _assets() -> tuple[str, str]:
    folder = files("harness_leaderboard") / "assets"
    style = (folder / "harness.css").read_text(encoding="utf-8")
    script = "".join((folder / name).read_text(encoding="utf-8") for name in (*SCRIPTS, "page.js"))
    theme = (
        ".nh { --text: var(--st-text-color); --page: var(--st-background-color); --raised: var(--st-secondary-background-color);"
        " --line: color-mix(in srgb, var(--st-text-color) 18%, transparent);"
        " --soft: color-mix(in srgb, var(--st-text-color) 68%, var(--st-background-color)); }"
    )
    return style + theme, script


def register() -> Any:
    """The component that shows our HTML; registered on every run, since a component belongs to the run's app."""
    style, script = _assets()
    return st.components.v2.component("harness", html='<div class="nh"></div>', css=style, js=script)


def show(html: Markup, key: str) -> None:
    """Show HTML made by templates and charts; a click on one of its links opens the page it names."""
    mark = hashlib.md5(html.encode(), usedforsecurity=False).hexdigest()
    result = st.session_state["_component"](
        data={"html": str(html), "mark": mark}, key=f"html-{key}", on_go_change=_nothing
    )
    if result.go:
        follow(result.go)


def _nothing() -> None:
    """A trigger needs a callback to exist; what it does comes after the run."""


def follow(href: str) -> None:
    """Open a page of the app by its address, within the session; anything else is ignored."""
    parts = urllib.parse.urlsplit(href)
    page = st.session_state["_pages"].get(parts.path)
    if page is not None and not parts.netloc:
        st.switch_page(page, query_params=dict(urllib.parse.parse_qsl(parts.query)))


def problem(error: HarnessError) -> None:
    """Bad input as one line."""
    show(part("shell.html", "problem", error=error), "problem")


def explain_empty() -> None:
    """What to do when there is nothing to show."""
    folder = results_folder()
    command = f"harness run suite:default --results {folder}"
    show(part("shell.html", "empty", folder=folder, planned=suites_on_disk(folder), command=command), "empty")


@st.fragment(run_every=LOOK_EVERY_S)
def watch(shown: str | None) -> None:
    """Draw the page anew when a newer snapshot has been collected."""
    if newest_snapshot() != shown:
        st.rerun()


def snapshot_note(snapshot: str) -> Markup:
    """Which state of the store is shown."""
    return tables.note(f"Snapshot {Path(snapshot).stem}.")


def titled(title: str) -> None:
    """The page's heading."""
    st.markdown(f"# {title}")


def parse(metric: str, snapshot: str, suite: str) -> tuple[str, str]:
    """A metric's name and when, with the suite's main metric filled in."""
    name, at = parse_metric(metric)
    if name:
        return name, at
    with queries.cursor(Path(snapshot)) as connection:
        return main_metric(connection, suite), at
