"""Noise on data of several labels: each label of a sample is flipped by itself."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness import Declares, HarnessError, LabelledData
from harness.parameters import Rate


class LabelFlip:
    """Single labels are flipped, each independently of all others: an absent one is set with probability `on`, a present
    one is removed with probability `off`.

    With `on = 0` labels are missing only, as where annotators stop early; with `off = 0` they are only added.

    Args:
        on: probability in [0, 1] that a label that a sample lacks is given to it.
        off: probability in [0, 1] that a label that it has is taken from it.
    """

    declares = Declares(tasks=("multilabel",))

    def __init__(self, on: Rate, off: Rate) -> None:
        self.on = on
        self.off = off

    def __call__(self, data: LabelledData, *, rng: np.random.Generator) -> Tensor:
        """(N, K) int64 noisy labels in {0, 1}."""
        if data.task != "multilabel":
            raise HarnessError(
                f"is for several labels, not for {data.task}", "noise.label_flip", "choose another noise"
            )
        chance = torch.where(data.targets > 0, self.off, self.on)
        flipped = torch.from_numpy(rng.random(tuple(data.targets.shape))) < chance
        return torch.where(flipped, 1 - data.targets, data.targets)
