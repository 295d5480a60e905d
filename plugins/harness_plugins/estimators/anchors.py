"""The anchor points' estimate: a matrix read off the samples that are most surely of each class."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness import NoiseReport
from harness.training.noise_report import wrong_share
from harness_plugins.algorithms.transition import MANY_CLASSES, OUTLIERS, estimate_matrix
from harness_plugins.estimators.classes import among_all
from harness_plugins.estimators.posteriors import CrossValidated


def implied_prior(matrix: Tensor, shares: Tensor) -> Tensor:
    """(K,) the prior ``p >= 0`` that explains the shares of the labels best, ``T' p = q`` by least squares, with sum 1. It
    is defined for a singular matrix too."""
    from scipy.optimize import nnls

    found = torch.from_numpy(nnls(matrix.T.numpy(), shares.numpy())[0])
    return found / found.sum()


class Anchors(CrossValidated):
    """Anchor points (Patrini et al., CVPR 2017, eq. 12 and 13), on held-out probabilities.

    Row `i` is the prediction at the sample of the largest probability of class `i` below the 97th percentile; with 100
    classes or more no sample is passed over, as in the official code. The probabilities are those of a cross-validated
    logistic regression on the features. `matrix = "estimated"` of `forward` reads the same off the trial's own network.
    A class without labels has prior 0 and the row of the identity.

    Args:
        folds: parts of the cross-validation.
        strength: `C` of the regression, the inverse of its penalty, on standardised features.
    """

    name = "anchors"

    def __call__(self, features: Any, labels: Any, num_classes: int, *, rng: np.random.Generator) -> NoiseReport:
        """Matrix, prior and rate; of single samples it says nothing.

        Raises:
            HarnessError: where no class has as many samples as there are folds, or features and labels do not fit.
        """
        found = self.held_out(features, labels, num_classes, rng)
        read = estimate_matrix(found.probabilities, None if num_classes >= MANY_CLASSES else OUTLIERS)
        shares = torch.bincount(found.labels).double() / len(found.labels)
        matrix, prior = among_all(read, implied_prior(read, shares), found.present, num_classes)
        return NoiseReport(matrix, prior, wrong_share(matrix, prior))
