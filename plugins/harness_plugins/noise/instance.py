"""Instance-dependent label noise (part-dependent, Xia et al., 2020): which wrong class depends on the input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness import Declares, HarnessError, LabelledData
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


def wrong_classes(inputs: Tensor, weights: Tensor, true_class: int) -> Tensor:
    """(M, K) float64 ``softmax(x W)`` of inputs (M, D) of one class, whose own probability is 0.

    Args:
        inputs: (M, D).
        weights: (D, K).
        true_class: the class left out.
    """
    scores = inputs.double() @ weights
    scores[:, true_class] = -torch.inf
    return scores.softmax(1)


def draw(probabilities: Tensor, uniform: np.ndarray) -> np.ndarray:
    """(M,) classes, each drawn from its row of (M, K) by a number in [0, 1)."""
    cumulative = probabilities.cumsum(1).numpy()
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

    What another run has drawn can be given, and what this one has drawn is shown: after a call the attributes `W`
    (K, D, K), `q` (N,) and `flip_probabilities` (N, K), whose rows are the distributions that the labels of that call
    were drawn from, are tensors in float64.

    Args:
        rate: mean of the flip rates before they are cut, in [0, 1].
        std: their standard deviation before they are cut.
        W: (K, D, K) weights in place of drawn ones.
        q: flip rates in [0, 1] of all of the data set's training samples, in place of drawn ones.
        flip_probabilities: (N, K) distributions of the noisy labels of all of them; W and q have then no part in it.
    """

    declares = Declares(later=("W", "q", "flip_probabilities"))

    def __init__(
        self,
        rate: Rate,
        std: Positive = 0.1,
        W: list[list[list[float]]] | None = None,
        q: list[Rate] | None = None,
        flip_probabilities: list[list[Rate]] | None = None,
    ) -> None:
        if flip_probabilities is not None and (W is not None or q is not None):
            raise HarnessError("stands for W and q", "noise.instance.flip_probabilities", "give one or the other")
        self.rate = rate
        self.std = std
        self._given = {
            "W": _tensor(W, 3, "W"),
            "q": _tensor(q, 1, "q"),
            "flip_probabilities": _tensor(flip_probabilities, 2, "flip_probabilities"),
        }
        self._seed: int | None = None
        self._data: LabelledData | None = None
        self._q = torch.zeros(0, dtype=torch.float64)

    def __call__(self, data: LabelledData, *, rng: np.random.Generator) -> Tensor:
        """(N,) noisy classes."""
        classes = classes_of(data, "instance")
        if not isinstance(data.inputs, Tensor) or data.inputs.dtype == torch.int64:
            raise HarnessError(
                "needs images or features in memory", "noise.instance", "choose another noise for this data set"
            )
        drawn = int(rng.integers(2**63))
        self._seed = drawn if self._seed is None else self._seed
        self._data = data
        if (given := self._rows("flip_probabilities")) is not None:
            self._q = 1 - given.gather(1, data.targets[:, None]).squeeze(1) / given.sum(1)
            return torch.from_numpy(draw(given, rng.random(len(data))))
        rates = self._rows("q")
        self._q = torch.zeros(len(data), dtype=torch.float64) if rates is None else rates
        if (self.rate == 0 and rates is None) or classes < 2 or len(data) == 0:
            return data.targets.clone()
        clean = data.targets.numpy()
        chance = rng.random(len(clean))
        if rates is None:
            self._q = torch.from_numpy(truncated_normal(self.rate, self.std, len(clean), rng))
        flipped = np.flatnonzero(chance < self._q.numpy())
        uniform = rng.random(len(flipped))
        noisy = clean.copy()
        for members, probabilities in self._wrong(flipped):
            noisy[flipped[members]] = draw(probabilities, uniform[members])
        return torch.from_numpy(noisy)

    @property
    def W(self) -> Tensor:
        """(K, D, K) the weights by which the last call drew."""
        data = self._last
        return torch.stack([self._weights(k) for k in range(classes_of(data, "instance"))])

    @property
    def q(self) -> Tensor:
        """(N,) the flip rates of the last call's samples."""
        return self._q

    @property
    def flip_probabilities(self) -> Tensor:
        """(N, K) the distributions of the last call's labels: `1 - q_i` for the clean class."""
        data = self._last
        if (given := self._rows("flip_probabilities")) is not None:
            return given
        shown = torch.zeros(len(data), classes_of(data, "instance"), dtype=torch.float64)
        for members, probabilities in self._wrong(np.flatnonzero(self._q.numpy() > 0)):
            shown[members] = probabilities * self._q[members, None]
        return shown.scatter_(1, data.targets[:, None], 1 - self._q[:, None])

    @property
    def _last(self) -> LabelledData:
        if self._data is None:
            raise HarnessError("has drawn nothing yet", "noise.instance", "call it with data first")
        return self._data

    def _wrong(self, chosen: np.ndarray) -> Iterator[tuple[np.ndarray, Tensor]]:
        """For the samples ``chosen`` of the last call, by class and chunk: positions in ``chosen``, and (M, K)
        distributions of their wrong classes."""
        data = self._last
        assert isinstance(data.inputs, Tensor)
        flat, clean = data.inputs.reshape(len(data), -1), data.targets.numpy()[chosen]
        for k in np.unique(clean).tolist():  # over classes, never over samples
            weights = self._weights(k)
            members = np.flatnonzero(clean == k)
            for part in np.array_split(members, -(-len(members) // CHUNK)):
                yield part, wrong_classes(flat[torch.from_numpy(chosen[part])], weights, k)

    def _weights(self, k: int) -> Tensor:
        data, given = self._last, self._given["W"]
        classes = classes_of(data, "instance")
        assert isinstance(data.inputs, Tensor) and self._seed is not None
        features = data.inputs[:1].numel()
        if given is None:
            return class_weights(self._seed, k, features, classes)
        if given.shape != (classes, features, classes):
            raise HarnessError(
                f"has shape {tuple(given.shape)}", "noise.instance.W", f"give ({classes}, {features}, {classes})"
            )
        return given[k]

    def _rows(self, name: str) -> Tensor | None:
        """What is given of the last call's samples."""
        given, data = self._given[name], self._last
        if given is None:
            return None
        positions = torch.arange(len(data)) if data.positions is None else data.positions
        whole = len(given) == len(data) if data.positions is None else not bool((positions >= len(given)).any())
        wide = given.ndim == 1 or given.shape[1] == data.num_classes
        if not (whole and wide):
            raise HarnessError(
                f"has shape {tuple(given.shape)}, which does not fit {len(data)} samples of {data.num_classes} classes",
                f"noise.instance.{name}",
                "give a row for each of the data set's training samples",
            )
        return given[positions]


def _tensor(given: Any, dimensions: int, name: str) -> Tensor | None:
    """Nested lists as a float64 tensor; None as it is."""
    if given is None:
        return None
    try:
        made = torch.as_tensor(given, dtype=torch.float64)
    except (TypeError, ValueError):
        made = torch.zeros(())
    if made.ndim != dimensions:
        raise HarnessError(
            f"should have {dimensions} dimensions", f"noise.instance.{name}", "give lists of equal length"
        )
    return made
