"""Labels that seem to be wrong: the samples, what a person says of them, and the file of corrections that comes of it."""

from __future__ import annotations

import base64
import dataclasses
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st
from markupsafe import Markup

from harness.errors import HarnessError
from harness.foreign import file_name
from harness.results.suspects import (
    MARKS,
    Correction,
    KeptList,
    corrections_csv,
    kept_suites,
    list_file,
    read_list,
)
from harness.words import counted
from harness_leaderboard import progress, shell
from harness_leaderboard.render import joined, part
from harness_leaderboard.shell import Asked
from harness_leaderboard.thumbnails import NoThumbnail, image_file, thumbnail

PER_PAGE = 48
BESIDE = 3
CORRECTIONS = "corrections.csv"


def page(asked: Asked | None) -> None:
    """The suspects of the chosen suite; works before anything has been collected."""
    shell.titled("Suspects")
    results = shell.results_folder()
    suite = _chosen(results, asked)
    if suite is None:
        return
    path = list_file(results, suite)
    try:
        changed = path.stat().st_mtime_ns
        kept = _read(str(path), changed)
    except OSError as error:
        shell.problem(HarnessError(f"cannot be read ({error.strerror})", str(path), "run `harness suspects` again"))
    except HarnessError as error:
        shell.problem(error)
    else:
        _list(kept, changed)


@st.cache_resource(max_entries=4, show_spinner=False)
def _read(path: str, changed: int) -> KeptList:
    """A list, until its file changes."""
    return read_list(Path(path))


def _chosen(results: Path, asked: Asked | None) -> str | None:
    """The suite whose list is shown; where the sidebar's has none, what finds it, and a choice among the others."""
    if asked is not None and list_file(results, asked.suite).is_file():
        return asked.suite
    others = kept_suites(results)
    if asked is None:
        if not others:
            shell.explain_empty()
            shell.show(_own(), "own")
            return None
        return st.selectbox("Suite", others, key="list", bind="query-params") or others[0]
    manifest = progress.newest_manifest(results, asked.suite) or {}
    settings = len(manifest.get("settings", ()))
    if settings <= 1:  # 0: the plan is not in this folder
        file = next(iter(manifest.get("arguments", ())), "SUITE.toml")
        shell.show(part("suspects.html", "nothing", suite=asked.suite, command=_command(file)), "nothing")
    else:
        several = part("suspects.html", "several", suite=asked.suite, settings=settings)
        shell.show(joined((several, _own())), "nothing")
    if not others:
        return None
    return st.selectbox("Suspects of another suite", others, index=None, key="list", bind="query-params")


def _command(file: str) -> str:
    return shlex.join(["harness", "suspects", file, "--results", str(shell.own_folder())])


def _own() -> Markup:
    """How to begin with data of one's own."""
    return part("suspects.html", "own", commands=f"harness init --images DIR\n{_command('DIR.toml')}")


# --- the list ---------------------------------------------------------------------------------------------------------


def _list(kept: KeptList, stamp: int) -> None:
    """The samples that pass the filters, a page of them, and what has been said of all."""
    table, about = kept.table, kept.about
    doubted = pc.not_equal(table["given"], table["suggested"])
    positions = _filtered(table, doubted)
    head = part(
        "suspects.html",
        "head",
        suite=about.suite,
        total=len(table),
        doubted=pc.sum(doubted).as_py() or 0,
        passing=len(positions),
    )
    shell.show(head, "suspects")
    pages = max(1, math.ceil(len(positions) / PER_PAGE))
    words = f"Page, of {pages}"
    at = int(st.number_input(words, 1, pages, key="page", bind="query-params", width=160)) if pages > 1 else 1
    shown = positions[(at - 1) * PER_PAGE : at * PER_PAGE]
    rows = table.take(pa.array(shown, pa.int64())).to_pylist()
    for first in range(0, len(rows), BESIDE):
        for column, position, row in zip(st.columns(BESIDE), shown[first:], rows[first:], strict=False):
            with column, st.container(border=True):
                _card(kept, row, position, stamp)
    _export(kept)


def _filtered(table: Any, doubted: Any) -> list[int]:
    """Which rows pass the filters, which are in the URL."""
    calibrated = table["p_wrong"].null_count < len(table)
    left, middle, right, last = st.columns(4, vertical_alignment="bottom")
    with left:
        given = _among("Given class", "given", table["given"])
    with middle:
        suggested = _among("Suggested class", "suggested", table["suggested"])
    with right:
        words = "Least probability of being wrong" if calibrated else "Least score"
        least = st.number_input(words, 0.0, 1.0, 0.0, 0.05, key="least", bind="query-params")
    with last:
        differs = st.toggle("Another class suggested", True, key="differs", bind="query-params")
    passing = pc.greater_equal(table["p_wrong" if calibrated else "score"], least)
    for column, chosen in (("given", given), ("suggested", suggested)):
        if chosen:
            passing = pc.and_(passing, pc.is_in(table[column], pa.array(chosen)))
    if differs:
        passing = pc.and_(passing, doubted)
    return list(pc.indices_nonzero(passing).to_pylist())


def _among(label: str, key: str, column: Any) -> list[str]:
    return st.multiselect(label, sorted(pc.unique(column).to_pylist()), key=key, bind="query-params", placeholder="all")


def _card(kept: KeptList, row: dict[str, Any], position: int, stamp: int) -> None:
    """A sample and its mark."""
    picture, why = _picture(kept.about.folder, row)
    named = row["id"] if kept.about.folder else f"row {row['id']}"
    shell.show(part("suspects.html", "card", one=row, named=named, picture=picture, why=why), f"card-{position}")
    mark = _marks(kept).get(row["id"])
    mark = mark if mark is not None and mark.given == row["given"] else None
    options = [word for word in MARKS if word != "confirm" or row["suggested"] != row["given"]]
    key = f"mark-{stamp}-{position}"
    st.segmented_control(
        f"Mark of sample {position + 1}",
        options,
        default=mark.mark if mark is not None and mark.mark in options else None,
        key=key,
        label_visibility="collapsed",
        on_change=_mark,
        args=(kept, row, key),
    )
    if mark is None or mark.mark != "relabel":
        return
    classes = [name for name in kept.about.classes if name != row["given"]]
    key = f"label-{stamp}-{position}"
    st.selectbox(
        f"Class of sample {position + 1}",
        classes,
        index=classes.index(mark.label) if mark.label in classes else None,
        key=key,
        placeholder="right class",
        label_visibility="collapsed",
        on_change=_relabel,
        args=(kept, row["id"], key),
    )


def _picture(folder: str, row: dict[str, Any]) -> tuple[str, str]:
    """A sample's image in base64, or why there is none; neither where it is no image."""
    if row["picture"] is not None:
        return base64.b64encode(row["picture"]).decode(), ""
    if not folder:
        return "", ""
    try:
        path = image_file(folder, row["id"])
        facts = path.stat()
        return _thumbnail(str(path), facts.st_mtime_ns, facts.st_size), ""
    except NoThumbnail as error:
        return "", str(error)
    except OSError:
        return "", "The file cannot be read."


@st.cache_data(max_entries=1024, show_spinner=False)
def _thumbnail(path: str, changed: int, size: int) -> str:
    """A thumbnail in base64, until its file changes."""
    return base64.b64encode(thumbnail(Path(path))).decode()


# --- what a person says -----------------------------------------------------------------------------------------------


def _marks(kept: KeptList) -> dict[str, Correction]:
    """The marks of this session, by sample."""
    found: dict[str, Correction] = st.session_state.setdefault("marks", {}).setdefault(kept.about.suite, {})
    return found


def _mark(kept: KeptList, row: dict[str, Any], key: str) -> None:
    said = st.session_state[key]
    if said is None:
        _marks(kept).pop(row["id"], None)
        return
    label = {"confirm": row["suggested"], "keep": row["given"]}.get(said, "")
    _marks(kept)[row["id"]] = Correction(row["id"], row["given"], label, said)


def _relabel(kept: KeptList, sample: str, key: str) -> None:
    marks = _marks(kept)
    marks[sample] = dataclasses.replace(marks[sample], label=st.session_state[key] or "")


def corrections(kept: KeptList, marks: Sequence[Correction]) -> list[Correction]:
    """The marks that are of the list as it is, in its order: labels may have been corrected since a mark was made."""
    by_id = {one.id: one for one in marks}
    here = kept.table.filter(pc.is_in(kept.table["id"], pa.array(list(by_id), pa.string())))
    pairs = zip(here["id"].to_pylist(), here["given"].to_pylist(), strict=True)
    return [by_id[sample] for sample, given in pairs if by_id[sample].given == given]


def _export(kept: KeptList) -> None:
    """The marks as a file, and the command that takes it."""
    marked = corrections(kept, list(_marks(kept).values()))
    whole = [one for one in marked if one.label]
    said = f"{counted(len(whole), 'sample')} marked."
    if lacking := len(marked) - len(whole):
        left = "lacks the right class and is left out" if lacking == 1 else "lack the right class and are left out"
        said += f" {lacking} to relabel {left}."
    about = kept.about
    command = ["harness", "suspects", about.file, "--apply", CORRECTIONS, "--to", f"{file_name(about.suite)}-corrected"]
    html = part("suspects.html", "apply", said=said, command=shlex.join(command), corrected=about.corrected)
    shell.show(html, "apply")
    st.download_button(
        f"Download {CORRECTIONS}",
        corrections_csv(whole),
        CORRECTIONS,
        "text/csv",
        on_click="ignore",
        disabled=not whole,
    )
