"""Instance-dependent label noise (part-dependent, Xia et al., 2020): which wrong class depends on the input."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness import HarnessError, LabelledData
from harness.parameters import Positive, Rate
from harness_plugins.noise.matrix import classes_of

CHUNK = 2048
GRID = 2.0**16


def truncated_normal(mean: float, std: float, size: int, rng: np.random.Generator) -> np.ndarray:
    """(size,) draws of ``N(mean, std^2)`` cut to [0, 1], by its inverse distribution function; ``mean`` in [0, 1]."""
    low, high = torch.special.ndtr(torch.tensor([-mean / std, (1 - mean) / std], dtype=torch.float64)).tolist()
    uniform = torch.from_numpy(low + (high - low) * rng.random(size))
    draws: np.ndarray = (mean + std * torch.special.ndtri(uniform)).clamp_(0, 1).numpy()
    return draws


def class_weights(seed: int, k: int, features: int, num_classes: int) -> Tensor:
    """``W[k]``, (features, num_classes) float64, standard normal, rounded to multiples of 2^-16.

    With uint8 inputs every product and sum of ``x W`` is then exact in float64, so that labels are the same under any
    number of threads and any BLAS.
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, k])))
    weights = rng.standard_normal((features, num_classes), dtype=np.float32).astype(np.float64)
    return torch.from_numpy(np.round(weights * GRID) / GRID)


def draw_wrong(inputs: Tensor, weights: Tensor, true_class: int, uniform: np.ndarray) -> np.ndarray:
    """(M,) classes drawn from ``softmax(x W)`` without the true class.

    Args:
        inputs: (M, D) inputs of one class.
        weights: (D, K).
        true_class: the class left out.
        uniform: (M,) numbers in [0, 1), one for each draw.
    """
    scores = inputs.double() @ weights
    scores[:, true_class] = -torch.inf
    cumulative = scores.softmax(1).cumsum(1).numpy()
    drawn: np.ndarray = (cumulative <= (uniform * cumulative[:, -1])[:, None]).sum(1)
    return drawn


class Instance:
    """A sample's flip rate is `q_i ~ N(rate, std^2)` cut to [0, 1]; its wrong class follows `softmax(x_i W[y_i])`.

    As in CDR's and the authors' code (identical): `W ~ N(0, 1)` of shape (K, D, K), the true class is left out of the
    softmax, and `x` is the raw image in 0-255, so that the softmax is nearly one-hot. `W` is drawn at the first call
    and kept, so that training and validation labels of a trial come from one annotator; the code corrupts the whole
    set before it splits. Only the flipped samples are multiplied, one class after the other, so that memory stays at
    one (D, K) slice of W and one chunk of inputs.

    Cutting to [0, 1] moves the mean of `q_i`: at `rate = 0.05` and `std = 0.1` it is 0.098. A `rate` of 0 is no noise
    at all (the code would still flip 8 %). There is no transition matrix: it would depend on the W of the very draw.

    Args:
        rate: mean of the flip rates before they are cut, in [0, 1].
        std: their standard deviation before they are cut.
    """

    def __init__(self, rate: Rate, std: Positive = 0.1) -> None:
        self.rate = rate
        self.std = std
        self._seed: int | None = None

    def __call__(self, data: LabelledData, *, rng: np.random.Generator) -> Tensor:
        """(N,) noisy classes."""
        classes = classes_of(data, "instance")
        if not isinstance(data.inputs, Tensor) or data.inputs.dtype == torch.int64:
            raise HarnessError(
                "needs images or features in memory", "noise.instance", "choose another noise for this data set"
            )
        drawn = int(rng.integers(2**63))
        self._seed = drawn if self._seed is None else self._seed
        if self.rate == 0 or classes < 2 or len(data) == 0:
            return data.targets.clone()
        flat = data.inputs.reshape(len(data), -1)
        clean = data.targets.numpy()
        flipped = np.flatnonzero(rng.random(len(clean)) < truncated_normal(self.rate, self.std, len(clean), rng))
        uniform = rng.random(len(flipped))
        noisy = clean.copy()
        for k in np.unique(clean[flipped]).tolist():  # over classes, never over samples
            weights = class_weights(self._seed, k, flat.shape[1], classes)
            members = np.flatnonzero(clean[flipped] == k)
            for part in np.array_split(members, -(-len(members) // CHUNK)):
                inputs = flat[torch.from_numpy(flipped[part])]
                noisy[flipped[part]] = draw_wrong(inputs, weights, k, uniform[part])
        return torch.from_numpy(noisy)
