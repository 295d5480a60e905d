"""Bring the store up to date with the records."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import DEFAULT_RESULTS, Results
from harness.words import counted

MOST_TOLD = 20


def collect(
    results: Results = DEFAULT_RESULTS,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Read every record anew.")] = False,
    seal: Annotated[
        bool, typer.Option("--seal", help="Give results of an earlier harness the digests of their files.")
    ] = False,
) -> None:
    """Bring the store up to date with the records."""
    from harness.results.records import open_results
    from harness.results.store import collect as bring_up_to_date
    from harness.results.store import odd_trials

    folder = open_results(results, create=False, there=True)
    if seal:
        _seal(folder)
    snapshot = bring_up_to_date(folder, rebuild=rebuild)
    typer.echo(str(snapshot))
    quarantined, unsealed = odd_trials(snapshot)
    for trial, reason in list(quarantined.items())[:MOST_TOLD]:
        typer.echo(f"in quarantine: {trial}: {reason}")
    if len(quarantined) > MOST_TOLD:
        typer.echo(f"in quarantine: {len(quarantined) - MOST_TOLD} more")
    if unsealed:
        told = counted(unsealed, "result is unsealed (it holds", "results are unsealed (they hold")
        typer.echo(f"{told} no digests of the files); `harness collect --results {folder} --seal` seals what is there")


def _seal(folder: Path) -> None:
    """Seal every result that holds no digests; one whose record is damaged is left as it is, and told by the collector."""
    from harness.files import Damage
    from harness.results.records import known_trials, seal, trial_folder

    count = 0
    for trial in sorted(known_trials(folder)):
        with contextlib.suppress(Damage):
            count += seal(trial_folder(folder, trial))
    typer.echo(f"{counted(count, 'result')} sealed")
