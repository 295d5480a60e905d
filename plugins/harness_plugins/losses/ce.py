"""Cross entropy, the loss that every other method is measured against."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from harness import Declares
from harness_plugins.losses.labels import classes, distribution


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """``-log softmax(outputs)[target]`` per sample.

    Args:
        outputs: (B, K) logits.
        targets: (B,) int64 classes, or (B, K) class probabilities.

    Returns:
        (B,) losses in [0, inf).
    """
    soft = targets.is_floating_point()
    judged = distribution(outputs, targets, "ce") if soft else classes(targets, "ce")
    return functional.cross_entropy(outputs, judged, reduction="none")


class CrossEntropy:
    """Cross entropy: `-log p_y` per sample; the baseline of every table."""

    declares = Declares(soft_targets=True)

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, K) logits."""
        return cross_entropy(outputs, targets)
