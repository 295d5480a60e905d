"""Waiting for queued trials: tells what happens to them, and submits again what a dead job left."""

from __future__ import annotations

import collections
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.files import Damage, read_bytes
from harness.results.records import (
    ENDED,
    attempts,
    done_marker,
    rerun_failed,
    standing,
    status_of,
    trial_folder,
)
from harness.suite.plan import Plan
from harness.words import counted
from harness_slurm import batches, scheduler

if TYPE_CHECKING:
    from harness_slurm.executor import Slurm


class _Follower:
    """Turns what is on disk into the events that an executor tells."""

    def __init__(self, executor: Slurm, results: Path, epochs: dict[str, int]) -> None:
        self._executor = executor
        self._results = results
        self._total = epochs
        self._attempt: dict[str, str] = {}
        self._seen: collections.Counter[str] = collections.Counter()

    def look(self, trial_id: str) -> None:
        """Tell a start and epochs that are new since the last look."""
        past = attempts(trial_folder(self._results, trial_id))
        if not past:
            return
        total = self._total.get(trial_id, 0)
        if trial_id not in self._attempt:
            self._executor.on_event({"event": "start", "id": trial_id, "epochs": total, "attempt": past[-1].name})
        self._attempt[trial_id] = past[-1].name
        reached = epochs_in(past[-1])
        for epoch in range(self._seen[trial_id] + 1, reached + 1):
            self._executor.on_event({"event": "epoch", "id": trial_id, "epoch": epoch, "epochs": total})
        self._seen[trial_id] = max(reached, self._seen[trial_id])

    def ended(self, trial_id: str, status: str) -> None:
        """Tell the end of a trial."""
        self.look(trial_id)
        error = standing(trial_folder(self._results, trial_id)).error if status == "failed" else None
        self._executor.on_event({"event": status, "id": trial_id, "error": error})


def epochs_in(attempt: Path) -> int:
    """How many epochs an attempt has recorded."""
    try:
        return (read_bytes(attempt / "timing.jsonl") or b"").count(b"\n")
    except Damage:
        return 0


def wait(
    executor: Slurm, ids: Sequence[str], results: Path, plan: Plan | None, rerun: frozenset[str], left: threading.Event
) -> set[str]:
    """Wait until every trial has ended, or until ``left`` is set.

    A trial whose job is gone without a result (it was cancelled, killed, lost) is submitted again, unless ``harness
    cancel`` took it out, and at most ``resubmit`` times in a row without a further epoch.

    Returns:
        Trials without a result.
    """
    epochs = {p.id: int(p.trial.identity["training"]["epochs"]) for p in plan.trials} if plan is not None else {}
    follower = _Follower(executor, results, epochs)
    open_ = dict.fromkeys(ids)
    given_up: set[str] = set()
    tries: collections.Counter[str] = collections.Counter()
    reached: dict[str, int] = {}
    placed = batches.placements(results)
    while open_ and not left.is_set():
        try:
            jobs = scheduler.queue()
        except HarnessError as error:  # a controller that restarts says nothing of its jobs
            executor.on_event({"event": "warning", "message": f"{error.what}; trying again"})
            left.wait(executor.poll_s)
            continue
        gone = []
        for trial_id in list(open_):
            job = jobs.get(placed[trial_id][1]) if trial_id in placed else None
            if job is not None and job.state == "PENDING" and trial_id not in reached:
                continue
            status = _status(results, trial_id, rerun, placed)
            if status in ENDED:
                follower.ended(trial_id, status)
                del open_[trial_id]
                continue
            if status == "quarantined":
                del open_[trial_id]
                given_up.add(trial_id)
                executor.on_event({"event": "warning", "message": f"trial {trial_id} is in quarantine"})
                continue
            follower.look(trial_id)
            past = attempts(trial_folder(results, trial_id))
            now = epochs_in(past[-1]) if past else 0
            if now > reached.get(trial_id, -1):
                tries[trial_id], reached[trial_id] = 0, now
            if job is None:
                gone.append(trial_id)
        out = batches.cancelled(results) if gone else set()
        again = [i for i in gone if i not in out and tries[i] < executor.resubmit]
        for trial_id in set(gone) - set(again):
            del open_[trial_id]
            given_up.add(trial_id)
            why = "was cancelled" if trial_id in out else _why(executor, trial_id, placed)
            executor.on_event({"event": "warning", "message": f"trial {trial_id} {why}"})
        try:
            tries.update(executor.queue_missing(again, results, plan, rerun) if again else [])
        except HarnessError as error:
            executor.on_event({"event": "warning", "message": f"{error}; trying again"})
        placed = batches.placements(results)
        left.wait(executor.poll_s)
    return set(open_) | given_up


def _why(executor: Slurm, trial_id: str, placed: dict[str, batches.Placement]) -> str:
    """Why a trial is given up. A job without a log could not even open it: its node does not see the folder."""
    words = f"was submitted {counted(executor.resubmit + 1, 'time')} and got nowhere"
    if trial_id not in placed:
        return words
    batch, job = placed[trial_id]
    log = batch / "log" / f"{job}_0_log.out"
    return f"{words}; see {log}" if log.exists() else f"{words}; its node does not see {batch}: use a shared folder"


def _status(results: Path, trial_id: str, rerun: frozenset[str], placed: dict[str, batches.Placement]) -> str:
    if trial_id in rerun:
        marker = done_marker(trial_folder(results, trial_id))
        batch = placed[trial_id][0] if trial_id in placed else None
        before = batches.describe(batch).get("rerun", {}).get(trial_id) if batch is not None else None
        if marker is not None and marker["attempt"] != before:
            return str(marker.get("status", "done"))
        return "failed" if rerun_failed(trial_folder(results, trial_id)) else "running"
    return status_of(results, trial_id)
