"""Merging machines is copying ``trials/``: whole trial folders, never over one that is further."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from harness.errors import ResultsError
from harness.results.records import attempts, done_marker, is_alive


def merge_results(source: Path, target: Path) -> tuple[int, int]:
    """Copy the trials and suites of ``source`` that ``target`` lacks or holds unfinished.

    A trial that is done in ``target`` stays; one that is at work on either side is left alone.

    Returns:
        Trials taken, and trials left as they were.

    Raises:
        ResultsError: when ``source`` is no results folder.
    """
    if not (source / "trials").is_dir():
        raise ResultsError("is no results folder (it has no trials/)", str(source))
    if source.resolve() == target.resolve():
        raise ResultsError("cannot be merged into itself", str(source))
    taken = kept = 0
    for folder in sorted(path for path in (source / "trials").iterdir() if path.is_dir()):
        destination = target / "trials" / folder.name
        if _busy(folder) or (destination.exists() and (_busy(destination) or _further(destination, folder))):
            kept += 1
            continue
        temporary = destination.with_name(f".merging-{folder.name}-{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(folder, temporary)
        if destination.exists():
            shutil.rmtree(destination)
        os.replace(temporary, destination)
        taken += 1
    for manifest in (source / "suites").glob("*/*.json"):
        copy = target / "suites" / manifest.parent.name / manifest.name
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(manifest, copy)
    return taken, kept


def _busy(folder: Path) -> bool:
    past = attempts(folder)
    return bool(past) and not (past[-1] / "result.json").exists() and is_alive(past[-1])


def _further(mine: Path, theirs: Path) -> bool:
    """Whether the trial that is already here counts at least as much as the other."""

    def weight(folder: Path) -> tuple[int, int]:
        past = attempts(folder)
        return (2 if done_marker(folder) else 1 if past and (past[-1] / "result.json").exists() else 0, len(past))

    return weight(mine) >= weight(theirs)
