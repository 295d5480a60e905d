"""Self-confidence, margin and confident learning: cleanlab's scores and flags of held-out probabilities."""

from __future__ import annotations

import warnings
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from harness_plugins.detectors.held_out import HeldOutDetector, Judged


class _Cleanlab(HeldOutDetector):
    """Which of cleanlab's scores and filters a detector is. The suggested class is the most probable one."""

    quality: ClassVar[Literal["self_confidence", "normalized_margin"]]
    adjusted: ClassVar[bool] = False
    """Whether each class's threshold of confident learning is taken off its probability."""
    filter_by: ClassVar[Literal["low_self_confidence", "low_normalized_margin", "prune_by_noise_rate"]]

    def judge(self, rows: Tensor, labels: Tensor, num_classes: int, rng: np.random.Generator) -> Judged:
        """By cross-validated probabilities."""
        return self.read(self.predict(rows, labels, num_classes, rng), labels)

    def read(self, probabilities: Tensor, labels: Tensor) -> Judged:
        """What (N, K) held-out probabilities say of (N,) labels."""
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores

        noisy, outputs = labels.numpy(), probabilities.numpy()
        quality = get_label_quality_scores(noisy, outputs, method=self.quality, adjust_pred_probs=self.adjusted)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="May not flag all")  # a class with one sample keeps it
            flags = find_label_issues(noisy, outputs, filter_by=self.filter_by, n_jobs=1)
        return Judged(torch.from_numpy(np.asarray(flags)), 1 - torch.from_numpy(quality), probabilities.argmax(1))


class SelfConfidence(_Cleanlab):
    """Self-confidence (Northcutt, Jiang and Chuang, JAIR 2021) as cleanlab computes it.

    The score is 1 less the held-out probability of the given label. Flagged are as many samples as confident learning
    counts as wrong, those of the highest score.

    Args:
        folds: parts of the cross-validation.
        strength: `C` of the regression, the inverse of its penalty, on standardised features.
    """

    name = "self_confidence"
    quality = "self_confidence"
    filter_by = "low_self_confidence"


class Margin(_Cleanlab):
    """The normalised margin (Northcutt, Jiang and Chuang, JAIR 2021) as cleanlab computes it.

    The score is `(1 - m) / 2`, where `m` is the held-out probability of the given label less the largest of another
    class: above 1/2 where another class is more probable. Flagged are as many samples as confident learning counts as
    wrong, those of the highest score.

    Args:
        folds: parts of the cross-validation.
        strength: `C` of the regression, the inverse of its penalty, on standardised features.
    """

    name = "margin"
    quality = "normalized_margin"
    filter_by = "low_normalized_margin"


class ConfidentLearning(_Cleanlab):
    """Confident learning (Northcutt, Jiang and Chuang, JAIR 2021) as cleanlab computes it.

    Flags are those of `prune_by_noise_rate`: for each pair of a given and another class as many samples as the confident
    joint counts, those of the largest margin. The score is 1 less the probability of the given label after each class's
    threshold, the mean self-confidence of its labels, is taken off its probability (cleanlab's `adjust_pred_probs`). The
    estimator `confident` says matrix, prior and rate of the same joint.

    Args:
        folds: parts of the cross-validation.
        strength: `C` of the regression, the inverse of its penalty, on standardised features.
    """

    name = "confident_learning"
    quality = "self_confidence"
    adjusted = True
    filter_by = "prune_by_noise_rate"
