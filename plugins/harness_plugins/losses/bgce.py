"""Generalized cross entropy of single labels: between binary cross entropy and the mean absolute error, which is robust."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from harness import Declares
from harness.parameters import PositiveRate


def binary_generalized_cross_entropy(outputs: Tensor, targets: Tensor, q: float) -> Tensor:
    """``mean_k (1 - p_k^q) / q`` per sample, ``p_k`` the probability of the label's given value.

    Args:
        outputs: (B, K) logits.
        targets: (B, K) labels in {0, 1}.
        q: in (0, 1]; the limit 0 is binary cross entropy, 1 the mean absolute error.

    Returns:
        (B,) losses in [0, 1 / q].
    """
    log_p = functional.logsigmoid((2 * targets - 1) * outputs)
    return ((1 - (q * log_p).exp()) / q).mean(1)


class BinaryGeneralizedCrossEntropy:
    """Generalized cross entropy (Zhang and Sabuncu, 2018, eq. 6) of each label as a problem of two classes, mean over labels.

    Deviation: the paper has one class for each sample; here a label and its absence are the two classes.

    Args:
        q: 0.7 in the paper.
    """

    declares = Declares(tasks=("multilabel",))

    def __init__(self, q: PositiveRate = 0.7) -> None:
        self.q = q

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, K) logits."""
        return binary_generalized_cross_entropy(outputs, targets, self.q)
