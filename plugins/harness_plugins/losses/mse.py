"""Mean squared error on probabilities: the Brier score of the prediction (RRM paper, Tables 4 and 8)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from harness import Declares
from harness_plugins.losses.labels import distribution

OverClasses = Literal["mean", "sum"]


def mean_squared_error(outputs: Tensor, targets: Tensor, reduction: OverClasses = "mean") -> Tensor:
    """``||p - t||_2^2`` per sample, divided by K for ``reduction="mean"``.

    Args:
        outputs: (B, K) logits.
        targets: (B,) int64 classes, or (B, K) class probabilities.
        reduction: over classes.

    Returns:
        (B,) losses in [0, 2], or [0, 2 / K] for the mean.
    """
    squares = (outputs.softmax(1) - distribution(outputs, targets, "mse")).square()
    return squares.mean(1) if reduction == "mean" else squares.sum(1)


class MeanSquaredError:
    """Mean squared error on probabilities: `||p - onehot(y)||^2`, over classes averaged or summed.

    The two differ by the factor K, to which RRM's gamma and a learning rate are not indifferent.

    Args:
        reduction: over classes: `mean` is Keras (RRM's tables) and the eps-softmax code, `sum` the LDR code.
    """

    declares = Declares(soft_targets=True)

    def __init__(self, reduction: OverClasses = "mean") -> None:
        self.reduction: OverClasses = reduction

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, K) logits."""
        return mean_squared_error(outputs, targets, self.reduction)
