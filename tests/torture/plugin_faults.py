"""Careless and hostile components, one combination of kind, hook and misbehaviour after the other.

    python tests/torture/plugin_faults.py FOLDER [--shard 1/4] [--groups raises,dies] [--sample N] [--seconds S]

Every combination is a trial on a worker, followed by a healthy trial, which has to come out bit for bit as ever. What
came of it is a line in ``FOLDER/outcomes.jsonl``; lines that are there are not made again, so a run may be interrupted.
Workers stay as long as they live, as in any run.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PLUGIN = HERE / "misbehaving.py"
TIMEOUT_S = 6.0
SUITE = """
[suite]
name = "misbehaving"
seeds = [0]
[training]
epochs = 2
batch_size = 32
validation = 0.25
optimizer = {{ name = "sgd", lr = 0.1 }}
[evaluation]
train_every = 1
[execution]
device = "cpu"
checkpoint_epochs = 1
timeout_s = {timeout}
[[setting]]
dataset = {dataset}
model = {model}
noise = {noise}
[[method]]
name = "tested"
loss = {loss}
transforms = {transforms}
algorithms = {algorithms}
"""
HOOKS = {
    "dataset": ("factory",),
    "noise": ("__init__", "__call__", "transition_matrix"),
    "model": ("__init__", "forward"),
    "transform": ("__init__", "__call__", "forward"),
    "loss": (
        "__init__",
        "__call__",
        "setup",
        "epoch_start",
        "after_forward",
        "after_losses",
        "epoch_end",
        "state_dict",
    ),
    "algorithm": (
        *("__init__", "setup", "epoch_start", "next_pass", "train_step", "before_forward", "after_forward"),
        *(
            "compute_losses",
            "after_losses",
            "after_backward",
            "after_step",
            "epoch_end",
            "diagnostics",
            "predict",
            "state_dict",
        ),
    ),
    "host": ("harness_trial_start", "harness_epoch_end", "harness_trial_finish"),
}
LABELS = {
    "dataset": "datasets.bad.data",
    "noise": "noise.bad.noise",
    "model": "models.bad.model",
    "transform": "transforms.bad.transform",
    "loss": "losses.bad.loss",
    "algorithm": "algorithms.bad.algorithm",
}


@dataclasses.dataclass(frozen=True)
class Combination:
    """One misbehaviour in one hook of one kind of component."""

    kind: str
    hook: str
    what: str

    @property
    def name(self) -> str:
        return f"{self.kind} {self.hook} {self.what}"

    @property
    def label(self) -> str:
        """How the component at fault is named; a host hook has no component."""
        return "algorithms.bad.replacing" if self.hook == "compute_losses" else LABELS.get(self.kind, "")

    def suite(self, folder: Path) -> Path:
        """A suite of one trial that has the misbehaviour."""
        bad = {"at": self.hook, "what": self.what}
        parts: dict[str, Any] = {
            "dataset": {"name": "bad.data"},
            "noise": {"name": "bad.noise"},
            "model": {"name": "bad.model"},
            "loss": {"name": "ce"},
            "transforms": [],
            "algorithms": [],
        }
        if self.kind in ("dataset", "noise", "model"):
            parts[self.kind].update(bad)
        elif self.kind == "host":
            parts["model"].update(bad)
        elif self.kind == "loss":
            parts["loss"] = {"name": "bad.loss", **bad}
        elif self.kind == "transform":
            parts["transforms"] = [{"name": "bad.transform", **bad}]
        elif self.kind == "algorithm":
            name = "bad.replacing" if self.hook == "compute_losses" else "bad.algorithm"
            parts["algorithms"] = [{"name": name, **bad}]
        if self.hook == "transition_matrix":
            parts["algorithms"] = [{"name": "forward", "matrix": "noise.matrix"}]
        return write_suite(folder, parts)


def write_suite(folder: Path, parts: dict[str, Any]) -> Path:
    from harness.testing.bench import toml

    path = folder / "suite.toml"
    path.write_text(SUITE.format(timeout=TIMEOUT_S, **{key: toml(value) for key, value in parts.items()}))
    return path


def combinations() -> list[Combination]:
    """All of them, in a fixed shuffled order: any part of it is a sample."""
    from misbehaving import DEEDS, DIES, HANGS, WRONG

    found = []
    for kind, hooks in HOOKS.items():
        for hook in hooks:
            deeds: list[str] = list(DEEDS)
            if kind == "host":
                deeds = [what for what in deeds if what not in DIES or hook == "harness_trial_start"]
            if kind != "host":
                deeds += WRONG
            if hook not in ("forward", "setup", "after_step", "__call__"):
                deeds = [what for what in deeds if what not in HANGS]  # each takes its whole time limit
            found += [Combination(kind, hook, what) for what in deeds]
    random.Random(13).shuffle(found)
    return found


def group_of(what: str) -> str:
    """The kind of a misbehaviour."""
    from misbehaving import DIES, HANGS, LEAVES, RAISES, SAYS

    groups = {"raises": RAISES, "dies": DIES, "hangs": HANGS, "leaves": LEAVES, "says": SAYS}
    return next((name for name, deeds in groups.items() if what in deeds), "wrong")


def judge(combination: Combination, result: dict[str, Any] | None, environment: dict[str, Any]) -> str:
    """Whom the record names: ``right``, ``component`` (of another hook), ``innocent``, ``nobody``, or ``done`` for a
    trial that neither failed nor left anything."""
    error = (result or {}).get("error")
    named = [error] if error else [left for left in environment.get("left", ()) if left.get("component")]
    if not error and not environment.get("left"):
        return "done"
    for one in named:
        if combination.kind == "host":
            good = one.get("hook") == combination.hook
        else:
            good = one.get("component") == combination.label
        if one.get("component") and not good:
            return "innocent"
        if good:
            hook = "dataset" if combination.hook == "factory" else combination.hook
            return "right" if one.get("hook") == hook else "component"
    return "nobody"


class Torture:
    """Runs combinations in a folder and keeps what came of them."""

    def __init__(self, folder: Path, workers: int = 1) -> None:
        from harness.results.records import open_results, submit_trials
        from harness.suite.load import load_suite

        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.results = open_results(folder / "results")
        self.workers = workers
        self._submit = submit_trials
        self._load = load_suite
        self.healthy = self._trial(Combination("none", "", ""))
        self.reference: list[Any] | None = None

    def _trial(self, combination: Combination) -> Any:
        suite = self._load(combination.suite(self.folder), plugins=[PLUGIN])
        trial = next(iter(suite.entries())).trial
        self._submit(self.results, [trial])
        return trial

    @property
    def lines(self) -> list[dict[str, Any]]:
        path = self.folder / "outcomes.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def run(self, chosen: Iterable[Combination], seconds: float = float("inf")) -> list[dict[str, Any]]:
        """Run what has no outcome yet, until the time is over; all outcomes so far."""
        from harness.execution.pool import Pool

        done = {line["name"] for line in self.lines}
        todo = [(c, self._trial(c)) for c in chosen if c.name not in done]
        order: list[str] = [self.healthy.id]
        for _, trial in todo:
            order += [trial.id, self.healthy.id]
        started = time.monotonic()
        ended: collections.Counter[str] = collections.Counter()
        healthy: list[str] = []

        def heard(event: dict[str, Any]) -> None:
            if event["event"] not in ("done", "failed", "interrupted", "error"):
                ended[f"{event['event']} {event.get('id')}"] += 1
                return
            if event["id"] == self.healthy.id:
                healthy.append(event["event"])
                self._compare(healthy, todo, ended)
            if time.monotonic() - started > seconds:
                pool.interrupt()

        pool = Pool(self.results, self.workers, plugins=[str(PLUGIN)], on_event=heard)
        limits = {trial.id: TIMEOUT_S for _, trial in todo}
        pool.run(order, timeouts=limits, rerun={self.healthy.id})
        return self.lines

    def _compare(
        self, healthy: Sequence[str], todo: Sequence[tuple[Combination, Any]], ended: collections.Counter[str]
    ) -> None:
        """A healthy trial has ended: the outcome of the combination before it."""
        from harness.results.records import attempts, latest_attempt, read_json, read_lines, trial_folder

        newest = attempts(trial_folder(self.results, self.healthy.id))
        lines = read_lines(newest[-1] / "epochs.jsonl") if newest else None
        if self.reference is None:
            self.reference = lines
            return
        position = len(healthy) - 2
        if position >= len(todo):
            return
        combination, trial = todo[position]
        attempt = latest_attempt(trial_folder(self.results, trial.id))
        result = read_json(attempt / "result.json") if attempt is not None else None
        environment = (read_json(attempt / "environment.json") if attempt is not None else None) or {}
        outcome = {
            "name": combination.name,
            **dataclasses.asdict(combination),
            "status": result["status"] if result else None,
            "error": (result or {}).get("error")
            and {k: str(v)[:300] for k, v in result["error"].items() if k != "traceback"},
            "left": environment.get("left", []),
            "named": judge(combination, result, environment),
            "next": "same" if healthy[-1] == "done" and lines == self.reference else "other",
            "died": ended[f"died {trial.id}"],
            "log": (attempt / "log.txt").stat().st_size if attempt and (attempt / "log.txt").exists() else 0,
        }
        with open(self.folder / "outcomes.jsonl", "a") as file:
            file.write(json.dumps(outcome) + "\n")
        for old in newest[:-1]:
            shutil.rmtree(old)


def table(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The outcomes by kind of misbehaviour."""
    rows: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
    for line in lines:
        rows[group_of(line["what"])].append(line)
    yield f"{'misbehaviour':14}{'trials':>8}{'failed':>8}{'right':>7}{'hook':>6}{'nobody':>8}{'innocent':>10}{'next same':>11}"
    for name, found in [*sorted(rows.items()), ("all", list(lines))]:
        named = collections.Counter(line["named"] for line in found)
        failed = sum(line["status"] == "failed" for line in found)
        same = sum(line["next"] == "same" for line in found)
        yield (
            f"{name:14}{len(found):8}{failed:8}{named['right']:7}{named['component']:6}{named['nobody']:8}"
            f"{named['innocent']:10}{same:11}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--shard", default="1/1", help="which part of how many")
    parser.add_argument("--groups", default="", help="of these misbehaviours only: raises, wrong, leaves, says, ...")
    parser.add_argument("--only", default="", help="those in whose names this stands: 'transform forward'")
    parser.add_argument("--sample", type=int, default=None, help="the first so many of the part")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    part, parts = map(int, given.shard.split("/"))
    groups = given.groups.split(",") if given.groups else ()
    chosen = [one for one in combinations() if given.only in one.name and (not groups or group_of(one.what) in groups)]
    chosen = chosen[part - 1 :: parts][: given.sample]
    folder = given.folder or Path(tempfile.mkdtemp(prefix="misbehaving-"))
    lines = Torture(folder, given.workers).run(chosen, given.seconds)
    print(f"{len(combinations())} combinations, {len(lines)} outcomes in {folder}")
    print("\n".join(table(lines)))
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    sys.exit(main())
