"""The evaluator: the one holder of clean labels. It measures a run and is never reachable from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from harness.results.quantities import QUANTITIES, Quantity, by_column
from harness.tasks import TASKS
from harness.training.data import BatchSource
from harness.training.measures import MEASURES, NO_CLASS, Seen, auroc, labels_at_hand, predicted
from harness.training.metrics import Metric
from harness.training.run import Run
from harness.training.tasks import Task
from harness.training.watch import exact

CPU_BATCH = 512
"""Larger evaluation batches are slower on CPU: they leave the caches."""
GPU_BATCH = 2048
MOST_TRANSITION_CLASSES = 100
"""Beyond, the counts of class pairs are not recorded: nobody reads a million of them."""
OUTPUTS: dict[str, tuple[str, ...]] = {
    task: tuple(QUANTITIES[name].column for name in facts.metrics) for task, facts in TASKS.items()
}
"""What is no number in an epoch's record, by task, when outputs on the test data are not finite."""
_UNDEFINED = "undefined"
"""Beside what is measured: whether any output is NaN or infinity, in the same transfer."""
LAST_EPOCHS = 10
HISTOGRAM_BINS = 20
OUTLYING = 4.0


class Evaluator:
    """Measures a run on clean test data, noisy validation data, and training data whose corruption it knows.

    Args:
        test, test_targets: clean test inputs and targets.
        validation, validation_targets: held-out inputs with noisy targets; ``None`` without validation.
        train_clean, train_noisy: clean and noisy training targets, (N,) or (N, outputs). A sample of no class has the clean
            target -1; its label counts as corrupted wherever scores are judged, and it is neither memorised nor recovered.
        known: (N,) bool, whose clean target is known; ``None``: all. What needs the truth is measured among them, and where
            there is none, it is left out of every record.
        train_every: epochs between train-set metrics; the last epoch always has them.
        metrics: that plugins add and the suite asks for.

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
        metrics: Sequence[Metric] = (),
        known: Tensor | None = None,
    ) -> None:
        self.test, self.test_targets = test, test_targets.to(device)
        self.validation = validation
        self.validation_targets = validation_targets.to(device) if validation_targets is not None else None
        self.train_clean, self.train_noisy = train_clean.to(device), train_noisy.to(device, copy=True)
        self.train_every = train_every
        samples = len(self.train_noisy)
        self.known = torch.ones(samples, dtype=torch.bool) if known is None else known
        self.all_known, self.any_known = bool(self.known.all()), bool(self.known.any())
        self.known = self.known.to(device)
        self.metrics = tuple(metric for metric in metrics if self.any_known or not metric.needs_truth)
        different = self.train_clean != self.train_noisy
        self.corrupted = self.known & (different if different.ndim == 1 else different.any(1))
        self.batch = CPU_BATCH if device.type == "cpu" else GPU_BATCH

    def epoch(self, run: Run, *, last: bool) -> dict[str, float | None]:
        """What is measured of the epoch that just ended, by column; shares lie in [0, 1]. Plugins' metrics come last."""
        measure, on_train = MEASURES[run.task], last or run.epoch % self.train_every == 0
        with run.evaluating(), torch.inference_mode():
            test = measure.see(run, self.test, self.test_targets, self.batch, self._asked("test"))
            validation = train = None
            judged: dict[str, Tensor] = {}
            if self.validation is not None and self.validation_targets is not None:
                validation = measure.see(run, self.validation, self.validation_targets, self.batch, False)
            if on_train:
                train = measure.see(run, run.source, self.train_noisy, self.batch, self._asked("train"))
            with labels_at_hand():
                measured = measure.test(test, self.test_targets, run.num_outputs)
            if validation is not None and self.validation_targets is not None:
                measured |= measure.validation(run, validation, self.validation_targets)
            seen = [one for one in (test, validation, train) if one is not None]
            with labels_at_hand():
                if train is not None:
                    measured |= measure.given(train, self.train_noisy)
                    if self.any_known:
                        measured |= measure.learnt(train, self.train_noisy, self.train_clean, self.known)
                        measured |= self._detections(run)
                        judged = self._judged(run)
                measured[_UNDEFINED] = torch.stack([one.undefined for one in seen]).any()
                further = self._further(test, train)
                values = _with_detection(_numbers(measured))
                undefined = bool(values.pop(_UNDEFINED))
                values |= _numbers(further | judged)
            if undefined or any(values[name] is None for name in OUTPUTS[run.task]):
                self._look_closely(run)
            return values | self.unmeasured(run) if undefined else values

    def _look_closely(self, run: Run) -> None:
        """Predict once more, now that some outputs are not finite: a hook that makes such numbers of a network's finite
        outputs is at fault.

        Raises:
            ComponentError: naming the hook.
        """
        if run.stack.predict is None:
            return
        with run.stack.watch.closely(run):
            for source in (self.test, self.validation, run.source):
                for _, inputs in source.ordered(self.batch) if source is not None else ():
                    predicted(run, inputs)

    def measure(self, run: Run) -> dict[str, float | None]:
        """The values of the plugins' metrics, of the run as it stands."""
        seen: dict[str, Seen] = {}
        with run.evaluating(), torch.inference_mode():
            for on, source, targets in (
                ("test", self.test, self.test_targets),
                ("train", run.source, self.train_noisy),
            ):
                if self._asked(on):
                    seen[on] = MEASURES[run.task].see(run, source, targets, self.batch, True)
            with labels_at_hand():
                return _numbers(self._further(seen.get("test"), seen.get("train")))

    def _asked(self, on: str) -> bool:
        """Whether a plugin's metric is measured on test or on training data."""
        return any(metric.measured.on == on for metric in self.metrics)

    def _further(self, test: Seen | None, train: Seen | None) -> dict[str, Tensor]:
        """What plugins' metrics say of the outputs; nothing of outputs that hold NaN or infinity."""
        targets = {"test": (self.test_targets, self.test_targets), "train": (self.train_noisy, self.train_clean)}
        found: dict[str, Tensor] = {}
        for on, seen in (("test", test), ("train", train)):
            metrics = [metric for metric in self.metrics if metric.measured.on == on]
            if metrics and seen is not None and seen.outputs is not None and not bool(seen.undefined):
                for metric in metrics:
                    shown = (seen.outputs, *targets[on])
                    if not self.all_known and metric.needs_truth:
                        outputs, given, clean = shown
                        shown = (outputs[self.known], given[self.known], clean[self.known])
                    found |= metric(*shown)
        return found

    def _detections(self, run: Run) -> dict[str, Tensor]:
        """How well each score tells corrupted from clean samples."""
        among: Any = slice(None) if self.all_known else self.known
        return {
            f"detection_auroc@{name}": auroc(scores[among], self.corrupted[among])
            for name, (scores, detects) in self._scores(run).items()
            if detects
        }

    def _judged(self, run: Run) -> dict[str, Tensor]:
        """What plugins' metrics say of each score that detects, as ``name@score``, and of the last of them as ``name``."""
        found: dict[str, Tensor] = {}
        among: Any = slice(None) if self.all_known else self.known
        for metric in (metric for metric in self.metrics if metric.measured.on == "scores"):
            for name, scores in ((n, s) for n, (s, detects) in self._scores(run).items() if detects):
                value = metric.of_scores(scores[among], self.train_noisy[among], self.train_clean[among])
                found |= {f"{metric.name}@{name}": value, metric.name: value}
        return found

    @staticmethod
    def _scores(run: Run) -> dict[str, tuple[Tensor, bool]]:
        """The scores of samples as exact tensors: they are compared with what is corrupted."""
        found = {name: (exact(scores), detects) for name, (scores, detects) in run.sample_scores.items()}
        return {name: (scores, detects) for name, (scores, detects) in found.items() if scores is not None}

    def unmeasured(self, run: Run) -> dict[str, float | None]:
        """The record of an epoch in which the run has diverged: nothing is measured of it."""
        return dict.fromkeys(OUTPUTS[run.task])

    def chance(self, run: Run) -> dict[str, float]:
        """What is reached on test by knowing nothing of the inputs: a run that diverged counts as that."""
        found = MEASURES[run.task].chance(self.train_noisy, self.test_targets, run.num_classes)
        for metric in self.metrics:
            if metric.measured.chance is not None:
                found[metric.name] = float(metric.measured.chance(run.num_outputs))
        return found

    def fgsm(self, run: Run, epsilon: float) -> float | None:
        """Accuracy on test inputs moved by ``epsilon`` times the sign of the loss gradient; ``None`` where that gradient or
        a prediction is NaN.

        ``x + epsilon * sign(grad_x CE)`` with the true labels, in standardised units, not clipped, each epsilon from
        the clean input (RRM paper, section on A-RRM; its code adds perturbations up, ours are independent).
        """
        correct = torch.zeros((), dtype=torch.int64, device=self.test_targets.device)
        undefined = torch.zeros((), dtype=torch.bool, device=self.test_targets.device)
        with run.evaluating():
            for index, clean in self.test.ordered(self.batch):
                targets = self.test_targets[index]
                inputs = clean
                if epsilon > 0:
                    inputs = clean.detach().clone().requires_grad_(True)
                    found = predicted(run, inputs)
                    with labels_at_hand():
                        loss = functional.nll_loss(found, targets, reduction="sum")
                    (gradient,) = torch.autograd.grad(loss, inputs)
                    inputs = inputs.detach() + epsilon * gradient.sign()
                with torch.no_grad():
                    found = predicted(run, inputs)
                    with labels_at_hand():
                        correct += (found.argmax(1) == targets).sum()
                        undefined |= inputs.isnan().any() | found.isnan().any()
        return None if bool(undefined) else float(correct) / len(self.test_targets)

    def histograms(self, run: Run) -> dict[str, Any]:
        """Histograms of every per-sample score over common bins: for clean and for corrupted samples, and for those of which
        nobody knows it."""
        with labels_at_hand():
            known = None if self.all_known else self.known
            return {name: histogram(scores, self.corrupted, known) for name, (scores, _) in self._scores(run).items()}

    def truth(self) -> dict[str, int]:
        """How many training samples there are, and of how many the clean target is known."""
        return {"known": int(self.known.sum()), "samples": len(self.known)}

    def rate(self) -> float | None:
        """The share of corrupted training samples among those whose clean target is known; ``None`` without any."""
        return float(self.corrupted[self.known].float().mean()) if self.any_known else None

    def transitions(self, run: Run) -> list[list[int]] | None:
        """(K, K) training samples by clean class (rows) and given class, where both are known; ``None`` for regression, many
        classes, and where no clean class is known. Samples of no class are in no row."""
        classes = run.num_classes
        if classes is None or classes > MOST_TRANSITION_CLASSES or self.train_noisy.ndim != 1 or not self.any_known:
            return None
        among = self.known & (self.train_clean != NO_CLASS)
        pairs = (self.train_clean * classes + self.train_noisy)[among].cpu()
        counted: list[list[int]] = torch.bincount(pairs, minlength=classes**2).reshape(classes, classes).tolist()
        return counted


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


def histogram(scores: Tensor, corrupted: Tensor, known: Tensor | None = None) -> dict[str, Any]:
    """Counts of clean and of corrupted samples, and of those that are not ``known`` to be either, over equal bins from the
    least to the greatest score, and over the exact values when there are few.

    A few scores far outside would leave all others in one bin (RRM's `argmin` gives one sample the weight of all): where
    the range is more than :data:`OUTLYING` times that of the middle 99 %, the bins cover the middle, the outermost ones
    count what lies beyond, and ``range`` says how far that reaches.
    """
    usable = scores.isfinite().cpu()
    finite = scores.double().cpu()[usable]
    masks = {name: mask.cpu()[usable] for name, mask in _groups(corrupted, known).items()}
    values = finite.unique()
    if len(values) <= HISTOGRAM_BINS:
        few = {name: [int((finite[mask] == value).sum()) for value in values] for name, mask in masks.items()}
        return {"values": values.tolist(), **few}
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
    counts = {name: torch.bincount(bins[mask], minlength=HISTOGRAM_BINS).tolist() for name, mask in masks.items()}
    return {"edges": edges.tolist(), **counts, **reach}


def _groups(corrupted: Tensor, known: Tensor | None) -> dict[str, Tensor]:
    """Masks (N,) of clean and of corrupted samples where any is known, and of those of which nobody knows."""
    if known is None:
        return {"clean": ~corrupted, "corrupted": corrupted}
    groups = {"clean": known & ~corrupted, "corrupted": known & corrupted} if bool(known.any()) else {}
    return {**groups, "unknown": ~known}


def summarise(
    history: list[dict[str, Any]], task: Task, further: Mapping[str, Quantity] = MappingProxyType({})
) -> tuple[dict[str, dict[str, float | None]], int | None]:
    """The metrics of a trial from its epochs, and the number of the selected epoch.

    Epoch 0, the untrained network, may come first: it can be ``best`` or ``selected`` and counts for nothing else.
    ``last`` is the last epoch, ``last10`` the mean of the last ten, ``selected`` the first best epoch on noisy
    validation (regression: lowest noisy-validation loss), ``best`` the best on test, an oracle.

    Args:
        history: the record of every epoch.
        task: of the data.
        further: by the name under which a value is recorded, the quantities that plugins add. Theirs at ``best`` is that
            of the epoch which is best by the headline.
    """
    facts = TASKS[task]
    scores = [facts.selected_by(epoch) for epoch in history]
    selected = _first_best(scores, higher=True)
    untrained = 1 if history[0].get("epoch") == 0 else 0
    headline = _first_best([epoch[QUANTITIES[facts.headline].column] for epoch in history], _high(facts.headline))

    def taken(values: list[float | None], quantity: Quantity, best: int | None) -> dict[str, float | None]:
        places = {"last": len(values) - 1, "selected": selected, "best": best}
        found = {at: None if place is None else values[place] for at, place in places.items()}
        tail = [value for value in values[untrained:][-LAST_EPOCHS:] if value is not None]
        top, last = found["best"], found["last"]
        found["last10"] = sum(tail) / len(tail) if tail else None
        found["best_minus_last"] = top - last if top is not None and last is not None else None
        return {at: found[at] for at in quantity.moments}

    metrics: dict[str, dict[str, float | None]] = {}
    if "predicted_share" in history[-1] or task == "classification":
        shares = [epoch.get("predicted_share") for epoch in history]
        metrics["predicted_share"] = taken(shares, QUANTITIES["predicted_share"], headline)
    for name in facts.metrics:
        curve = [epoch[QUANTITIES[name].column] for epoch in history]
        metrics[name] = taken(curve, QUANTITIES[name], _first_best(curve, _high(name)))
    for key in history[-1]:
        quantity = by_column(key)
        if quantity is not None and quantity.moments and quantity.name not in metrics:
            metrics[quantity.name] = taken([epoch.get(key) for epoch in history], quantity, headline)
    for name, quantity in further.items():
        curve = [epoch.get(name, epoch.get("diagnostics", {}).get(name)) for epoch in history]
        metrics[name] = taken(curve, quantity, headline)
    return metrics, None if selected is None else selected + 1 - untrained


def _high(name: str) -> bool:
    return QUANTITIES[name].higher_is_better


def _first_best(values: Sequence[float | None], higher: bool) -> int | None:
    """Position of the best value, the first of equals; ``None`` without one."""
    sign = 1.0 if higher else -1.0
    scored = [(sign * value, -position) for position, value in enumerate(values) if value is not None]
    return -max(scored)[1] if scored else None
