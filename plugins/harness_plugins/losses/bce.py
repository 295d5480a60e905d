"""Binary cross entropy over labels, with label smoothing: the plain loss where a sample may have several labels."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from harness import Declares
from harness.parameters import Rate


def binary_cross_entropy(outputs: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """``-mean_k [t_k log p_k + (1 - t_k) log(1 - p_k)]`` per sample, ``p = sigmoid(outputs)``.

    Args:
        outputs: (B, K) logits.
        targets: (B, K) labels in {0, 1}, or probabilities.
        smoothing: ``t`` is replaced by ``(1 - smoothing) t + smoothing / 2``.

    Returns:
        (B,) losses, at least 0.
    """
    smooth = (1 - smoothing) * targets.to(outputs.dtype) + smoothing / 2
    return functional.binary_cross_entropy_with_logits(outputs, smooth, reduction="none").mean(1)


class BinaryCrossEntropy:
    """Binary cross entropy, the mean over the labels of `-t log p - (1 - t) log(1 - p)`.

    Args:
        smoothing: label smoothing (Szegedy et al., 2016, for two classes): every label is drawn this far towards 1/2.
    """

    declares = Declares(tasks=("multilabel",), soft_targets=True)

    def __init__(self, smoothing: Rate = 0.0) -> None:
        self.smoothing = smoothing

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, K) logits."""
        return binary_cross_entropy(outputs, targets, self.smoothing)
