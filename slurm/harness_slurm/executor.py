"""The executor ``slurm``: trials as packed array jobs on a cluster, submitted and left, or watched to the end."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge

from harness.errors import HarnessError
from harness.execution.executor import PlannedArray, PlannedJob, Queueing
from harness.parameters import Count, Positive
from harness.results.records import (
    ENDED,
    known_trials,
    let_go,
    standing,
    status_of,
    trial_folder,
)
from harness.suite.plan import Plan
from harness_slurm import batches, scheduler
from harness_slurm.jobs import Array, make_arrays, tables
from harness_slurm.resources import Resources

LOCAL_FOLDERS = ("/dev/shm", "/run", "/var/tmp")
LOCAL_ADDRESSES = ("localhost", "127.0.0.1", "::1")


class Slurm(Queueing):
    """Run trials as array jobs of a SLURM cluster.

    Every key may stand in ``[slurm]``, in a table ``slurm`` of a setting or method, in the file that
    ``--cluster-profile`` names, or be given as ``--slurm key=value``; the later of profile, suite, setting, method and
    command line holds. Keys of submitit's ``AutoExecutor`` that are not named here are taken as they are: ``nodes``,
    ``tasks_per_node``, ``name``, ``stderr_to_stdout``, and any that begins with ``slurm_``, such as
    ``slurm_exclude = "n7"`` or ``slurm_additional_parameters = { licenses = "x" }``.

    Args:
        partition: the cluster's default where absent.
        account: whom to charge.
        qos: quality of service.
        constraint: features that a node must have.
        gpus_per_node: GPUs of a job.
        cpus_per_task: CPUs of a job; by default one per trial that runs at once. Without GPUs, also how many do.
        mem_gb: memory of a job, in GB; the cluster's default where absent.
        timeout_min: most minutes of a job. Recorded times let it ask for less; a job that needs more is requeued.
        trials_per_job: most trials of a job, packed by estimated cost.
        trials_per_gpu: trials side by side on one GPU.
        max_parallel: most jobs of one submission that run at once.
        setup: shell lines to run before, such as ``module load cuda``.
        slurm_python: the command that starts Python on a node, such as ``singularity exec image.sif python``.
        snapshot: let the jobs run a copy of the harness and of plugin files made at submission.
        wait: stay until the trials are done, and submit again what a dead job left.
        resubmit: how often in a row ``wait`` submits a trial again that does not get on.
        poll_s: seconds between two looks while waiting.
    """

    def __init__(
        self,
        partition: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        constraint: str | None = None,
        gpus_per_node: Annotated[int, Ge(0)] = 0,
        cpus_per_task: Count | None = None,
        mem_gb: Positive | None = None,
        timeout_min: Count = 240,
        trials_per_job: Count = 8,
        trials_per_gpu: Count = 1,
        max_parallel: Count | None = None,
        setup: list[str] = [],  # noqa: B006 -- a parameter's default is data, nobody changes it
        slurm_python: str | None = None,
        snapshot: bool = False,
        wait: bool = False,
        resubmit: Annotated[int, Ge(0)] = 3,
        poll_s: Positive = 5.0,
        **additional: Any,
    ) -> None:
        self.resources = Resources(
            partition=partition,
            account=account,
            qos=qos,
            constraint=constraint,
            gpus_per_node=gpus_per_node,
            cpus_per_task=cpus_per_task,
            mem_gb=mem_gb,
            timeout_min=timeout_min,
            trials_per_job=trials_per_job,
            trials_per_gpu=trials_per_gpu,
            max_parallel=max_parallel,
            setup=tuple(setup),
            slurm_python=slurm_python,
            additional=additional,
        )
        self.resources.check()
        self.snapshot = snapshot
        self.wait = wait
        self.resubmit = resubmit
        self.poll_s = poll_s
        self.capabilities = frozenset({"remote", "carries", *(["waits"] if wait else [])})
        self._left = threading.Event()
        self._pending: set[Path] = set()

    # --- the executor's contract --------------------------------------------------------------------------------------

    def submit(
        self, trial_ids: Sequence[str], results: Path, plan: Plan | None = None, rerun: frozenset[str] = frozenset()
    ) -> set[str]:
        """Queue what is not queued yet; with ``wait``, return when everything has ended.

        Raises:
            HarnessError: where there is no SLURM, or it refuses the jobs.
        """
        scheduler.require()
        check_shared(results)
        self.queue_missing(trial_ids, results, plan, rerun)
        if not self.wait:
            return set(trial_ids)
        from harness_slurm.waiting import wait

        return wait(self, trial_ids, results, plan, rerun, self._left)

    def interrupt(self) -> None:
        """Stop waiting. The jobs go on."""
        self._left.set()

    # --- submitting ---------------------------------------------------------------------------------------------------

    def queue_missing(
        self, ids: Sequence[str], results: Path, plan: Plan | None, rerun: frozenset[str] = frozenset()
    ) -> list[str]:
        """Submit the trials that no job has in hand, and return them. Two callers at one moment take turns."""
        from harness_slurm import parcel, submission

        if not self._free(ids, results, rerun):
            return []
        with batches.submitting(results) as batch:
            free = self._free(ids, results, rerun)
            if not free:
                return []
            arrays = self.arrays(free, results, plan)
            if plan is not None:
                chosen = set(free)
                parcel.write(batch, (p.trial for p in plan.trials if p.id in chosen))
            slug = plan.suite.slug if plan is not None else "trials"
            plugins = plan.suite.plugin_files if plan is not None else ()
            jobs = submission.submit(
                arrays, results, batch, suite=slug, plugins=plugins, rerun=rerun & set(free), snapshot=self.snapshot
            )
        self.on_event({"event": "queued", "ids": free, "jobs": len(jobs), "arrays": len(arrays)})
        return free

    def arrays(self, ids: Sequence[str], results: Path, plan: Plan | None) -> list[Array]:
        """The arrays that these trials are submitted as."""
        size = scheduler.max_array_size() if scheduler.is_here() else 1001
        known: dict[tuple[str, str], Resources] = {}

        def resources(method: str, setting: str) -> Resources:
            if (method, setting) not in known:
                known[method, setting] = self._resources(plan, method, setting)
            return known[method, setting]

        return make_arrays(ids, results, plan, resources, size)

    def _resources(self, plan: Plan | None, method: str, setting: str) -> Resources:
        """This executor's keys, the tables of a setting and a method over them, and the command line's on top."""
        found = tables(plan.suite, method, setting) if plan is not None else []
        if plan is None or not found:
            return self.resources
        merged: dict[str, Any] = dict(self.table)
        for _, table in found:
            merged.update(table)
        merged.update(self.options)
        try:
            made: Slurm = plan.suite.host.registry.create("executor", "slurm", merged)
        except HarnessError as error:
            key = error.where.removeprefix("executors.slurm").removeprefix("slurm").lstrip(".")
            place = found[-1][0]
            raise HarnessError(error.what, f"{place}.{key}" if key else place, error.remedy) from None
        return made.resources

    def _free(self, ids: Sequence[str], results: Path, rerun: frozenset[str]) -> list[str]:
        """Trials that neither a job nor anybody else has in hand. A claim of a job that SLURM no longer knows is dead
        whatever its heartbeat says, so nobody waits for it. A trial without a folder needs no further look."""
        placed = batches.placements(results)
        live = set(scheduler.queue())
        batches.close_ended(results, live)
        existing = known_trials(results)
        free = []
        for trial_id in ids:
            job = placed[trial_id][1] if trial_id in placed else None
            if job in live and not (trial_id in existing and _spent(results, trial_id, job)):
                continue
            found = standing(trial_folder(results, trial_id)) if trial_id in existing else None
            if found is not None and found.status == "quarantined":
                continue
            if found is not None and found.status == "running":
                if not found.job or found.job in live:
                    continue
                with contextlib.suppress(OSError):
                    let_go(results, trial_id)
            elif found is not None and trial_id not in rerun and found.status in ENDED:
                continue
            free.append(trial_id)
        return free

    # --- what others ask ----------------------------------------------------------------------------------------------

    def preview(self, ids: Sequence[str], results: Path, plan: Plan | None) -> list[PlannedArray]:
        """The arrays that these trials would be submitted as."""
        return [
            PlannedArray(
                array.resources.words(),
                array.minutes,
                array.parallel,
                array.gpu_hours,
                tuple(PlannedJob(tuple(job.trials), job.seconds) for job in array.jobs),
            )
            for array in self.arrays(ids, results, plan)
        ]

    def queue(self, results: Path) -> dict[str, dict[str, Any]]:
        """What SLURM has in hand, by trial: ``{"state": "queued" | "running" | "gone", "job", "node", "detail"}``.

        Raises:
            HarnessError: when there are open submissions and SLURM does not answer.
        """
        placed = batches.placements(results)
        if not placed or not scheduler.is_here():
            return {}
        jobs = scheduler.queue(timeout_s=20.0)
        told: dict[str, dict[str, Any]] = {}
        found: dict[str, dict[str, Any]] = {}
        self._pending = {
            batch for batch, job_id in placed.values() if job_id in jobs and jobs[job_id].state == "PENDING"
        }
        for trial_id, (_, job_id) in placed.items():
            if job_id not in told:
                job = jobs.get(job_id)
                if job is None:
                    told[job_id] = {"state": "gone", "job": job_id, "node": "", "detail": ""}
                else:
                    state = "running" if job.state in ("RUNNING", "COMPLETING") else "queued"
                    waits = f" ({job.reason})" if job.reason not in ("", "None") and state == "queued" else ""
                    told[job_id] = {"state": state, "job": job_id, "node": job.node, "detail": f"{job.state}{waits}"}
            found[trial_id] = told[job_id]
        return found

    def notes(self, results: Path) -> list[str]:
        """What a reader should know after :meth:`queue`: jobs wait that will run other code than they were meant to."""
        from harness_slurm.source import fingerprint

        notes = []
        now: dict[tuple[str, ...], str] = {}
        for batch in sorted(self._pending):
            said = batches.describe(batch)
            plugins = tuple(said.get("plugins", ()))
            if said.get("snapshot") or not said.get("code"):
                continue
            if said["code"] != now.setdefault(plugins, fingerprint(plugins)):
                notes.append(
                    f"the code has changed since {batch.name} was submitted; its queued jobs will run the new code "
                    "(snapshot = true in [slurm] avoids that)"
                )
        return notes

    def ended(self, job_ids: Sequence[str]) -> dict[str, str]:
        """How jobs that are gone ended, where accounting tells."""
        return scheduler.last_states(job_ids)

    def cancel_queued(self, ids: Sequence[str], results: Path) -> int:
        """Take trials out of their jobs, and cancel jobs that have nothing else to do; returns how many trials."""
        submitted = list(batches.open_batches(results))
        if not submitted or not scheduler.is_here():
            return 0
        wanted = set(ids)
        live = set(scheduler.queue())
        stop: list[str] = []
        told = 0
        for batch in submitted:
            jobs = {job: trials for job, trials in batches.jobs_of(batch).items() if job in live}
            here = {trial for trials in jobs.values() for trial in trials} & wanted
            if not here:
                continue
            out = batches.take_out(batch, here)
            told += len(here)
            for job, trials in jobs.items():
                rest = [t for t in trials if t not in out]
                if here & set(trials) and all(status_of(results, t) in ENDED for t in rest):
                    stop.append(job)
        if stop:
            scheduler.cancel(stop)
        return told

    def diagnose(self, results: Path) -> list[str]:
        """What this cluster offers, for ``harness doctor``."""
        from harness_slurm.diagnosis import report

        return report(results)


def check_shared(results: Path, hosts: set[str] | None = None) -> None:
    """Refuse a results folder that is this machine's own while the nodes are other machines.

    Raises:
        HarnessError: naming the folder.
    """
    folder = results.resolve()
    private = [tempfile.gettempdir(), "/tmp", *LOCAL_FOLDERS]
    if not any(folder.is_relative_to(place) for place in private):
        return
    here = {*LOCAL_ADDRESSES, socket.gethostname(), socket.getfqdn(), os.uname().nodename}
    others = (hosts if hosts is not None else scheduler.node_hosts()) - here
    if others:
        raise HarnessError(
            f"the nodes ({', '.join(sorted(others)[:2])} ...) do not see it: it is on this machine only",
            f"--results {results}",
            "give a folder on a shared file system",
        )


def _spent(results: Path, trial_id: str, job: str | None) -> bool:
    """Whether a live job has already failed at a trial that ``harness retry`` lets run again."""
    found = standing(trial_folder(results, trial_id))
    return found.status == "missing" and found.attempt is not None and found.error != "" and found.job == job
