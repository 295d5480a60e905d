"""Instance-dependent label noise (part-dependent, Xia et al., 2020): which wrong class depends on the input."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness import HarnessError, LabelledData
from harness.parameters import Positive, Rate
from harness_plugins.noise.matrix import classes_of

CHUNK = 8192


def truncated_normal(mean: float, std: float, size: int, rng: np.random.Generator) -> np.ndarray:
    """Normal draws within [0, 1], by drawing again what falls outside (at least 16 % fall inside for mean in [0, 1] and
    std up to 1)."""
    draws = rng.normal(mean, std, size)
    outside = np.flatnonzero((draws < 0) | (draws > 1))
    while len(outside):
        draws[outside] = rng.normal(mean, std, len(outside))
        outside = outside[(draws[outside] < 0) | (draws[outside] > 1)]
    return draws


class Instance:
    """A sample's flip rate is `q_i ~ N(rate, std)` cut to [0, 1]; its wrong class follows `softmax(x_i W[y_i])`.

    As in CDR's and the authors' code (identical): `W ~ N(0, 1)` of shape (K, D, K), the true class is left out of the
    softmax, and `x` is the raw image in 0-255, so that the softmax is nearly one-hot. Classes are taken one after the
    other, so that memory stays at one (D, K) slice of W. `W` comes from the noise stream, so train and validation have
    each their own, as in a separate call of the code.

    Args:
        rate: mean flip rate in [0, 1].
        std: standard deviation of the flip rates.
    """

    def __init__(self, rate: Rate, std: Positive = 0.1) -> None:
        self.rate = rate
        self.std = std

    def __call__(self, data: LabelledData, *, rng: np.random.Generator) -> Tensor:
        """(N,) noisy classes."""
        classes = classes_of(data, "instance")
        if not isinstance(data.inputs, Tensor) or data.inputs.dtype == torch.int64:
            raise HarnessError("needs inputs in memory", "noise.instance", "choose another noise for this data set")
        if self.rate == 0 or classes < 2 or len(data) == 0:
            return data.targets.clone()
        flat = data.inputs.reshape(len(data), -1)
        clean = data.targets.numpy()
        rates = truncated_normal(self.rate, self.std, len(clean), rng)
        flips = rng.random(len(clean)) < rates
        choice = rng.random(len(clean))
        noisy = clean.copy()
        for k in range(classes):  # over classes, never over samples
            weights = torch.from_numpy(rng.standard_normal((flat.shape[1], classes), dtype=np.float32))
            members = np.flatnonzero((clean == k) & flips)
            for part in np.array_split(members, max(1, -(-len(members) // CHUNK))):
                scores = flat[torch.from_numpy(part)].float() @ weights
                scores[:, k] = -torch.inf
                cumulative = scores.softmax(1).double().cumsum(1).numpy()
                noisy[part] = (cumulative <= (choice[part] * cumulative[:, -1])[:, None]).sum(1)
        return torch.from_numpy(noisy)
