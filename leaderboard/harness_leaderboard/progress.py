"""How far a suite is, from the records themselves: what the store does not know yet is read from the folders."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harness.results.records import FINISHED, UNFINISHED, Verdicts, standing, trial_folder
from harness.results.records.manifests import read_manifests
from harness.results.records.standing import NOTHING

MOST_READ = 3000
"""Unfinished trials whose folders are looked at in one go; beyond, a page could not refresh every few seconds."""


@dataclasses.dataclass(frozen=True)
class TrialState:
    """Where one trial stands."""

    trial: str
    method: str
    setting: str
    seed: int
    status: str
    epoch: int = 0
    epochs: int = 0
    host: str = ""
    running_for: float | None = None
    remaining: float | None = None
    error: str = ""


@dataclasses.dataclass(frozen=True)
class SuiteProgress:
    """The states of a suite's trials, counted; ``unread`` were too many to look at and count as missing."""

    states: tuple[TrialState, ...]
    unread: int

    def count(self, status: str) -> int:
        """How many trials have a status."""
        return sum(state.status == status for state in self.states)

    def remaining(self) -> float | None:
        """Seconds of a single process that unfinished trials will take; ``None`` when nothing tells."""
        running = [s.remaining for s in self.states if s.status == "running" and s.remaining is not None]
        took = [s.running_for for s in self.states if s.status in FINISHED and s.running_for]
        missing = sum(map(self.count, UNFINISHED)) - self.count("running")
        if missing and not took:
            return None
        return sum(running) + missing * (sum(took) / len(took) if took else 0.0)


def newest_manifest(results: Path, suite: str) -> Mapping[str, Any] | None:
    """The manifest of a suite that was planned last; a suite's folder name is found by what its files say."""
    found, newest = read_manifests(results, suite)
    return found[newest[suite]] if suite in newest else None


def suites_on_disk(results: Path) -> list[str]:
    """The suites that have been planned into a results folder, also before anything is collected; the newest first."""
    found, _ = read_manifests(results)
    return list(dict.fromkeys(content["suite"] for content in reversed(found.values())))


def read_progress(
    results: Path,
    manifest: Mapping[str, Any],
    known: Mapping[str, tuple[str, str, float | None]],
    queue: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> SuiteProgress:
    """Where the trials of a manifest stand.

    Args:
        results: the results folder.
        manifest: of the suite.
        known: status, error and seconds of trials that the snapshot holds as done or failed; others are looked at.
        queue: what the queues of executors have in hand, by trial.
    """
    states, looked_at, unread = [], 0, 0
    verdicts = Verdicts(results)
    for line in manifest["trials"]:
        who = (line["id"], line["method"], line["setting"], int(line["seed"]))
        if line["id"] in known:
            status, error, seconds = known[line["id"]]
            states.append(TrialState(*who, status=status, error=error, running_for=seconds))
        elif looked_at < MOST_READ:
            looked_at += 1
            states.append(_look(verdicts, who, queue.get(line["id"])))
        else:
            unread += 1
            states.append(TrialState(*who, status="missing"))
    verdicts.save()
    return SuiteProgress(tuple(states), unread)


def _look(verdicts: Verdicts, who: tuple[str, str, str, int], queued: Mapping[str, Any] | None) -> TrialState:
    folder = trial_folder(verdicts.results, who[0])
    found = standing(folder, queue=queued, verdict=verdicts.of(who[0]) if folder.exists() else NOTHING)
    running = found.status == "running"
    return TrialState(
        *who,
        status=found.status,
        epoch=found.epoch,
        epochs=(found.epochs or 0) if running else 0,
        host=str(found.host or "") if running else "",
        running_for=found.running_for if running else found.seconds,
        remaining=found.eta if running else None,
        error=found.error,
    )
