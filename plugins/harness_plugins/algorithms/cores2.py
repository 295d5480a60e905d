"""CORES^2: confidence-regularised sample sieve (Cheng et al., ICLR 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

from harness import Declares, Run, Step
from harness.parameters import Count, NonNegative
from harness_plugins.algorithms.running import EpochMean

EPSILON = 1e-8


def cores_losses(outputs: Tensor, targets: Tensor, beta: float, prior: Tensor) -> tuple[Tensor, Tensor]:
    """Confidence-regularised cross entropy, and the quantity that the sieve compares with 0, per sample.

    ``CE(z, y) - beta sum_k prior_k l_k`` and ``CE(z, y) - (1/K) sum_k l_k`` with ``l_k = -log(p_k + 1e-8)``.

    Args:
        outputs: (B, K) logits.
        targets: (B,) int64 classes.
        beta: strength of the regulariser.
        prior: (K,) distribution of the noisy labels.

    Returns:
        (B,) losses, and (B,) sieve scores: a sample is kept where its score is at most 0.
    """
    ce = torch.nn.functional.cross_entropy(outputs, targets, reduction="none")
    classes = -(outputs.softmax(1) + EPSILON).log()
    return ce - beta * (classes * prior).sum(1), ce - classes.mean(1)


def scheduled_beta(beta: float, epoch: int, warmup: int, ramp: int) -> float:
    """0 for ``warmup`` epochs, then ``ramp`` values evenly from 0 to ``beta``, then ``beta``; ``epoch`` counts from
    1."""
    step = epoch - 1 - warmup
    if step < 0:
        return 0.0
    return beta if step >= ramp - 1 else beta * step / (ramp - 1)


def remaining_prior(counts: Tensor, removed: Tensor) -> Tensor:
    """Class distribution (K,) of the samples that are left, from class counts and counts of removed samples; that of
    all samples where none is left."""
    left = (counts - removed).clamp_min(0)
    left = torch.where(left.sum() > 0, left, counts)
    return left / left.sum()


class CORES2:
    """Confidence-regularised cross entropy on the samples that a sieve keeps (Cheng et al., 2021, eqs. 2 and 4).

    Follows phase 1 of the official code: `beta` is 0, then rises, then stays; after `sieve_after` epochs a sample of a
    batch trains only where `CE(z, y) <= mean_k CE(z, k)`; the loss is the mean over those kept; the prior is that of
    the noisy labels less those removed in the last epoch. The code divides the learning rate by `1 + beta`; here the
    loss is divided, which is the same for plain SGD and leaves weight decay alone. Phase 2 (consistency training on
    the removed samples) is not part of it.

    The code trains by plain SGD at 0.1 and no momentum. Larger steps let a network fall to one class once the sieve
    acts: on 5,000 MNIST digits SGD with momentum 0.9 does so at a learning rate of 0.03, not at 0.01.

    Args:
        beta: final strength; 2.
        warmup: epochs with `beta = 0`; 10.
        ramp: epochs over which beta rises; 30.
        sieve_after: epochs before the sieve acts; 31 (the code counts from 0 and asks for `epoch > 30`).
    """

    declares = Declares(replaces="ce", needs_per_sample=True, sample_state=True, whole_batch="always")

    def __init__(
        self,
        beta: NonNegative = 2.0,
        warmup: Annotated[int, Ge(0)] = 10,
        ramp: Count = 30,
        sieve_after: Annotated[int, Ge(0)] = 31,
    ) -> None:
        self.beta = beta
        self.warmup = warmup
        self.ramp = ramp
        self.sieve_after = sieve_after

    def setup(self, run: Run) -> None:
        """The prior, the samples' last sieve scores, and the counts of removed samples."""
        self.counts = torch.bincount(run.targets, minlength=run.num_outputs).to(run.dtype)
        self.prior = self.counts / self.counts.sum()
        self.removed = torch.zeros_like(self.counts)
        self.scores = torch.zeros(run.num_samples, device=run.device, dtype=run.dtype)
        self.kept = EpochMean(("cores2.kept_share",), run.device)

    def epoch_start(self, run: Run) -> None:
        """The prior of what the last epoch kept."""
        if run.epoch > 1:
            self.prior = remaining_prior(self.counts, self.removed)
        self.removed = torch.zeros_like(self.counts)
        self.kept.reset()

    def compute_losses(self, run: Run, step: Step) -> bool:
        """Replaces cross entropy, and in training weights the batch by the sieve."""
        assert step.outputs is not None
        beta = scheduled_beta(self.beta, run.epoch, self.warmup, self.ramp)
        losses, scores = cores_losses(step.outputs, step.targets, beta, self.prior)
        step.losses = losses / (1 + beta)
        if step.phase == "train":
            scores = scores.detach()
            self.scores.index_copy_(0, step.index, scores)
            keep = (scores <= 0) if run.epoch > self.sieve_after else torch.ones_like(scores, dtype=torch.bool)
            self.removed.index_add_(0, step.targets, (~keep).to(self.removed.dtype))
            self.kept.add(keep.float().mean())
            step.weights = step.weights * keep * (len(keep) / keep.sum().clamp_min(1))
        return True

    def epoch_end(self, run: Run) -> None:
        """Scores samples by the quantity that the sieve compares with 0, as of their last batch."""
        run.score_samples("cores2.sieve", self.scores)

    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """Mean share of a batch that the sieve kept in the epoch."""
        return self.kept.means()

    def state_dict(self) -> dict[str, Any]:
        """Prior, counts, scores and the mean of the epoch so far."""
        return {"prior": self.prior, "removed": self.removed, "scores": self.scores, "kept": self.kept.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.prior = state["prior"].to(self.prior.device, copy=True)
        self.removed = state["removed"].to(self.removed.device, copy=True)
        self.scores = state["scores"].to(self.scores.device, copy=True)
        self.kept.load_state_dict(state["kept"])
