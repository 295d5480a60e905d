"""ALDR-KL (Zhu et al., 2023): LDR-KL with a temperature for each sample, smaller for confident predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional

from harness import Declares, Run
from harness.parameters import NonNegative, Positive
from harness_plugins.losses.ldr_kl import over_mean, smooth_margin
from harness_plugins.losses.sample_memory import SampleMemory

SMOOTHING = 1e-5
"""Added to probabilities before their logarithm, as in the official code; it keeps lambdas above 0 at alpha = 1 too."""
AtLeastOne = Annotated[float, Ge(1)]


def normalized_scores(outputs: Tensor, softplus: bool = False) -> Tensor:
    """(B, K) ``f / mean_k |f_k|`` with ``f`` the logits or their softplus; the gradient flows through the mean."""
    scores = functional.softplus(outputs) if softplus else outputs
    return over_mean(scores, scores.abs().mean(1, keepdim=True))


def next_lambdas(scores: Tensor, lambdas: Tensor, alpha: float = 2.0, lam0: float = 10.0) -> Tensor:
    """``lam0 - lam0 KL(pr || uniform) / (alpha log K)`` per sample, ``pr = softmax(f / lambda)`` smoothed by 1e-5.

    Args:
        scores: (B, K) normalised scores ``f``.
        lambdas: (B,) the previous lambdas.
        alpha: at least 1.
        lam0: above 0.

    Returns:
        (B,) lambdas in (0, lam0], without gradient.
    """
    num_classes = scores.shape[1]
    pr = (scores.detach() / lambdas[:, None]).softmax(1)
    pr = pr.add_(SMOOTHING).mul_(1 / (1 + SMOOTHING * num_classes))  # a softmax sums to 1
    entropy: Tensor = torch.special.entr(pr).sum(1)  # KL(pr || uniform) = log K - entropy
    return entropy.mul_(lam0 / (alpha * math.log(num_classes))).add_(lam0 - lam0 / alpha)


def aldr_kl(
    scores: Tensor, targets: Tensor, lambdas: Tensor, alpha: float = 2.0, margin: float = 0.1, lam0: float = 10.0
) -> Tensor:
    """``lambda log(mean_k exp(d_k / lambda)) - alpha log K / (2 lam0) (lambda - lam0)^2`` per sample.

    Here ``d_k = margin [k != y] + f_k - f_y``; the last term has no gradient.

    Args:
        scores: (B, K) normalised scores ``f``.
        targets: (B,) int64 classes.
        lambdas: (B,) above 0, constants for the gradient.
        alpha, margin, lam0: as in :class:`ALDRKL`.

    Returns:
        (B,) losses.
    """
    log_k = math.log(scores.shape[1])
    weight = 0.5 * alpha * log_k / lam0
    # lambda (smooth_margin - log K) - weight (lambda - lam0)^2, with lambda taken out of all terms that have it
    taken = smooth_margin(scores, targets, margin, lambdas[:, None], "aldr_kl") - (
        lambdas * weight + (log_k - 2 * weight * lam0)
    )
    return lambdas * taken - weight * lam0**2


class ALDRKL:
    """ALDR-KL: LDR-KL with a temperature for each sample, from its last prediction (Zhu et al., 2023).

    As in the official code a call first computes a sample's lambda from its previous one and then uses it. Only a
    training step keeps it: other passes (and calls without gradients) see the very same loss and leave the state
    alone. Scores are divided by their mean absolute value, as there and not in the paper's formula.

    Args:
        alpha: at least 1; 2 in the official experiments.
        margin: `c`; 0.1 in the official experiments.
        lam0: lambda of all samples at first, and where predictions are uniform; the official experiments search
            {0.1, 1, 10}.
        softplus: softplus of the logits before their normalisation; the official code does so on CIFAR-100 only.
    """

    declares = Declares(sample_state=True)

    def __init__(
        self, alpha: AtLeastOne = 2.0, margin: NonNegative = 0.1, lam0: Positive = 10.0, softplus: bool = False
    ) -> None:
        self.alpha = alpha
        self.margin = margin
        self.lam0 = lam0
        self.softplus = softplus
        self.lambdas = SampleMemory(lam0)
        self._run: Run | None = None

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, K) logits; without an index every sample starts from ``lam0``."""
        scores = normalized_scores(outputs, self.softplus)
        lambdas = next_lambdas(scores, self.lambdas.read(index, outputs), self.alpha, self.lam0)
        if torch.is_grad_enabled() and (self._run is None or self._run.phase == "train"):
            self.lambdas.write(index, lambdas)
        return aldr_kl(scores, targets, lambdas, self.alpha, self.margin, self.lam0)

    def setup(self, run: Run) -> None:
        """Lambdas (N,) of ``lam0``; the run tells training steps from other passes."""
        self.lambdas.allocate(run.num_samples, run.device, run.dtype)
        self._run = run

    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """Mean lambda, as a share of ``lam0``."""
        return {"aldr_kl.lambda": float(self.lambdas.data.mean()) / self.lam0}

    def state_dict(self) -> dict[str, Any]:
        """The lambdas."""
        return {"lambdas": self.lambdas.data}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.lambdas.load(state["lambdas"])
