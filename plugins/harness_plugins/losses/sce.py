"""Symmetric cross entropy (Wang et al., 2019): cross entropy plus reverse cross entropy."""

from __future__ import annotations

from torch import Tensor

from harness import Declares
from harness.parameters import NonNegative
from harness_plugins.losses.ce import cross_entropy
from harness_plugins.losses.rce import reverse_cross_entropy


def symmetric_cross_entropy(outputs: Tensor, targets: Tensor, alpha: float = 1.0, beta: float = 1.0) -> Tensor:
    """``alpha * CE + beta * RCE`` per sample; shapes as in :func:`reverse_cross_entropy`."""
    return alpha * cross_entropy(outputs, targets) + beta * reverse_cross_entropy(outputs, targets)


class SymmetricCrossEntropy:
    """Symmetric cross entropy: `alpha * CE + beta * RCE` (Wang et al., 2019).

    Official pairs (alpha, beta): MNIST (0.01, 1), CIFAR-10 (0.1, 1), CIFAR-100 (6, 0.1). The KPD paper swaps the
    letters in its eq. 17 and sets both to 1, the default here.

    Args:
        alpha: weight of cross entropy.
        beta: weight of reverse cross entropy.
    """

    declares = Declares(soft_targets=True)

    def __init__(self, alpha: NonNegative = 1.0, beta: NonNegative = 1.0) -> None:
        self.alpha = alpha
        self.beta = beta

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, K) logits."""
        return symmetric_cross_entropy(outputs, targets, self.alpha, self.beta)
