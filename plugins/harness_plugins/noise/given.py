"""Labels as they are given, which may be wrong: the noise of data of which nobody knows the truth."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Ge
from torch import Tensor

from harness import Declares, LabelledData
from harness.parameters import Count, Rate


class Given:
    """The labels as they come, any of which may be wrong. Nothing that needs the truth is measured.

    Where the data set has a column of clean labels, for all rows or for some, what needs the truth is measured on these.
    `"noise.rate"` in a method refers to `rate`, or else to what is estimated within the trial, from its noisy labels
    alone; `"noise.matrix"` to the estimated matrix. Neither makes the method an oracle: nobody knows the truth.

    Args:
        rate: share of wrong labels, as you believe it.
        estimate: an estimator's name, such as `hoc`, or true for `confident`: every trial estimates rate and matrix, each
            with its uncertainty, before it trains.
        warmup: epochs of plain training before features are taken for the estimate, where the data are no features.
        redraws: random halves of the samples from which the uncertainty of the estimate comes; 0 for none.
    """

    declares = Declares(tasks=("classification", "multilabel", "regression"), unknown=True, estimator="confident")

    def __init__(
        self,
        rate: Rate | None = None,
        estimate: bool | str = False,
        warmup: Count = 10,
        redraws: Annotated[int, Ge(0)] = 20,
    ) -> None:
        self.rate = rate
        self.estimate = estimate
        self.warmup = warmup
        self.redraws = redraws

    def __call__(self, data: LabelledData, *, rng: np.random.Generator) -> Tensor:
        """A copy of the given targets."""
        return data.targets.clone()
