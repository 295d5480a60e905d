"""The evaluator: the one holder of clean labels. It measures a run and is never reachable from it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.errors import ComponentError
from harness.training.data import BatchSource
from harness.training.run import Run
from harness.training.watch import exact

CPU_BATCH = 512
"""Larger evaluation batches are slower on CPU: they leave the caches."""
GPU_BATCH = 2048
MOST_TRANSITION_CLASSES = 100
"""Beyond, the counts of class pairs are not recorded: nobody reads a million of them."""
OUTPUTS: dict[str, tuple[str, ...]] = {"classification": ("test_accuracy",), "regression": ("mae", "rmse")}
"""What is no number in an epoch's record, by task, when outputs on the test data are not finite."""
LAST_EPOCHS = 10
HISTOGRAM_BINS = 20
OUTLYING = 4.0


class Evaluator:
    """Measures a run on clean test data, noisy validation data, and training data whose corruption it knows.

    Args:
        test, test_targets: clean test inputs and targets.
        validation, validation_targets: held-out inputs with noisy targets; ``None`` without validation.
        train_clean, train_noisy: clean and noisy training targets, (N,) or (N, outputs).
        train_every: epochs between train-set metrics; the last epoch always has them.

    The noisy training targets are copied: a method may write into its own.
    """

    def __init__(
        self,
        *,
        test: BatchSource,
        test_targets: Tensor,
        validation: BatchSource | None,
        validation_targets: Tensor | None,
        train_clean: Tensor,
        train_noisy: Tensor,
        train_every: int,
        device: torch.device,
    ) -> None:
        self.test, self.test_targets = test, test_targets.to(device)
        self.validation = validation
        self.validation_targets = validation_targets.to(device) if validation_targets is not None else None
        self.train_clean, self.train_noisy = train_clean.to(device), train_noisy.to(device, copy=True)
        self.train_every = train_every
        different = self.train_clean != self.train_noisy
        self.corrupted = different if different.ndim == 1 else different.any(1)
        self.batch = CPU_BATCH if device.type == "cpu" else GPU_BATCH

    def epoch(self, run: Run, *, last: bool) -> dict[str, float | None]:
        """Metrics of the epoch that just ended; accuracies are shares in [0, 1]."""
        with run.evaluating(), torch.inference_mode():
            if run.task == "classification":
                return self._classification(run, last)
            return self._regression(run, last)

    def _classification(self, run: Run, last: bool) -> dict[str, float | None]:
        test = self._predict(run, self.test, self.test_targets)
        validation = train = None
        if self.validation is not None and self.validation_targets is not None:
            validation = self._predict(run, self.validation, self.validation_targets)
        if last or run.epoch % self.train_every == 0:
            train = self._predict(run, run.source, self.train_noisy)
        measured: dict[str, Tensor] = {}
        with labels_at_hand():
            predicted, nll, undefined = test
            measured["test_accuracy"] = (predicted == self.test_targets).double().mean().where(~undefined, math.nan)
            measured["test_loss"] = nll
            measured["predicted_share"] = _largest_share(predicted, run.num_outputs).where(~undefined, math.nan)
            if validation is not None and self.validation_targets is not None:
                measured["validation_accuracy"] = (validation[0] == self.validation_targets).double().mean()
                measured["validation_loss"] = validation[1]
            if train is not None:
                as_given, as_true = train[0] == self.train_noisy, train[0] == self.train_clean
                measured["train_accuracy"] = as_given.double().mean()
                measured["clean_accuracy"] = _share(as_true, ~self.corrupted)
                measured["memorisation"] = _share(as_given, self.corrupted)
                measured["recovery"] = _share(as_true, self.corrupted)
                measured.update(self._detections(run))
            return _with_detection(_numbers(measured))

    def _regression(self, run: Run, last: bool) -> dict[str, float | None]:
        test = self._outputs(run, self.test)
        validation = self._outputs(run, self.validation) if self.validation is not None else None
        train = self._outputs(run, run.source) if last or run.epoch % self.train_every == 0 else None
        measured: dict[str, Tensor] = {}
        with labels_at_hand():
            residual = test - self.test_targets.reshape(test.shape)
            measured["mae"] = residual.abs().mean()
            measured["rmse"] = residual.square().mean().sqrt()
        if validation is not None and self.validation_targets is not None:
            measured["validation_mae"] = (validation - self.validation_targets.reshape(validation.shape)).abs().mean()
            measured["validation_loss"] = measured["validation_mae"]
            if not remembers(run.stack.loss):
                index = torch.arange(len(validation), device=validation.device)
                losses = run.stack.ask_loss(validation, self.validation_targets, index)
                measured["validation_loss"] = losses.mean()
        with labels_at_hand():
            if train is not None:
                measured["train_mae"] = (train - self.train_noisy.reshape(train.shape)).abs().mean()
                measured.update(self._detections(run))
            return _with_detection(_numbers(measured))

    def _detections(self, run: Run) -> dict[str, Tensor]:
        """How well each score tells corrupted from clean samples."""
        return {
            f"detection_auroc@{name}": auroc(scores, self.corrupted)
            for name, (scores, detects) in self._scores(run).items()
            if detects
        }

    @staticmethod
    def _scores(run: Run) -> dict[str, tuple[Tensor, bool]]:
        """The scores of samples as exact tensors: they are compared with what is corrupted."""
        found = {name: (exact(scores), detects) for name, (scores, detects) in run.sample_scores.items()}
        return {name: (scores, detects) for name, (scores, detects) in found.items() if scores is not None}

    def _predict(self, run: Run, source: BatchSource, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Predicted classes (N,), the mean negative log-likelihood of ``targets``, and whether any log-probability is
        undefined (of logits that are not finite; minus infinity is a probability of 0)."""
        classes = torch.empty(source.num_samples, dtype=torch.int64, device=targets.device)
        total = torch.zeros((), device=targets.device, dtype=run.dtype)
        undefined = torch.zeros((), dtype=torch.bool, device=targets.device)
        for index, inputs in source.ordered(self.batch):
            log_probabilities = _predicted(run, inputs)
            with labels_at_hand():
                classes[index] = log_probabilities.argmax(1)
                total += functional.nll_loss(log_probabilities, targets[index], reduction="sum")
                undefined |= log_probabilities.isnan().any()
        return classes, total / max(1, source.num_samples), undefined

    def _outputs(self, run: Run, source: BatchSource) -> Tensor:
        return torch.cat([_predicted(run, inputs) for _, inputs in source.ordered(self.batch)])

    def unmeasured(self, run: Run) -> dict[str, float | None]:
        """The record of an epoch in which the run has diverged: nothing is measured of it."""
        return dict.fromkeys(OUTPUTS[run.task])

    def chance(self, run: Run) -> dict[str, float]:
        """What is reached on test by knowing nothing of the inputs: a run that diverged counts as that.

        Classification: the accuracy of a class drawn at random. Regression: the errors of predicting, for every sample,
        the median (``mae``) or the mean (``rmse``) of the noisy training targets.
        """
        if run.num_classes is not None:
            return {"accuracy": 1.0 / run.num_classes}
        ordered = self.train_noisy.double().sort(0).values
        middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
        test = self.test_targets.double()
        return {
            "mae": float((test - middle).abs().mean()),
            "rmse": float((test - ordered.mean(0)).square().mean().sqrt()),
        }

    def fgsm(self, run: Run, epsilon: float) -> float:
        """Accuracy on test inputs moved by ``epsilon`` times the sign of the loss gradient.

        ``x + epsilon * sign(grad_x CE)`` with the true labels, in standardised units, not clipped, each epsilon from
        the clean input (RRM paper, section on A-RRM; its code adds perturbations up, ours are independent).
        """
        correct = torch.zeros((), dtype=torch.int64, device=self.test_targets.device)
        with run.evaluating():
            for index, clean in self.test.ordered(self.batch):
                targets = self.test_targets[index]
                inputs = clean
                if epsilon > 0:
                    inputs = clean.detach().clone().requires_grad_(True)
                    predicted = _predicted(run, inputs)
                    with labels_at_hand():
                        loss = functional.nll_loss(predicted, targets, reduction="sum")
                    (gradient,) = torch.autograd.grad(loss, inputs)
                    inputs = inputs.detach() + epsilon * gradient.sign()
                with torch.no_grad():
                    predicted = _predicted(run, inputs)
                    with labels_at_hand():
                        correct += (predicted.argmax(1) == targets).sum()
        return float(correct) / len(self.test_targets)

    def histograms(self, run: Run) -> dict[str, Any]:
        """Histograms of every per-sample score, for clean and corrupted samples, over common bins."""
        with labels_at_hand():
            return {name: histogram(scores, self.corrupted) for name, (scores, _) in self._scores(run).items()}

    def transitions(self, run: Run) -> list[list[int]] | None:
        """(K, K) training samples by clean class (rows) and given class; ``None`` for regression and many classes."""
        classes = run.num_classes
        if classes is None or classes > MOST_TRANSITION_CLASSES or self.train_noisy.ndim != 1:
            return None
        pairs = (self.train_clean * classes + self.train_noisy).cpu()
        counted: list[list[int]] = torch.bincount(pairs, minlength=classes**2).reshape(classes, classes).tolist()
        return counted


def _predicted(run: Run, inputs: Tensor) -> Tensor:
    """A prediction as an exact tensor: a subclass would be handed the labels that it is compared with."""
    predicted = exact(run.predict(inputs))
    if predicted is None:
        raise ComponentError("the prediction is no torch.Tensor", run.name, "let run.predict be the harness's own")
    return predicted


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


def _largest_share(predicted: Tensor, classes: int) -> Tensor:
    """The share of the predictions that the class with most of them has."""
    counts = torch.zeros(classes, dtype=torch.int64, device=predicted.device)
    counts.scatter_add_(0, predicted, torch.ones_like(predicted))  # bincount waits for the device
    share: Tensor = counts.max().double() / len(predicted)
    return share


def _numbers(measured: dict[str, Tensor]) -> dict[str, float | None]:
    """All metrics in one transfer; what is not finite (an empty share, a diverged loss) is ``None``."""
    if not measured:
        return {}
    values = torch.stack([value.double() for value in measured.values()]).tolist()
    return {name: value if math.isfinite(value) else None for name, value in zip(measured, values, strict=True)}


def _with_detection(values: dict[str, float | None]) -> dict[str, float | None]:
    """The last detector's area stands for the method's."""
    detections = [value for name, value in values.items() if name.startswith("detection_auroc@")]
    if detections:
        values["detection_auroc"] = detections[-1]
    return values


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


def histogram(scores: Tensor, corrupted: Tensor) -> dict[str, Any]:
    """Counts over equal bins from the least to the greatest score, and over the exact values when there are few.

    A few scores far outside would leave all others in one bin (RRM's `argmin` gives one sample the weight of all): where
    the range is more than :data:`OUTLYING` times that of the middle 99 %, the bins cover the middle, the outermost ones
    count what lies beyond, and ``range`` says how far that reaches.
    """
    known = scores.isfinite().cpu()
    finite = scores.double().cpu()[known]
    hidden = corrupted.cpu()[known]
    values = finite.unique()
    if len(values) <= HISTOGRAM_BINS:
        counts = [[int((finite[group] == value).sum()) for value in values] for group in (~hidden, hidden)]
        return {"values": values.tolist(), "clean": counts[0], "corrupted": counts[1]}
    ordered = finite.sort().values
    low, high = float(ordered[0]), float(ordered[-1])
    outside = len(ordered) // 200
    inner = float(ordered[outside]), float(ordered[-1 - outside])
    reach = {}
    if inner[1] > inner[0] and high - low > OUTLYING * (inner[1] - inner[0]):
        reach = {"range": [low, high]}
        low, high = inner
    edges = torch.linspace(low, high, HISTOGRAM_BINS + 1).double()
    bins = torch.bucketize(finite, edges[1:-1])
    counts = [torch.bincount(bins[group], minlength=HISTOGRAM_BINS).tolist() for group in (~hidden, hidden)]
    return {"edges": edges.tolist(), "clean": counts[0], "corrupted": counts[1], **reach}


def summarise(history: list[dict[str, Any]], task: str) -> tuple[dict[str, dict[str, float | None]], int | None]:
    """The metrics of a trial from its epochs, and the number of the selected epoch.

    Epoch 0, the untrained network, may come first: it can be ``best`` or ``selected`` and counts for nothing else.
    ``last`` is the last epoch, ``last10`` the mean of the last ten, ``selected`` the first best epoch on noisy
    validation (regression: lowest noisy-validation loss), ``best`` the best on test, an oracle.
    """
    main = (
        [("accuracy", "test_accuracy", max)]
        if task == "classification"
        else [("mae", "mae", min), ("rmse", "rmse", min)]
    )
    selected = _selected(history, task)
    untrained = 1 if history[0].get("epoch") == 0 else 0
    metrics: dict[str, dict[str, float | None]] = {}
    if task == "classification":
        metrics["predicted_share"] = _shares(history, selected)
    for name, key, best_of in main:
        curve = [epoch[key] for epoch in history]
        finite = [value for value in curve if value is not None]
        tail = [value for value in curve[untrained:][-LAST_EPOCHS:] if value is not None]
        best = best_of(finite) if finite else None
        last = curve[-1]
        metrics[name] = {
            "last": last,
            "last10": sum(tail) / len(tail) if tail else None,
            "selected": curve[selected] if selected is not None else None,
            "best": best,
            "best_minus_last": best - last if best is not None and last is not None else None,
        }
    plain = (
        "test_loss",
        "train_accuracy",
        "clean_accuracy",
        "memorisation",
        "recovery",
        "detection_auroc",
        "train_mae",
    )
    for key in plain:
        if key in history[-1]:
            metrics[key] = {"last": history[-1][key]}
    for key in ("validation_accuracy", "validation_loss", "validation_mae"):
        if key in history[-1]:
            metrics[key] = {
                "last": history[-1][key],
                "selected": history[selected][key] if selected is not None else None,
            }
    return metrics, None if selected is None else selected + 1 - untrained


def _shares(history: list[dict[str, Any]], selected: int | None) -> dict[str, float | None]:
    """``predicted_share`` at the epochs that accuracy is told at; epochs of an earlier harness have none."""
    shares = [epoch.get("predicted_share") for epoch in history]
    accuracies = [epoch["test_accuracy"] for epoch in history]
    best = max((a for a in accuracies if a is not None), default=None)
    return {
        "last": shares[-1],
        "selected": shares[selected] if selected is not None else None,
        "best": shares[accuracies.index(best)] if best is not None else None,
    }


def _selected(history: list[dict[str, Any]], task: str) -> int | None:
    key, sign = ("validation_accuracy", 1.0) if task == "classification" else ("validation_loss", -1.0)
    scored = [(sign * epoch[key], -position) for position, epoch in enumerate(history) if epoch.get(key) is not None]
    return -max(scored)[1] if scored else None
