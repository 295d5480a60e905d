"""No noise: the labels as they come."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness import Declares, LabelledData
from harness_plugins.noise.matrix import classes_of


class NoNoise:
    """Targets as they are; `"noise.rate"` is 0."""

    declares = Declares(tasks=("classification", "regression"), fixed_rate=0.0)

    def __call__(self, data: LabelledData, *, rng: np.random.Generator) -> Tensor:
        """A copy of the clean targets."""
        return data.targets.clone()

    def transition_matrix(self, data: LabelledData) -> Tensor:
        """(K, K) identity."""
        return torch.eye(classes_of(data, "none"), dtype=torch.float64)
