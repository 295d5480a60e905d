"""Mean absolute error on probabilities (Ghosh, Kumar and Sastry, 2017): symmetric, hence robust, and slow to train."""

from __future__ import annotations

from torch import Tensor

from harness import Declares
from harness.parameters import Positive
from harness_plugins.losses.labels import distribution, of_target


def mean_absolute_error(outputs: Tensor, targets: Tensor, scale: float = 2.0) -> Tensor:
    """``scale * (1 - p_y)`` per sample, or ``scale / 2 * ||p - t||_1`` for soft targets ``t``.

    Args:
        outputs: (B, K) logits.
        targets: (B,) int64 classes, or (B, K) class probabilities.
        scale: 2 is the literal l1 distance ``||p - onehot||_1 = 2 (1 - p_y)``.

    Returns:
        (B,) losses in [0, scale]; over all K labels they sum to ``scale * (K - 1)``.
    """
    probabilities = outputs.softmax(1)
    if targets.is_floating_point():
        return scale / 2 * (probabilities - distribution(outputs, targets, "mae")).abs().sum(1)
    return scale * (1 - of_target(probabilities, targets, "mae"))


class MeanAbsoluteError:
    """Mean absolute error: `scale * (1 - p_y)` (Ghosh et al., 2017).

    Args:
        scale: 2 is the literal l1 distance (ALFs, eps-softmax code); APL's code uses 1, Keras 2 / K.
    """

    declares = Declares(soft_targets=True)

    def __init__(self, scale: Positive = 2.0) -> None:
        self.scale = scale

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, K) logits."""
        return mean_absolute_error(outputs, targets, self.scale)
