"""Metrics that a suite may ask for, most of them of predictions on test data: this one file makes them, from the formula to the page.

The last three judge the scores of training samples by which an algorithm detects wrong labels, where some samples are of no
class (data set ``open_set``).

Everywhere else ``outputs`` are log-probabilities (N, K) and ``targets`` classes (N,), or (N, K) in {0, 1} where labels are
several. Outputs that hold NaN give NaN, which is recorded as no number. Only methods of tensors are used, so that
registering imports no torch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.hookspecs import hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from harness.registry import RegisterMetric

BINS = 15


@hookimpl
def harness_register_metrics(register: RegisterMetric) -> None:
    """Metrics."""
    register(
        "balanced_accuracy", balanced_accuracy, title="balanced test accuracy", percent=True,
        group="Test accuracy over classes", label="balanced accuracy", chance=lambda classes: 1 / classes,
    )  # fmt: skip
    register(
        "macro_f1", macro_f1, title="macro-averaged F1 on test", percent=True,
        group="Test accuracy over classes", label="macro F1", chance=lambda classes: 1 / classes,
    )  # fmt: skip
    register(
        "top5_accuracy", top5_accuracy, title="top-5 test accuracy", percent=True,
        group="Test accuracy over classes", label="top-5 accuracy", chance=lambda classes: min(5, classes) / classes,
    )  # fmt: skip
    register(
        "calibration_error", calibration_error, title="expected calibration error on test", percent=True,
        higher_is_better=False,
    )  # fmt: skip
    register(
        "negative_log_likelihood", negative_log_likelihood, title="negative log-likelihood on test",
        higher_is_better=False, unit="nats", chance=math.log,
    )  # fmt: skip
    register(
        "average_precision", average_precision, title="average precision on test", percent=True,
        chance=lambda classes: 1 / classes,
    )  # fmt: skip
    register(
        "class_average_precision", class_average_precision, title="average precision on test of class", percent=True,
        tasks=("classification", "multilabel"),
    )  # fmt: skip
    register(
        "open_set_auroc", open_set_auroc, title="AUROC of detecting samples of no class", percent=True, on="scores",
    )  # fmt: skip
    register(
        "open_set_precision", open_set_precision, title="share of removed samples that are of no class", percent=True,
        on="scores",
    )  # fmt: skip
    register(
        "open_set_recall", open_set_recall, title="share of the samples of no class that are removed", percent=True,
        on="scores",
    )  # fmt: skip


def balanced_accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over classes of the share of a class's samples that are predicted as it (Brodersen et al., 2010).

    A class without samples is left out of the mean. Outputs that are the same for every sample predict one class and
    give 1 over the number of classes with samples.
    """
    hits = _counts(targets[outputs.argmax(1) == targets], outputs)
    return _defined((hits / _counts(targets, outputs)).nanmean(), outputs)


def macro_f1(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over classes of F1 = 2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall.

    A class that no sample has counts 0 where it is predicted, and is left out of the mean where it is not. A class that
    samples have and that is never predicted counts 0.
    """
    predicted = outputs.argmax(1)
    hits = _counts(targets[predicted == targets], outputs)
    f1 = 2 * hits / (_counts(targets, outputs) + _counts(predicted, outputs))
    return _defined(f1.nanmean(), outputs)


def top5_accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Share of the samples whose class is among the five with the largest outputs.

    With five classes or fewer it is 1. Of equal outputs those of the first classes count as larger, as in accuracy, so
    that outputs that are the same for all classes predict the classes 0 to 4.
    """
    own = outputs.gather(1, targets[:, None])
    classes = targets.new_ones(outputs.shape[1]).cumsum(0) - 1
    before = (outputs > own) | ((outputs == own) & (classes < targets[:, None]))
    return _defined((before.sum(1) < 5).double().mean(), outputs)


def calibration_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Expected calibration error: the mean gap between confidence and accuracy over 15 bins (Guo et al., 2017, eq. 3).

    Confidence is the probability of the predicted class. The bins are ((m - 1) / 15, m / 15]; each counts by its number
    of samples, an empty one not at all. Uniform outputs are compared in one bin: their error is the distance of the
    accuracy from 1/K. A run that diverged has no value: no calibration stands for it.
    """
    confidence, predicted = outputs.double().exp().max(1)
    bins = ((confidence * BINS).ceil().nan_to_num(1) - 1).clamp(0, BINS - 1).long()
    gaps = confidence.new_zeros(BINS).index_add(0, bins, (predicted == targets).double() - confidence)
    return _defined(gaps.abs().sum() / len(targets), outputs)


def negative_log_likelihood(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean of minus the log-probability of a sample's class, in nats.

    It is infinite, and recorded as no number, where a sample's class has probability 0. Uniform outputs give log K.
    """
    return -outputs.double().gather(1, targets[:, None]).mean()


def average_precision(outputs: Tensor, targets: Tensor) -> Tensor:
    """Area under the precision-recall curve, as a sum over thresholds of (R_n - R_(n-1)) P_n.

    With two classes that of class 1, else the mean over the classes that samples have, each against the rest. Samples with
    equal outputs share a threshold, so that outputs that are the same for every sample give the class's share.
    """
    areas = class_average_precision(outputs, targets)
    return areas[1] if len(areas) == 2 else areas.nanmean()


def class_average_precision(outputs: Tensor, targets: Tensor) -> Tensor:
    """Area under the precision-recall curve of each class against the rest, (K,); NaN for a class without samples.

    Recorded as ``class_average_precision@0`` and so on. Where a sample may have several labels, that of each label.
    """
    from harness.training.measures import average_precision as area  # torch, once a trial runs

    positive = targets.T > 0 if targets.ndim == 2 else targets == targets.new_ones(outputs.shape[1], 1).cumsum(0) - 1
    return area(outputs.T, positive)


def open_set_auroc(scores: Tensor, clean: Tensor) -> Tensor:
    """How well a score of training samples tells those of no class (open-set noise) from all others, mislabelled ones among
    them; ties count half, and NaN where no sample is of no class or a score is NaN."""
    from harness.training.measures import auroc

    return auroc(scores, clean < 0).where(~scores.isnan().any(), math.nan)


def open_set_precision(scores: Tensor, targets: Tensor, clean: Tensor) -> Tensor:
    """Share of samples of no class among those that a score would remove: the samples with the largest scores, as many as
    have a wrong label, of no class or not. NaN where no sample is of no class.

    Of equal scores at the border each is removed by the same share.
    """
    removed = _removed(scores, targets != clean)
    return _share_of_no_class((removed * (clean < 0)).sum() / removed.sum(), scores, clean)


def open_set_recall(scores: Tensor, targets: Tensor, clean: Tensor) -> Tensor:
    """Share of the samples of no class that a score would remove; see :func:`open_set_precision`."""
    outside = clean < 0
    return _share_of_no_class((_removed(scores, targets != clean) * outside).sum() / outside.sum(), scores, clean)


def _removed(scores: Tensor, wrong: Tensor) -> Tensor:
    """(N,) how much of each sample is among the ``wrong.sum()`` with the largest scores, in [0, 1]."""
    count = wrong.sum()
    border = scores.sort(descending=True).values[(count - 1).clamp_min(0)]
    above, at = scores > border, scores == border
    return above.double() + at.double() * (count - above.sum()) / at.sum()


def _share_of_no_class(share: Tensor, scores: Tensor, clean: Tensor) -> Tensor:
    return share.where((clean < 0).any() & ~scores.isnan().any(), math.nan)


def _counts(classes: Tensor, outputs: Tensor) -> Tensor:
    """(K,) how many of some classes (N,) are each class."""
    return outputs.new_zeros(outputs.shape[1]).double().index_add(0, classes, outputs.new_ones(len(classes)).double())


def _defined(value: Tensor, outputs: Tensor) -> Tensor:
    """The value; NaN where the outputs hold NaN, whose largest is anything."""
    return value.where(~outputs.isnan().any(), math.nan)
