"""Copy the records of other results folders, or packed ones, into one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import DEFAULT_RESULTS, Results
from harness.words import counted


def merge(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="DIR|FILE...", help="Results folders, or files of `export --format records`."),
    ],
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Copy the records of other results folders, or packed ones, into one."""
    from harness.errors import ResultsError
    from harness.paths import expanded
    from harness.plugins import load_host
    from harness.results.records import open_results
    from harness.results.records.archive import unpack
    from harness.results.records.folder import remove_unused
    from harness.results.records.merge import merge_results
    from harness.results.store import collect

    target, made = expanded(results), not os.path.lexists(expanded(results))
    try:
        open_results(target)
        stale = load_host().registry.has_changed
        for source in map(expanded, sources):
            if not os.path.exists(source):  # Path.exists raises for a name that is too long
                raise ResultsError("no such file or folder", str(source))
            if source.is_file():
                taken, kept = unpack(source, target, stale=stale)
            elif source.is_dir():
                taken, kept = merge_results(open_results(source, create=False), target, stale=stale)
            else:
                raise ResultsError("is neither a results folder nor a file of packed records", str(source))
            typer.echo(f"{source}: {counted(taken, 'trial')} taken, {kept} already there")
        collect(target)
    except ResultsError:
        if made:
            remove_unused(target)
        raise
