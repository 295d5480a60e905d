"""What is measured of each task, as a table: predictions against targets, in numbers by name of column.

A task's entry says what it looks at, what it measures on test, noisy validation and training data, and what is reached by
knowing nothing. The areas under curves that entries and plugins use stand here too.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.errors import ComponentError
from harness.training.data import BatchSource
from harness.training.run import Run
from harness.training.tasks import Task
from harness.training.watch import exact

NO_CLASS = -1
"""The clean target of a sample that belongs to none of the classes."""
LEAST_LOG = -100.0
"""What the logarithm of a probability of 0 counts as in the loss of labels, as in torch's ``BCELoss``."""


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a run predicts for the samples of a source, in their order.

    Attributes:
        predicted: (N,) classes, or (N, outputs) predictions.
        loss: the mean loss of classes; ``None`` where the task computes it from the predictions.
        undefined: whether any output is NaN or infinity; minus infinity is the logarithm of a probability of 0.
        outputs: (N, K) all that was predicted, where it was asked for.
    """

    predicted: Tensor
    loss: Tensor | None
    undefined: Tensor
    outputs: Tensor | None


class Measure(abc.ABC):
    """How one task is measured."""

    def see(self, run: Run, source: BatchSource, targets: Tensor, batch: int, keep: bool) -> Seen:
        """Predictions for all samples; ``keep`` asks for the whole outputs."""
        outputs = torch.cat([predicted(run, inputs) for _, inputs in source.ordered(batch)])
        return Seen(outputs, None, ~(outputs < math.inf).all(), outputs)

    @abc.abstractmethod
    def test(self, seen: Seen, targets: Tensor, num_outputs: int) -> dict[str, Tensor]:
        """Against clean test targets."""

    @abc.abstractmethod
    def validation(self, run: Run, seen: Seen, targets: Tensor) -> dict[str, Tensor]:
        """Against the noisy targets of held-out data."""

    @abc.abstractmethod
    def given(self, seen: Seen, noisy: Tensor) -> dict[str, Tensor]:
        """Against the noisy targets of the training data."""

    def learnt(self, seen: Seen, noisy: Tensor, clean: Tensor, known: Tensor) -> dict[str, Tensor]:
        """Against both the noisy and the clean targets of the training data, among the samples (N,) whose clean ones are
        ``known``."""
        return {}

    @abc.abstractmethod
    def chance(self, train_noisy: Tensor, test: Tensor, num_classes: int | None) -> dict[str, float]:
        """By metric: what is reached on test by knowing nothing of the inputs. A run that diverged counts as that."""


class Classification(Measure):
    """One class of K for every sample. Chance is the accuracy of a class drawn at random."""

    def see(self, run: Run, source: BatchSource, targets: Tensor, batch: int, keep: bool) -> Seen:
        """Classes, with the mean negative log-likelihood of the targets. Minus infinity is a probability of 0, and defined."""
        classes = torch.empty(source.num_samples, dtype=torch.int64, device=targets.device)
        total = torch.zeros((), device=targets.device, dtype=run.dtype)
        undefined = torch.zeros((), dtype=torch.bool, device=targets.device)
        kept: list[Tensor] = []
        for index, inputs in source.ordered(batch):
            log_probabilities = predicted(run, inputs)
            with labels_at_hand():
                classes[index] = log_probabilities.argmax(1)
                total += functional.nll_loss(log_probabilities, targets[index], reduction="sum")
                undefined |= ~(log_probabilities < math.inf).all()
            if keep:
                kept.append(log_probabilities)
        loss = total / max(1, source.num_samples)
        return Seen(classes, loss, undefined, torch.cat(kept) if keep else None)

    def test(self, seen: Seen, targets: Tensor, num_outputs: int) -> dict[str, Tensor]:
        assert seen.loss is not None
        accuracy, share = (seen.predicted == targets).double().mean(), largest_share(seen.predicted, num_outputs)
        return {
            "test_accuracy": accuracy.where(~seen.undefined, math.nan),
            "test_loss": seen.loss,
            "predicted_share": share.where(~seen.undefined, math.nan),
        }

    def validation(self, run: Run, seen: Seen, targets: Tensor) -> dict[str, Tensor]:
        assert seen.loss is not None
        with labels_at_hand():
            return {
                "validation_accuracy": (seen.predicted == targets).double().mean(),
                "validation_loss": seen.loss,
            }

    def given(self, seen: Seen, noisy: Tensor) -> dict[str, Tensor]:
        return {"train_accuracy": (seen.predicted == noisy).double().mean()}

    def learnt(self, seen: Seen, noisy: Tensor, clean: Tensor, known: Tensor) -> dict[str, Tensor]:
        right, corrupted = known & (clean == noisy), known & (clean != noisy) & (clean != NO_CLASS)
        as_given, as_true = seen.predicted == noisy, seen.predicted == clean
        return {
            "clean_accuracy": _share(as_true, right),
            "memorisation": _share(as_given, corrupted),
            "recovery": _share(as_true, corrupted),
        }

    def chance(self, train_noisy: Tensor, test: Tensor, num_classes: int | None) -> dict[str, float]:
        assert num_classes is not None
        return {"accuracy": 1.0 / num_classes}


class Regression(Measure):
    """Numbers for every sample. Chance are the errors of predicting, for every sample, the median (``mae``) or the mean
    (``rmse``) of the noisy training targets."""

    def test(self, seen: Seen, targets: Tensor, num_outputs: int) -> dict[str, Tensor]:
        residual = seen.predicted - targets.reshape(seen.predicted.shape)
        return {"mae": residual.abs().mean(), "rmse": residual.square().mean().sqrt()}

    def validation(self, run: Run, seen: Seen, targets: Tensor) -> dict[str, Tensor]:
        error = (seen.predicted - targets.reshape(seen.predicted.shape)).abs().mean()
        loss = error
        if not remembers(run.stack.loss):
            index = torch.arange(len(seen.predicted), device=seen.predicted.device)
            loss = run.stack.ask_loss(seen.predicted, targets, index).mean()
        return {"validation_mae": error, "validation_loss": loss}

    def given(self, seen: Seen, noisy: Tensor) -> dict[str, Tensor]:
        return {"train_mae": (seen.predicted - noisy.reshape(seen.predicted.shape)).abs().mean()}

    def chance(self, train_noisy: Tensor, test: Tensor, num_classes: int | None) -> dict[str, float]:
        ordered = train_noisy.double().sort(0).values
        middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
        test = test.double()
        return {
            "mae": float((test - middle).abs().mean()),
            "rmse": float((test - ordered.mean(0)).square().mean().sqrt()),
        }


class Multilabel(Measure):
    """Any of K labels for every sample: targets (N, K) in {0, 1}. A label is predicted where its probability is above 1/2.

    Chance is a ranking at random, whose average precision is a label's share of the test samples, and the subset accuracy
    of predicting, for every sample, the labels that most training samples are given.
    """

    def test(self, seen: Seen, targets: Tensor, num_outputs: int) -> dict[str, Tensor]:
        right = ((seen.predicted > math.log(0.5)) == (targets > 0)).all(1).double().mean()
        return {
            "test_average_precision": self._precision(seen, targets),
            "subset_accuracy": right.where(~seen.undefined, math.nan),
            "test_loss": self._loss(seen, targets),
        }

    def validation(self, run: Run, seen: Seen, targets: Tensor) -> dict[str, Tensor]:
        with labels_at_hand():
            return {
                "validation_average_precision": self._precision(seen, targets),
                "validation_loss": self._loss(seen, targets),
            }

    def given(self, seen: Seen, noisy: Tensor) -> dict[str, Tensor]:
        return {"train_average_precision": self._precision(seen, noisy)}

    def learnt(self, seen: Seen, noisy: Tensor, clean: Tensor, known: Tensor) -> dict[str, Tensor]:
        given, corrupted = (seen.predicted > math.log(0.5)) == (noisy > 0), known[:, None] & (clean != noisy)
        return {
            "memorisation": _share(given, corrupted),
            "recovery": _share(~given, corrupted),
        }

    def chance(self, train_noisy: Tensor, test: Tensor, num_classes: int | None) -> dict[str, float]:
        shares = (test > 0).double().mean(0)
        usual = (train_noisy > 0).double().mean(0) > 0.5
        return {
            "mean_average_precision": float(shares[shares > 0].mean()),
            "subset_accuracy": float(((test > 0) == usual).all(1).double().mean()),
        }

    @staticmethod
    def _precision(seen: Seen, targets: Tensor) -> Tensor:
        """Mean average precision over the labels that samples have."""
        return average_precision(seen.predicted.T, targets.T > 0).nanmean().where(~seen.undefined, math.nan)

    @staticmethod
    def _loss(seen: Seen, targets: Tensor) -> Tensor:
        """Mean over samples and labels of minus the log-probability of the target."""
        absent = (-torch.expm1(seen.predicted)).log()  # log(1 - p) from log p, exact for small and large p
        chosen = torch.where(targets > 0, seen.predicted, absent).clamp_min(LEAST_LOG)
        return -chosen.mean()


MEASURES: Mapping[Task, Measure] = {
    "classification": Classification(),
    "regression": Regression(),
    "multilabel": Multilabel(),
}


def predicted(run: Run, inputs: Tensor) -> Tensor:
    """A prediction as an exact tensor: a subclass would be handed the labels that it is compared with."""
    found = exact(run.predict(inputs))
    if found is None:
        raise ComponentError("the prediction is no torch.Tensor", run.name, "let run.predict be the harness's own")
    return found


@contextlib.contextmanager
def labels_at_hand() -> Iterator[None]:
    """While clean labels are compared with predictions nobody listens: no function or dispatch mode of a component."""
    with torch._C.DisableTorchFunction(), torch._C._DisableTorchDispatch():
        yield


def remembers(loss: Any) -> bool:
    """Whether a loss may keep something of each training sample, so that held-out ones cannot be shown to it.

    Positions in the validation data are those of other samples in training: it would read and write their rows. Noisy
    validation in regression is then measured by the mean absolute error.
    """
    state = loss.state_dict() if isinstance(loss, nn.Module) else hasattr(loss, "state_dict")
    return bool(state) or hasattr(loss, "setup")


def _share(hits: Tensor, among: Tensor) -> Tensor:
    share: Tensor = (hits & among).sum().double() / among.sum()
    return share


def largest_share(predicted: Tensor, classes: int) -> Tensor:
    """The share of the predictions that the class with most of them has."""
    counts = torch.zeros(classes, dtype=torch.int64, device=predicted.device)
    counts.scatter_add_(0, predicted, torch.ones_like(predicted))  # bincount waits for the device
    share: Tensor = counts.max().double() / len(predicted)
    return share


def auroc(scores: Tensor, positive: Tensor) -> Tensor:
    """Area under the ROC curve by the rank-sum formula (Mann-Whitney), ties counted half.

    Args:
        scores: (N,) higher means more likely positive.
        positive: (N,) bool.

    Returns:
        A scalar in [0, 1]; NaN when one of the classes is empty.
    """
    _, inverse, counts = torch.unique(scores, return_inverse=True, return_counts=True)
    upper = counts.cumsum(0).double()
    ranks = (upper - (counts.double() - 1) / 2)[inverse]
    positives = positive.sum().double()
    negatives = len(positive) - positives
    area: Tensor = (ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives)
    return area


def average_precision(scores: Tensor, positive: Tensor) -> Tensor:
    """Areas under precision-recall curves: the sum over thresholds of (R_n - R_(n-1)) P_n, not interpolated.

    Equal scores share a threshold.

    Args:
        scores: (K, N) higher means more likely positive, a row for each label.
        positive: (K, N) bool.

    Returns:
        (K,) float64 in [0, 1]; NaN for a label without positives, and where a score is NaN.
    """
    ordered, order = scores.sort(dim=1, descending=True)
    hits = positive.gather(1, order).double()
    places = torch.arange(scores.shape[1], device=scores.device)
    last = torch.ones_like(ordered, dtype=torch.bool)
    last[:, :-1] = ordered[:, :-1] != ordered[:, 1:]
    ends = torch.where(last, places, scores.shape[1]).flip(1).cummin(1).values.flip(1)  # of each place's threshold
    precision = (hits.cumsum(1) / (places + 1)).gather(1, ends)
    areas = (hits * precision).sum(1) / hits.sum(1)
    return areas.where(~scores.isnan().any(1), torch.nan)
