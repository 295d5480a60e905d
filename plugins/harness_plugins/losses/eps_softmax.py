"""eps-softmax (Wang et al., 2024): predictions are pushed towards one-hot vectors before cross entropy sees them."""

from __future__ import annotations

from torch import Tensor

from harness import Declares
from harness.parameters import NonNegative
from harness_plugins.losses.labels import expected, of_target
from harness_plugins.losses.mae import mean_absolute_error

CLAMP = 1e-8


def eps_softmax(outputs: Tensor, m: float = 1e4) -> Tensor:
    """(B, K) ``(p + m onehot(argmax p)) / (m + 1)``; the first of equal maxima counts, and argmax has no gradient."""
    top = outputs.argmax(1, keepdim=True)
    probabilities = outputs.softmax(1)
    return probabilities.scatter_add(1, top, probabilities.new_full(top.shape, m)) / (m + 1)


def eps_softmax_cross_entropy(outputs: Tensor, targets: Tensor, m: float = 1e4) -> Tensor:
    """``-log pe_y`` per sample, with ``pe`` the eps-softmax, clamped from below at 1e-8 as in the official code.

    Args:
        outputs: (B, K) logits.
        targets: (B,) int64 classes, or (B, K) class probabilities.
        m: at least 0; 0 is cross entropy with a clamp.

    Returns:
        (B,) losses in [0, 18.5]. Where the label is the prediction the gradient with respect to ``p_y`` is
        ``-1 / (p_y + m)``, else that of cross entropy, and zero where ``p_y < 1e-8 (m + 1)``.
    """
    if targets.is_floating_point():
        return -expected(eps_softmax(outputs, m).clamp(min=CLAMP).log(), targets, "eps_softmax")
    return -_at_label(outputs, targets, m)[1].clamp(min=CLAMP).log()


def _at_label(outputs: Tensor, targets: Tensor, m: float) -> tuple[Tensor, Tensor]:
    """(B,) ``p_y`` and (B,) ``pe_y`` for classes (B,); the other entries of ``pe`` are never made."""
    probabilities = of_target(outputs.softmax(1), targets, "eps_softmax")
    return probabilities, (probabilities + m * (outputs.argmax(1) == targets)) / (m + 1)


class EpsSoftmaxCrossEntropy:
    """CE_eps: `-log pe_y`, `pe = (p + m onehot(argmax p)) / (m + 1)` (Wang et al., 2024).

    The KPD paper takes this one as its baseline, gives no m, and compares a value with an index in its eq. 24; we read
    "k = argmax". The official results are for `eps_softmax_mae`.

    Args:
        m: 1e2 to 1e5 in the official configurations; samples with `p_y < 1e-8 (m + 1)` have no gradient.
    """

    declares = Declares(soft_targets=True)

    def __init__(self, m: NonNegative = 1e4) -> None:
        self.m = m

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, K) logits."""
        return eps_softmax_cross_entropy(outputs, targets, self.m)


class EpsSoftmaxCrossEntropyAndMeanAbsolute:
    """CE_eps+MAE: `alpha * CE_eps + beta * 2 (1 - p_y)` (Wang et al., 2024, the loss of its tables).

    Official (alpha, beta, m): CIFAR-10 symmetric (0.01, 5, 1e5), the default here, asymmetric (0.02, 5, 1e3), instance
    dependent (0.045, 10, 1e5); CIFAR-100 beta 1, m 1e4 (asymmetric 1e2), alpha 0.1 to 0.00125 falling with the rate.

    Args:
        alpha: weight of CE_eps.
        beta: weight of mean absolute error with scale 2.
        m: of CE_eps.
    """

    declares = Declares(soft_targets=True)

    def __init__(self, alpha: NonNegative = 0.01, beta: NonNegative = 5.0, m: NonNegative = 1e5) -> None:
        self.alpha = alpha
        self.beta = beta
        self.m = m

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, K) logits."""
        if targets.is_floating_point():
            strengthened = eps_softmax_cross_entropy(outputs, targets, self.m)
            return self.alpha * strengthened + self.beta * mean_absolute_error(outputs, targets, 2.0)
        probabilities, strengthened = _at_label(outputs, targets, self.m)
        return (2 * self.beta) * (1 - probabilities) - self.alpha * strengthened.clamp(min=CLAMP).log()
