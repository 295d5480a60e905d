"""Generalized cross entropy, L_q (Zhang and Sabuncu, 2018): between CE (q -> 0) and MAE (q = 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.parameters import PositiveRate

CLAMP = 1e-7

def generalized_cross_entropy(outputs: Tensor, targets: Tensor, q: float = 0.7) -> Tensor:
    """``(1 - p_y ** q) / q`` per sample, with ``p_y`` clamped to [1e-7, 1] as in the code of APL and ALFs.

    Args:
        outputs: (B, K) logits.
        targets: (B,) int64 classes.
        q: in (0, 1].

    Returns:
        (B,) losses in [0, 1 / q].
    """
    p_y = torch.gather(outputs.softmax(1), 1, targets[:, None]).squeeze(1).clamp(CLAMP, 1)
    return (1 - p_y**q) / q

class GeneralizedCrossEntropy:
    """Generalized cross entropy: `(1 - p_y^q) / q` (Zhang and Sabuncu, 2018, eq. 6).

    Args:
        q: in (0, 1]; 0.7 in the paper.
    """

    def __init__(self, q: PositiveRate = 0.7) -> None:
        self.q = q

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, K) logits."""
        return generalized_cross_entropy(outputs, targets, self.q)

