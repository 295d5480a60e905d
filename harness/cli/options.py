"""Options that several commands share, and how they are turned into suites and folders."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from harness.suite.load import Suite

SuiteFile = Annotated[
    str, typer.Argument(metavar="SUITE", help="A suite's TOML file, or suite:NAME for a packaged one.")
]
SuiteName = Annotated[
    str | None, typer.Argument(metavar="[SUITE]", help="A suite's TOML file, suite:NAME, or its name, as --suite.")
]
SuiteOption = Annotated[
    str | None, typer.Option("--suite", help="Name of the suite; may be left out when there is one.")
]
Results = Annotated[Path, typer.Option("--results", metavar="DIR", help="Results folder.", envvar="HARNESS_RESULTS")]
Set = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as training.epochs=1.")
]
Select = Annotated[
    list[str],
    typer.Option(
        "--select",
        metavar="KEY=VALUE,...",
        help='Only some trials, such as "method=CDR*,noise.rate=0.4". A comma is "and"; values with | between them are '
        "alternatives, and so is each further --select.",
    ),
]
PluginFile = Annotated[list[Path], typer.Option("--plugin", metavar="FILE", help="A single-file plugin.")]
Scale = Annotated[str, typer.Option("--scale", metavar="full|quick", help="quick: fewer epochs, a subset, one seed.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for programs.")]
DEFAULT_RESULTS = Path("results")


def load(suite: str, overrides: Sequence[str], plugins: Sequence[Path], scale: str = "full") -> Suite:
    """The suite with overrides and plugins."""
    from harness.suite.load import load_suite

    return load_suite(suite, overrides, plugins, scale)


def suite_name(given: str | None, named: str | None) -> str | None:
    """The name of a suite that is given by its file, by ``suite:NAME`` or by name, in place of ``--suite``."""
    from harness.errors import HarnessError
    from harness.suite.document import check_shape, read_document
    from harness.suite.load import find_suite

    if given is None:
        return named
    if named is not None and named != given:
        raise HarnessError("two suites are named", "--suite", "name one")
    if not given.endswith(".toml") and not given.startswith("suite:"):
        return given
    document = read_document(find_suite(given))
    check_shape(document, given)
    return str(document["suite"].get("name", given))


def assigned(texts: Sequence[str], option: str = "--set") -> dict[str, Any]:
    """``KEY=VALUE`` words as a table, dotted keys as tables in it."""
    from harness.suite.select import assign, parse_assignment

    table: dict[str, Any] = {}
    for text in texts:
        path, value = parse_assignment(text, option)
        assign(table, path, value, option)
    return table


def console() -> Console:
    """Where people read: as wide as the terminal, or wide enough for tables when output is piped."""
    from harness.cli import terminal

    width = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else 200
    return terminal.console(sys.stdout, width)


def print_json(value: Any) -> None:
    """JSON on standard output."""
    typer.echo(json.dumps(value, indent=1, default=str))
