"""The executor's own memory of what it has queued: ``results/slurm/batch-0001/``, one folder per submission.

results/slurm/batch-0001/
    claim.json, heartbeat, released   who is submitting; a batch is also the lock under which jobs are chosen
    jobs.json                         {"jobs": [{"job": "12_3", "trials": [...]}, ...], "suite", "commit", ...}
    cancelled.json                    trials that `harness cancel` took out
    ended                             SLURM knows none of its jobs any more
    log/                              submitit's files: scripts, pickles, what the jobs print
    code/                             the snapshot, where one was asked for
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Set
from pathlib import Path
from typing import Any

from harness.errors import ResultsError
from harness.results.records import Heartbeat, is_alive, make_claim, read_json, take, write_json

PATIENCE_S = 600.0
NAME = re.compile(r"batch-(\d{4,})")


def home(results: Path) -> Path:
    """The folder of all batches."""
    return results / "slurm"


def batches(results: Path) -> list[Path]:
    """Batches, oldest first."""
    try:
        names = [entry.name for entry in os.scandir(home(results)) if NAME.fullmatch(entry.name)]
    except FileNotFoundError:
        return []
    return [home(results) / name for name in sorted(names, key=_number)]


def _number(name: str) -> int:
    return int(name.removeprefix("batch-"))


@contextlib.contextmanager
def submitting(results: Path, patience_s: float = PATIENCE_S) -> Iterator[Path]:
    """A new batch, while nobody else has one open: submitters take turns, and the second sees what the first queued.

    A batch is taken by renaming a filled folder to the next number, which one process only can do. The batch of a
    submitter that died does not hold up the next. A batch without jobs is removed at the end.

    Raises:
        ResultsError: when another submission stays open for ``patience_s``.
    """
    home(results).mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience_s
    while (batch := _take(results)) is None:
        if time.monotonic() > deadline:
            raise ResultsError(
                "another `harness run` is still submitting", str(home(results)), "wait for it, or end it"
            )
        time.sleep(0.2)
    heartbeat = Heartbeat(batch)
    heartbeat.start()
    try:
        yield batch
    finally:
        heartbeat.release()
        if not (batch / "jobs.json").exists():
            shutil.rmtree(batch, ignore_errors=True)


def _take(results: Path) -> Path | None:
    existing = batches(results)
    if existing and is_alive(existing[-1]):
        return None
    number = _number(existing[-1].name) + 1 if existing else 1
    target = home(results) / f"batch-{number:04d}"
    if not take(target, make_claim()):
        return None
    if any(is_alive(other) for other in batches(results) if other != target):
        shutil.rmtree(target, ignore_errors=True)  # the number was free because its folder had just been removed
        return None
    return target


def jobs_of(batch: Path) -> dict[str, list[str]]:
    """Trials by job id."""
    found = read_json(batch / "jobs.json") or {}
    return {job["job"]: job["trials"] for job in found.get("jobs", ()) if job.get("job")}


def open_batches(results: Path) -> list[Path]:
    """Batches of which SLURM may still know jobs, oldest first."""
    return [batch for batch in batches(results) if not (batch / "ended").exists()]


def close_ended(results: Path, live: Set[str]) -> None:
    """Mark batches as ended of whose jobs none is live and that nobody is submitting."""
    for batch in open_batches(results):
        if not is_alive(batch) and live.isdisjoint(jobs_of(batch)):
            with contextlib.suppress(OSError):
                (batch / "ended").touch()


Placement = tuple[Path, str]
"""A batch, and the id of a job in it."""


def placements(results: Path) -> dict[str, Placement]:
    """The newest job of each trial, over batches of which SLURM may still know jobs; without trials that were cancelled
    there."""
    placed: dict[str, Placement] = {}
    for batch in open_batches(results):
        out = taken_out(batch)
        for job, trials in jobs_of(batch).items():
            for trial in trials:
                if trial in out:
                    placed.pop(trial, None)
                else:
                    placed[trial] = (batch, job)
    return placed


def taken_out(batch: Path) -> set[str]:
    """Trials of a batch that ``harness cancel`` took out of their jobs."""
    return set(read_json(batch / "cancelled.json") or ())


def take_out(batch: Path, trials: Iterable[str]) -> set[str]:
    """Take trials out of the jobs of a batch; returns all that are out."""
    out = taken_out(batch).union(trials)
    write_json(batch / "cancelled.json", sorted(out))
    return out


def cancelled(results: Path) -> set[str]:
    """Trials that ``harness cancel`` took out and that nobody has submitted again since."""
    found: set[str] = set()
    for batch in batches(results):
        found -= {trial for trials in jobs_of(batch).values() for trial in trials}
        found |= taken_out(batch)
    return found


def describe(batch: Path) -> dict[str, Any]:
    """What ``jobs.json`` says of the submission."""
    return read_json(batch / "jobs.json") or {}
