"""Printed numbers and claims beside ours as files: one row for each cell and claim, flat, with what its verdict rests on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import ResultsError, unknown, writing
from harness.papers.claims import JudgedClaim, here_text, printed_text, why
from harness.papers.reproduction import Reproduced, remarks, value_text
from harness.results.report.export import csv_text, escape_latex, escape_markdown

FORMATS = ("csv", "json", "markdown", "latex", "parquet")


def cell_row(item: Reproduced) -> dict[str, Any]:
    """A printed cell with our answer."""
    check, printed = item.check, item.printed
    low, high = check.interval or (None, None)
    keys = ("label", "method", "column", "dataset", "noise", "rate", "metric", "at", "unit", "page")
    return {
        "kind": "cell",
        "suite": item.suite,
        **{key: printed[key] for key in keys},
        "setting": item.setting,
        "printed": printed["mean"],
        "printed_std": printed["std"],
        "printed_n": printed["n"],
        "here": item.mean,
        "seeds": list(item.values),
        "values": list(item.values.values()),
        "difference": check.difference,
        "low": low,
        "high": high,
        "verdict": check.verdict,
        "by_numbers": check.by_numbers,
        "detectable": check.detectable,
        "reason": check.reason,
        "assumptions": list(check.assumptions),
        "flag": printed["flag"],
    }


def claim_row(judged: JudgedClaim) -> dict[str, Any]:
    """A claim with what our trials say of it; ``low`` and ``high`` bound what a repetition would print."""
    claim = judged.claim
    low, high = judged.interval or (None, None)
    return {
        "kind": claim.kind,
        "suite": claim.suite,
        "claim": claim.id,
        "says": claim.says,
        "place": claim.place,
        "page": claim.page,
        "unit": claim.unit,
        "setting": judged.setting,
        "printed": judged.printed,
        "here": judged.here,
        "comparisons": len(claim.comparisons),
        "covered": judged.covered,
        "low": low,
        "high": high,
        "verdict": judged.verdict,
        "by_numbers": judged.by_numbers,
        "detectable": judged.detectable,
        "reason": judged.reason,
        "assumptions": list(judged.assumptions),
        "flag": claim.flag,
    }


def _table(found: Sequence[Reproduced], claims: Sequence[JudgedClaim]) -> list[list[str]]:
    lines = [["suite", "what", "where", "printed", "here", "verdict", "note"]]
    for item in found:
        printed, check = item.printed, item.check
        note = remarks(check)
        lines.append(
            [
                item.suite,
                str(printed["method"] or printed["label"]),
                item.setting or str(printed["column"]),
                value_text(printed["mean"], printed["std"], printed["n"]),
                item.text,
                check.verdict,
                note,
            ]
        )
    for one in claims:
        where = f"{one.claim.place}, p. {one.claim.page}" + (f"; {one.setting}" if one.setting else "")
        lines.append([one.claim.suite, one.claim.says, where, printed_text(one), here_text(one), one.verdict, why(one)])
    return lines


def _markdown(found: Sequence[Reproduced], claims: Sequence[JudgedClaim]) -> str:
    lines = ["| " + " | ".join(map(escape_markdown, line)) + " |" for line in _table(found, claims)]
    lines.insert(1, "|" + "---|" * 7)
    return "\n".join(lines) + "\n"


def _latex(found: Sequence[Reproduced], claims: Sequence[JudgedClaim]) -> str:
    head, *lines = [" & ".join(map(escape_latex, line)) + r" \\" for line in _table(found, claims)]
    top = [r"% needs \usepackage{booktabs,longtable}", r"\begin{longtable}{lllrrll}", r"\toprule", head, r"\midrule"]
    return "\n".join([*top, *lines, r"\bottomrule", r"\end{longtable}"]) + "\n"


def export_published(
    found: Sequence[Reproduced], claims: Sequence[JudgedClaim], form: str, path: Path | None
) -> str | None:
    """Write cells and claims as ``form`` to ``path``, or return the text when there is no path.

    Raises:
        ResultsError: for an unknown format, a binary one without a path, or a path that cannot be written.
    """
    rows = [*map(cell_row, found), *map(claim_row, claims)]
    if form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet

        if path is None:
            raise ResultsError("a Parquet file needs a path", "--output", "add --output FILE")
        every = dict.fromkeys(key for row in rows for key in row)
        with writing(path):
            pa.parquet.write_table(pa.Table.from_pylist([{k: row.get(k) for k in every} for row in rows]), path)
        return None
    if form == "csv":
        text = csv_text(rows)
    elif form == "json":
        text = json.dumps(rows, indent=1) + "\n"
    elif form == "markdown":
        text = _markdown(found, claims)
    elif form == "latex":
        text = _latex(found, claims)
    else:
        raise ResultsError(unknown("format", form, FORMATS), "--format")
    if path is None:
        return text
    with writing(path):
        path.write_text(text, encoding="utf-8")
    return None
