"""The executor ``local``: worker processes on this machine, GPUs dealt out round-robin."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from harness.execution.executor import Executor
from harness.execution.pool import Pool
from harness.parameters import Count
from harness.results.records import read_trial
from harness.suite.plan import Plan


class Local(Executor):
    """Run trials on worker processes of this machine.

    Args:
        workers: number of processes; by default one per core, or ``trials_per_gpu`` per GPU when trials use GPUs.
        trials_per_gpu: how many trials share one GPU.
    """

    capabilities = frozenset({"waits"})

    def __init__(self, workers: Count | None = None, trials_per_gpu: Count = 1) -> None:
        self.workers = workers
        self.trials_per_gpu = trials_per_gpu
        self._pool: Pool | None = None
        self._interrupted = False

    def submit(
        self, trial_ids: Sequence[str], results: Path, plan: Plan | None = None, rerun: frozenset[str] = frozenset()
    ) -> set[str]:
        """Run the trials and return the ids that did not reach a result."""
        del plan
        trials = [read_trial(results, trial_id) for trial_id in trial_ids]
        if not trials:
            return set()
        devices = {str(trial.options.get("execution", {}).get("device", "auto")) for trial in trials}
        gpus = visible_gpus() if devices & {"auto", "cuda"} else []
        workers = self.workers or (len(gpus) * self.trials_per_gpu if gpus else available_cores())
        environments = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus] or [{}]
        limits = {
            trial.id: float(trial.options["execution"]["timeout_s"])
            for trial in trials
            if trial.options.get("execution", {}).get("timeout_s")
        }
        self._pool = Pool(
            results,
            workers,
            plugins=list(dict.fromkeys(p for trial in trials for p in trial.options.get("plugins", ()))),
            environments=environments,
            on_event=self.on_event,
            facts={"executor": "local"},
        )
        if self._interrupted:
            return set(trial_ids)
        return self._pool.run(trial_ids, timeouts=limits, rerun=set(rerun))

    def interrupt(self) -> None:
        """Stop at the next batch boundary, with checkpoints."""
        self._interrupted = True
        if self._pool is not None:
            self._pool.interrupt()


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """GPUs that this process may use, as values of ``CUDA_VISIBLE_DEVICES``, found without importing torch."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [part for part in given.split(",") if part.strip()]
    folder = Path("/proc/driver/nvidia/gpus")
    return [str(number) for number, _ in enumerate(sorted(folder.iterdir()))] if folder.is_dir() else []
