"""What executors with a queue of their own have in hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.execution.executor import Queueing
from harness.plugins import Host
from harness.suite.load import Suite


@dataclasses.dataclass
class Queues:
    """The queues of all executors.

    Attributes:
        trials: by trial, ``{"state": "queued" | "running" | "gone", "job", "node", "detail"}``.
        notes: what a reader should know.
    """

    trials: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    _executors: list[Queueing] = dataclasses.field(default_factory=list)

    def ended(self, job_ids: Iterable[str]) -> dict[str, str]:
        """How jobs that are gone ended, where their executor can tell."""
        wanted = list(dict.fromkeys(job_ids))
        known: dict[str, str] = {}
        for executor in self._executors if wanted else ():
            known.update(executor.ended(wanted))
        return known


def read_queues(suite: Suite, results: Path) -> Queues:
    """The queues of a suite's executors, with its tables."""
    return ask_queues(suite.host, suite.executors, results)


def ask_queues(host: Host, tables: Mapping[str, Mapping[str, Any]], results: Path) -> Queues:
    """Ask every executor that has a queue; one that gives no answer is a note, and the records still tell."""
    executors, notes = queueing(host, tables)
    found = Queues(notes=notes)
    for executor in executors:
        try:
            found.trials.update(executor.queue(results))
            found.notes += executor.notes(results)
            found._executors.append(executor)
        except HarnessError as error:
            found.notes.append(f"the queue is unknown: {error}")
    return found


def queueing(host: Host, tables: Mapping[str, Mapping[str, Any]]) -> tuple[list[Queueing], list[str]]:
    """Executors with a queue of their own, made with a suite's tables, and what is wrong with those that cannot be made."""
    found, wrong = [], []
    for name in host.registry.names("executor"):
        try:
            executor = host.registry.create("executor", name, tables.get(name, {}))
        except HarnessError as error:
            wrong.append(f"an executor is broken: {error}")
            continue
        if isinstance(executor, Queueing):
            found.append(executor)
    host.registry.save_cache()
    return found, wrong
