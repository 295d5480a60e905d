"""Gaussian noise on regression targets (the KPD paper, section 5.1)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness import Declares, HarnessError, LabelledData
from harness.parameters import NonNegative, Rate
from harness_plugins.noise.matrix import Count, draw_samples


class Gaussian:
    """Each sample, with probability `rate`, gets `N(0, std^2 I)` added to all its outputs.

    The KPD paper's linear regression has `rate = 0.55` and `std = sqrt(60) = 7.746` (section 4.1 says noise with
    probability 1 - eta; equation 4 and section 5.1 say eta, which is what we do). Its California housing has `std =
    3`; no ratio is given, so all targets. SOP's linear model has `std = 1` on exactly k of N targets: `count =
    "exact"` with `rate = k / N`.

    Args:
        std: standard deviation of the noise, in units of the targets.
        rate: probability in [0, 1].
        count: `binomial` (each sample by itself) or `exact` (`int(rate * N)` samples).
    """

    declares = Declares(tasks=("regression",))

    def __init__(self, std: NonNegative, rate: Rate = 1.0, count: Count = "binomial") -> None:
        self.std = std
        self.rate = rate
        self.count: Count = count

    def __call__(self, data: LabelledData, *, rng: np.random.Generator) -> Tensor:
        """(N,) or (N, outputs) noisy targets."""
        if data.num_classes is not None:
            raise HarnessError("is for regression", "noise.gaussian", "choose a noise for classification")
        chosen = torch.from_numpy(draw_samples(len(data), self.rate, self.count, rng))
        noisy = data.targets.clone()
        noise = self.std * rng.standard_normal((len(chosen), *noisy.shape[1:]))
        noisy[chosen] += torch.from_numpy(noise).to(noisy.dtype)
        return noisy
