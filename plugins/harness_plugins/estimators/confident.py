"""Confident learning: the joint distribution of given and true labels, counted above each class's own threshold."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from harness import NoiseReport
from harness.training.noise_report import wrong_share
from harness_plugins.estimators.classes import among_all
from harness_plugins.estimators.posteriors import CrossValidated


class Confident(CrossValidated):
    """Confident learning (Northcutt, Jiang and Chuang, JAIR 2021) as cleanlab computes it, on held-out probabilities.

    The probabilities are those of a cross-validated logistic regression on the features. Matrix and prior are those of
    the calibrated confident joint, flags by `prune_by_noise_rate`, the score 1 less the probability of the given label.
    A class without labels has prior 0 and the row of the identity.

    Args:
        folds: parts of the cross-validation.
        strength: `C` of the regression, the inverse of its penalty, on standardised features.
    """

    name = "confident"

    def __call__(self, features: Any, labels: Any, num_classes: int, *, rng: np.random.Generator) -> NoiseReport:
        """All that a report has.

        Raises:
            HarnessError: where no class has as many samples as there are folds, or features and labels do not fit.
        """
        found = self.held_out(features, labels, num_classes, rng)
        present, among, probabilities = found.present, found.labels, found.probabilities
        suggested = present[probabilities.argmax(1)]
        score = 1 - probabilities.gather(1, among[:, None]).squeeze(1)
        if len(present) == 1:
            matrix, prior = among_all(torch.eye(1), torch.ones(1), present, num_classes)
            return NoiseReport(matrix, prior, 0.0, torch.zeros(len(among), dtype=torch.bool), score, suggested)
        from cleanlab.count import compute_confident_joint, estimate_latent
        from cleanlab.filter import find_label_issues

        noisy, outputs = among.numpy(), probabilities.numpy()
        joint = compute_confident_joint(noisy, outputs)
        shares, given_true, _ = estimate_latent(joint, noisy)
        flags = find_label_issues(noisy, outputs, confident_joint=joint, filter_by="prune_by_noise_rate", n_jobs=1)
        transition = torch.from_numpy(np.ascontiguousarray(given_true.T, dtype=np.float64))
        matrix, prior = among_all(transition, torch.from_numpy(np.asarray(shares)), present, num_classes)
        return NoiseReport(
            matrix, prior, wrong_share(matrix, prior), torch.from_numpy(np.asarray(flags)), score, suggested
        )
