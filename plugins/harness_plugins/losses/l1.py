"""l1 loss for regression: the median's loss, linear in outliers."""

from __future__ import annotations

from torch import Tensor

from harness import Declares
from harness_plugins.losses.residuals import over_outputs, residuals


def l1(outputs: Tensor, targets: Tensor) -> Tensor:
    """``sum_j |r_j|`` per sample, (B,), of the residuals of outputs (B, O) and targets (B,) or (B, O)."""
    return over_outputs(residuals(outputs, targets, "l1").abs())


class L1:
    """l1 loss for regression: `sum_j |r_j|` over outputs (KPD paper, appendix B)."""

    declares = Declares(tasks=("regression",), soft_targets=True)

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, O) outputs."""
        return l1(outputs, targets)
