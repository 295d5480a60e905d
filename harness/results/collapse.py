"""When a run has collapsed: it gives (almost) all test samples one class, or is right no more often than by chance."""

from __future__ import annotations

import math

ONE_CLASS = 0.95
"""Share of the test predictions in one class from which a run has collapsed."""
STANDARD_ERRORS = 2.0


def collapsed(accuracy: float, share: float | None, num_classes: int, test_samples: int | None) -> bool:
    """Whether a classification run has collapsed at an epoch.

    It has when one class gets at least 95 % of the test predictions, or when its accuracy is at most 1/K plus two
    standard errors of a class drawn at random on that many test samples, sqrt((1 - 1/K) / (K n)).

    Args:
        accuracy: on test, in [0, 1].
        share: the largest share of the test predictions that one class gets; ``None`` where it was not recorded.
        num_classes: K.
        test_samples: n; ``None`` where it was not recorded: then the accuracy is compared with 1/K itself.
    """
    chance = 1.0 / num_classes
    error = math.sqrt(chance * (1.0 - chance) / test_samples) if test_samples else 0.0
    return (share is not None and share >= ONE_CLASS) or accuracy <= chance + STANDARD_ERRORS * error
