"""Huber loss for regression (Huber, 1964): quadratic near zero, linear beyond delta."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from harness import Declares
from harness.parameters import Positive
from harness_plugins.losses.residuals import over_outputs, residuals


def huber(outputs: Tensor, targets: Tensor, delta: float = 1.0) -> Tensor:
    """``r^2 / 2`` where ``|r| <= delta``, else ``delta (|r| - delta / 2)``, summed over outputs.

    Args:
        outputs: (B, O) predictions.
        targets: (B,) or (B, O).
        delta: in units of the target, above 0.

    Returns:
        (B,) losses.
    """
    r = residuals(outputs, targets, "huber")
    return over_outputs(functional.huber_loss(r, r.new_zeros(()).expand_as(r), reduction="none", delta=delta))


class Huber:
    """Huber loss: `r^2 / 2` up to `delta`, linear beyond, summed over outputs (KPD paper, eq. 14).

    Args:
        delta: in units of the target; the KPD paper calls it pre-defined and gives no value, 1 is the usual one.
    """

    declares = Declares(tasks=("regression",), soft_targets=True)

    def __init__(self, delta: Positive = 1.0) -> None:
        self.delta = delta

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, O) outputs."""
        return huber(outputs, targets, self.delta)
