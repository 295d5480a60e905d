"""Active negative losses (Ye et al., NeurIPS 2023): a normalised loss, and the normalised negative of a loss."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from harness import Declares, Run, Step
from harness.parameters import NonNegative
from harness_plugins.losses.focal import normalized_focal_loss
from harness_plugins.losses.labels import classes, of_target
from harness_plugins.losses.nce import normalized_cross_entropy

SMALLEST = 1e-7
A = -math.log(SMALLEST)


def normalized_negative_cross_entropy(outputs: Tensor, targets: Tensor, bounded: bool = False) -> Tensor:
    """``1 - (A + log q_y) / sum_k (A + log q_k)``, ``A = -log 1e-7``, ``q`` the probabilities clamped at 1e-7, per sample.

    Args:
        outputs: (B, K) logits.
        targets: (B,) int64 classes.
        bounded: clamp them at ``1 - 1e-7`` too, as ANL-CE-ER does.

    Returns:
        (B,) losses in [0, 1]; clamped entries pass no gradient.
    """
    terms = A + log_clamped(outputs, bounded)
    share: Tensor = of_target(terms, targets, "anl") / terms.sum(1)
    return 1 - share


def normalized_negative_focal_loss(outputs: Tensor, targets: Tensor, gamma: float = 0.5) -> Tensor:
    """``1 - (A_f - t_y) / (K A_f - sum_k t_k)`` per sample, ``t`` the focal terms of log-probabilities clamped at log 1e-7,
    weights constant for the gradient, and ``A_f = (1 - 1e-7) ** gamma A`` their largest.

    Args:
        outputs: (B, K) logits.
        targets: (B,) int64 classes.
        gamma: of the focal terms.

    Returns:
        (B,) losses in [0, 1]; clamped entries pass no gradient.
    """
    log_p = outputs.log_softmax(1).clamp_min(-A)
    terms = (1 - SMALLEST) ** gamma * A + (-torch.expm1(log_p.detach())) ** gamma * log_p
    share: Tensor = of_target(terms, targets, "anl") / terms.sum(1)
    return 1 - share


def log_clamped(outputs: Tensor, bounded: bool) -> Tensor:
    """(B, K) logarithms of probabilities that are at least 1e-7, and at most ``1 - 1e-7`` where they are bounded."""
    return outputs.log_softmax(1).clamp(-A, math.log1p(-SMALLEST) if bounded else None)


def entropy_gap(outputs: Tensor) -> Tensor:
    """``log K + sum_k c_k log c_k`` of the mean prediction ``c`` of a batch of (B, K) logits, a scalar: 0 where it is even."""
    q = log_clamped(outputs, True).exp().sum(0)
    mean = (q / q.sum()).clamp(SMALLEST, 1 - SMALLEST)
    return math.log(outputs.shape[1]) + (mean * mean.log()).sum()


class ActiveNegativeLoss:
    """`a active + b negative`, and `d` times the sum of all |weights| (Ye et al., 2023): ANL-CE, ANL-FL, ANL-CE-ER.

    Follows the official code (Virusdoll/Active-Negative-Loss, 0c50009cf829). ANL-CE is `nce` with `nnce`, ANL-FL `nfl` with
    `nnfl`, ANL-CE-ER is ANL-CE with `lam` above 0: the entropy of the batch's mean prediction, which nothing in the official
    main reaches. The L1 term is over all parameters of the network (of a factorised one, its factors) and stands in place of
    weight decay: set that to 0 for this method. Gradients are clipped at a norm of 5 there (`clip = 5.0`). ANL-MAE is in no code.
    Both further terms are of the batch as a whole: weights of samples (RRM) act on the first two.

    By data set, `a, b, d` (`lam`): MNIST 1, 1, 1e-6, a CNN of 4 layers, lr 0.01, 50 epochs; CIFAR-10 5, 5, 5e-5 (2), a CNN of 8
    layers, 0.01, 120; CIFAR-100 10, 1, 5e-7 (0.01), ResNet-34, 0.1, 200; mini-WebVision 20, 1, 5e-6, ResNet-50, 0.4 with Nesterov,
    times 0.97 every epoch, 250, batch 512. SGD with momentum 0.9, cosine to 0.

    Args:
        active: `nce` or `nfl`.
        negative: `nnce` or `nnfl`.
        a, b: weights of the two.
        d: weight of the sum of |weights|.
        gamma: of the focal terms.
        lam: weight of the entropy of the mean prediction; above 0 it also bounds the probabilities of `nnce` at 1 - 1e-7.
    """

    declares = Declares()

    def __init__(
        self,
        active: Literal["nce", "nfl"] = "nce",
        negative: Literal["nnce", "nnfl"] = "nnce",
        a: NonNegative = 5.0,
        b: NonNegative = 5.0,
        d: NonNegative = 5e-5,
        gamma: NonNegative = 0.5,
        lam: NonNegative = 0.0,
    ) -> None:
        self.focal_active = active == "nfl"
        self.focal_negative = negative == "nnfl"
        self.a = a
        self.b = b
        self.d = d
        self.gamma = gamma
        self.lam = lam

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, K) logits, without the two terms of the batch."""
        judged = classes(targets, "anl")
        if self.focal_active:
            active = normalized_focal_loss(outputs, judged, self.gamma)
        else:
            active = normalized_cross_entropy(outputs, judged)
        if self.focal_negative:
            negative = normalized_negative_focal_loss(outputs, judged, self.gamma)
        else:
            negative = normalized_negative_cross_entropy(outputs, judged, self.lam > 0)
        return self.a * active + self.b * negative

    def after_losses(self, run: Run, step: Step) -> None:
        """Adds the terms of the weights and of the batch's mean prediction to what is differentiated."""
        if step.phase not in ("train", "again"):
            return
        terms = []
        if self.d:
            weights = torch.cat([weight.flatten() for weight in run.of(step.network).parameters])
            terms.append(self.d * weights.abs().sum().to(run.dtype))
        if self.lam:
            assert step.outputs is not None
            terms.append(self.lam * entropy_gap(step.outputs))
        for term in terms:
            step.penalty = term if step.penalty is None else step.penalty + term
