"""Draw curves, sweeps, histograms and phase transitions from the store, as PNG, PDF or SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import DEFAULT_RESULTS, PluginFile, Results, SuiteOption, suite_name

WORDS_HELP = (
    "A suite's TOML file, suite:NAME, or its name, as --suite; then curves, sweep, histogram, or a kind that a plugin adds "
    "(`harness components plot`): what fits the suite when left out."
)


def plot(
    words: Annotated[list[str], typer.Argument(metavar="[SUITE] [KIND]", help=WORDS_HELP)] = [],  # noqa: B006 -- typer reads the default, nobody changes it
    results: Results = DEFAULT_RESULTS,
    suite: SuiteOption = None,
    metric: Annotated[
        list[str],
        typer.Option("--metric", help="Of curves: test_accuracy, train_accuracy ...; of a sweep: last, selected ..."),
    ] = [],  # noqa: B006
    x: Annotated[str, typer.Option("--x", help="The parameter of a sweep, such as algorithms.aux.lam.")] = "",
    score: Annotated[str, typer.Option("--score", help="The score of a histogram, such as rrm.u.")] = "",
    method: Annotated[list[str], typer.Option("--method", help="Only this method; may be given often.")] = [],  # noqa: B006
    setting: Annotated[list[str], typer.Option("--setting", help="Only this setting; may be given often.")] = [],  # noqa: B006
    seed: Annotated[int | None, typer.Option("--seed", help="The seed of a histogram.")] = None,
    out: Annotated[
        list[Path],
        typer.Option("--output", "-o", "--out", metavar="FILE", help="Ends in .png, .pdf or .svg; may be given often."),
    ] = [],  # noqa: B006
    dpi: Annotated[int, typer.Option("--dpi", min=30, help="Dots per inch of a PNG.")] = 300,
    plugin: PluginFile = [],  # noqa: B006
) -> None:
    """Draw curves, sweeps, histograms and phase transitions from the store, as PNG, PDF or SVG."""
    from harness.api import open_store
    from harness.errors import ResultsError, unknown
    from harness.foreign import file_name
    from harness.plugins import load_host
    from harness.results.records import open_results
    from harness.results.report import suites_in
    from harness.results.report.figure import save
    from harness.results.report.plots import Request, draw, kinds, suitable_kind

    folder, host = open_results(results, create=False), load_host(plugin)
    with open_store(folder) as connection:
        known = suites_in(connection)
        given, kind = _suite_and_kind(words, known, kinds(host))
        suite = suite_name(given, suite)
        if suite is None and len(known) != 1:
            raise ResultsError("which suite?", "--suite", f"one of {', '.join(known)}" if known else "run one first")
        name = suite if suite is not None else known[0]
        if name not in known:
            raise ResultsError(unknown("suite", name, known), "--suite")
        request = Request(name, tuple(metric), x, score, tuple(method), tuple(setting), seed)
        chosen = kind or ("sweep" if x else "histogram" if score else suitable_kind(connection, request, host))
        figure = draw(connection, chosen, request, host)
    for path in out or [Path("plots") / f"{file_name(name)}-{chosen}.png"]:
        save(figure, path, dpi)
        typer.echo(str(path))


def _suite_and_kind(words: list[str], suites: list[str], kinds: list[str]) -> tuple[str | None, str | None]:
    """What each word is; of a single one a kind before a suite."""
    from harness.errors import HarnessError

    match words:
        case []:
            return None, None
        case [word] if word not in kinds and (word in suites or word.startswith("suite:") or word.endswith(".toml")):
            return word, None
        case [kind]:
            return None, kind
        case [suite, kind]:
            return suite, kind
    raise HarnessError(f"takes a suite and a kind, got {len(words)} words", "plot", "`harness plot --help`")
