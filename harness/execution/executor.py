"""The contract of executors: where trials run. :class:`Executor` is all that is required, and all of it is called.

    from harness import hookimpl
    from harness.execution.executor import Executor

    class Mine(Executor):
        capabilities = frozenset({"waits"})
        def submit(self, trial_ids, results, plan=None, rerun=frozenset()): ...
        def interrupt(self): ...

    @hookimpl
    def harness_register_executors(register):
        register("mine", Mine)

``harness run SUITE --executor mine --option key=value`` gives ``key`` to the factory, over the suite's table ``[mine]``.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.suite.plan import Plan

Event = dict[str, Any]
OnEvent = Callable[[Event], None]


def _ignore(event: Event) -> None:
    """What is told before anybody listens is not heard."""


class Executor(abc.ABC):
    """Where trials run.

    Attributes:
        capabilities: ``waits`` when :meth:`submit` returns only after the trials ended; ``remote`` when they run on other
            machines and go on when this process ends; ``carries`` when it brings what ``trial.json`` says to where a
            trial runs, so that no folder is made before.
        on_event: what to call with every event, such as ``{"event": "start", "id": ..., "epochs": ...}``; set by the
            orchestrator before :meth:`submit`. Kinds: ``start``, ``epoch``, ``done``, ``failed``, ``diverged``,
            ``interrupted``, ``busy``, ``queued``, ``warning``.
        table: the suite's table of the executor's name, over a cluster's profile.
        options: what the command line gave: it holds against the tables of settings and methods too.
    """

    capabilities: frozenset[str] = frozenset()
    on_event: OnEvent = staticmethod(_ignore)
    table: Mapping[str, Any] = MappingProxyType({})
    options: Mapping[str, Any] = MappingProxyType({})

    @abc.abstractmethod
    def submit(
        self, trial_ids: Sequence[str], results: Path, plan: Plan | None = None, rerun: frozenset[str] = frozenset()
    ) -> set[str]:
        """Run or queue trials.

        Args:
            trial_ids: ids of trials; their ``trial.json`` is in ``results`` unless the executor ``carries``.
            results: an opened results folder, to which every attempt is written.
            plan: the plan that they come from, with the suite.
            rerun: those of them that are done and run again all the same.

        Returns:
            The ids that have no result when it returns.

        Raises:
            HarnessError: when nothing can be run or queued at all; what one trial raises is in its record.
        """

    @abc.abstractmethod
    def interrupt(self) -> None:
        """Let :meth:`submit` return soon. It is called from a signal's handler while that runs, so it may only set a flag.

        Trials of this machine save a checkpoint after the current batch; jobs elsewhere go on.
        """


@dataclasses.dataclass(frozen=True)
class PlannedJob:
    """A job that would be submitted: its trials by id, and the seconds that they are expected to take, if known."""

    trials: tuple[str, ...]
    seconds: float | None


@dataclasses.dataclass(frozen=True)
class PlannedArray:
    """Jobs that would be submitted together.

    Attributes:
        resources: what each job asks for, in words.
        minutes: time limit of each.
        parallel: how many may run at once; ``None`` for all.
        gpu_hours: expected for all of them; ``None`` where no recorded trial tells.
    """

    resources: str
    minutes: int
    parallel: int | None
    gpu_hours: float | None
    jobs: tuple[PlannedJob, ...]


class Queueing(Executor):
    """An executor with a queue of its own, which goes on when this process ends; other processes ask it by these."""

    @abc.abstractmethod
    def preview(self, ids: Sequence[str], results: Path, plan: Plan | None) -> list[PlannedArray]:
        """What these trials would be submitted as (``harness run --dry-run``); submits nothing."""

    @abc.abstractmethod
    def queue(self, results: Path) -> dict[str, dict[str, Any]]:
        """What is in hand, by trial: ``{"state": "queued" | "running" | "gone", "job", "node", "detail"}``.

        Raises:
            HarnessError: when the queue gives no answer.
        """

    @abc.abstractmethod
    def cancel_queued(self, ids: Sequence[str], results: Path) -> int:
        """Take trials out of the queue and stop jobs that have nothing else to do; returns how many trials."""

    def notes(self, results: Path) -> list[str]:
        """What a reader of a status should know; asked after :meth:`queue`."""
        del results
        return []

    def ended(self, job_ids: Sequence[str]) -> dict[str, str]:
        """How jobs that are gone ended, by id, where that can be told."""
        del job_ids
        return {}

    def diagnose(self, results: Path) -> list[str]:
        """What the cluster offers, for ``harness doctor``."""
        del results
        return []
