"""Reverse cross entropy (Wang et al., 2019): labels are the distribution that is judged; in effect a scaled MAE."""

from __future__ import annotations

import math

from torch import Tensor

from harness import Declares
from harness_plugins.losses.labels import classes, distribution

LABEL_CLAMP = 1e-4
"""What a zero of the label counts as. The paper says log 0 = -4; the authors' code, APL, ALFs and eps-softmax take
log(1e-4) = -9.21."""
CLAMP = 1e-7


def reverse_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """``-sum_k p_k log q_k`` per sample, with labels ``q`` clamped to [1e-4, 1] and ``p`` to [1e-7, 1].

    Args:
        outputs: (B, K) logits.
        targets: (B,) int64 classes, or (B, K) class probabilities.

    Returns:
        (B,) losses, about ``9.21 (1 - p_y)``. The clamp of ``p``, which the PyTorch ports have and the TensorFlow
        original has not, adds at most 9.3e-7 K and takes the gradient of smaller probabilities away.
    """
    probabilities = outputs.softmax(1).clamp(CLAMP, 1)
    if targets.is_floating_point():
        return -(probabilities * distribution(outputs, targets, "rce").clamp(LABEL_CLAMP, 1).log()).sum(1)
    return -math.log(LABEL_CLAMP) * probabilities.scatter(1, classes(targets, "rce")[:, None], 0.0).sum(1)


class ReverseCrossEntropy:
    """Reverse cross entropy: `-sum_k p_k log q_k`, about `9.21 (1 - p_y)` (Wang et al., 2019)."""

    declares = Declares(soft_targets=True)

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, K) logits."""
        return reverse_cross_entropy(outputs, targets)
