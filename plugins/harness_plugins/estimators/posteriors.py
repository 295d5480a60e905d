"""Class probabilities of noisy labels that no sample's own label has taught: cross-validated logistic regression."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from harness import HarnessError
from harness.parameters import Positive
from harness.training.noise_report import checked_samples
from harness_plugins.estimators.classes import present_classes


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Samples with the probabilities of their labels.

    Attributes:
        present: (k,) the classes that have labels.
        labels: (N,) given labels, as positions in ``present``.
        probabilities: (N, k) float64, each row by a regression that did not see its sample.
    """

    present: Tensor
    labels: Tensor
    probabilities: Tensor


class CrossValidated:
    """An estimator that reads held-out probabilities: its parameters, and how it comes to them."""

    name = ""

    def __init__(self, folds: Annotated[int, Ge(2)] = 5, strength: Positive = 0.01) -> None:
        self.folds = folds
        self.strength = strength

    def held_out(self, features: Any, labels: Any, num_classes: int, rng: np.random.Generator) -> HeldOut:
        """Check the samples and predict each by what the others' labels teach.

        Raises:
            HarnessError: where no class has as many samples as there are folds, or features and labels do not fit.
        """
        where = f"estimators.{self.name}"
        rows, given = checked_samples(features, labels, num_classes, where, self.folds)
        present, among = present_classes(given, num_classes)
        found = held_out_probabilities(rows, among, len(present), self.folds, self.strength, rng, where)
        return HeldOut(present, among, found)


def held_out_probabilities(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    folds: int,
    strength: float,
    rng: np.random.Generator,
    where: str,
) -> Tensor:
    """(N, K) float64 probabilities of the given labels, each row by a regression that did not see its sample.

    Args:
        features: (N, d).
        labels: (N,) classes, of which each has a label.
        num_classes: ``K``.
        folds: parts of the cross-validation, stratified by label.
        strength: ``C``, the inverse of the penalty, on standardised features.
        rng: draws the folds.
        where: how errors name the component.

    Raises:
        HarnessError: when no class has as many samples as there are folds.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if num_classes == 1:
        return torch.ones(len(labels), 1, dtype=torch.float64)
    if int(torch.bincount(labels).max()) < folds:
        raise HarnessError(
            f"has fewer samples of every class than folds ({folds})", where, "give more samples, or fewer folds"
        )
    rows, given = features.numpy(), labels.numpy()
    found = np.zeros((len(given), num_classes))
    parts = StratifiedKFold(folds, shuffle=True, random_state=int(rng.integers(2**31)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=ConvergenceWarning)  # a fit that stops early is an estimate too
        warnings.filterwarnings("ignore", message="The least populated class")  # known: it is missing in some folds
        for seen, held in parts.split(rows, given):
            known = np.unique(given[seen])
            if len(known) == 1:
                found[held, known[0]] = 1.0
                continue
            model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=100))
            found[np.ix_(held, known)] = model.fit(rows[seen], given[seen]).predict_proba(rows[held])
    return torch.from_numpy(found)
