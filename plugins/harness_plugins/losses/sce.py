"""Symmetric cross entropy (Wang et al., 2019): cross entropy plus reverse cross entropy."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness.parameters import NonNegative
from harness_plugins.losses.ce import cross_entropy

LOG_ZERO = math.log(1e-4)
"""What stands for log 0. The paper says -4; the authors' code, APL, ALFs and eps-softmax take log(1e-4) = -9.21."""
CLAMP = 1e-7


def reverse_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """``-sum_k p_k log q_k`` per sample with ``log q_k = log(1e-4)`` off the target, 0 on it.

    Args:
        outputs: (B, K) logits.
        targets: (B,) int64 classes.

    Returns:
        (B,) losses in [0, 9.2104]: about ``9.21 (1 - p_y)``. Probabilities are clamped at 1e-7 as in the PyTorch ports,
        which adds at most 9.3e-7 K.
    """
    probabilities = outputs.softmax(1).clamp(CLAMP, 1)
    p_y = torch.gather(probabilities, 1, targets[:, None]).squeeze(1)
    return -LOG_ZERO * (probabilities.sum(1) - p_y)


def symmetric_cross_entropy(outputs: Tensor, targets: Tensor, alpha: float = 1.0, beta: float = 1.0) -> Tensor:
    """``alpha * CE + beta * RCE`` per sample; shapes as in :func:`reverse_cross_entropy`."""
    return alpha * cross_entropy(outputs, targets) + beta * reverse_cross_entropy(outputs, targets)


class SymmetricCrossEntropy:
    """Symmetric cross entropy: `alpha * CE + beta * RCE` (Wang et al., 2019).

    Official pairs (alpha, beta): MNIST (0.01, 1), CIFAR-10 (0.1, 1), CIFAR-100 (6, 0.1). The KPD paper swaps the letters
    in its eq. 17 and sets both to 1, the default here.

    Args:
        alpha: weight of cross entropy.
        beta: weight of reverse cross entropy.
    """

    def __init__(self, alpha: NonNegative = 1.0, beta: NonNegative = 1.0) -> None:
        self.alpha = alpha
        self.beta = beta

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, K) logits."""
        return symmetric_cross_entropy(outputs, targets, self.alpha, self.beta)
