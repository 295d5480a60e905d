"""JoCoR (Wei et al., CVPR 2020): two networks with one loss, which also asks them to agree; large losses are left out."""

from __future__ import annotations

import torch
from torch import Tensor

from harness import Declares, Run, Step
from harness.parameters import Count, NoiseRate, Positive, Rate
from harness_plugins.algorithms.co_teaching import CoTeaching, forget_schedule


def disagreement(first: Tensor, second: Tensor) -> Tensor:
    """``KL(p1 || p2) + KL(p2 || p1) = sum_k (p1 - p2)(log p1 - log p2)`` per sample, (B,), of logits (B, K)."""
    return ((first.softmax(1) - second.softmax(1)) * (first.log_softmax(1) - second.log_softmax(1))).sum(1)


def joint_losses(first: Tensor, second: Tensor, agreement: Tensor, lam: float) -> Tensor:
    """``(1 - lam) (l_1 + l_2) + lam D`` per sample, from losses and divergences, (B,) each (eq. 2)."""
    return (1 - lam) * (first + second) + lam * agreement


def smallest_mask(losses: Tensor, forget_rate: float) -> Tensor:
    """(B,) bool: the ``int((1 - forget_rate) B)`` smallest losses, at least one; of equal losses the first."""
    kept = max(1, int((1 - forget_rate) * len(losses)))
    mask = torch.zeros_like(losses, dtype=torch.bool)
    return mask.index_fill_(0, losses.detach().argsort(stable=True)[:kept], True)


class JoCoR(CoTeaching):
    """Two networks that learn from `(1 - lam)(l_1 + l_2) + lam (KL + KL)` on its small values (Wei et al., 2020).

    Follows the official code (hongxin001/JoCoR, 86db3597ffcc): one selection for both networks, by the joint loss; the
    share forgotten rises as in `co_teaching`; the loss is the mean over the samples kept; gradients of the agreement go
    into both networks. Its one Adam over both networks is two, which is the same. A last batch that is not full is
    dropped there (`last_batch = "drop"`), and an epoch ends after 401 batches, which cuts MNIST's 468. It reports the
    mean test accuracy of both networks over the last ten epochs; here network 1 predicts, or both. Any loss of single
    samples may stand in for cross entropy. For asymmetric noise the code takes half the rate: write that number.

    Args:
        lam: weight of the agreement; CIFAR-10 0.9 (80 % noise: 0.65), CIFAR-100 0.85, the example on MNIST 0.95.
        forget_rate: `tau`, the noise rate (an oracle) unless a number is written.
        warmup: `T_k`, epochs of the rise; 10.
        exponent: `c` of the rise; 1.
        ensemble: predict by the mean of both networks' log-probabilities, normalised.
    """

    declares = Declares(own_step=True, descends=True, needs_per_sample=True)
    name = "jocor"

    def __init__(
        self,
        lam: Rate = 0.9,
        forget_rate: NoiseRate = "noise.rate",
        warmup: Count = 10,
        exponent: Positive = 1.0,
        ensemble: bool = False,
    ) -> None:
        super().__init__(forget_rate, warmup, exponent, ensemble)
        self.lam = lam

    def train_step(self, run: Run, step: Step) -> bool:
        """One step of both networks on the joint loss of the samples kept."""
        networks = ("", self.name)
        outputs = [run.forward(step.inputs, run.of(name).model) for name in networks]
        losses = [run.stack.loss(output, step.targets, step.index) for output in outputs]
        joint = joint_losses(losses[0], losses[1], disagreement(*outputs), self.lam)
        kept = smallest_mask(joint, forget_schedule(self.forget_rate, run.epoch, self.warmup, self.exponent))
        chosen = kept.to(joint.dtype)
        step.losses, step.weights = joint, chosen * (len(chosen) / chosen.sum())
        run.descend(step, networks)
        self.losses.index_copy_(0, step.index, joint.detach())
        self.means.add(kept.float().mean(), (outputs[0].argmax(1) != outputs[1].argmax(1)).float().mean())
        return True
