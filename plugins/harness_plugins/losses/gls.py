"""Generalised label smoothing (Wei et al., ICML 2022): label smoothing at rates below zero as well as above."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from annotated_types import Ge, Le
from torch import Tensor

from harness import Declares, Run
from harness.parameters import NonNegative
from harness_plugins.losses.ce import cross_entropy
from harness_plugins.losses.labels import expected
from harness_plugins.planned_rates import PlannedRates

SmoothRate = Annotated[float, Le(1)]


def generalised_label_smoothing(
    outputs: Tensor, targets: Tensor, rate: float = 0.1, wa: float = 0.0, wb: float = 1.0
) -> Tensor:
    """``(wa + wb (1 - r)) CE + wb r (-1/K) sum_k log p_k`` per sample.

    Args:
        outputs: (B, K) logits.
        targets: (B,) int64 classes, or (B, K) class probabilities.
        rate: ``r``, at most 1; 1 leaves the labels out, a negative one has no lower bound.
        wa: weight of plain cross entropy beside.
        wb: weight of the smoothed one.

    Returns:
        (B,) losses.
    """
    log_p = outputs.log_softmax(1)
    return -(wa + wb * (1 - rate)) * expected(log_p, targets, "gls") - wb * rate * log_p.mean(1)


class GeneralisedLabelSmoothing:
    """Cross entropy to `(1 - r) y + r / K`, where `r` may be negative (Wei et al., 2022).

    Follows the official code (UCSC-REAL/negative-label-smoothing, 05078f675b42). At a negative rate the loss of a sample has
    no lower bound. For high noise the code trains by cross entropy first and goes on at a tiny learning rate with a new
    optimizer; it starts from the epoch of the warm-up that was best on clean test data, here from the last.

    Tried there: `rate` 0.8, 0.6, 0.4, 0.2, 0, -0.2, -0.4, -0.6, -0.8, -1, -2, -4, -6, -8. Direct training: ResNet-34, Nesterov,
    0.1, 0.01, 0.001 for 100, 50, 50 epochs, weight decay 1e-4. High noise: `warmup = 120` (SGD without momentum or decay, 0.1,
    0.01, 0.001 for 40 epochs each), then 100 epochs at `lr = 1e-6`.

    Args:
        rate: `r`, at most 1.
        wa: weight of plain cross entropy beside.
        wb: weight of the smoothed one.
        warmup: epochs of cross entropy before, after which the optimizer is new.
        lr: constant learning rate after the warm-up; 0 leaves it to the schedule.
    """

    declares = Declares(soft_targets=True)

    def __init__(
        self,
        rate: SmoothRate = 0.1,
        wa: NonNegative = 0.0,
        wb: NonNegative = 1.0,
        warmup: Annotated[int, Ge(0)] = 0,
        lr: NonNegative = 0.0,
    ) -> None:
        self.rate = rate
        self.wa = wa
        self.wb = wb
        self.warmup = warmup
        self.lr = lr
        self.warming = False
        self.rates = PlannedRates()

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, K) logits; cross entropy in the warm-up of a trial."""
        if self.warming:
            return cross_entropy(outputs, targets)
        return generalised_label_smoothing(outputs, targets, self.rate, self.wa, self.wb)

    def epoch_start(self, run: Run) -> None:
        """Whether this epoch is one of the warm-up; the optimizer and the learning rate of what follows it."""
        self.warming = run.epoch <= self.warmup
        if self.warmup and run.epoch == self.warmup + 1:
            run.optimizer.state.clear()
        if self.lr and not self.warming:
            self.rates.replace(run.network, self.lr)

    def epoch_end(self, run: Run) -> None:
        """The schedule's learning rate again."""
        self.rates.restore(run.network)

    def state_dict(self) -> dict[str, Any]:
        """Whether the epoch is one of the warm-up, and the schedule's learning rate."""
        return {"warming": self.warming, **self.rates.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.warming = bool(state["warming"])
        self.rates.load_state_dict(state)
