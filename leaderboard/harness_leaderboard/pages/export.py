"""The filtered board as LaTeX, Markdown, CSV, JSON and Parquet."""

from __future__ import annotations

import io

import streamlit as st

from harness.errors import HarnessError
from harness.results.report import with_ties
from harness.results.report.export import TEXT_FORMATS, rows
from harness_leaderboard import shell, tables
from harness_leaderboard.shell import Asked

FORMATS = {
    "LaTeX": ("latex", "tex"),
    "Markdown": ("markdown", "md"),
    "CSV": ("csv", "csv"),
    "JSON": ("json", "json"),
    "Parquet": ("parquet", "parquet"),
}
PREVIEW = 60_000


def page(asked: Asked) -> None:
    """Leave with a table for the paper."""
    shell.titled("Export")
    try:
        board = with_ties(shell.narrowed(asked))
    except HarnessError as error:
        shell.problem(error)
        return
    chosen = st.segmented_control(
        "Format", list(FORMATS), default="LaTeX", required=True, key="format", bind="query-params"
    )
    label = chosen or "LaTeX"
    form, suffix = FORMATS[label]
    name = "".join(c if c.isalnum() else "-" for c in f"{board.suite}-{asked.metric}") + f".{suffix}"
    if form == "parquet":
        content: str | bytes = _parquet(rows(board))
    else:
        content = TEXT_FORMATS[form](board)
    st.download_button(f"Download {label}", content, name, on_click="ignore")
    if isinstance(content, str):
        if len(content) > PREVIEW:
            shell.show(
                tables.note(f"The first {PREVIEW:,} of {len(content):,} characters; the download has all."), "cut"
            )
        st.code(content[:PREVIEW], language=None, wrap_lines=form != "csv")
    else:
        shell.show(
            tables.note("One row per method and setting, with mean, standard deviation, n, seeds and values."),
            "parquet",
        )


def _parquet(lines: list[dict[str, object]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet

    sink = io.BytesIO()
    pa.parquet.write_table(pa.Table.from_pylist(lines), sink)
    return sink.getvalue()
