"""Co-teaching+ (Yu et al., ICML 2019): co-teaching on the samples on which the two networks disagree."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from harness import Run, Step
from harness.parameters import Count, NoiseRate
from harness_plugins.algorithms.co_teaching import CoTeaching, forget_schedule
from harness_plugins.algorithms.selection import small_loss_mask

EARLY = 5000


class CoTeachingPlus(CoTeaching):
    """Co-teaching on the samples that the networks predict differently (Yu et al., ICML 2019).

    Follows the official code: plain co-teaching while `epoch < init_epoch` (epochs from 1); where the networks disagree
    on no sample of a batch they train on all of it as long as epoch times batch number (its "step") is below 5000,
    then on nothing. Deviations: losses are taken of logits (the code feeds softmax outputs to cross entropy, a second
    softmax); the losses taken are divided as a whole batch is, not by their number, so that one sample in disagreement
    does not move a network as far as a whole batch: by their mean, SGD at a learning rate of 0.1 falls to chance on
    digits, while Adam, which the code uses, does not care.

    Args:
        forget_rate: `tau`, the noise rate (an oracle) unless a number is written.
        warmup: `E_k`, epochs of the rise of the share forgotten; 10.
        init_epoch: the first epoch on disagreement; CIFAR-10 20, CIFAR-100 5, MNIST 0.
        ensemble: predict by the mean of both networks' log-probabilities, normalised.
    """

    name = "co_teaching_plus"

    def __init__(
        self,
        forget_rate: NoiseRate = "noise.rate",
        warmup: Count = 10,
        init_epoch: Annotated[int, Ge(0)] = 20,
        ensemble: bool = False,
    ) -> None:
        super().__init__(forget_rate, warmup, 1.0, ensemble)
        self.init_epoch = init_epoch

    def reduce(self, losses: Tensor, mask: Tensor, divisor: float) -> Tensor:
        """Sum of the losses taken over the divisor of the whole batch."""
        return (losses * mask).sum() / divisor

    def select(self, run: Run, step: Step, losses: Tensor, disagree: Tensor) -> Tensor:
        """(B,) bool: small losses, after the first epochs among the samples in disagreement."""
        rate = forget_schedule(self.forget_rate, run.epoch, self.warmup)
        if run.epoch < self.init_epoch:
            return small_loss_mask(losses, rate)
        chosen = small_loss_mask(losses, rate, disagree)
        if run.epoch * step.number < EARLY:
            return torch.where(disagree.any(), chosen, torch.ones_like(chosen))
        return chosen
