"""CRL: correctness ranking loss (Moon et al., ICML 2020): confidence in the order in which samples have been learnt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from harness import Declares, Run, Step, hookimpl
from harness.parameters import NonNegative

EPSILON = 1e-7


def learnt_share(counts: Tensor, lowest: Tensor, rounds: int) -> Tensor:
    """``(count - lowest) / (rounds - lowest)``: how often samples were predicted correctly, from 0 to about 1.

    Args:
        counts: (B,) correct predictions so far.
        lowest: the smallest count of all samples.
        rounds: how often each might have been predicted.

    Returns:
        (B,); zeros where all have been right in every round, for then nothing is to be ranked.
    """
    room = rounds - lowest
    return torch.where(room > 0, (counts - lowest) / room.clamp_min(1), torch.zeros_like(counts))


def ranking_losses(confidence: Tensor, learnt: Tensor) -> Tensor:
    """``max(0, -t (c_i - c_j - |a_i - a_j| / (t + 1e-7)))`` with ``t = sign(a_i - a_j)`` and ``j`` the next in the batch.

    Args:
        confidence: (B,) largest probabilities ``c``.
        learnt: (B,) shares ``a``.

    Returns:
        (B,) losses >= 0; 0 for a pair that was learnt equally well, and in a batch of one.
    """
    difference = learnt - learnt.roll(-1)
    sign = difference.sign()
    margin = difference.abs() / (sign + EPSILON)
    return (-sign * (confidence - confidence.roll(-1) - margin)).clamp_min(0)


class CRL:
    """The stack's loss plus `weight` times the correctness ranking loss (Moon et al., 2020).

    A sample that has been predicted as its given label more often than its neighbour in the batch is to be predicted with
    more confidence, by a margin that is the difference of these shares. As in the official code of SURE
    (YutingLi0606/SURE, a355ecfcd1f8): counts grow after each step by the outputs that the step was made of; the number of
    rounds is 1 in the first two epochs, then one less than the epoch. Deviation: where all samples were right in every
    round the code divides by 0; here nothing is ranked.

    Args:
        weight: SURE 0.2 on Animal-10N and Food-101N; 1 in CRL's paper.
    """

    declares = Declares(sample_state=True, whole_batch="always")

    def __init__(self, weight: NonNegative = 0.2) -> None:
        self.weight = weight

    def setup(self, run: Run) -> None:
        """How often each sample has been predicted as its given label."""
        self.counts = torch.zeros(run.num_samples, device=run.device, dtype=run.dtype)

    @hookimpl(trylast=True)
    def after_forward(self, run: Run, step: Step) -> None:
        """Adds the mean ranking loss of the batch, which is one of pairs, to what is differentiated in training."""
        if step.phase not in ("train", "again"):
            return
        assert step.outputs is not None
        counts = self.counts.index_select(0, step.index)
        learnt = learnt_share(counts, self.counts.min(), max(1, run.epoch - 1))
        ranking = self.weight * ranking_losses(step.outputs.softmax(1).amax(1), learnt).mean()
        step.penalty = ranking if step.penalty is None else step.penalty + ranking

    def after_step(self, run: Run, step: Step) -> None:
        """Counts the batch's correct predictions."""
        assert step.outputs is not None
        labels = step.targets if step.targets.ndim == 1 else step.targets.argmax(1)
        correct = step.outputs.detach().argmax(1) == labels
        self.counts.index_add_(0, step.index, correct.to(self.counts.dtype))

    def epoch_end(self, run: Run) -> None:
        """Scores samples by how seldom they were predicted as their given label."""
        run.score_samples("crl.forgotten", -self.counts)

    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """Mean share of the epochs in which a sample was predicted as its given label."""
        return {"crl.learnt_share": float(self.counts.mean()) / run.epoch}

    def state_dict(self) -> dict[str, Any]:
        """The counts."""
        return {"counts": self.counts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.counts = state["counts"].to(self.counts.device, copy=True)
