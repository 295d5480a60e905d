"""ELR: early-learning regularisation (Liu et al., 2020): predictions are pulled to their own running average."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from harness import Declares, Run, Step
from harness.parameters import NonNegative, Rate

CLAMP = 1e-4


def elr_penalty(probabilities: Tensor, averages: Tensor) -> Tensor:
    """``log(1 - <t, p>)`` per sample, (B,), for clamped predictions (B, K) and running averages (B, K)."""
    return (1 - (averages * probabilities).sum(1)).log()


class ELR:
    """Early-learning regularisation: `loss + lam log(1 - <t_i, p_i>)` with a running average `t_i` (Liu et al., 2020).

    As in the official code, predictions are clamped to [1e-4, 1 - 1e-4], the average takes the normalised prediction,
    and it is updated before the loss uses it, once per training step; other passes only read it.

    Args:
        lam: CIFAR-10 3 (asymmetric 1), CIFAR-100 7.
        beta: momentum of the average; CIFAR-10 0.7 (asymmetric 0.9), CIFAR-100 0.9.
    """

    declares = Declares(sample_state=True, needs_per_sample=True)

    def __init__(self, lam: NonNegative = 3.0, beta: Rate = 0.7) -> None:
        self.lam = lam
        self.beta = beta

    def setup(self, run: Run) -> None:
        """``t`` (N, K) zeros; a state that is averaged, not trained."""
        self.t = run.sample_state("elr.t", run.num_outputs, 0.0, 0.0)

    def after_losses(self, run: Run, step: Step) -> None:
        """Updates the average, then adds the penalty to each sample's loss."""
        assert step.outputs is not None and step.losses is not None
        clamped = step.outputs.softmax(1).clamp(CLAMP, 1 - CLAMP)
        rows = self.t.data.index_select(0, step.index)
        if step.phase == "train":
            with torch.no_grad():
                current = clamped.detach()
                rows = self.beta * rows + (1 - self.beta) * (current / current.sum(1, keepdim=True))
                self.t.data.index_copy_(0, step.index, rows)
        step.losses = step.losses + self.lam * elr_penalty(clamped, rows)

    def epoch_end(self, run: Run) -> None:
        """Scores samples by how little of the average lies on the given label."""
        run.score_samples("elr.disagreement", 1 - self.t.data.gather(1, run.targets[:, None]).squeeze(1))

    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """Mean squared norm of the averages: how confident they are."""
        return {"elr.confidence": float(self.t.data.square().sum(1).mean())}
