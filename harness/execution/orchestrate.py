"""Running a suite: plan, submit what is missing to an executor, collect, and plan again until nothing is missing."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harness.content import ABSENT
from harness.errors import CtrlC, HarnessError, said
from harness.execution.executor import Event, Executor, PlannedArray, Queueing
from harness.paths import data_folder
from harness.results.records import ENDED, FINISHED, UNFINISHED, forgive, submit_trials
from harness.results.records.standing import Look
from harness.suite.load import Suite
from harness.suite.plan import Plan, PlannedTrial, make_plan, write_manifest

COLLECT_EVERY_S = 20.0


class Orchestrator:
    """Runs what is missing of a suite.

    Args:
        suite: a loaded suite.
        results: an opened results folder.
        executor: the executor's registered name.
        options: its parameters, over the suite's table of its name and those of settings and methods.
        selections: only trials that one of these selects.
        rerun_stale: also run trials whose components' source has changed.
        rerun: ids of trials, or how they begin, that run again whatever they came to.
        defaults: its parameters where the suite says nothing (a cluster's profile).
        on_event: told of every event of the executor, and of ``{"event": "plan", "plan": ...}`` for every round.
    """

    def __init__(
        self,
        suite: Suite,
        results: Path,
        executor: str,
        options: Mapping[str, Any] | None = None,
        selections: Sequence[str] = (),
        *,
        rerun_stale: bool = False,
        rerun: Sequence[str] = (),
        defaults: Mapping[str, Any] | None = None,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self.suite = suite
        self.results = results
        table = {**(defaults or {}), **suite.executors.get(executor, {})}
        made = suite.host.registry.create("executor", executor, {**table, **(options or {})})
        suite.host.registry.save_cache()
        if not isinstance(made, Executor):
            raise HarnessError(
                "is no executor", f"executors.{executor}", "derive it from harness.execution.executor.Executor"
            )
        self.executor = made
        self.executor.table, self.executor.options = table, dict(options or {})
        self.executor.on_event = self._heard
        self.selections = selections
        self.rerun_stale = rerun_stale
        self.rerun = tuple(rerun)
        self.interrupted = False
        self._on_event = on_event
        self._collector: threading.Thread | None = None
        self._collected_at = time.monotonic()

    def run(self) -> Plan:
        """Run to the end and return the last plan; what failed is in it, not raised."""
        tried: set[str] = set()
        while True:
            plan = make_plan(self.suite, self.results, self.selections)
            if not tried and self._forgiven(plan):
                plan = make_plan(self.suite, self.results, self.selections)
            todo, reruns = self._todo(plan, tried)
            if todo:
                check_data(self.suite, plan, {p.id for p in todo})
                if "remote" not in self.executor.capabilities:
                    check_device(self.suite)
            write_manifest(make_plan(self.suite, self.results) if self.selections else plan)
            self._on_event({"event": "plan", "plan": plan, "todo": [p.id for p in todo]})
            if not todo or self.interrupted:
                break
            if "carries" not in self.executor.capabilities:
                submit_trials(self.results, {p.id: p.trial for p in todo}.values())
            try:
                with self._interruptible():
                    unfinished = self.executor.submit(
                        list(dict.fromkeys(p.id for p in todo)), self.results, plan, frozenset(reruns)
                    )
            except HarnessError:
                self.collect()  # what was done before counts
                raise
            tried |= {p.id for p in todo}
            if "waits" not in self.executor.capabilities:
                return plan
            if self.interrupted and unfinished:
                plan = make_plan(self.suite, self.results, self.selections)
                break
        self.collect({} if tried else plan.looks)
        return plan

    def preview(self) -> tuple[Plan, list[PlannedTrial], list[PlannedArray] | None]:
        """The plan, the trials that would run, and the jobs that they would run as (``None``: no jobs); runs nothing."""
        plan = make_plan(self.suite, self.results, self.selections)
        todo, _ = self._todo(plan, set())
        if not isinstance(self.executor, Queueing):
            return plan, todo, None
        return plan, todo, self.executor.preview([p.id for p in todo], self.results, plan)

    def _todo(self, plan: Plan, tried: set[str]) -> tuple[list[PlannedTrial], set[str]]:
        """What is to run, and which of it although it is done."""
        reruns = {p.id for p in plan.select("stale")} - tried if self.rerun_stale else set()
        named = {p.id: p.status for p in self._named(plan) if p.id not in tried}
        reruns |= {trial_id for trial_id, status in named.items() if status in (*FINISHED, "stale")}
        again = reruns | {trial_id for trial_id, status in named.items() if status == "failed"}
        todo = [p for p in plan.trials if p.id in again or (p.status in UNFINISHED and p.id not in tried)]
        return todo, reruns

    def _named(self, plan: Plan) -> list[PlannedTrial]:
        """The trials of ``rerun``.

        Raises:
            HarnessError: where a word begins no trial's id, or the trial is in quarantine.
        """
        for word in self.rerun:
            if not word.isalnum() or not any(p.id.startswith(word) for p in plan.trials):
                raise HarnessError(f"no trial's id begins with {word!r}", "--rerun", "`harness plan` lists them")
        named = [p for p in plan.trials if self.rerun and p.id.startswith(self.rerun)]
        for planned in named:
            if planned.status == "quarantined":
                remedy = f"`harness retry {self.suite.path} --quarantined` sets its records aside"
                raise HarnessError(f"{planned.id} is in quarantine", "--rerun", remedy)
        return named

    def _forgiven(self, plan: Plan) -> bool:
        """Let those of the named trials that failed run again; whether there were any."""
        failed = [p.id for p in self._named(plan) if p.status == "failed"]
        for trial_id in failed:
            forgive(self.results, trial_id)
        return bool(failed)

    def collect(self, looks: Mapping[str, Look] = MappingProxyType({})) -> None:
        """Wait for a collection under way, then bring the store up to date; ``looks`` are those of a plan just made."""
        from harness.results.store import collect

        if self._collector is not None:
            self._collector.join()
        collect(self.results, looks=looks)

    def interrupt(self) -> None:
        """Stop every trial at its next batch boundary, with a checkpoint."""
        self.interrupted = True
        self.executor.interrupt()

    def _heard(self, event: Event) -> None:
        self._on_event(event)
        idle = self._collector is None or not self._collector.is_alive()
        if event["event"] in ENDED and idle and time.monotonic() - self._collected_at > COLLECT_EVERY_S:
            self._collected_at = time.monotonic()
            self._collector = threading.Thread(target=self._collect_quietly, name="collector", daemon=True)
            self._collector.start()

    def _collect_quietly(self) -> None:
        from harness.results.store import collect

        try:
            collect(self.results)
        except HarnessError as error:
            self._on_event({"event": "warning", "message": f"could not collect: {said(error)}"})

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """The first Ctrl-C or TERM stops with checkpoints, the second at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: Any) -> None:
            del number, frame
            if self.interrupted:
                raise CtrlC
            self.interrupt()  # before it is said, so that a second signal counts from the first word on
            self._on_event({"event": "interrupting", "remote": "remote" in self.executor.capabilities})

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def check_data(suite: Suite, plan: Plan, todo: set[str]) -> None:
    """Refuse to start when the files of a data set are not there, or one's own data cannot be read.

    Raises:
        HarnessError: naming the file and the command that fetches it, or what is wrong with the data.
    """
    registry = suite.host.registry
    for trial in (p.trial for p in plan.trials if p.id in todo):
        dataset = trial.identity["dataset"]
        if dataset.get("content") == ABSENT:
            registry.content(dataset["name"], {**dataset["params"], **trial.options.get("places", {})})
            raise HarnessError("the data were not there when the plan was made", suite.path.name, "run it again")
    names = {p.trial.identity["dataset"]["name"] for p in plan.trials if p.id in todo}
    for name in sorted(names):
        component, _ = registry.find("dataset", name)
        for file in registry.facts(component).declares.files:
            if not (data_folder() / file).exists():
                raise HarnessError(
                    f"data set {name!r} is not on disk: {file} is not under HARNESS_DATA ({data_folder().absolute()})",
                    f"{suite.path.name}: setting.dataset",
                    f"set HARNESS_DATA, or fetch it: harness data fetch {name}",
                )


def check_device(suite: Suite) -> None:
    """Refuse to start when CUDA is asked for and this machine has none; a cluster's nodes are not this machine."""
    from harness.execution.local import visible_gpus

    if suite.execution.device.startswith("cuda") and not visible_gpus():
        import torch

        if not torch.cuda.is_available():
            raise HarnessError(
                "CUDA is asked for, and this machine has none that torch can use",
                f"{suite.path.name}: execution.device",
                'set device = "cpu" or "auto"',
            )
