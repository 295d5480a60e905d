"""Boards as files: CSV, JSON, Markdown, LaTeX, Parquet. Every cell with its mean, spread, n and values."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.errors import ResultsError, unknown
from harness.results.board import Board, BoardCell, shorten


def rows(board: Board) -> list[dict[str, Any]]:
    """One dictionary per method and setting."""
    return [
        {
            "suite": board.suite,
            "metric": board.metric.name,
            "at": board.at,
            "rank": row.rank,
            "method": row.method,
            "oracle": row.oracle,
            "setting": setting,
            "mean": cell.mean,
            "std": cell.std,
            "n": cell.n,
            "expected": cell.expected,
            "failed": cell.failed,
            "best": row.method in board.best.get(setting, set()),
            "seeds": sorted(cell.values),
            "values": [cell.values[seed] for seed in sorted(cell.values)],
        }
        for row in board.rows
        for setting, cell in row.cells.items()
    ]


def to_csv(board: Board) -> str:
    """Comma-separated values, one line per method and setting; seeds and values are space-separated."""
    lines = rows(board)
    out = io.StringIO()
    if lines:
        writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        for line in lines:
            writer.writerow({**line, "seeds": " ".join(map(str, line["seeds"])), "values": " ".join(map(repr, line["values"]))})
    return out.getvalue()


def to_json(board: Board) -> str:
    """A JSON list of the rows."""
    return json.dumps(rows(board), indent=1) + "\n"


def to_markdown(board: Board) -> str:
    """A Markdown table, the best of every setting in bold."""
    heads = shorten(board.settings)
    table = [["", "method", *(heads[setting] for setting in board.settings)]]
    for row in board.rows:
        cells = [_markdown_cell(board, row.method, setting, row.cells.get(setting)) for setting in board.settings]
        table.append([str(row.rank or ""), row.method + (" °" if row.oracle else ""), *cells])
    lines = ["| " + " | ".join(_escape_markdown(cell) for cell in line) + " |" for line in table]
    lines.insert(1, "|" + "---|" * len(table[0]))
    notes = f"{board.suite}: {board.metric.title} at {board.at}, mean ± std (n). Bold: best of its setting."
    oracle = " °: is given the noise rate or matrix." if any(row.oracle for row in board.rows) else ""
    return "\n".join([*lines, "", notes + oracle]) + "\n"


def _markdown_cell(board: Board, method: str, setting: str, cell: BoardCell | None) -> str:
    from harness.results.board import cell_text

    text = cell_text(cell, board.metric)
    return f"**{text}**" if method in board.best.get(setting, set()) else text


def _escape_markdown(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def write_parquet(board: Board, path: Path) -> None:
    """A Parquet file of the rows."""
    import pyarrow as pa
    import pyarrow.parquet

    pa.parquet.write_table(pa.Table.from_pylist(rows(board)), path)


TEXT_FORMATS: dict[str, Callable[[Board], str]] = {"csv": to_csv, "json": to_json, "markdown": to_markdown}


def export(board: Board, form: str, path: Path | None) -> str | None:
    """Write a board as ``form`` to ``path``, or return the text when there is no path.

    Raises:
        ResultsError: for an unknown format, or a binary one without a path.
    """
    if form == "parquet":
        if path is None:
            raise ResultsError("a Parquet file needs a path", "--output", "add --output FILE")
        write_parquet(board, path)
        return None
    if form not in TEXT_FORMATS:
        raise ResultsError(unknown("format", form, [*TEXT_FORMATS, "parquet"]), "--format")
    text = TEXT_FORMATS[form](board)
    if path is None:
        return text
    path.write_text(text)
    return None
