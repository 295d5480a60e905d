"""Boards as files: CSV, JSON, Markdown, LaTeX, Parquet. Every cell with its mean, spread, n and values."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import ResultsError, unknown, writing
from harness.foreign import csv_cell
from harness.results.report import SIGNS, TIES, WORDS, Board, BoardCell, cell_text, mark_of, mark_words, shorten


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
            "estimated": row.estimated,
            "tries": row.tries,
            "withheld": row.withheld,
            "setting": setting,
            "mean": cell.mean,
            "std": cell.std,
            "n": cell.n,
            "expected": cell.expected,
            "failed": cell.failed,
            "missing": cell.missing,
            "diverged": cell.diverged,
            "collapsed": cell.collapsed,
            "best": row.method in board.best.get(setting, set()),
            "tied": row.method in board.ties[setting] if setting in board.ties else None,
            "test_trusted": board.trusted.get(setting),
            "detectable": board.gaps.get(setting, {}).get(row.method),
            "to_best": WORDS[mark] if (mark := mark_of(board, row.method, setting)) is not None else None,
            "seeds": sorted(cell.values),
            "values": [cell.values[seed] for seed in sorted(cell.values)],
        }
        for row in board.rows
        for setting, cell in row.cells.items()
    ]


class _Rows(io.StringIO):
    """Rows ending in a line feed. The writer is told of a carriage return too, since it quotes only what ends a row."""

    def write(self, row: str) -> int:
        return super().write(row.removesuffix("\r\n") + "\n")


def csv_text(lines: Sequence[Mapping[str, Any]]) -> str:
    """Comma-separated values with a head; empty without lines.

    A text that a spreadsheet would run as a formula gets an apostrophe (:func:`harness.foreign.csv_cell`); lists of
    numbers are space-separated.
    """
    out = _Rows()
    if lines:
        writer = csv.DictWriter(out, list(dict.fromkeys(key for line in lines for key in line)))
        writer.writeheader()
        for line in lines:
            writer.writerow({key: _csv_value(value) for key, value in line.items()})
    return out.getvalue()


def _csv_value(value: Any) -> Any:
    if isinstance(value, list) and any(isinstance(each, str) for each in value):
        value = "; ".join(map(str, value))
    return " ".join(map(repr, value)) if isinstance(value, list) else csv_cell(value)


def to_csv(board: Board) -> str:
    """Comma-separated values, one line per method and setting; seeds and values are space-separated."""
    return csv_text(rows(board))


def to_json(board: Board) -> str:
    """A JSON list of the rows."""
    return json.dumps(rows(board), indent=1) + "\n"


def to_markdown(board: Board) -> str:
    """A Markdown table: the best of every setting bold, what ties with it underlined and signed."""
    heads = shorten(board.settings)
    searched = ["tries"] if bool(board.tuning) else []
    table = [["", "method", *searched, *(escape_markdown(heads[setting]) for setting in board.settings)]]
    for row in board.rows:
        cells = [_markdown_cell(board, row.method, setting, row.cells.get(setting)) for setting in board.settings]
        tries = [str(row.tries)] if searched else []
        table.append([str(row.rank or ""), escape_markdown(row.label), *tries, *cells])
    lines = ["| " + " | ".join(line) + " |" for line in table]
    lines.insert(1, "|" + "---|" * len(table[0]))
    return "\n".join([*lines, "", escape_markdown(caption(board))]) + "\n"


def caption(board: Board) -> str:
    """What a reader of the table must know, as plain text: what is shown, of what part, from which snapshot."""
    said = [f"{board.suite}: {board.title}{_unit(board)}, mean ± sample standard deviation (n seeds)."]
    if board.filters:
        said.append(f"Only {'; '.join(board.filters)}.")
    said.append("Bold: best of its setting.")
    seen = {mark for marks in board.marks.values() for mark in marks.values()}
    said += [f"Underlined with {SIGNS[mark]}: {mark_words(board, mark)}." for mark in TIES if mark in seen]
    if board.conclusion:
        said.append(f"Over all settings: {board.conclusion}.")
    else:
        said += [f"{row.label} is not ranked: {row.withheld}." for row in board.rows if row.withheld]
    if any(row.oracle for row in board.rows):
        said.append("°: is given the noise rate or matrix (an oracle).")
    if any(row.estimated for row in board.rows):
        said.append("≈: estimates the noise rate or matrix from the noisy labels.")
    if board.tuning:
        said.append(board.tuning)
    if board.at == "best":
        said.append("The best epoch is chosen on test data: an oracle.")
    if not board.comparable:
        said.append("Run at a reduced scale.")
    if board.caution:
        said.append(board.caution)
    if board.snapshot:
        said.append(f"Snapshot {board.snapshot}.")
    return " ".join(said)


def _unit(board: Board) -> str:
    return f" in {board.metric.unit_shown}" if board.metric.unit_shown else ""


def _markdown_cell(board: Board, method: str, setting: str, cell: BoardCell | None) -> str:
    text = cell_text(cell, board.metric)
    mark = mark_of(board, method, setting)
    if mark == "best":
        text = f"**{text}**"
    elif mark in TIES:
        text = f"<u>{text}</u> {SIGNS[mark]}"
    return f"{text} ({', '.join(cell.notes)})" if cell is not None and cell.notes else text


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it reads, in a table too."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ").replace("\r", " ")
    return re.sub(r"([\\|`_*\[\]$~])", r"\\\1", text)


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"{\char34}", "-": "{-}", "'": "{'}", "`": "{`}", "±": r"$\pm$", "°": r"$^{\circ}$",
    "−": "$-$", "–": "--", "—": "---", "×": r"$\times$", "→": r"$\to$",
    "≤": r"$\leq$", "≥": r"$\geq$", "…": r"\dots{}",
}  # fmt: skip
_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "η": "eta", "θ": "theta", "λ": "lambda",
    "μ": "mu", "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega",
}  # fmt: skip


def escape_latex(text: str) -> str:
    """Text that LaTeX sets as it reads, whatever is in it; a character that pdfLaTeX lacks becomes ``[U+1F600]``."""
    return "".join(map(_latex_character, " ".join(text.split())))


def _latex_character(character: str) -> str:
    if character in _LATEX:
        return _LATEX[character]
    if character in _GREEK:
        return f"$\\{_GREEK[character]}$"
    # inputenc's utf8 knows Latin-1 and Latin Extended-A; more needs packages that a paper may not load.
    known = 32 <= ord(character) < 127 or (0xC0 <= ord(character) <= 0x17F and ord(character) not in (0xD7, 0xF7))
    return character if known else f"[U+{ord(character):04X}]"


def to_latex(board: Board) -> str:
    """A LaTeX ``table`` for ``booktabs``: the best of every setting bold, what is not separable from it underlined,
    mean ± standard deviation with n, a caption with filter and snapshot."""
    heads = shorten(board.settings)
    searched = bool(board.tuning)
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape_latex(caption(board))}}}",
        rf"\label{{tab:{''.join(c if c.isalnum() and c.isascii() else '-' for c in board.suite)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(board.settings) + searched)}}}",
        r"\toprule",
        " & ".join(
            ["Method", *(["Tries"] if searched else []), *(escape_latex(heads[setting]) for setting in board.settings)]
        )
        + r" \\",
        r"\midrule",
    ]
    for row in board.rows:
        name = escape_latex(row.method) + "$^{\\circ}$" * row.oracle + r" $\approx$" * row.estimated
        cells = [_latex_cell(board, row.method, setting, row.cells.get(setting)) for setting in board.settings]
        lines.append(" & ".join([name, *([str(row.tries)] if searched else []), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def _latex_cell(board: Board, method: str, setting: str, cell: BoardCell | None) -> str:
    if cell is None or cell.mean is None:
        return "failed" if cell is not None and cell.failed else "--"
    spread = rf" $\pm$ {board.metric.show(cell.std)}" if cell.std is not None else ""
    count = str(cell.n) if cell.n == cell.expected else f"{cell.n}/{cell.expected}"
    text = f"{board.metric.show(cell.mean)}{spread}"
    mark = mark_of(board, method, setting)
    if mark == "best":
        text = rf"\textbf{{{text}}}"
    elif mark in TIES:
        text = rf"\underline{{{text}}}$^{{{SIGNS[mark]}}}$"
    said = escape_latex(", ".join([count, *cell.notes]))
    return rf"{text} {{\scriptsize({said})}}"


def write_parquet(board: Board, path: Path) -> None:
    """A Parquet file of the rows."""
    import pyarrow as pa
    import pyarrow.parquet

    pa.parquet.write_table(pa.Table.from_pylist(rows(board)), path)


TEXT_FORMATS: dict[str, Callable[[Board], str]] = {
    "csv": to_csv, "json": to_json, "markdown": to_markdown, "latex": to_latex
}  # fmt: skip


def export(board: Board, form: str, path: Path | None) -> str | None:
    """Write a board as ``form`` to ``path``, or return the text when there is no path.

    Raises:
        ResultsError: for an unknown format, a binary one without a path, or a path that cannot be written.
    """
    if form == "parquet":
        if path is None:
            raise ResultsError("a Parquet file needs a path", "--output", "add --output FILE")
        with writing(path):
            write_parquet(board, path)
        return None
    if form not in TEXT_FORMATS:
        raise ResultsError(unknown("format", form, [*TEXT_FORMATS, "parquet"]), "--format")
    text = TEXT_FORMATS[form](board)
    if path is None:
        return text
    with writing(path):
        path.write_text(text, encoding="utf-8")
    return None
