"""Taylor cross entropy (Feng et al., IJCAI 2020): the series of cross entropy cut off after some terms."""

import torch
from torch import Tensor

from harness.parameters import Count


def taylor_cross_entropy(outputs: Tensor, targets: Tensor, order: int = 2) -> Tensor:
    """`sum_{i=1}^{t} (1 - p_y)^i / i` per sample (eq. 6).

    Args:
        outputs: (B, K) logits.
        targets: (B,) int64 classes, noisy.
        order: `t` >= 1. With 1 it is the mean absolute error up to a factor of two, which is robust to symmetric
            noise; as it grows it becomes cross entropy.

    Returns:
        (B,) losses in [0, H_t], where H_t is the t-th harmonic number.
    """
    missed = -torch.expm1(outputs.log_softmax(1).gather(1, targets[:, None]).squeeze(1))
    losses = torch.zeros_like(missed)
    for term in range(order, 0, -1):  # Horner's scheme
        losses = missed * (losses + 1 / term)
    return losses


class TaylorCrossEntropy:
    """Taylor cross entropy: `sum_{i=1}^t (1 - p_y)^i / i` (Feng et al., 2020, eq. 6).

    Args:
        order: `t`, the number of terms; the paper searches 2 to 6, we take 2.
    """

    def __init__(self, order: Count = 2) -> None:
        self.order = order

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor) -> Tensor:
        """(B,) losses of (B, K) logits."""
        return taylor_cross_entropy(outputs, targets, self.order)
