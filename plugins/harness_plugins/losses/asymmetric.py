"""Asymmetric losses (Zhou et al., 2021): AGCE, AUE and AEL, three decreasing functions of ``p_y``."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Gt
from torch import Tensor

from harness.parameters import Positive
from harness_plugins.losses.labels import of_target

AboveOne = Annotated[float, Gt(1)]


def asymmetric_generalized_cross_entropy(outputs: Tensor, targets: Tensor, a: float = 0.6, q: float = 0.6) -> Tensor:
    """``((a + 1) ** q - (a + p_y) ** q) / q`` per sample, (B,), for (B, K) logits and (B,) classes; a, q > 0."""
    p_y = of_target(outputs.softmax(1), targets, "agce")
    losses: Tensor = ((a + 1) ** q - (a + p_y) ** q) / q
    return losses


def asymmetric_unhinged(outputs: Tensor, targets: Tensor, a: float = 5.5, q: float = 3.0) -> Tensor:
    """``((a - p_y) ** q - (a - 1) ** q) / q`` per sample, (B,), for (B, K) logits and (B,) classes; a > 1, q > 0."""
    p_y = of_target(outputs.softmax(1), targets, "aue")
    losses: Tensor = ((a - p_y) ** q - (a - 1) ** q) / q
    return losses


def asymmetric_exponential(outputs: Tensor, targets: Tensor, a: float = 2.5) -> Tensor:
    """``exp(-p_y / a)`` per sample, (B,), for (B, K) logits and (B,) classes; a > 0."""
    return (-of_target(outputs.softmax(1), targets, "ael") / a).exp()


class AsymmetricGeneralizedCrossEntropy:
    """AGCE: `((a + 1)^q - (a + p_y)^q) / q` (Zhou et al., 2021).

    The KPD paper's eq. 22 prints the condition for asymmetric losses in its place, and no a and q.

    Args:
        a: CIFAR-10 and CIFAR-100 0.6, MNIST 4 (official configurations).
        q: CIFAR-10 and CIFAR-100 0.6, MNIST 0.2.
    """

    def __init__(self, a: Positive = 0.6, q: Positive = 0.6) -> None:
        self.a = a
        self.q = q

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, K) logits."""
        return asymmetric_generalized_cross_entropy(outputs, targets, self.a, self.q)


class AsymmetricUnhinged:
    """AUE, the paper's AUL: `((a - p_y)^q - (a - 1)^q) / q` (Zhou et al., 2021).

    Args:
        a: above 1; CIFAR-10 and CIFAR-100 5.5, MNIST 3 (official configurations).
        q: CIFAR-10 and CIFAR-100 3, MNIST 0.1.
    """

    def __init__(self, a: AboveOne = 5.5, q: Positive = 3.0) -> None:
        self.a = a
        self.q = q

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, K) logits."""
        return asymmetric_unhinged(outputs, targets, self.a, self.q)


class AsymmetricExponential:
    """AEL: `exp(-p_y / a)` (Zhou et al., 2021).

    Args:
        a: CIFAR-10 and CIFAR-100 2.5, MNIST 3.5 (official configurations).
    """

    def __init__(self, a: Positive = 2.5) -> None:
        self.a = a

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, K) logits."""
        return asymmetric_exponential(outputs, targets, self.a)
