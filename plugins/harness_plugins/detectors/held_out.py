"""What the detectors that read held-out probabilities share: a label that its own sample has not taught is judged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, NamedTuple

import numpy as np
from annotated_types import Ge
from torch import Tensor

from harness import NoiseReport
from harness.parameters import Positive
from harness.training.noise_report import checked_samples
from harness_plugins.detectors.unanimous import nothing_suspect
from harness_plugins.estimators.classes import present_classes
from harness_plugins.estimators.posteriors import held_out_probabilities


class Judged(NamedTuple):
    """What a detector says of each sample.

    Attributes:
        flags: (N,) bool.
        score: (N,) float64, the higher, the more suspect.
        suggested: (N,) int64, positions among the classes that have a label.
    """

    flags: Tensor
    score: Tensor
    suggested: Tensor


class HeldOutDetector(ABC):
    """A detector that predicts each sample by logistic regressions of the others: its parameters, and its life cycle."""

    name = ""

    def __init__(self, folds: Annotated[int, Ge(2)] = 5, strength: Positive = 0.01) -> None:
        self.folds = folds
        self.strength = strength

    @property
    def where(self) -> str:
        """How errors name the component."""
        return f"detectors.{self.name}"

    def __call__(self, features: Any, labels: Any, num_classes: int, *, rng: np.random.Generator) -> NoiseReport:
        """Flags, scores and suggestions.

        Args:
            features: (N, d).
            labels: (N,) given classes.
            num_classes: ``K``.
            rng: draws what is drawn.

        Raises:
            HarnessError: where no class has as many samples as there are folds, or features and labels do not fit.
        """
        rows, given = checked_samples(features, labels, num_classes, self.where, self.folds)
        present, among = present_classes(given, num_classes)
        if len(present) == 1:
            return nothing_suspect(len(given), int(present))
        found = self.judge(rows, among, len(present), rng)
        return NoiseReport(flags=found.flags, score=found.score, suggested=present[found.suggested])

    def predict(self, rows: Tensor, labels: Tensor, num_classes: int, rng: np.random.Generator) -> Tensor:
        """(N, K) float64 probabilities, each row by a regression that did not see its sample."""
        return held_out_probabilities(rows, labels, num_classes, self.folds, self.strength, rng, self.where)

    @abstractmethod
    def judge(self, rows: Tensor, labels: Tensor, num_classes: int, rng: np.random.Generator) -> Judged:
        """Judge (N, d) float32 features and (N,) labels of two classes or more, of which each has one."""
