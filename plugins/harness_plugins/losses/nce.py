"""Normalized cross entropy (Ma et al., 2020): cross entropy as a share of its sum over all labels; symmetric."""

from __future__ import annotations

from torch import Tensor

from harness import Declares
from harness_plugins.losses.labels import expected


def normalized_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """``log p_y / sum_k log p_k`` per sample.

    Args:
        outputs: (B, K) logits.
        targets: (B,) int64 classes, or (B, K) class probabilities.

    Returns:
        (B,) losses in [0, 1]; over all K labels they sum to 1.
    """
    log_p = outputs.log_softmax(1)
    return expected(log_p, targets, "nce") / log_p.sum(1)


class NormalizedCrossEntropy:
    """Normalized cross entropy: `log p_y / sum_k log p_k` (Ma et al., 2020).

    The KPD paper's row "Normalized CE" states `alpha = 1, beta = 2`, which this loss has not; `nce_rce` has.
    """

    declares = Declares(soft_targets=True)

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, K) logits."""
        return normalized_cross_entropy(outputs, targets)
