"""Squared loss for regression: the mean's loss, quadratic in outliers; the baseline of regression."""

from __future__ import annotations

from torch import Tensor

from harness import Declares
from harness_plugins.losses.residuals import over_outputs, residuals


def l2(outputs: Tensor, targets: Tensor) -> Tensor:
    """``sum_j r_j ** 2`` per sample, (B,), of the residuals of outputs (B, O) and targets (B,) or (B, O)."""
    return over_outputs(residuals(outputs, targets, "l2").square())


class L2:
    """Squared loss for regression: `sum_j r_j^2` over outputs, without a half (KPD paper, appendix B)."""

    declares = Declares(tasks=("regression",), soft_targets=True)

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, O) outputs."""
        return l2(outputs, targets)
