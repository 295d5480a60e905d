"""From trials to array jobs: grouped by what they ask for, packed, cut to what the cluster allows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from harness.errors import HarnessError
from harness.plugins import load_host
from harness.results.records import read_trial
from harness.suite.load import Method, Setting, Suite
from harness.suite.plan import Plan, PlannedTrial
from harness.trial import Trial
from harness_slurm import cost
from harness_slurm.packing import Item, pack
from harness_slurm.resources import Resources

FILL = 0.8
"""Share of its time limit that a job's recorded cost may take."""


@dataclasses.dataclass(frozen=True)
class Job:
    """Trials of one job, in order, and the recorded seconds that they need on the job's workers together."""

    trials: tuple[str, ...]
    seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class Array:
    """Jobs that are submitted together: one array of SLURM's."""

    resources: Resources
    jobs: tuple[Job, ...]
    minutes: int
    parallel: int | None
    after: int | None = None
    """Position of the array that must have ended before, where ``max_parallel`` would not hold otherwise."""

    @property
    def trials(self) -> int:
        return sum(len(job.trials) for job in self.jobs)

    @property
    def gpu_hours(self) -> float | None:
        """Expected GPU-hours; ``None`` where no recorded trial tells."""
        known = [job.seconds for job in self.jobs if job.seconds is not None]
        return sum(known) * self.resources.gpus_per_node / 3600 if len(known) == len(self.jobs) else None


ResourcesFor = Callable[[str, str], Resources]
"""Resources of a method's trials on a setting, both by name."""


def make_arrays(
    ids: Sequence[str], results: Path, plan: Plan | None, resources: ResourcesFor, array_size: int
) -> list[Array]:
    """Arrays for trials.

    Args:
        ids: the trials, in the order in which their results are wanted.
        results: the results folder, from which a trial is read that is not in the plan.
        plan: the suite's plan.
        resources: what the trials of a method on a setting ask for.
        array_size: the cluster's MaxArraySize.

    Raises:
        HarnessError: for resources that cannot be.
    """
    planned = {p.id: p for p in plan.trials} if plan is not None else {}
    groups: dict[str, tuple[Resources, list[str]]] = {}
    trials: dict[str, Trial] = {}
    for trial_id in dict.fromkeys(ids):
        p = planned.get(trial_id)
        trials[trial_id] = p.trial if p is not None else read_trial(results, trial_id)
        wanted = resources(p.entry.method, p.entry.setting) if p is not None else resources("", "")
        groups.setdefault(wanted.key, (wanted, []))[1].append(trial_id)
    host = plan.suite.host if plan is not None else load_host()
    costs = cost.costs([planned[i] for i in trials if i in planned], host)
    arrays: list[Array] = []
    for wanted, members in groups.values():
        _check_intervals(wanted, [trials[i] for i in members])
        arrays += _arrays(wanted, members, trials, planned, costs, array_size)
    return arrays


def _arrays(
    wanted: Resources,
    ids: Sequence[str],
    trials: Mapping[str, Trial],
    planned: Mapping[str, PlannedTrial],
    costs: Mapping[str, float],
    array_size: int,
) -> Iterator[Array]:
    recorded = cost.seconds(planned, ids) is not None
    longest = FILL * wanted.timeout_min * 60 * wanted.side_by_side if recorded else math.inf
    affinity = {i: _data_key(trials[i]) for i in ids}
    packed = pack([Item(i, costs.get(i, 1.0), affinity[i]) for i in ids], wanted.trials_per_job, longest)
    filled = [tuple(item.id for item in items) for items in packed]
    jobs = [Job(members, _wall(wanted, planned, members)) for members in filled]
    times = [job.seconds for job in jobs]
    minutes = wanted.limit(max(t for t in times if t is not None) if None not in times else None)
    chunks = [jobs[start : start + array_size] for start in range(0, len(jobs), array_size)]
    for number, chunk in enumerate(chunks):
        parallel, after = None, None
        if wanted.max_parallel is not None:
            abreast = min(len(chunks), wanted.max_parallel)
            parallel = wanted.max_parallel // abreast + (number % abreast < wanted.max_parallel % abreast)
            after = number - abreast if number >= abreast else None
        yield Array(wanted, tuple(chunk), minutes, parallel, after)


def _wall(wanted: Resources, planned: Mapping[str, PlannedTrial], ids: Sequence[str]) -> float | None:
    """Seconds on a job's workers: the sum shared out, or the longest trial."""
    total = cost.seconds(planned, ids)
    if total is None:
        return None
    return max(total / wanted.side_by_side, *(planned[i].seconds or 0.0 for i in ids), 0.0)


def _data_key(trial: Trial) -> str:
    spec = trial.identity["dataset"]
    return f"{spec['name']} {spec['params']} {spec.get('content', '')}"


def _check_intervals(wanted: Resources, trials: Sequence[Trial]) -> None:
    intervals = {
        float(keys.get("checkpoint_minutes", 5.0))
        for trial in trials
        if not (keys := trial.options.get("execution", {})).get("checkpoint_epochs")
    }
    if intervals:
        wanted.check_interval(max(intervals))


def tables(suite: Suite, method: str, setting: str) -> list[tuple[str, Mapping[str, object]]]:
    """The tables ``slurm`` of a setting and of a method, in the order in which they hold, with their places."""
    found: list[tuple[str, Mapping[str, object]]] = []
    parts: list[Setting | Method] = [s for s in suite.settings if s.name == setting]
    parts += [m for m in suite.methods if m.name == method]
    for part in parts:
        table = part.tables.get("slurm")
        if table is None:
            continue
        if not isinstance(table, Mapping):
            raise HarnessError(f"should be a table, got {table!r}", f"{part.where}.slurm")
        found.append((f"{part.where}.slurm", table))
    return found
