"""What runs on a node: a job's trials on a pool of workers, checkpointed and requeued when SLURM says so.

submitit pickles :class:`RunTrials` by reference; its argument is a dictionary of strings and numbers. The trials run
in worker processes, so that one that fails or dies takes no neighbour along.

    signal                              what happens
    USR2 (time limit, preemption)       trials stop at the next batch boundary with checkpoints; submitit requeues the
                                        job with what is left
    TERM (scancel, preemption)          the same, but SLURM is given time to end or requeue the job by itself
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.execution.local import visible_gpus
from harness.execution.pool import Event, Pool
from harness.results.records import ENDED, read_trial, status_of
from harness.words import counted
from harness_slurm import parcel
from harness_slurm.batches import taken_out
from harness_slurm.source import fingerprint

AFTER_TERM_S = 150.0
"""How long a job that was told to end waits for SLURM to do it, before it requeues itself."""
LOOK_S = 1.0
MOST_BARREN = 3


@dataclasses.dataclass(frozen=True)
class Order:
    """What a job is to do, in plain JSON values.

    Attributes:
        results: the results folder.
        batch: the folder of the submission.
        ids: the trials.
        rerun: those to run although they are done.
        plugins: single-file plugins.
        trials_per_gpu: how many trials share a GPU.
        code: fingerprint of the code at submission.
        commit: the harness's git commit at submission, where there was one.
        since: when the job was queued, in seconds since the epoch.
        requeues: how often it was checkpointed and requeued before.
        barren: how many runs in a row brought nothing.
    """

    results: str
    batch: str
    ids: list[str]
    rerun: list[str] = dataclasses.field(default_factory=list)
    plugins: list[str] = dataclasses.field(default_factory=list)
    trials_per_gpu: int = 1
    code: str = ""
    commit: str | None = None
    since: float = 0.0
    requeues: int = 0
    barren: int = 0

    def cancelled(self) -> set[str]:
        """Trials that ``harness cancel`` has taken out of the submission."""
        return taken_out(Path(self.batch))


class RunTrials:
    """Run the trials of an :class:`Order` on this node. One object serves one run of a job."""

    def __init__(self) -> None:
        self._pool: Pool | None = None
        self._thread: threading.Thread | None = None
        self._finished: set[str] = set()
        self._moved = False
        self._terminated = False
        self._error: BaseException | None = None

    def __call__(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Run the trials to their end.

        Returns:
            How many were finished and which are left, for submitit's result file.
        """
        todo = Order(**order)
        facts = job_facts(todo)
        for warning in facts["warnings"]:
            print(f"warning: {warning}", file=sys.stderr, flush=True)
        os.environ["HARNESS_JOB"] = facts["job"]
        gpus = visible_gpus() if "CUDA_VISIBLE_DEVICES" in os.environ else []
        workers = len(gpus) * todo.trials_per_gpu if gpus else int(os.environ.get("SLURM_CPUS_PER_TASK") or 1)
        print(
            f"job {facts['job']} on {facts['node']}: {counted(len(todo.ids), 'trial')}, {workers} at once", flush=True
        )
        pool = self._pool = Pool(
            Path(todo.results),
            workers,
            plugins=todo.plugins,
            environments=[{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus] or [{}],
            on_event=self._heard,
            facts=facts,
        )
        self._thread = threading.Thread(target=self._work, args=(pool, todo), name="pool", daemon=True)
        signal.signal(signal.SIGTERM, self._terminate)
        self._thread.start()
        while self._thread.is_alive():
            self._thread.join(LOOK_S)
            pool.cancel(todo.cancelled())
        left = self._left(todo)
        if left and self._terminated:
            time.sleep(AFTER_TERM_S)
        if left and todo.barren < MOST_BARREN:
            signal.raise_signal(signal.SIGUSR2)  # submitit's handler: checkpoint() below, requeue, exit
        if self._error is not None:
            raise self._error
        return {"finished": len(todo.ids) - len(left), "left": left}

    def checkpoint(self, order: Mapping[str, Any]) -> Any:
        """Stop every trial at its next batch boundary; called by submitit in the signal's handler.

        Returns:
            The job's next run, with what is left; ``None`` (no requeue) when nothing is.
        """
        from submitit.helpers import DelayedSubmission

        todo = Order(**order)
        if self._pool is not None and self._thread is not None:
            self._pool.interrupt()
            self._thread.join()
        left = self._left(todo)
        if not left:
            return None
        following = dataclasses.replace(
            todo,
            ids=left,
            rerun=[trial_id for trial_id in todo.rerun if trial_id in left],
            since=time.time(),
            requeues=todo.requeues + 1,
            barren=0 if self._moved else todo.barren + 1,
        )
        return DelayedSubmission(RunTrials(), dataclasses.asdict(following))

    def _work(self, pool: Pool, todo: Order) -> None:
        # SLURM signals every process of a step. Workers inherit this mask, so that USR2, which would end them, reaches
        # the job's main thread alone.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        try:
            parcel.unpack(Path(todo.batch), todo.ids, pool.results)
            options = {i: read_trial(pool.results, i).options.get("execution", {}) for i in todo.ids}
            limits = {i: float(keys["timeout_s"]) for i, keys in options.items() if keys.get("timeout_s")}
            pool.run(todo.ids, timeouts=limits, rerun=set(todo.rerun))
        except Exception as error:
            self._error = error

    def _heard(self, event: Event) -> None:
        kind, trial_id = event["event"], str(event.get("id"))
        if kind in ENDED:
            self._finished.add(trial_id)
        self._moved = self._moved or kind in (*ENDED, "epoch")
        if kind != "epoch":
            words = event.get("error") or event.get("message") or ""
            print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {kind} {trial_id} {words}".rstrip(), flush=True)

    def _left(self, todo: Order) -> list[str]:
        """Trials without a result, in order, less those that were cancelled."""
        out = self._finished | todo.cancelled()
        results, again = Path(todo.results), set(todo.rerun)
        open_ = (i for i in todo.ids if i not in out)
        return [i for i in open_ if i in again or status_of(results, i) not in ENDED]

    def _terminate(self, *_: object) -> None:
        """TERM comes before KILL: save what there is."""
        self._terminated = True
        if self._pool is not None:
            self._pool.interrupt()


def job_facts(order: Order) -> dict[str, Any]:
    """What goes into the environment record of every trial of this job."""
    variables = os.environ
    array, index = variables.get("SLURM_ARRAY_JOB_ID"), variables.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{index}" if array else variables.get("SLURM_JOB_ID", "")
    now = fingerprint(order.plugins)
    warnings = []
    if order.code and order.code != now:
        warnings.append(f"the code has changed since job {job} was submitted ({order.code} then, {now} now)")
    return {
        "executor": "slurm",
        "job": job,
        "array_job": array,
        "array_index": int(index) if index else None,
        "node": variables.get("SLURMD_NODENAME"),
        "partition": variables.get("SLURM_JOB_PARTITION"),
        "gpu_models": gpu_models(),
        "queue_seconds": max(0.0, time.time() - order.since) if order.since else None,
        "requeues": order.requeues,
        "restarts": int(variables.get("SLURM_RESTART_COUNT") or 0),
        "code_at_submission": order.code,
        "commit_at_submission": order.commit,
        "code": now,
        "warnings": warnings,
    }


def gpu_models(folder: Path = Path("/proc/driver/nvidia/gpus")) -> list[str]:
    """Models of this node's NVIDIA GPUs, as its driver names them."""
    models = []
    for file in sorted(folder.glob("*/information")):
        lines = (line.partition(":") for line in file.read_text().splitlines())
        models += [value.strip() for key, _, value in lines if key.strip() == "Model"]
    return models
