"""What a suite's searches chose: candidates scored on noisy validation, for each setting alone or for all together."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.results.records import FINISHED, Verdicts, read_json, trial_folder
from harness.suite.load import Method, Setting, Suite
from harness.tasks import TASKS, headline_of
from harness.trial import Trial


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One combination of searched values.

    Attributes:
        values: by key, such as ``optimizer.lr``.
        score: mean over the settings of the mean noisy-validation score at the last epoch over the tuning seeds
            (accuracy in [0, 1]; regression: minus the loss; minus infinity
            where one diverged). ``None`` unless every setting and seed has one.
    """

    values: Mapping[str, Any]
    score: float | None


@dataclasses.dataclass(frozen=True)
class Search:
    """One choice: the candidates of a method on the settings that they are chosen for.

    Attributes:
        settings: one of them, or all that the method faces (``[suite] search_over = "suite"``).
        finished: whether every tuning trial is done or failed; before that nothing is chosen.
    """

    method: str
    settings: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    finished: bool
    together: bool = False

    @property
    def label(self) -> str:
        """``CE | digits / mlp``, or ``CE over all settings``."""
        return f"{self.method} over all settings" if self.together else f"{self.method} | {self.settings[0]}"

    @property
    def tries(self) -> int:
        """Candidates that the choice is among: those with a score, and all of them before it is over."""
        return sum(c.score is not None for c in self.candidates) if self.finished else len(self.candidates)

    @property
    def chosen(self) -> int | None:
        """Position of the candidate with the best score, the first of equals; ``None`` without a choice."""
        scored = [(c.score, -position) for position, c in enumerate(self.candidates) if c.score is not None]
        return -max(scored)[1] if self.finished and scored else None

    @property
    def note(self) -> str:
        """What is to be said of a search in which not all candidates were scored, else an empty string."""
        if not self.finished or self.tries == len(self.candidates):
            return ""
        if self.tries:
            return (
                f"the search of {self.label} chose among {self.tries} of {len(self.candidates)} candidates: "
                "the others failed; `harness retry --failed` lets them run again"
            )
        everywhere = "on every setting and tuning seed" if self.together else "on every tuning seed"
        return (
            f"the search of {self.label} chose nothing, so it is not compared: no candidate has a noisy-validation "
            f"score {everywhere}; mend what failed, or hold out a larger validation"
        )


def searches(suite: Suite, results: Path) -> list[Search]:
    """Every search of a suite with the scores that its results folder holds."""
    verdicts = Verdicts(results)
    found = [_search(suite, verdicts, method, settings) for method, settings in _groups(suite)]
    verdicts.save()
    return found


def _groups(suite: Suite) -> Iterator[tuple[Method, Sequence[Setting]]]:
    """A searching method with the settings that one choice is for."""
    pairs = [(method, setting) for method, setting in suite.pairs() if method.table.search]
    if suite.table.search_over == "setting":
        yield from ((method, [setting]) for method, setting in pairs)
        return
    for method in suite.methods:
        if settings := [setting for one, setting in pairs if one is method]:
            yield method, settings


def _search(suite: Suite, verdicts: Verdicts, method: Method, settings: Sequence[Setting]) -> Search:
    seeds = suite.table.tuning_seeds
    finished = True
    candidates = []
    for position, values in enumerate(method.candidates):
        means = []
        for setting in settings:
            template = suite.templates(method, setting)[position]
            found = [_validation(verdicts, template.entry(seed).trial) for seed in seeds]
            finished = finished and None not in found
            scores = [score for each in found for score in each or ()]
            means += [statistics.mean(scores)] if len(scores) == len(seeds) else []
        candidates.append(Candidate(values, statistics.mean(means) if len(means) == len(settings) else None))
    together = suite.table.search_over == "suite"
    return Search(method.name, tuple(s.name for s in settings), tuple(candidates), finished, together)


def _validation(verdicts: Verdicts, trial: Trial) -> list[float] | None:
    """The noisy-validation score of a finished trial; empty for a failed one, ``None`` for one still to run (also one
    that failed and is let run again, or whose record is in quarantine). One that diverged scores below all that did not."""
    found = verdicts.of(trial.id)
    if found.kind not in (*FINISHED, "failed"):
        return None
    if found.kind == "diverged":
        return [-math.inf]
    result = read_json(trial_folder(verdicts.results, trial.id) / str(found.attempt) / "result.json") or {}
    metrics = result.get("metrics", {})
    task = next(facts for facts in TASKS.values() if facts.headline == headline_of(metrics))
    score = task.selected_by({name: values.get("last") for name, values in metrics.items()})
    return [] if score is None else [float(score)]
