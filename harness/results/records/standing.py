"""Where a trial stands, from its folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from harness.results.records.claims import is_alive
from harness.results.records.folder import attempts, done_marker, failed_for_good, rerun_failed, trial_folder

Status = Literal["done", "diverged", "failed", "running", "missing", "stale"]
STATUSES: tuple[Status, ...] = ("done", "diverged", "failed", "running", "missing", "stale")


def status_of(
    results: Path,
    trial_id: str,
    digests: Mapping[str, str] | None = None,
    *,
    exists: bool = True,
    renew: Callable[[Mapping[str, str]], Mapping[str, str]] = dict,
) -> Status:
    """The status of a trial from its folder; ``stale`` when a component's source differs from the recorded digest.

    Args:
        digests: of the components as they are now, by ``kind:name``.
        exists: whether the trial has a folder, where that is known.
        renew: puts recorded digests of the old rule into the present one (``Registry.renewed``); asked only where they
            differ.
    """
    if not exists:
        return "missing"
    path = f"{results}/trials/{trial_id}"
    try:
        names = os.listdir(path)
    except OSError:
        return "missing"
    latest = max((name for name in names if name.startswith("attempt-")), default=None)
    if latest is None:  # most of a large grid: one system call each, and no Path
        return "missing"
    marker = done_marker(path) if "done.json" in names else None
    folder = trial_folder(results, trial_id)
    if marker is not None:
        if latest > marker["attempt"] and not (folder / latest / "result.json").exists() and is_alive(folder / latest):
            return "running"
        recorded = marker.get("digests", {})
        if digests is not None and _differ(recorded, digests) and _differ(renew(recorded), digests):
            return "failed" if rerun_failed(folder) else "stale"
        return "diverged" if marker.get("status") == "diverged" else "done"
    past = attempts(folder)
    if not past:
        return "missing"
    if (past[-1] / "result.json").exists():
        return "failed" if failed_for_good(folder, past) else "missing"
    return "running" if is_alive(past[-1]) else "missing"


def _differ(recorded: Mapping[str, str], digests: Mapping[str, str]) -> bool:
    return any(recorded.get(key, value) != value for key, value in digests.items())
