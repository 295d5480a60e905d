"""What a job asks for: the keys of ``[slurm]``, checked, and as submitit wants them."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import HarnessError, unknown
from harness.words import counted

SIGNAL_DELAY_S = 90
"""Seconds before the time limit at which SLURM signals; the trials checkpoint within them."""
SHORTEST_MIN = 15
"""Least minutes that a fitted limit asks for: submitit takes every preemption of a job of ten or less for a timeout."""
NEVER = 10**9
"""submitit gives a job up after this many timeouts; its default of 3 would end a long trial."""
GENERIC = {
    "name": str,
    "nodes": int,
    "tasks_per_node": int,
    "stderr_to_stdout": bool,
}
"""submitit's own keys without a prefix, besides those that Resources names."""


@dataclasses.dataclass(frozen=True)
class Resources:
    """The resources of one job, and how it is filled. See :class:`harness_slurm.executor.Slurm` for the keys."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gpus_per_node: int = 0
    cpus_per_task: int | None = None
    mem_gb: float | None = None
    timeout_min: int = 240
    trials_per_job: int = 8
    trials_per_gpu: int = 1
    max_parallel: int | None = None
    setup: tuple[str, ...] = ()
    slurm_python: str | None = None
    additional: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def check(self, where: str = "slurm") -> None:
        """Refuse what cannot be.

        Raises:
            HarnessError: for an unknown key, or for ``trials_per_gpu`` on a job without GPUs.
        """
        for key, value in self.additional.items():
            if key.startswith("slurm_"):
                valid = _submitit_parameters()
                if key.removeprefix("slurm_") not in valid and key != "slurm_max_num_timeout":
                    raise HarnessError(unknown("key", key, {f"slurm_{name}" for name in valid}), where)
            elif key in GENERIC:
                if not isinstance(value, GENERIC[key]) or (GENERIC[key] is int and isinstance(value, bool)):
                    raise HarnessError(f"should be {GENERIC[key].__name__}, got {value!r}", f"{where}.{key}")
            else:
                known = [field.name for field in dataclasses.fields(self) if field.name != "additional"]
                known += [*GENERIC, "wait", "resubmit", "poll_s", "snapshot"]
                raise HarnessError(unknown("key", key, known), where, "further keys of submitit begin with slurm_")
        asks_gpus = self.gpus_per_node or any("gpu" in key or key == "slurm_gres" for key in self.additional)
        if self.trials_per_gpu > 1 and not asks_gpus:
            raise HarnessError(
                f"{self.trials_per_gpu} trials share a GPU, but the job asks for none",
                f"{where}.trials_per_gpu",
                "set gpus_per_node, or cpus_per_task for trials side by side on CPUs",
            )

    def check_interval(self, minutes: float, where: str = "slurm") -> None:
        """Refuse a limit within which no checkpoint would be written.

        Raises:
            HarnessError: naming limit and interval.
        """
        if self.timeout_min * 60 - self.signal_delay_s < minutes * 60:
            raise HarnessError(
                f"{self.timeout_min} min are too short for one checkpoint interval "
                f"(execution.checkpoint_minutes = {minutes:g})",
                f"{where}.timeout_min",
                "raise it, or checkpoint more often",
            )

    @property
    def signal_delay_s(self) -> int:
        """Seconds before its end at which the job is told."""
        given = self.additional.get("slurm_signal_delay_s")
        return int(given) if given is not None else min(SIGNAL_DELAY_S, 20 * self.timeout_min)

    @property
    def side_by_side(self) -> int:
        """How many trials of a job run at once, as far as the login node can tell."""
        return self.gpus_per_node * self.trials_per_gpu if self.gpus_per_node else self.cpus_per_task or 1

    @property
    def key(self) -> str:
        """Equal for trials that may share a job."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, default=str)

    def limit(self, seconds: float | None) -> int:
        """Minutes to ask for: what the recorded times suggest, doubled, with ten minutes to start; at most
        ``timeout_min``, and that where nothing is recorded. A job that needs longer goes on after a requeue."""
        if seconds is None:
            return self.timeout_min
        return min(self.timeout_min, max(SHORTEST_MIN, math.ceil(10 + 2 * seconds / 60)))

    def parameters(self, name: str, minutes: int, parallel: int | None, setup: Sequence[str] = ()) -> dict[str, Any]:
        """Arguments of submitit's ``AutoExecutor.update_parameters``.

        Args:
            name: the job's name, unless the suite gives one.
            minutes: time limit.
            parallel: most tasks of the array that run at once.
            setup: lines to run before those of the suite.
        """
        cpus = self.cpus_per_task or self.side_by_side
        wanted: dict[str, Any] = {
            "name": name,
            "timeout_min": minutes,
            "mem_gb": self.mem_gb,
            "cpus_per_task": cpus,
            "gpus_per_node": self.gpus_per_node or None,
            "slurm_partition": self.partition,
            "slurm_account": self.account,
            "slurm_qos": self.qos,
            "slurm_constraint": self.constraint,
            "slurm_array_parallelism": parallel,
            "slurm_signal_delay_s": self.signal_delay_s,
            "slurm_setup": [*setup, *self.setup] or None,
        }
        own = {key: value for key, value in self.additional.items() if key != "slurm_max_num_timeout"}
        return {key: value for key, value in {**wanted, **own}.items() if value is not None}

    def words(self) -> str:
        """For people: ``gpu, 1 GPU, 4 CPUs, 16 GB``."""
        parts = [self.partition or "default partition"]
        parts += [counted(self.gpus_per_node, "GPU")] if self.gpus_per_node else []
        cpus = self.cpus_per_task or self.side_by_side
        parts += [counted(cpus, "CPU")]
        parts += [f"{self.mem_gb:g} GB"] if self.mem_gb else []
        parts += [f"{key.removeprefix('slurm_')}={value}" for key, value in self.additional.items()]
        return ", ".join(parts)


def _submitit_parameters() -> set[str]:
    from submitit import SlurmExecutor

    return set(SlurmExecutor._valid_parameters())
