"""LDR-KL (Zhu et al., 2023): the worst distribution of labels, within a KL ball of temperature lam, sets the loss."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional

from harness.parameters import NonNegative, Positive
from harness_plugins.losses.labels import classes


def smooth_margin(scores: Tensor, targets: Tensor, margin: float, lam: Tensor | float, loss: str) -> Tensor:
    """(B,) ``log sum_k exp((f_k - f_y + margin [k != y]) / lam)`` for scores ``f`` (B, K), classes (B,) and temperatures
    ``lam``, one or (B, 1): the cross entropy of ``(f - margin [k = y]) / lam``, which has the same differences."""
    place = classes(targets, loss)
    lowered = scores.scatter_add(1, place[:, None], scores.new_full((1, 1), -margin).expand(len(place), 1))
    return functional.cross_entropy(lowered / lam, place, reduction="none")


def over_mean(scores: Tensor, size: Tensor) -> Tensor:
    """(B, K) scores divided by their mean ``size`` (B, 1); rows of size 0 stay as they are."""
    return scores / size.masked_fill(size == 0, 1.0)


def ldr_kl(outputs: Tensor, targets: Tensor, margin: float = 0.1, lam: float = 10.0, normalize: bool = True) -> Tensor:
    """``lam log(mean_k exp((f_k - f_y + margin [k != y]) / lam))`` per sample.

    Args:
        outputs: (B, K) logits.
        targets: (B,) int64 classes.
        margin: ``c`` of the paper.
        lam: temperature, above 0.
        normalize: scores ``f = softplus(z) / mean(softplus(z))`` as in the official code, else ``f = z``.

    Returns:
        (B,) losses, at least ``-lam log K``; with margin 0, lam 1 and no normalisation they are ``CE - log K``.
    """
    scores = outputs
    if normalize:
        positive = functional.softplus(outputs)
        scores = over_mean(positive, positive.mean(1, keepdim=True))
    return lam * (smooth_margin(scores, targets, margin, lam, "ldr_kl") - math.log(outputs.shape[1]))


class LDRKL:
    """LDR-KL: `lam log(mean_k exp((f_k - f_y + margin [k != y]) / lam))` (Zhu et al., 2023).

    The mean runs over all classes, y included. The official code first takes `f = softplus(z)` over its mean, which the
    paper's formula does not. The KPD paper's eq. 23 omits `exp`, a misprint. Class defaults of the official code are
    margin 2 and lam 1; its experiments have margin 0.1 and search lam in {0.1, 1, 10}.

    Args:
        margin: `c`; 0.1 in the experiments.
        lam: 10 for MNIST and CIFAR-10, 1 for CIFAR-100 and Clothing1M (eps-softmax's configurations).
        normalize: whether scores are normalised as in the official code.
    """

    def __init__(self, margin: NonNegative = 0.1, lam: Positive = 10.0, normalize: bool = True) -> None:
        self.margin = margin
        self.lam = lam
        self.normalize = normalize

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, K) logits."""
        return ldr_kl(outputs, targets, self.margin, self.lam, self.normalize)
