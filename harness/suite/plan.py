"""The plan: the trials of a suite with their status, and how long the missing ones will take."""

from __future__ import annotations

import dataclasses
import hashlib
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.content import ABSENT
from harness.errors import SuiteError, writing
from harness.files import Damage, read_bytes
from harness.registry import printing_aside
from harness.results.records import (
    FINISHED,
    STATUSES,
    UNFINISHED,
    Standing,
    Status,
    Verdicts,
    final_attempt,
    known_trials,
    read_json,
    read_lines,
    standing,
    trial_folder,
    write_bytes,
)
from harness.results.records.manifests import read_manifests
from harness.results.records.standing import NOTHING, Look
from harness.suite.load import Entry, Suite, Template
from harness.suite.search import Search, searches
from harness.suite.select import matches, parse_selection
from harness.trial import Trial, canonical
from harness.words import counted

MOST_TOLD = 10
RARE = frozenset({"queued", "lost", "quarantined"})
"""Statuses that are counted only where a trial has one."""


@dataclasses.dataclass
class PlannedTrial:
    """A trial of the suite and where it stands."""

    entry: Entry
    standing: Standing
    seconds: float | None = None
    """What it is expected to take, where recorded trials tell."""

    @property
    def status(self) -> Status:
        return self.standing.status

    @property
    def trial(self) -> Trial:
        return self.entry.trial

    @property
    def id(self) -> str:
        return self.entry.trial.id


@dataclasses.dataclass
class Plan:
    """The trials of a suite with their status.

    Attributes:
        trials: in the order in which they are to run.
        waiting: compared trials that a search has not chosen parameters for yet.
        chosen: what a search chose, by (method, setting).
        undecided: searches that are over without a choice.
        searches: the candidates of every search with their scores.
        tries: candidates that a method's parameters were chosen among, on the setting where these are most: those of its
            search, or what its ``tries`` says of a search elsewhere; 1 without either.
        notes: what a reader should know (unequal numbers of tries, a search that could not choose).
        looks: at the trials' records when the plan was made, by trial.
    """

    suite: Suite
    results: Path
    trials: list[PlannedTrial]
    waiting: int = 0
    chosen: dict[tuple[str, str], Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    undecided: int = 0
    searches: list[Search] = dataclasses.field(default_factory=list)
    tries: dict[str, int] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    looks: Mapping[str, Look] = dataclasses.field(default_factory=dict, repr=False)

    def counts(self) -> Counter[Status]:
        """How many trials have each status; of the rarer ones those that there are."""
        found = Counter(planned.status for planned in self.trials)
        return Counter({status: found[status] for status in STATUSES if found[status] or status not in RARE})

    @property
    def left(self) -> int:
        """Trials without a result that a run would go on with."""
        return len(self.select(*UNFINISHED))

    def select(self, *statuses: Status) -> list[PlannedTrial]:
        """The trials that have one of the statuses."""
        return [planned for planned in self.trials if planned.status in statuses]

    def remaining_seconds(self, workers: int = 1) -> float | None:
        """Time that the unfinished trials will take on ``workers`` processes; ``None`` when nothing tells."""
        times = [planned.seconds for planned in self.select(*UNFINISHED)]
        known = [seconds for seconds in times if seconds is not None]
        if not known:
            return 0.0 if not times else None
        return (sum(known) + (len(times) - len(known)) * statistics.mean(known)) / max(1, workers)

    def manifest(self) -> dict[str, Any]:
        """Which trial is which method, setting and seed: display names are not in a trial's id."""
        return {
            "suite": self.suite.name,
            "file": self.suite.path.name,
            "arguments": list(self.suite.arguments),
            "description": self.suite.table.description,
            "comparable": self.suite.comparable,
            "methods": [method.name for method in self.suite.methods],
            "settings": [setting.name for setting in self.suite.settings],
            "seeds": list(self.suite.table.seeds),
            "tries": dict(self.tries),
            **({"search_over": "suite"} if self.suite.table.search_over == "suite" else {}),
            "trials": [
                {
                    "id": planned.id,
                    "method": planned.entry.method,
                    "setting": planned.entry.setting,
                    "seed": planned.entry.seed,
                    "oracle": planned.entry.oracle,
                    "tuning": planned.entry.tuning,
                    **({"estimated": True} if planned.entry.estimated else {}),
                    "candidate": planned.entry.candidate,
                }
                for planned in self.trials
            ],
        }


def make_plan(
    suite: Suite, results: Path, selections: Sequence[str] = (), queue: Mapping[str, Mapping[str, Any]] | None = None
) -> Plan:
    """The plan of a suite against a results folder.

    Args:
        suite: a loaded suite.
        results: the results folder; it need not exist.
        selections: only trials that one of these selects, such as ``method=CDR*,noise.rate=0.4``.
        queue: what executors have in hand, by trial; what is queued is missing without.

    Raises:
        SuiteError: for a selection that cannot be read or selects nothing.
    """
    clauses = [parse_selection(text) for text in selections]
    existing = known_trials(results)
    plan = Plan(suite, results, [])
    entries = [*_tuning(suite), *suite.entries()]
    chosen = _choose(plan)
    plan.chosen = {(t.method.name, t.setting.name): t.candidate or {} for t in chosen}
    entries += [template.entry(seed) for seed in suite.table.seeds for template in chosen]
    if clauses:
        known = {key for entry in entries[:1] for key in entry.flat} | {key for e in entries for key in _keys(e)}
        entries = [e for e in entries if any(matches(c, e.flat, known) for c in clauses)]
        if not entries:
            raise SuiteError(
                "selects none of the suite's trials", f"--select {' '.join(selections)}", "`harness plan` lists them"
            )
    verdicts, renew, queued = Verdicts(results), suite.host.registry.renewed, queue or {}
    trials = trial_folder(results, "")
    for entry in entries:
        trial = entry.trial
        verdict = verdicts.of(trial.id) if trial.id in existing else NOTHING
        folder, digests = trials / trial.id, trial.options["digests"]
        found = standing(folder, digests, queued.get(trial.id), renew=renew, verdict=verdict)
        plan.trials.append(PlannedTrial(entry, found))
    verdicts.save()
    plan.looks = verdicts.looks
    plan.notes += _told(plan)
    plan.notes += _other_data(plan)
    estimate(plan)
    if len(set(plan.tries.values())) > 1:
        tries = ", ".join(f"{name} {count}" for name, count in plan.tries.items())
        plan.notes.append(f"the methods have unequal numbers of tries ({tries}), which favours the larger")
    _let_plugins_modify(plan)
    return plan


def _told(plan: Plan) -> list[str]:
    """What is to be said of records that are in quarantine, or that hold no digests."""
    aside = plan.select("quarantined")
    notes = [f"trial {planned.id} is in quarantine: {planned.standing.reason}" for planned in aside[:MOST_TOLD]]
    if (count := len(aside)) > MOST_TOLD:
        notes.append(f"{count - MOST_TOLD} more trials are in quarantine")
    if count:
        notes.append("`harness retry SUITE --quarantined` moves their records aside, so that they run again")
    if unsealed := sum(planned.standing.sealed is False for planned in plan.trials):
        told = counted(unsealed, "result is unsealed (it holds", "results are unsealed (they hold")
        notes.append(f"{told} no digests of the files); `harness collect --seal` seals what is there")
    return notes


def _other_data(plan: Plan) -> list[str]:
    """What is to be said of results of this suite whose data have changed since: they are another data set's."""
    contents = {setting.name: setting.dataset for setting in plan.suite.settings if setting.dataset.content}
    if absent := [name for name, dataset in contents.items() if dataset.content == ABSENT]:
        return [f"the data of {name!r} cannot be read here, so that its results are not found" for name in absent]
    if not contents:
        return []
    planned = {one.id for one in plan.trials}
    manifests = [
        one for one in read_manifests(plan.results, plan.suite.name)[0].values() if one["suite"] == plan.suite.name
    ]
    former = {line["id"]: line["setting"] for one in manifests for line in one["trials"] if line["id"] not in planned}
    counts: Counter[tuple[str, str]] = Counter()
    for trial, setting in former.items():
        attempt = final_attempt(trial_folder(plan.results, trial)) if setting in contents else None
        words = read_json(attempt / "trial.json") if attempt is not None else None
        found = words["identity"]["dataset"] if isinstance(words, dict) else {}
        content, present = found.get("content", ""), contents.get(setting)
        if present is not None and content and found == {**present.to_json(), "content": content}:
            counts[setting, content] += content != present.content
    return [
        f"the data of {setting!r} have changed: {counted(count, 'result')} of their former content {content} stay, as another "
        f"data set's; the present content is {contents[setting].content}"
        for (setting, content), count in counts.items()
        if count
    ]


def _let_plugins_modify(plan: Plan) -> None:
    """Every plugin's ``harness_plan_modify`` in turn; one that raises is left out with what it had changed."""
    before = list(plan.trials)

    def check() -> None:
        if not isinstance(plan.trials, list):
            raise TypeError(f"plan.trials is a list of planned trials, not {type(plan.trials).__name__}")
        for planned in plan.trials:
            if not isinstance(planned, PlannedTrial):
                raise TypeError(f"plan.trials holds planned trials, not {type(planned).__name__}")

    def undo(words: str) -> None:
        plan.trials = list(before)
        plan.notes.append(f"{words}; what plugins changed in the plan is left out")

    with printing_aside():
        plan.suite.host.call("harness_plan_modify", on_error=undo, after=check, plan=plan)


def _keys(entry: Entry) -> tuple[str, ...]:
    return tuple(entry.flat)


def _tuning(suite: Suite) -> list[Entry]:
    return [
        template.entry(seed, tuning=True)
        for seed in suite.table.tuning_seeds
        for method, setting in suite.pairs()
        if method.table.search
        for template in suite.templates(method, setting)
    ]


def _choose(plan: Plan) -> list[Template]:
    """What the searches chose, as templates of compared trials. The plan is told how many compared trials wait for a
    choice, among how many candidates each method's parameters were chosen, and what is to be said of the searches."""
    suite = plan.suite
    plan.tries = {method.name: method.table.tries or 1 for method in suite.methods}
    plan.searches = searches(suite, plan.results)
    positions: dict[tuple[str, str], int] = {}
    for search in plan.searches:
        plan.tries[search.method] = max(plan.tries[search.method], search.tries)
        plan.notes += [search.note] if search.note else []
        if not search.finished:
            plan.waiting += len(suite.table.seeds) * len(search.settings)
        elif search.chosen is None:
            plan.undecided += 1
        else:
            positions.update({(search.method, setting): search.chosen for setting in search.settings})
    return [
        suite.templates(method, setting)[positions[method.name, setting.name]]
        for method, setting in suite.pairs()
        if (method.name, setting.name) in positions
    ]


def estimate(plan: Plan) -> None:
    """Expected seconds of trials that are not done, from recorded ones: the same method and setting, else the mean of
    the setting's methods, scaled by epochs."""
    rates: dict[tuple[str, str], list[float]] = defaultdict(list)
    by_setting: dict[str, list[float]] = defaultdict(list)
    todo = [planned for planned in plan.trials if planned.status in UNFINISHED]
    if not todo:
        return
    for planned in plan.trials:
        key = (planned.entry.method, planned.entry.setting)
        if planned.status in (*FINISHED, "stale") and len(rates[key]) < 3:
            seconds = seconds_per_epoch(plan.results, planned.id)
            if seconds is not None:
                rates[key].append(seconds)
                by_setting[planned.entry.setting].append(seconds)
    everything = [value for values in by_setting.values() for value in values]
    means: dict[tuple[str, str], float | None] = {}
    for planned in todo:
        key = (planned.entry.method, planned.entry.setting)
        if key not in means:
            known = rates.get(key) or by_setting.get(planned.entry.setting) or everything
            means[key] = statistics.fmean(known) if known else None
        if (mean := means[key]) is not None:
            planned.seconds = mean * planned.trial.identity["training"]["epochs"]


def seconds_per_epoch(results: Path, trial_id: str) -> float | None:
    """Mean seconds of an epoch with its evaluation, from ``timing.jsonl``."""
    attempt = final_attempt(trial_folder(results, trial_id))
    lines = read_lines(attempt / "timing.jsonl") if attempt is not None else []
    times = [float(line["train_seconds"]) + float(line["evaluation_seconds"]) for line in lines]
    return statistics.mean(times) if times else None


def write_manifest(plan: Plan) -> Path:
    """Write the suite's manifest under ``suites/<suite>/<digest>.json`` and return its path. One that is there and is not
    what its name says has been damaged, and is written anew."""
    content = canonical(plan.manifest()).encode()
    path = plan.results / "suites" / plan.suite.slug / f"{hashlib.sha256(content).hexdigest()[:16]}.json"
    with writing(path, "free some space, or mend its permissions"):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not _holds(path, content + b"\n"):
            if path.is_dir() and not path.is_symlink():
                path.rename(path.with_name(f".aside-{time.time_ns()}"))
            write_bytes(path, content + b"\n")
        path.touch()
    return path


def _holds(path: Path, content: bytes) -> bool:
    try:
        return read_bytes(path) == content
    except Damage:
        return False
