"""Generalized cross entropy, L_q (Zhang and Sabuncu, 2018): between CE (q -> 0) and MAE (q = 1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness.parameters import PositiveRate
from harness_plugins.losses.labels import of_target

CLAMP = 1e-7


def box_cox(log_probabilities: Tensor, q: float) -> Tensor:
    """``L_q = (1 - p ** q) / q`` of log-probabilities; by ``expm1``, so that a small ``q`` cancels no digits."""
    return -torch.expm1(q * log_probabilities) / q


def generalized_cross_entropy(outputs: Tensor, targets: Tensor, q: float = 0.7) -> Tensor:
    """``(1 - p_y ** q) / q`` per sample, with ``p_y`` clamped to [1e-7, 1] as in the code of APL and ALFs.

    Args:
        outputs: (B, K) logits.
        targets: (B,) int64 classes.
        q: in (0, 1].

    Returns:
        (B,) losses in [0, 1 / q]. Below the clamp the gradient is zero; eps-softmax's code clamps at 1e-8, that of
        L_DMI and of Truncated-Loss not at all.
    """
    return box_cox(of_target(outputs.log_softmax(1), targets, "gce").clamp(min=math.log(CLAMP)), q)


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
