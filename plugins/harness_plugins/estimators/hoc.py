"""HOC: the transition matrix from the consensus of a sample's label with those of its two nearest neighbours."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness import NoiseReport
from harness.parameters import Count, Positive
from harness.training.noise_report import checked_samples, wrong_share
from harness_plugins.estimators.classes import among_all, present_classes
from harness_plugins.estimators.neighbours import Subsets

LEAST = 3

Array = np.ndarray
Consensus = tuple[Array, Array, Array]
"""(K,), (K, K) and (K, K, K) shares of single labels, of pairs and of triples."""


def softmax(values: Array) -> Array:
    """Along the last axis."""
    grown = np.exp(values - values.max(-1, keepdims=True))
    return np.asarray(grown / grown.sum(-1, keepdims=True))


@dataclasses.dataclass(frozen=True)
class Parameters:
    """What is fitted: (K, K) ``a`` with ``T = softmax(a)`` by rows, and (K,) ``b`` with ``p = softmax(b)``."""

    a: Array
    b: Array

    @property
    def matrix(self) -> Tensor:
        return torch.from_numpy(softmax(self.a))

    @property
    def prior(self) -> Tensor:
        return torch.from_numpy(softmax(self.b))


def count_consensus(subsets: Subsets, labels: Tensor, num_classes: int, rng: np.random.Generator) -> Consensus:
    """Shares of labels, of pairs with the nearest neighbour's, and of triples with those of the nearest two, over all
    drawn subsets; float64."""
    triples = torch.zeros(num_classes**3, dtype=torch.float64)
    for members, near in subsets.draw(rng):
        code = (labels[members] * num_classes + labels[near[:, 0]]) * num_classes + labels[near[:, 1]]
        triples += torch.bincount(code, minlength=num_classes**3)
    third = (triples / triples.sum()).reshape(num_classes, num_classes, num_classes).numpy()
    return third.sum((1, 2)), third.sum(2), third


def implied_consensus(matrix: Array, prior: Array) -> Consensus:
    """What a matrix and a prior imply where a sample and its neighbours are of one true class: ``m1_j = sum_c p_c T_cj``,
    ``m2_jk = sum_c p_c T_cj T_ck``, ``m3_jkl = sum_c p_c T_cj T_ck T_cl``."""
    count = len(prior)
    weighted = prior[:, None] * matrix
    pairs = (matrix[:, :, None] * matrix[:, None, :]).reshape(count, -1)
    return weighted.sum(0), weighted.T @ matrix, (weighted.T @ pairs).reshape(count, count, count)


def departure(counted: Consensus, matrix: Array, prior: Array) -> tuple[float, Array, Array]:
    """``|c1 - m1| + |c2 - m2| + |c3 - m3|``, norms and not their squares, with its gradients by matrix and prior.

    Written out, since steps of so few numbers cost ten times as much by automatic differentiation.
    """
    count = len(prior)
    total, slopes = 0.0, []
    for shares, implied in zip(counted, implied_consensus(matrix, prior), strict=True):
        apart = implied - shares
        norm = float(np.sqrt((apart * apart).sum()))
        total += norm
        slopes.append(apart / norm if norm else apart)
    one, two, three = slopes
    pairs = (matrix[:, :, None] * matrix[:, None, :]).reshape(count, -1)
    by_place = three + three.transpose(1, 0, 2) + three.transpose(2, 0, 1)  # the derivative's place in front
    second = matrix @ (two + two.T)
    third = pairs @ by_place.reshape(count, -1).T
    by_prior = (matrix * (one + second / 2 + third / 3)).sum(1)  # each term is homogeneous in its row
    return total, prior[:, None] * (one + second + third), by_prior


def start(num_classes: int, rng: np.random.Generator) -> Parameters:
    """``a = 5 I - 1`` and ``b = 1/K + 0.1 U(0, 1)``."""
    return Parameters(5 * np.eye(num_classes) - 1, 1 / num_classes + 0.1 * rng.random(num_classes))


def fit(
    counted: Consensus, begin: Parameters, steps: int, lr: float, *, cosine: bool = True, last: bool = False
) -> Parameters:
    """``steps - 1`` updates of Adam; the iterate of the lowest :func:`departure`, or with ``last`` the last one.

    Args:
        counted: from :func:`count_consensus`.
        begin: where to begin.
        steps: iterates that are looked at, the first included.
        lr: the rate, which with ``cosine`` goes to 0.
    """
    size = begin.a.shape
    values = np.concatenate([begin.a.ravel(), begin.b])
    mean, square = np.zeros_like(values), np.zeros_like(values)
    lowest, best = math.inf, values
    for step in range(steps):
        matrix, prior = softmax(values[: -len(begin.b)].reshape(size)), softmax(values[-len(begin.b) :])
        loss, by_matrix, by_prior = departure(counted, matrix, prior)
        if last or loss < lowest:
            lowest, best = loss, values.copy()
        if step == steps - 1:
            break
        by_a = matrix * (by_matrix - (matrix * by_matrix).sum(1, keepdims=True))
        by_b = prior * (by_prior - prior @ by_prior)
        gradient = np.concatenate([by_a.ravel(), by_b])
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient * gradient
        rate = lr / 2 * (1 + math.cos(math.pi * step / (steps - 1))) if cosine else lr
        taken = step + 1
        values = values - rate * (mean / (1 - 0.9**taken)) / (np.sqrt(square / (1 - 0.999**taken)) + 1e-8)
    return Parameters(best[: -len(begin.b)].reshape(size), best[-len(begin.b) :])


def given_matrix(matrix: Tensor, prior: Tensor, labels: Tensor) -> Tensor:
    """(K, K) ``P(true i | given j) = T_ij p_i / q_j`` with ``q`` the shares of the labels; 0 where no label is ``j``."""
    shares = torch.bincount(labels, minlength=len(matrix)).double() / len(labels)
    return torch.where(shares > 0, matrix * prior[:, None] / shares.clamp_min(1e-300), 0.0)


class HOC:
    """High-order consensuses (Zhu, Song and Liu, ICML 2021; code: UCSC-REAL/HOC f26a6eb216ec), the global matrix.

    In each of `rounds` subsets the labels of a sample and of its two nearest neighbours (cosine) are counted; matrix and
    prior are fitted to these shares. Features should be those of a pretrained or warmed-up network, unaugmented.

    Deviations: the code means to keep the best iterate but stores it without a copy, so that it returns the last; here it
    is the best, and `last` gives theirs. The rate falls to 0 by a cosine, since the kinks of the norms let rounding grow
    to 5e-3 in the matrix; `cosine = false` gives theirs. A sample is left out of its own neighbours by its index, which
    also holds where features are equal. A class without labels has prior 0 and the row of the identity.

    Args:
        rounds: `G`, drawn subsets.
        samples: `n`, members of a subset, drawn without replacement; all where there are fewer.
        steps: iterates of the fit; the code has 1500, and 301 for CIFAR-100.
        lr: rate of Adam.
        cosine: whether the rate falls to 0 by a cosine.
        last: whether the last iterate is taken, not the best.
    """

    def __init__(
        self,
        rounds: Count = 50,
        samples: Count = 15000,
        steps: Count = 1500,
        lr: Positive = 0.1,
        cosine: bool = True,
        last: bool = False,
    ) -> None:
        self.rounds = rounds
        self.samples = max(LEAST, samples)
        self.steps = steps
        self.lr = lr
        self.cosine = cosine
        self.last = last

    def __call__(self, features: Any, labels: Any, num_classes: int, *, rng: np.random.Generator) -> NoiseReport:
        """Matrix, prior and rate; of single samples it says nothing.

        Raises:
            HarnessError: for fewer than three samples, or features and labels that do not fit.
        """
        rows, given = checked_samples(features, labels, num_classes, "estimators.hoc", LEAST)
        present, among = present_classes(given, num_classes)
        counted = count_consensus(Subsets(rows, self.samples, self.rounds), among, len(present), rng)
        found = fit(counted, start(len(present), rng), self.steps, self.lr, cosine=self.cosine, last=self.last)
        matrix, prior = among_all(found.matrix, found.prior, present, num_classes)
        return NoiseReport(matrix, prior, wrong_share(matrix, prior))
