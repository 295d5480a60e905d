"""RRM: Rockafellian relaxation (Eckstrand, Royset and others): samples with large losses lose their weight."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from harness import Declares, Run, Step, hookimpl
from harness.parameters import Count, NoiseRate, NonNegative, PositiveRate
from harness_plugins.algorithms.selection import kth_smallest

Spread = Literal["lowest", "argmin"]
CLIP = 1e-7
LEAST_CE, LARGEST_CE = -math.log1p(-CLIP), -math.log(CLIP)
"""Cross entropy of a probability clipped to [1e-7, 1 - 1e-7], as Keras does."""


def reweight(losses: Tensor, threshold: float | Tensor, spread: Spread = "lowest", tolerance: float = 0.0) -> Tensor:
    """The weights' shift ``u*`` that minimises ``sum (1/N + u_i) c_i`` plus the l1 penalty (Corollary 3.1.1).

    Samples whose loss lies above the threshold are removed, ``u_i = -1/N``; the mass they lose is given away.

    Args:
        losses: (N,) losses ``c``.
        threshold: ``c_min + gamma``; removed are losses strictly above it.
        spread: ``argmin`` gives the mass in equal parts to the samples with the least loss (an optimal solution);
            ``lowest`` gives 1/N each to as many samples as were removed, those with the smallest losses, so that no
            weight exceeds 2/N (where more than half were removed, all that remain share alike).
        tolerance: losses within this of the least count as least.

    Returns:
        (N,) u*, summing to 0.
    """
    size = losses.numel()
    removed = losses > threshold
    count = int(removed.count_nonzero())
    if spread == "argmin":
        least = (losses <= losses.min() + tolerance) & ~removed
        u = least.to(losses.dtype).mul_(count / (size * int(least.count_nonzero())))
        return u.sub_(removed.to(losses.dtype), alpha=1 / size)
    keep = min(count, size - count)
    u = torch.zeros_like(losses)
    if keep > 0:
        mass = count / (size * keep)
        bound = kth_smallest(losses, keep)
        below, ties = losses < bound, losses == bound
        share_of_ties = (keep - int(below.count_nonzero())) / int(ties.count_nonzero())
        u.add_(below.to(u.dtype), alpha=mass).add_(ties.to(u.dtype), alpha=mass * share_of_ties)
    return u.sub_(removed.to(u.dtype), alpha=1 / size)


def contamination_threshold(losses: Tensor, contamination: float) -> Tensor:
    """``ell = max{c_i : |{j : c_j > c_i}| / N >= C'}``: with distinct losses the (ceil(C' N) + 1)-th largest.

    Args:
        losses: (N,).
        contamination: ``C'`` in [0, 1].

    Returns:
        A scalar; the least loss where no loss qualifies.
    """
    size = losses.numel()
    above = math.ceil(contamination * size - 1e-9)
    if above <= 0:
        return losses.max()
    if above >= size:
        return losses.min()
    # the largest value with at least `above` strictly larger ones: the next distinct value below the `above`-th largest
    bound = kth_smallest(losses, size - above + 1)
    return torch.where(losses < bound, losses, losses.min()).max()


class RRM:
    """Rockafellian relaxation: every `every` epochs weights become `1/N + u`, `u <- mu u* + (1 - mu) u`.

    `u*` is the closed form of Corollary 3.1.1 on the losses of the whole training set (with `fgsm` in the stack, at the
    perturbed inputs: A-RRM). The losses are multiplied by `1 + N u`. Deviations: Algorithm 1's update misses `u` in
    its second term and is read as above; probabilities are clipped at 1e-7 for ranking cross entropy, as TensorFlow
    does, so that the least losses form a group; `spread="lowest"` (the default) bounds weights by 2/N, since the
    paper's `argmin` gives a single sample up to a thousand times its weight and A-RRM then collapses on real digits.

    Args:
        contamination: `C'`: the share to remove at each re-weighting, which sets the threshold; the noise rate (an
            oracle) unless a number is written. Not used when `gamma` is given.
        gamma: the penalty's coefficient, in units of the loss: removed is what exceeds `c_min + gamma` (`half`) or
            `c_min + 2 gamma` (`full`).
        mu: how far `u` moves at a re-weighting, in (0, 1]; with `contamination` the paper takes 1, with `gamma` 0.5.
        every: `sigma`, epochs between re-weightings; there is none after the last epoch.
        penalty: `half`: `(gamma/2) ||u||_1` as in eq. 2 and Theorem 3.1; `full`: `gamma ||u||_1` as in Algorithm 3, the
            official code, and by inference the tables.
        spread: `lowest` or `argmin`, see :func:`reweight`.
    """

    declares = Declares(
        tasks=("classification", "regression"),
        needs_per_sample=True,
        sample_state=True,
        ignored_with={"contamination": "gamma"},
    )

    def __init__(
        self,
        contamination: NoiseRate = "noise.rate",
        gamma: NonNegative | None = None,
        mu: PositiveRate | None = None,
        every: Count = 10,
        penalty: Literal["half", "full"] = "full",
        spread: Spread = "lowest",
    ) -> None:
        self.contamination = contamination
        self.gamma = gamma
        self.mu = mu if mu is not None else (1.0 if gamma is None else 0.5)
        self.every = every
        self.penalty = penalty
        self.spread: Spread = spread
        self.u = torch.zeros(0)

    def setup(self, run: Run) -> None:
        """``u`` (N,) zeros."""
        self.u = torch.zeros(run.num_samples, device=run.device, dtype=run.dtype)

    @hookimpl(tryfirst=True)
    def after_losses(self, run: Run, step: Step) -> None:
        """Weights of the batch times ``1 + N u``. In a pass that ranks samples cross entropy is clipped, before other
        parts of the stack add to it."""
        assert step.losses is not None
        if step.phase == "train":
            step.weights = step.weights * (1 + run.num_samples * self.u.index_select(0, step.index))
        elif step.phase == "score" and run.stack.loss_name == "ce" and run.stack.compute_losses is None:
            step.losses = step.losses.clamp(LEAST_CE, LARGEST_CE)

    def epoch_end(self, run: Run) -> None:
        """Re-weights every ``every`` epochs, not after the last."""
        if run.epoch % self.every == 0 and run.epoch < run.epochs:
            self.u = self.mu * self.solve(run.score_losses()) + (1 - self.mu) * self.u
        run.score_samples("rrm.u", -run.num_samples * self.u)

    def solve(self, losses: Tensor) -> Tensor:
        """(N,) ``u*`` for the losses; ones that are not finite count as the largest."""
        finite = torch.nan_to_num(losses, nan=torch.finfo(losses.dtype).max, posinf=torch.finfo(losses.dtype).max)
        if self.gamma is None:
            return reweight(finite, contamination_threshold(finite, float(self.contamination)), self.spread)
        gamma = self.gamma if self.penalty == "half" else 2 * self.gamma
        return reweight(finite, finite.min() + gamma, self.spread)

    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """Share of samples with at most half their weight, and the largest weight in units of 1/N."""
        weights = 1 + run.num_samples * self.u
        pruned = (weights < 0.5 + 1e-3).float().mean()
        return {"rrm.pruned_share": float(pruned), "rrm.max_weight": float(weights.max())}

    def state_dict(self) -> dict[str, Any]:
        """The shifts."""
        return {"u": self.u}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.u = state["u"].to(self.u.device)
