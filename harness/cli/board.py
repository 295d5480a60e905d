"""The ranking table of a suite in the terminal."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import (
    DEFAULT_RESULTS,
    AsJson,
    Results,
    SuiteName,
    SuiteOption,
    console,
    print_json,
    suite_name,
)
from harness.results.quantities import metric_help
from harness.words import counted

if TYPE_CHECKING:
    import duckdb
    from rich.console import Console

    from harness.papers.claims import JudgedClaim
    from harness.papers.reproduction import Reproduced
    from harness.papers.verdict import OrderingAgreement
    from harness.results.report import Board, BoardRow

COLUMN_WIDTH = 21
"""Characters that a column of `97.31 ± 0.12 (3)` takes with its frame and marks."""


def board(
    file: SuiteName = None,
    results: Results = DEFAULT_RESULTS,
    suite: SuiteOption = None,
    metric: Annotated[str, typer.Option("--metric", help=metric_help())] = "last",
    ties: Annotated[
        bool, typer.Option("--ties/--no-ties", help="Mark what cannot be told from the best of its setting.")
    ] = True,
    published: Annotated[
        bool,
        typer.Option(
            "--published",
            help="Show the paper's numbers next to ours; --metric sets the epoch where the paper gives none.",
        ),
    ] = False,
    power: Annotated[
        bool, typer.Option("--power", help="How many more seeds would separate each method from those above it.")
    ] = False,
    json: AsJson = False,
) -> None:
    """The ranking table of a suite in the terminal."""
    from harness.api import open_store
    from harness.results.records import open_results
    from harness.results.report import read_board, with_ties

    suite = suite_name(file, suite)
    with open_store(open_results(results, create=False)) as connection:
        if published:
            _published(connection, suite, metric, json)
            return
        found = read_board(connection, suite, metric)
    if power:
        from harness.cli.power import power_json, power_rows, print_power

        rows = power_rows(found)
        if json:
            print_json(power_json(rows))
        else:
            print_power(found, rows, console())
        return
    if ties:
        found = with_ties(found)
    if json:
        print_json(board_json(found))
    else:
        print_board(found, console())


def _published(connection: duckdb.DuckDBPyConnection, suite: str | None, at: str, json: bool) -> None:
    """Printed against reproduced, for one suite or for all that reproduce a table."""
    from harness.papers.claims import read_published
    from harness.papers.reproduction import orderings

    found, claims = read_published(connection, suite, at)
    agreements = orderings(connection, found)
    if json:
        print_json(published_json(found, agreements, claims))
    else:
        print_published(found, agreements, console(), claims)


def board_json(found: Board) -> dict[str, Any]:
    """A board as JSON."""
    return {
        "suite": found.suite,
        "metric": found.metric.name,
        "at": found.at,
        "comparable": found.comparable,
        "settings": list(found.settings),
        "snapshot": found.snapshot,
        "search_over": found.search_over,
        "ties": {setting: sorted(methods) for setting, methods in found.ties.items()},
        "gaps": {setting: dict(gaps) for setting, gaps in found.gaps.items()},
        "marks": {setting: dict(marks) for setting, marks in found.marks.items()},
        "conclusion": found.conclusion,
        "caution": found.caution,
        "rates": [
            {"method": method, "setting": setting, "estimated": estimated, "true": true}
            for (method, setting), (estimated, true) in found.rates.items()
        ],
        "test_trusted": dict(found.trusted),
        "rows": [
            {
                "rank": row.rank,
                "method": row.method,
                "oracle": row.oracle,
                "estimated": row.estimated,
                "tries": row.tries,
                "owners": list(found.owners.get(row.method, ())),
                "mean": row.mean,
                "covered": row.covered,
                "withheld": row.withheld,
                "cells": {
                    setting: {
                        "mean": cell.mean,
                        "std": cell.std,
                        "n": cell.n,
                        "values": cell.values,
                        "failed": cell.failed,
                        "missing": cell.missing,
                        "diverged": cell.diverged,
                        "collapsed": cell.collapsed,
                    }
                    for setting, cell in row.cells.items()
                },
            }
            for row in found.rows
        ],
    }


def print_board(found: Board, out: Console) -> None:
    """A board for people: the best of every setting in bold with a star, its ties with the sign of their kind.

    As many settings as the console has room for; the rest is counted, not squeezed.
    """
    from rich.markup import escape
    from rich.table import Table

    from harness.results.report import SIGNS, TIES, WORDS, mark_words, shorten

    heads = shorten(found.settings)
    unit = f" [{found.metric.unit_shown}]" if found.metric.unit_shown else ""
    table = Table(title=escape(f"{found.suite}: {found.title}{unit}, mean ± std (n)"), title_justify="left")
    table.add_column("", justify="right")
    table.add_column("method", overflow="fold")
    searched = bool(found.tuning)
    if searched:
        table.add_column("tries", justify="right")
    room = (out.width - 4 - max((len(row.label) for row in found.rows), default=0)) // COLUMN_WIDTH
    shown = found.settings[: max(1, room)]
    for setting in shown:
        table.add_column(escape(heads[setting]), justify="right", overflow="fold")
    if len(found.settings) > 1:
        table.add_column("mean", justify="right")
    for row in found.rows:
        cells = [_cell_markup(found, row, setting) for setting in shown]
        if len(found.settings) > 1:
            cells.append("\n".join(part for part in (_mean_text(found, row), *row.notes) if part))
        table.add_row(str(row.rank or ""), escape(row.label), *([str(row.tries)] if searched else []), *cells)
    out.print(table)
    legend = [f"{SIGNS['best']} {WORDS['best']}"]
    seen = {mark for marks in found.marks.values() for mark in marks.values()}
    legend += [f"{SIGNS[mark]} {mark_words(found, mark)}" for mark in TIES if mark in seen]
    if len(shown) < len(found.settings):
        left = counted(len(found.settings) - len(shown), "more setting")
        legend.append(f"not shown for want of room: {left} (a wider terminal, --json or `harness leaderboard`)")
    if any(row.oracle for row in found.rows):
        legend.append("° is given the noise rate or matrix (an oracle)")
    if any(row.estimated for row in found.rows):
        legend.append("≈ estimates the noise rate or matrix from the noisy labels")
    if found.at == "best":
        legend.append("`best` is chosen on test data: an oracle, not a result")
    if not found.comparable:
        legend.append("run at --scale quick: not comparable with published numbers")
    out.print("; ".join(legend), markup=False)
    for (method, setting), (estimated, true) in found.rates.items():
        if setting in shown and any(row.method == method for row in found.rows):
            where = f", {heads[setting]}" if len(shown) > 1 else ""
            known = f"{true:.1%} are" if true is not None else "nobody knows how many are"
            told = f"{method}{where}: {estimated:.1%} of the labels estimated to be wrong, {known}"
            out.print(told, markup=False)
    if found.tuning:
        out.print(found.tuning, markup=False)
    for method, owners in found.owners.items():
        out.print(f"{method}: by {' and '.join(Path(owner).name for owner in owners)}", markup=False)
    if found.conclusion:
        out.print(f"Over all settings: {found.conclusion}.", markup=False)
    else:
        for row in found.rows:
            if row.withheld:
                out.print(f"{row.label} is not ranked: {row.withheld}.", markup=False)
    if found.caution:
        out.print(found.caution, markup=False)


def _cell_markup(found: Board, row: BoardRow, setting: str) -> str:
    """A cell with its mark, and what became of its runs in a second line."""
    from rich.markup import escape

    from harness.results.report import SIGNS, cell_text, mark_of

    cell = row.cells.get(setting)
    mark = mark_of(found, row.method, setting)
    sign = SIGNS[mark] if mark is not None else ""
    text = f"{escape(cell_text(cell, found.metric))} {sign or ' '}"
    text = f"[bold]{text}[/bold]" if mark == "best" else text
    return "\n".join([text, *(f"{note}  " for note in (cell.notes if cell is not None else ()))])


def _mean_text(found: Board, row: BoardRow) -> str:
    if row.mean is not None:
        return found.metric.show(row.mean)
    return "withheld" if row.withheld else ""


def published_json(
    found: Sequence[Reproduced], agreements: Mapping[str, OrderingAgreement], claims: Sequence[JudgedClaim] = ()
) -> dict[str, Any]:
    """Printed against reproduced as JSON."""
    from harness.papers.export import claim_row
    from harness.papers.verdict import summarise_published

    summary = summarise_published(item.check for item in found)
    return {
        "summary": dataclasses.asdict(summary),
        "cells": [
            {
                "suite": item.suite,
                **{key: item.printed[key] for key in ("label", "method", "column", "metric", "at", "unit")},
                "printed": {key: item.printed[key] for key in ("mean", "std", "n", "flag")},
                "setting": item.setting,
                "values": item.values,
                "mean": item.mean,
                **dataclasses.asdict(item.check),
            }
            for item in found
        ],
        "claims": [claim_row(one) for one in claims],
        "ordering": {label: dataclasses.asdict(agreement) for label, agreement in agreements.items()},
    }


def print_published(
    found: Sequence[Reproduced],
    agreements: Mapping[str, OrderingAgreement],
    out: Console,
    claims: Sequence[JudgedClaim] = (),
) -> None:
    """Printed against reproduced for people: every reproduced cell, verdict counts, claims, and what becomes of the order."""
    from rich.markup import escape
    from rich.table import Table

    from harness.papers.claims import claim_lines, claims_sentence
    from harness.papers.reproduction import ordering_sentence, remarks, summary_sentence, value_text

    table = Table(title="printed against reproduced", title_justify="left")
    for head, side in (
        ("suite", "left"),
        ("setting", "left"),
        ("method", "left"),
        ("column", "left"),
        ("printed", "right"),
        ("here", "right"),
    ):
        table.add_column(head, justify=side, overflow="fold")  # type: ignore[arg-type]
    table.add_column("difference", justify="right")
    table.add_column("verdict", overflow="fold")
    for item in found:
        if not item.values and item.check.reason == "not reproduced":
            continue
        check, printed = item.check, item.printed
        interval = f" [{check.interval.low:+.2f}, {check.interval.high:+.2f}]" if check.interval is not None else ""
        difference = f"{check.difference:+.2f}{interval}" if check.difference is not None else "-"
        # In another configuration the reason is told once below.
        alone = f"by numbers {check.by_numbers}" if check.by_numbers is not None else ""
        reason = "; ".join(part for part in (alone, remarks(check, "" if alone else None)) if part)
        where = f"{printed['column']}, {printed['block']}" if printed.get("block") else str(printed["column"])
        cells = [item.suite, item.setting or "-", printed["method"] or printed["label"], where]
        cells += [
            value_text(printed["mean"], printed["std"], printed["n"]),
            item.text,
            difference,
            check.verdict + (f" ({reason})" if reason else ""),
        ]
        table.add_row(*(escape(str(cell)) for cell in cells))
    out.print(table)
    out.print(summary_sentence(found), markup=False)
    for reason, count in Counter(item.check.reason for item in found if item.check.by_numbers is not None).items():
        out.print(f"{counted(count, 'cell')}: {reason}", markup=False)
    for at in sorted({item.assumed_at for item in found if item.values} - {""}):
        out.print(f"Where the paper does not say the epoch, ours is read at `{at}` (--metric).", markup=False)
    for line in (claims_sentence(claims), *claim_lines(claims)):
        if line:
            out.print(line, markup=False)
    for label, agreement in agreements.items():
        out.print(f"{label}: {ordering_sentence(agreement)}", markup=False)
