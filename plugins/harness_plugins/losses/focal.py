"""Focal loss (Lin et al., 2017) and its normalisation (Ma et al., 2020): easy samples count less."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.parameters import NonNegative, Positive
from harness_plugins.losses.labels import of_target


def focal_terms(outputs: Tensor, gamma: float) -> Tensor:
    """(B, K) ``-(1 - p_k) ** gamma log p_k``, the focal loss for each label, the weight without gradient."""
    log_p = outputs.log_softmax(1)
    return -((-torch.expm1(log_p.detach())) ** gamma) * log_p


def focal_loss(outputs: Tensor, targets: Tensor, gamma: float = 0.5) -> Tensor:
    """``-(1 - p_y) ** gamma log p_y`` per sample, the weight ``(1 - p_y) ** gamma`` a constant for the gradient.

    Args:
        outputs: (B, K) logits.
        targets: (B,) int64 classes.
        gamma: at least 0; 0 is cross entropy.

    Returns:
        (B,) losses in [0, inf).
    """
    return of_target(focal_terms(outputs, gamma), targets, "focal")


def normalized_focal_loss(outputs: Tensor, targets: Tensor, gamma: float = 0.5, scale: float = 1.0) -> Tensor:
    """``scale`` times the focal loss as a share of its sum over all labels; weights constant for the gradient.

    Args:
        outputs: (B, K) logits.
        targets: (B,) int64 classes.
        gamma: at least 0; 0 is normalized cross entropy.
        scale: of the result.

    Returns:
        (B,) losses in [0, scale]; over all K labels they sum to ``scale``.
    """
    terms = focal_terms(outputs, gamma)
    return scale * of_target(terms, targets, "nfl") / terms.sum(1)


class FocalLoss:
    """Focal loss: `-(1 - p_y)^gamma log p_y`, the weight detached (Lin et al., 2017).

    Deviation: in the textbook the gradient also passes through the weight; APL, ALFs and eps-softmax all detach it,
    and so do we.

    Args:
        gamma: 0.5 in all configurations of APL and ALFs.
    """

    def __init__(self, gamma: NonNegative = 0.5) -> None:
        self.gamma = gamma

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, K) logits."""
        return focal_loss(outputs, targets, self.gamma)


class NormalizedFocalLoss:
    """Normalized focal loss: the focal loss over its sum over all labels, weights detached (Ma et al., 2020).

    Args:
        gamma: 0.5 in all configurations of APL and ALFs.
        scale: of the result; 10 in APL's CIFAR-10 configuration.
    """

    def __init__(self, gamma: NonNegative = 0.5, scale: Positive = 1.0) -> None:
        self.gamma = gamma
        self.scale = scale

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, K) logits."""
        return normalized_focal_loss(outputs, targets, self.gamma, self.scale)
