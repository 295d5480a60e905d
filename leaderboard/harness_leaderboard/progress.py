"""How far a suite is, from the records themselves: what the store does not know yet is read from the folders."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.results.records import FINISHED, final_attempt, is_alive, read_json, read_lines, trial_folder

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
class Progress:
    """The states of a suite's trials, counted; ``unread`` were too many to look at and count as missing."""

    states: tuple[TrialState, ...]
    unread: int

    def count(self, status: str) -> int:
        """How many trials have a status."""
        return sum(state.status == status for state in self.states)

    def remaining(self) -> float | None:
        """Seconds of a single process that missing and running trials will take; ``None`` when nothing tells."""
        running = [s.remaining for s in self.states if s.status == "running" and s.remaining is not None]
        took = [s.running_for for s in self.states if s.status in FINISHED and s.running_for]
        missing = self.count("missing")
        if missing and not took:
            return None
        return sum(running) + missing * (sum(took) / len(took) if took else 0.0)


def newest_manifest(results: Path, suite: str) -> Mapping[str, Any] | None:
    """The manifest of a suite that was planned last; a suite's folder name is found by what its files say."""
    newest: tuple[int, Mapping[str, Any]] | None = None
    for path in (results / "suites").glob("*/*.json"):
        content = read_json(path)
        if isinstance(content, Mapping) and content.get("suite") == suite:
            stamp = path.stat().st_mtime_ns
            if newest is None or stamp > newest[0]:
                newest = (stamp, content)
    return newest[1] if newest is not None else None


def suites_on_disk(results: Path) -> list[str]:
    """The suites that have been planned into a results folder, also before anything is collected."""
    names = []
    for path in sorted((results / "suites").glob("*/*.json"), key=lambda p: -p.stat().st_mtime_ns):
        content = read_json(path)
        if isinstance(content, Mapping) and content.get("suite") not in names:
            names.append(content.get("suite"))
    return [name for name in names if isinstance(name, str)]


def read_progress(
    results: Path, manifest: Mapping[str, Any], known: Mapping[str, tuple[str, str, float | None]]
) -> Progress:
    """Where the trials of a manifest stand.

    Args:
        results: the results folder.
        manifest: of the suite.
        known: status, error and seconds of trials that the snapshot holds as done or failed; others are looked at.
    """
    states, looked_at, unread = [], 0, 0
    for line in manifest["trials"]:
        who = (line["id"], line["method"], line["setting"], int(line["seed"]))
        if line["id"] in known:
            status, error, seconds = known[line["id"]]
            states.append(TrialState(*who, status=status, error=error, running_for=seconds))
        elif looked_at < MOST_READ:
            looked_at += 1
            states.append(_look(results, who))
        else:
            unread += 1
            states.append(TrialState(*who, status="missing"))
    return Progress(tuple(states), unread)


def _look(results: Path, who: tuple[str, str, str, int]) -> TrialState:
    attempt = final_attempt(trial_folder(results, who[0]))
    if attempt is None:
        return TrialState(*who, status="missing")
    result = read_json(attempt / "result.json")
    claim = read_json(attempt / "claim.json") or {}
    timing = read_lines(attempt / "timing.jsonl")
    if isinstance(result, Mapping):
        error = result.get("error") or {}
        words = f"{error.get('type')}: {error.get('message')}" if error else ""
        seconds = (read_json(attempt / "environment.json") or {}).get("seconds")
        return TrialState(*who, status=str(result.get("status")), epoch=len(timing), error=words, running_for=seconds)
    if not is_alive(attempt):
        return TrialState(*who, status="missing")
    asked = read_json(attempt / "trial.json") or read_json(attempt.parent / "trial.json") or {}
    epochs = int(asked.get("identity", {}).get("training", {}).get("epochs", 0))
    per_epoch = sum(t["train_seconds"] + t["evaluation_seconds"] for t in timing) / len(timing) if timing else None
    return TrialState(
        *who,
        status="running",
        epoch=len(timing),
        epochs=epochs,
        host=str(claim.get("host") or ""),
        running_for=time.time() - claim["claimed"] if "claimed" in claim else None,
        remaining=per_epoch * (epochs - len(timing)) if per_epoch is not None else None,
    )
