"""Trials of a component under test: a suite is written, loaded and trained just as a user's would be."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.errors import HarnessError, TrialInterrupted
from harness.suite.load import Suite, load_suite
from harness.testing.subject import TESTING, Subject
from harness.testing.verdicts import Fault
from harness.training.evaluation import Evaluator
from harness.training.loop import Loop
from harness.training.prepare import DataCache, prepare
from harness.training.run import Run
from harness.trial import Trial

CPU = torch.device("cpu")
EXAMPLES: Mapping[str, tuple[str, str]] = {
    "classification": ("testing.classes", "testing.ce"),
    "multilabel": ("testing.labels", "testing.bce"),
    "regression": ("testing.values", "testing.squared"),
}
"""The small data set and the plain loss that stand around a subject, by task."""


def toml(value: Any) -> str:
    """A plain value as TOML, tables inline."""
    if isinstance(value, Mapping):
        return (
            "{ "
            + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items() if item is not None)
            + " }"
        )
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return json.dumps(value)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A finished or interrupted training: its epochs, the run, what was evaluated, and the checkpoint if it stopped."""

    history: list[dict[str, Any]]
    run: Run
    evaluator: Evaluator
    checkpoint: dict[str, Any] | None = None


class _Journal:
    """Keeps what a loop reports, and stops it after some questions."""

    def __init__(self, stop_after: int | None) -> None:
        self.left = stop_after
        self.saved: dict[str, Any] | None = None

    def epoch(self, record: Mapping[str, Any], timing: Mapping[str, Any]) -> None: ...

    def checkpoint(self, state: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        buffer.seek(0)
        try:
            self.saved = torch.load(buffer, weights_only=True)
        except Exception as error:
            raise Fault(
                f"its state cannot be read back from a checkpoint: {' '.join(str(error).split())[:200]}",
                "keep tensors, numbers, strings, and lists or dictionaries of those in `state_dict()`",
            ) from error

    def should_stop(self) -> bool:
        if self.left is None:
            return False
        self.left -= 1
        return self.left == 0


class Bench:
    """Suites and trials around one subject, under a folder of their own."""

    def __init__(self, subject: Subject, folder: Path) -> None:
        self.subject = subject
        self.folder = folder
        self._count = 0

    # --- words -------------------------------------------------------------------------------------------------------

    def method(self) -> dict[str, Any]:
        """A method that uses the subject."""
        subject = self.subject
        loss = subject.facts.declares.replaces or self.base_loss
        method: dict[str, Any] = {"name": "tested", "loss": loss}
        if subject.kind == "loss":
            method["loss"] = subject.spec
        elif subject.kind == "transform":
            method["transforms"] = [subject.spec]
        elif subject.kind == "algorithm":
            method["algorithms"] = [subject.spec]
        return method

    @property
    def base_loss(self) -> str:
        return EXAMPLES[self.subject.task][1]

    def dataset(self, **params: Any) -> dict[str, Any]:
        """The small data set of the subject's task."""
        return {"name": EXAMPLES[self.subject.task][0], **params}

    def setting(self, **changes: Any) -> dict[str, Any]:
        """A small setting; for a data set, noise or model one that uses the subject."""
        subject = self.subject
        setting: dict[str, Any] = {"dataset": self.dataset(), "noise": "testing.flip", "model": "testing.net"}
        if subject.kind in ("dataset", "noise", "model"):
            setting[subject.kind] = subject.spec
        if subject.kind == "dataset" and len(subject.make().train) > 1000:
            setting["subset"] = 200
        setting.update(subject.setting)
        setting.update(changes)
        return setting

    def suite(
        self,
        method: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        setting: Mapping[str, Any] | None = None,
        *,
        epochs: int = 3,
        batch_size: int | None = None,
        seeds: Sequence[int] = (0,),
        validation: float = 0.0,
        timeout_s: float | None = None,
    ) -> Suite:
        """A suite of one setting, written to a file and loaded with the subject's plugin."""
        given = method or self.method()
        methods = [given] if isinstance(given, Mapping) else list(given)
        training = {
            "epochs": epochs,
            "batch_size": batch_size or (8 if self.subject.kind == "model" else 32),
            "validation": validation,
            "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
        }  # fmt: skip
        tables = {
            "suite": {"name": "checks", "seeds": list(seeds)},
            "training": training,
            "evaluation": {"train_every": 1},
            "execution": {"device": "cpu", **({"timeout_s": timeout_s} if timeout_s else {})},
            "setting": [dict(setting or self.setting())],
            "method": [dict(one) for one in methods],
        }
        self._count += 1
        path = self.folder / f"checks-{self._count}.toml"
        path.write_text("".join(f"{key} = {toml(value)}\n" for key, value in tables.items()))
        return load_suite(path, plugins=[TESTING, *self.subject.files])

    def trial(self, *args: Any, **options: Any) -> tuple[Trial, Suite]:
        """The first trial of :meth:`suite`."""
        suite = self.suite(*args, **options)
        return next(iter(suite.entries())).trial, suite

    # --- deeds -------------------------------------------------------------------------------------------------------

    def train(
        self,
        trial: Trial,
        suite: Suite,
        *,
        stop_after: int | None = None,
        resume: Outcome | None = None,
        evaluate: bool = True,
        cache: DataCache | None = None,
    ) -> Outcome:
        """Train a trial in this process.

        Args:
            trial, suite: as :meth:`trial` gives them.
            stop_after: after how many batches (an epoch's end counts as one more) to stop with a checkpoint.
            resume: an interrupted outcome to go on from.
            evaluate: whether to measure after every epoch.
            cache: data kept between trainings.
        """
        prepared = prepare(trial, suite.host, CPU, cache)
        journal = _Journal(stop_after)
        evaluator: Any = prepared.evaluator if evaluate else Silent()
        loop = Loop(prepared.run, evaluator, journal, checkpoint_s=1e9)
        if resume is not None:
            assert resume.checkpoint is not None
            loop.load_state_dict(resume.checkpoint, list(resume.history))
        try:
            loop.fit()
        except TrialInterrupted:
            return Outcome(list(loop.history), prepared.run, prepared.evaluator, journal.saved)
        return Outcome(loop.history, prepared.run, prepared.evaluator)

    def fit(self, *args: Any, **options: Any) -> Outcome:
        """Train the first trial of :meth:`suite` to its end."""
        return self.train(*self.trial(*args, **options))


class Silent:
    """Stands for the evaluator where only training is measured."""

    def epoch(self, run: Run, *, last: bool) -> dict[str, float | None]:
        return {}


def difference(first: Any, second: Any, path: str = "") -> str | None:
    """Where two nested states differ by a bit (NaN equals NaN), or ``None``."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        if first.shape != second.shape or first.dtype != second.dtype:
            return path
        same = first == second
        if first.is_floating_point():
            same = same | (first.isnan() & second.isnan())
        return None if bool(same.all()) else path
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        if set(first) != set(second):
            return f"{path}.{sorted(map(str, set(first) ^ set(second)))[0]}"
        found = (difference(first[key], second[key], f"{path}.{key}" if path else str(key)) for key in first)
        return next((place for place in found if place is not None), None)
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        if len(first) != len(second):
            return path
        found = (difference(a, b, f"{path}[{i}]") for i, (a, b) in enumerate(zip(first, second, strict=True)))
        return next((place for place in found if place is not None), None)
    if isinstance(first, float) and isinstance(second, float) and math.isnan(first) and math.isnan(second):
        return None
    return None if first == second else path


def finite(outcome: Outcome) -> bool:
    """Whether the training loss of every epoch is a number."""
    return all(record["train_loss"] is not None for record in outcome.history)


def refused(error: HarnessError) -> bool:
    """Whether a suite was refused because its parts do not compose, not for another mistake."""
    return "method[" in error.where
