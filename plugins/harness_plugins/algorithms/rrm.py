"""RRM: Rockafellian relaxation (Eckstrand, Royset and others): samples with large losses lose their weight."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from harness import Declares, Pass, Run, Step, hookimpl
from harness.parameters import Count, NoiseRate, NonNegative, PositiveRate
from harness_plugins.algorithms.selection import kth_smallest

Spread = Literal["lowest", "argmin", "none"]
Scope = Literal["all", "labelled"]
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
            weight exceeds 2/N (where more than half were removed, all that remain share alike); ``none`` gives nothing
            away, so that samples are pruned and no weight grows.
        tolerance: losses within this of the least count as least.

    Returns:
        (N,) u*, summing to 0, or to minus what was removed for ``none``.
    """
    size = losses.numel()
    removed = losses > threshold
    if spread == "none":
        return removed.to(losses.dtype).mul_(-1 / size)
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

    Around a method with a step of its own (section 4.1: ProMix, DivideMix, CC) `u` multiplies the rows of that method's
    supervised loss, each by the `u` of the sample that owns it; all else that the method adds is left alone. The paper
    leaves open what follows, and no code is public. There is one `u` for each trained network, from its own losses of the
    labels as given (cross entropy, unaugmented, in eval mode), not of the method's refined targets, which change with
    every batch. `every` counts epochs, the method's warm-up among them, since scoring all samples every ten batches is not
    credible. `spread="argmin"` would give one sample up to `1 + C' N` times its weight, which a mixed row of it hands to
    an ordinary gradient: keep `lowest`, or `none`, around a method that mixes.

    Args:
        contamination: `C'`: the share to remove at each re-weighting, which sets the threshold; the noise rate (an
            oracle) unless a number is written. Not used when `gamma` is given.
        gamma: the penalty's coefficient, in units of the loss: removed is what exceeds `c_min + gamma` (`half`) or
            `c_min + 2 gamma` (`full`).
        mu: how far `u` moves at a re-weighting, in (0, 1]; with `contamination` the paper takes 1, with `gamma` 0.5.
        every: `sigma`, epochs between re-weightings; there is none after the last epoch.
        penalty: `half`: `(gamma/2) ||u||_1` as in eq. 2 and Theorem 3.1; `full`: `gamma ||u||_1` as in Algorithm 3, the
            official code, and by inference the tables.
        spread: `lowest`, `argmin` or `none`, see :func:`reweight`.
        scope: which samples a re-weighting is about: `all`, or the `labelled` ones, those that had a row in the epoch that
            ends; then threshold, least loss and mass are theirs, and `u*` of all others is 0.
        renormalise: divide the weights by their mean over the labelled part, which else grows against what the method
            adds. It is the part that the pass is over; where a method divides within a pass over all samples (ProMix),
            that of the epoch before.
    """

    declares = Declares(
        tasks=("classification", "regression"),
        needs_per_sample=True,
        row_weights=True,
        ignored_with={"contamination": "gamma"},
        later=("scope", "renormalise"),
    )

    def __init__(
        self,
        contamination: NoiseRate = "noise.rate",
        gamma: NonNegative | None = None,
        mu: PositiveRate | None = None,
        every: Count = 10,
        penalty: Literal["half", "full"] = "full",
        spread: Spread = "lowest",
        scope: Scope = "all",
        renormalise: bool = False,
    ) -> None:
        self.contamination = contamination
        self.gamma = gamma
        self.mu = mu if mu is not None else (1.0 if gamma is None else 0.5)
        self.every = every
        self.penalty = penalty
        self.spread: Spread = spread
        self.scope: Scope = scope
        self.renormalise = renormalise
        self.us: dict[str, Tensor] = {}
        self.labelled: dict[str, Tensor] = {}
        self.labelled_before: dict[str, Tensor] = {}
        self._labelled_weight: dict[str, Tensor] = {}
        self._means: dict[str, tuple[Pass | None, Tensor]] = {}

    @property
    def u(self) -> Tensor:
        """(N,) of the trial's own network; `us` holds those of all, by name."""
        return self.us[""]

    @u.setter
    def u(self, value: Tensor) -> None:
        self.us[""] = value

    def setup(self, run: Run) -> None:
        """``u`` (N,) zeros."""
        self.us = {"": torch.zeros(run.num_samples, device=run.device, dtype=run.dtype)}

    @hookimpl(tryfirst=True)
    def after_losses(self, run: Run, step: Step) -> None:
        """Weights of the rows times ``1 + N u`` of their owners. In a pass that ranks samples cross entropy is clipped,
        before other parts of the stack add to it."""
        assert step.losses is not None
        if step.phase == "train":
            weights = 1 + run.num_samples * self._u(step.network).index_select(0, step.index)
            if run.stack.train_step is not None:
                self._owners(run, step.network).index_fill_(0, step.index, True)
                weights = weights / self._scale(run, step.network) if self.renormalise else weights
            step.weights = step.weights * weights
        elif step.phase == "score" and run.stack.loss_name == "ce" and run.stack.compute_losses is None:
            step.losses = step.losses.clamp(LEAST_CE, LARGEST_CE)

    def epoch_end(self, run: Run) -> None:
        """Re-weights every ``every`` epochs, not after the last."""
        self._labelled_weight = {n: self.weights(run, n)[owns].mean() for n, owns in self.labelled.items()}
        if run.epoch % self.every == 0 and run.epoch < run.epochs:
            for name in sorted(run.trained) or [""]:
                found = self.solve(run.score_losses(network=name), self.labelled.get(name))
                self.us[name] = self.mu * found + (1 - self.mu) * self._u(name)
        self.labelled_before, self.labelled = self.labelled, {}
        self._means.clear()
        run.score_samples("rrm.u", -run.num_samples * self.u)

    def solve(self, losses: Tensor, labelled: Tensor | None = None) -> Tensor:
        """(N,) ``u*`` for the losses; ones that are not finite count as the largest.

        ``labelled`` (N,) bool are the samples that it is about where ``scope`` is so; all without.
        """
        finite = torch.nan_to_num(losses, nan=torch.finfo(losses.dtype).max, posinf=torch.finfo(losses.dtype).max)
        if self.scope == "labelled" and labelled is not None:
            u, size = torch.zeros_like(finite), len(finite)
            if len(within := finite[labelled]):
                u[labelled] = self._solve(within) * (len(within) / size)  # there in units of 1 / |X|
            return u
        return self._solve(finite)

    def _solve(self, losses: Tensor) -> Tensor:
        if self.gamma is None:
            return reweight(losses, contamination_threshold(losses, float(self.contamination)), self.spread)
        gamma = self.gamma if self.penalty == "half" else 2 * self.gamma
        return reweight(losses, losses.min() + gamma, self.spread)

    def weights(self, run: Run, network: str = "") -> Tensor:
        """(N,) ``1 + N u`` of a network."""
        return 1 + run.num_samples * self._u(network)

    def _u(self, network: str) -> Tensor:
        if network not in self.us:
            self.us[network] = torch.zeros_like(self.u)
        return self.us[network]

    def _owners(self, run: Run, network: str) -> Tensor:
        """(N,) bool: which samples have had a row of a network in the epoch so far."""
        if network not in self.labelled:
            self.labelled[network] = torch.zeros(run.num_samples, device=run.device, dtype=torch.bool)
        return self.labelled[network]

    def _scale(self, run: Run, network: str) -> Tensor:
        """The mean weight over the labelled part, of which there is one for each pass and network."""
        found = self._means.get(network)
        if found is None or found[0] is not run.walk:
            weights = self.weights(run, network)
            if run.walk is not None and run.walk.index is not None:
                weights = weights[run.walk.index.to(run.device)]
            elif network in self.labelled_before:
                weights = weights[self.labelled_before[network]]
            found = (run.walk, weights.mean().clamp_min(torch.finfo(weights.dtype).tiny))
            self._means[network] = found
        return found[1]

    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """Share of samples with at most half their weight, and the largest weight in units of 1/N; around a method with a
        step of its own also, for each of its networks, the mean weight over the labelled part of the epoch, before it is
        divided away."""
        weights = self.weights(run)
        pruned = (weights < 0.5 + 1e-3).float().mean()
        found = {"rrm.pruned_share": float(pruned), "rrm.max_weight": float(weights.max())}
        for name, mean in self._labelled_weight.items():
            found["rrm.labelled_weight" + (f".{name}" if name else "")] = float(mean)
        return found

    def state_dict(self) -> dict[str, Any]:
        """The shifts of every network, and around a method with a step of its own who has had a row."""
        return {"u": dict(self.us), "labelled": dict(self.labelled), "labelled_before": dict(self.labelled_before)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`; states of before networks had a ``u`` each hold a single one."""
        device = self.u.device
        us = {"": state["u"]} if isinstance(state["u"], Tensor) else state["u"]
        self.us = {name: u.to(device) for name, u in us.items()}
        self.labelled, self.labelled_before = (
            {name: owns.to(device) for name, owns in state.get(key, {}).items()}
            for key in ("labelled", "labelled_before")
        )
        self._means.clear()
