"""Arrays to SLURM through submitit, and its refusals in one line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.results.records import done_marker, trial_folder, write_json
from harness.source import code_commit
from harness_slurm import source
from harness_slurm.job import Order, RunTrials
from harness_slurm.jobs import Array
from harness_slurm.resources import NEVER
from harness_slurm.scheduler import shorten

REFUSALS = (
    (r"partition", "partition"),
    (r"account", "account"),
    (r"qos|QOS", "qos"),
    (r"time limit", "timeout_min"),
    (r"feature|constraint", "constraint"),
    (r"generic resource|gres|GRES", "gpus_per_node"),
    (r"[Mm]emory", "mem_gb"),
    (r"node configuration", "gpus_per_node, cpus_per_task or mem_gb"),
    (r"CPU count", "cpus_per_task"),
)
"""Which key SLURM complains about."""


def submit(
    arrays: Sequence[Array],
    results: Path,
    batch: Path,
    *,
    suite: str,
    plugins: Sequence[str] = (),
    rerun: Collection[str] = (),
    snapshot: bool = False,
) -> dict[str, list[str]]:
    """Submit arrays and remember them in the batch's ``jobs.json``, array by array.

    Returns:
        Trials by job id.

    Raises:
        HarnessError: with SLURM's own words and the key they are about. What was submitted before stays.
    """
    setup: list[str] = []
    files = list(plugins)
    code = source.fingerprint(files)
    if snapshot:
        files = source.snapshot(batch / "code", files)
        setup = [source.setup_line(batch / "code")]
    commit = code_commit()
    record: dict[str, Any] = {
        "suite": suite,
        "submitted": time.time(),
        "commit": commit,
        "code": code,
        "snapshot": snapshot,
        "plugins": list(plugins),
        "rerun": {trial_id: _finisher(results, trial_id) for trial_id in rerun},
        "jobs": [],
    }
    numbers: list[str] = []
    for array in arrays:
        orders = [
            Order(
                str(results),
                str(batch),
                list(job.trials),
                rerun=[i for i in job.trials if i in rerun],
                plugins=files,
                trials_per_gpu=array.resources.trials_per_gpu,
                code=code,
                commit=commit,
                since=time.time(),
            )
            for job in array.jobs
        ]
        after = numbers[array.after] if array.after is not None else None
        job_ids = _send(array, orders, batch / "log", f"harness-{suite}", setup, after)
        numbers.append(job_ids[0].partition("_")[0])
        record["jobs"] += [{"job": i, "trials": order.ids} for i, order in zip(job_ids, orders, strict=True)]
        write_json(batch / "jobs.json", record, indent=None)
    return {job["job"]: job["trials"] for job in record["jobs"]}


def _send(
    array: Array, orders: Sequence[Order], folder: Path, name: str, setup: Sequence[str], after: str | None
) -> list[str]:
    from submitit import AutoExecutor

    resources = array.resources
    parallel = array.parallel or len(orders)
    parameters = resources.parameters(name, array.minutes, parallel, setup)
    if after is not None and "slurm_dependency" not in parameters:
        parameters["slurm_dependency"] = f"afterany:{after}"
    python = {"slurm_python": resources.slurm_python} if resources.slurm_python else {}
    timeouts = int(resources.additional.get("slurm_max_num_timeout", NEVER))
    said = io.StringIO()  # submitit prints SLURM's message and raises it as well
    try:
        with contextlib.redirect_stderr(said):
            executor = AutoExecutor(folder=folder, cluster="slurm", slurm_max_num_timeout=timeouts, **python)
            executor.update_parameters(**parameters)
            with executor.batch():
                sent = [executor.submit(RunTrials(), dataclasses.asdict(order)) for order in orders]
        return [job.job_id for job in sent]
    except (RuntimeError, subprocess.SubprocessError, OSError) as error:
        raise refusal(said.getvalue() or str(error), parameters) from None
    except (AssertionError, NameError, TypeError, ValueError) as error:
        raise HarnessError(str(error).partition("\n")[0], "slurm", "see submitit's AutoExecutor for its keys") from None


def refusal(message: str, parameters: Mapping[str, Any]) -> HarnessError:
    """SLURM's refusal of a job as one line with the key it is about."""
    words = shorten(message)
    key = next((key for pattern, key in REFUSALS if re.search(pattern, words)), "")
    given = parameters.get(f"slurm_{key}", parameters.get(key))
    where = f"slurm.{key}" if key else "slurm"
    return HarnessError(
        f"SLURM refuses: {words}" + (f" ({key} = {given!r})" if given is not None else ""),
        where,
        "`harness doctor` tells what this cluster has",
    )


def _finisher(results: Path, trial_id: str) -> str | None:
    """The attempt that holds a trial's result before it is run again."""
    marker = done_marker(trial_folder(results, trial_id))
    return str(marker["attempt"]) if marker is not None else None
