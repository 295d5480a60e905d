"""Tukey's biweight loss for regression (Belagiannis et al., 2015): constant, without gradient, beyond delta."""

from __future__ import annotations

import torch
from torch import Tensor

from harness import Declares
from harness.parameters import Positive
from harness_plugins.losses.residuals import over_outputs, residuals

GAUSSIAN = 1.4826
"""The standard deviation of a Gaussian over its median absolute deviation."""


def tukey(outputs: Tensor, targets: Tensor, delta: float = 4.685, mad_scale: bool = False) -> Tensor:
    """``delta^2 / 6 (1 - (1 - (r / delta)^2)^3)`` where ``|r| <= delta``, else ``delta^2 / 6``, summed over outputs.

    Args:
        outputs: (B, O) predictions.
        targets: (B,) or (B, O).
        delta: in units of the target, or of the scaled residual; above 0.
        mad_scale: residuals of each output are first divided by 1.4826 times their median absolute deviation in the
            batch, a constant for the gradient; an output whose deviation is 0 stays unscaled.

    Returns:
        (B,) losses in [0, O delta^2 / 6].
    """
    r = residuals(outputs, targets, "tukey")
    if mad_scale:
        fixed = r.detach()
        deviation = (fixed - fixed.quantile(0.5, dim=0)).abs().quantile(0.5, dim=0)
        r = r / torch.where(deviation > 0, GAUSSIAN * deviation, 1.0)
    inside = (r / delta).square().clamp(max=1)
    return over_outputs(delta**2 / 6 * (1 - (1 - inside) ** 3))


class Tukey:
    """Tukey's biweight: `delta^2 / 6 (1 - (1 - (r / delta)^2)^3)`, constant beyond `delta` (KPD paper, eq. 15).

    Args:
        delta: 4.685, at which the loss is 95 % as efficient as least squares on unit Gaussian noise; the KPD paper
            calls it pre-defined and gives no value.
        mad_scale: divide residuals by 1.4826 times their median absolute deviation, per output and batch (Belagiannis
            et al., 2015); off, since the KPD paper's formula has none. A sample's loss then depends on its batch.
    """

    declares = Declares(tasks=("regression",), soft_targets=True, whole_batch="mad_scale")

    def __init__(self, delta: Positive = 4.685, mad_scale: bool = False) -> None:
        self.delta = delta
        self.mad_scale = mad_scale

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, O) outputs."""
        return tukey(outputs, targets, self.delta, self.mad_scale)
