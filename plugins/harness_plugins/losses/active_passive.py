"""Active passive losses (Ma et al., 2020): a normalized loss that learns and one that resists."""

from __future__ import annotations

from torch import Tensor

from harness import Declares
from harness.parameters import NonNegative, Positive
from harness_plugins.losses.asymmetric import asymmetric_generalized_cross_entropy
from harness_plugins.losses.focal import normalized_focal_loss
from harness_plugins.losses.labels import classes
from harness_plugins.losses.mae import mean_absolute_error
from harness_plugins.losses.nce import normalized_cross_entropy
from harness_plugins.losses.rce import reverse_cross_entropy


class NormalizedCrossEntropyAndReverse:
    """NCE+RCE: `alpha * NCE + beta * RCE` (Ma et al., 2020).

    Official pairs (alpha, beta): MNIST (1, 10), CIFAR-10 (1, 1), CIFAR-100 (10, 0.1). The KPD paper's row "Normalized
    CE" states (1, 2), which this loss alone can take.

    Args:
        alpha: weight of normalized cross entropy.
        beta: weight of reverse cross entropy.
    """

    declares = Declares(soft_targets=True)

    def __init__(self, alpha: NonNegative = 1.0, beta: NonNegative = 1.0) -> None:
        self.alpha = alpha
        self.beta = beta

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, K) logits."""
        active, passive = normalized_cross_entropy(outputs, targets), reverse_cross_entropy(outputs, targets)
        return self.alpha * active + self.beta * passive


class NormalizedCrossEntropyAndMeanAbsolute:
    """NCE+MAE: `alpha * NCE + beta * (1 - p_y)` (Ma et al., 2020).

    MAE has scale 1 as in APL's code; ALFs and eps-softmax take 2, which doubles beta. Official pairs as for NCE+RCE.

    Args:
        alpha: weight of normalized cross entropy.
        beta: weight of mean absolute error.
    """

    declares = Declares(soft_targets=True)

    def __init__(self, alpha: NonNegative = 1.0, beta: NonNegative = 1.0) -> None:
        self.alpha = alpha
        self.beta = beta

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, K) logits."""
        active, passive = normalized_cross_entropy(outputs, targets), mean_absolute_error(outputs, targets, 1.0)
        return self.alpha * active + self.beta * passive


class NormalizedFocalAndReverse:
    """NFL+RCE: `alpha * NFL + beta * RCE` (Ma et al., 2020). Official pairs (alpha, beta) as for NCE+RCE.

    Args:
        alpha: weight of the normalized focal loss.
        beta: weight of reverse cross entropy.
        gamma: of the focal loss; 0.5 in all configurations.
    """

    def __init__(self, alpha: NonNegative = 1.0, beta: NonNegative = 1.0, gamma: NonNegative = 0.5) -> None:
        self.alpha = alpha
        self.beta = beta
        self.gamma = gamma

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, K) logits."""
        labels = classes(targets, "nfl_rce")
        active, passive = normalized_focal_loss(outputs, labels, self.gamma), reverse_cross_entropy(outputs, labels)
        return self.alpha * active + self.beta * passive


class NormalizedCrossEntropyAndAsymmetric:
    """NCE+AGCE: `alpha * NCE + beta * AGCE` (Zhou et al., 2021).

    Official (alpha, beta, a, q): CIFAR-10 (1, 4, 6, 1.5), the default here; CIFAR-100 (10, 0.1, 1.8, 3); MNIST
    (0, 1, 4, 0.2).

    Args:
        alpha: weight of normalized cross entropy.
        beta: weight of AGCE.
        a: of AGCE.
        q: of AGCE.
    """

    def __init__(self, alpha: NonNegative = 1.0, beta: NonNegative = 4.0, a: Positive = 6.0, q: Positive = 1.5) -> None:
        self.alpha = alpha
        self.beta = beta
        self.a = a
        self.q = q

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, K) logits."""
        labels = classes(targets, "nce_agce")
        passive = asymmetric_generalized_cross_entropy(outputs, labels, self.a, self.q)
        return self.alpha * normalized_cross_entropy(outputs, labels) + self.beta * passive
