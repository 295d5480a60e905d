"""What this cluster offers and what to put into ``[slurm]``, for ``harness doctor``."""

from __future__ import annotations

import re
import shlex
import uuid
from pathlib import Path

from harness.errors import HarnessError
from harness.words import counted
from harness_slurm import scheduler

SRUN_S = 60
GPU = re.compile(r"gpu:(?:([\w.-]+):)?(\d+)")


def report(results: Path) -> list[str]:
    """Lines for people: partitions with limits and GPUs, MaxArraySize, accounting, whether nodes see the results
    folder, and a table ``[slurm]`` to begin with."""
    if not scheduler.is_here():
        return ["slurm: not here (`sbatch` is not on PATH)"]
    try:
        config = scheduler.client("scontrol", "show", "config")
        partitions = read_partitions(scheduler.client("sinfo", "--noheader", "--format=%P|%a|%l|%D|%c|%m|%G"))
    except HarnessError as error:
        return [f"slurm: {error}"]
    version = re.search(r"SLURM_VERSION\s*=\s*(\S+)", config)
    lines = [f"slurm: version {version[1] if version else '?'}, MaxArraySize {scheduler.max_array_size()}"]
    for part in partitions:
        gpus = ", ".join(f"{count} x {kind or 'GPU'}" for kind, count in part.gpus) or "no GPUs"
        lines.append(
            f"slurm: partition {part.name}{' (default)' if part.default else ''}: {counted(part.nodes, 'node')} with "
            f"{counted(part.cpus, 'CPU')}, {part.memory} MB, {gpus}; limit {part.limit}{'' if part.up else '; it is down'}"
        )
    preempts = _setting(config, "PreemptType")
    lines.append(f"slurm: preemption {'off' if preempts in ('', 'preempt/none', '(null)') else preempts}")
    if "preempt_send_user_signal" not in config and preempts not in ("", "preempt/none", "(null)"):
        lines.append("slurm: preempted jobs get TERM and no USR2; they checkpoint on either")
    if _setting(config, "JobRequeue") == "0":
        lines.append("slurm: jobs are not requeued by default; set slurm_additional_parameters = { requeue = true }")
    storage = _setting(config, "AccountingStorageType")
    kept = storage not in ("", "accounting_storage/none", "(null)")
    lines.append(f"slurm: accounting {'kept' if kept else 'not kept: why a job was lost is not told'}")
    lines.append(f"slurm: {_shared(results)}")
    return [*lines, "slurm: to begin with:", *(f"    {line}" for line in suggestion(partitions))]


class Partition:
    """One row of sinfo."""

    def __init__(self, name: str, up: bool, limit: str, nodes: int, cpus: int, memory: int, gres: str) -> None:
        self.default = name.endswith("*")
        self.name = name.rstrip("*")
        self.up = up
        self.limit = limit
        self.nodes = nodes
        self.cpus = cpus
        self.memory = memory
        self.gpus = [(kind or "", int(count)) for kind, count in GPU.findall(gres)]

    @property
    def minutes(self) -> int | None:
        """The time limit; ``None`` for infinite."""
        found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", self.limit)
        if found is None:
            return None
        days, hours, minutes, _ = (int(part or 0) for part in found.groups())
        return (days * 24 + hours) * 60 + minutes


def read_partitions(text: str) -> list[Partition]:
    """Rows of ``sinfo --format=%P|%a|%l|%D|%c|%m|%G``."""
    rows = (line.strip().split("|") for line in text.splitlines())
    return [
        Partition(row[0], row[1] == "up", row[2], int(row[3]), int(row[4].rstrip("+")), int(row[5].rstrip("+")), row[6])
        for row in rows
        if len(row) == 7
    ]


def suggestion(partitions: list[Partition]) -> list[str]:
    """A table ``[slurm]``: the default partition or the first with GPUs, four trials to a GPU, a modest limit."""
    up = [part for part in partitions if part.up] or partitions
    if not up:
        return []
    part = next((p for p in up if p.default and p.gpus), next((p for p in up if p.gpus), up[0]))
    lines = ["[slurm]", f'partition = "{part.name}"']
    if part.gpus:
        share = max(1, part.cpus // max(1, sum(count for _, count in part.gpus)))
        lines += ["gpus_per_node = 1", f"cpus_per_task = {min(share, 8)}", "trials_per_gpu = 4"]
    else:
        lines += [f"cpus_per_task = {min(part.cpus, 8)}"]
    lines += [f"timeout_min = {min(part.minutes or 240, 240)}", "trials_per_job = 16"]
    return lines


def _setting(config: str, key: str) -> str:
    found = re.search(rf"^{key}\s*=\s*(.*?)\s*$", config, re.MULTILINE)
    return found[1] if found else ""


def _shared(results: Path) -> str:
    """Whether a node can write where results go, tried with a job of a second."""
    folder = results if results.is_dir() else results.parent
    probe = folder / f".harness-doctor-{uuid.uuid4().hex[:8]}"
    try:
        command = (
            "srun",
            "--quiet",
            "--time=1",
            f"--immediate={SRUN_S // 2}",
            "sh",
            "-c",
            f"touch {shlex.quote(str(probe))}",
        )
        scheduler.client(*command, timeout_s=SRUN_S)
        seen = probe.exists()
    except HarnessError as error:
        return f"could not try whether a node can write to {folder} ({error.what})"
    finally:
        probe.unlink(missing_ok=True)
    return f"a node can{'' if seen else ' NOT'} write to {folder}" + (
        "" if seen else "; give --results on a shared file system"
    )
