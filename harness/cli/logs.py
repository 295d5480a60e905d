"""The log of a trial, and its traceback when it failed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import DEFAULT_RESULTS, Results
from harness.errors import ResultsError
from harness.files import Damage, read_bytes

FOLLOW_S = 0.5


def logs(
    trial: Annotated[str, typer.Argument(help="Id of a trial, or the start of one.")],
    results: Results = DEFAULT_RESULTS,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on showing what is written.")] = False,
) -> None:
    """The log of a trial, and its traceback when it failed."""
    from harness.results.quantities import QUANTITIES
    from harness.results.records import attempts, open_results, read_json, read_lines, standing
    from harness.tasks import HEADLINES

    folder = find_trial(open_results(results, create=False), trial)
    past = attempts(folder)
    if not past:
        raise ResultsError("has not run yet", folder.name)
    for attempt in past:
        typer.echo(f"== {folder.name} {attempt.name}")
        text = _read(attempt / "log.txt")
        typer.echo(text, nl=bool(text) and not text.endswith("\n"))
        found = read_json(attempt / "result.json")
        error = found.get("error") if isinstance(found, dict) else None
        if isinstance(error, dict) and str(error.get("traceback") or "") not in text:
            typer.echo(error.get("traceback") or f"{error.get('type')}: {error.get('message')}")
    if (found := standing(folder)).status == "quarantined":
        typer.echo(f"in quarantine: {found.reason}")
    if not follow:
        return
    headlines = [QUANTITIES[name].column for name in HEADLINES]
    current, shown, epochs = past[-1], len(_read(past[-1] / "log.txt")), len(read_lines(past[-1] / "epochs.jsonl"))
    while not (current / "result.json").exists():
        time.sleep(FOLLOW_S)
        newest = attempts(folder)[-1]
        if newest != current:
            typer.echo(f"== {folder.name} {newest.name}")
            current, shown = newest, 0
        text = _read(current / "log.txt")
        if len(text) > shown:
            typer.echo(text[shown:], nl=False)
            shown = len(text)
        lines = read_lines(current / "epochs.jsonl")
        for line in lines[epochs:]:
            value = next((line[column] for column in headlines if column in line), None)
            trained = f"train loss {line['train_loss']}, " if line["train_loss"] is not None else ""
            typer.echo(f"epoch {line['epoch']}: {trained}test {value}")
        epochs = max(epochs, len(lines))


def _read(path: Path) -> str:
    """A log, as far as it is one: what is no regular file says nothing."""
    try:
        return (read_bytes(path) or b"").decode(errors="replace")
    except Damage as damage:
        return f"({damage})\n"


def find_trial(results: Path, start: str) -> Path:
    """The folder of the one trial whose id begins with ``start``.

    Raises:
        ResultsError: when none or several do.
    """
    from harness.results.records import known_trials

    found = sorted(name for name in known_trials(results) if name.startswith(start))
    if len(found) != 1 or not start.isalnum():
        what = f"no trial's id begins with {start!r}" if not found else f"{len(found)} ids begin with {start!r}"
        raise ResultsError(what, str(results), "`harness plan` lists them")
    return results / "trials" / found[0]
