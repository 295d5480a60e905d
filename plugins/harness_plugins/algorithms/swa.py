"""SWA: stochastic weight averaging (Izmailov et al., UAI 2018): the mean of the last epochs' weights predicts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from harness import Declares, Run
from harness.parameters import Positive
from harness.training.tasks import PREDICTIONS


def annealed_rate(rate: float, final: float, epochs: int, anneal_epochs: int) -> float:
    """The learning rate ``epochs`` epochs after it was ``rate``: by a half cosine to ``final`` within ``anneal_epochs``."""
    done = min(1.0, epochs / anneal_epochs) if anneal_epochs else 1.0
    share = (1 - math.cos(math.pi * done)) / 2
    return (1 - share) * rate + share * final


class _Forward(nn.Module):
    """A model as the run computes it, in the trial's precision."""

    def __init__(self, run: Run, model: nn.Module) -> None:
        super().__init__()
        self.run = run
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        return self.run.forward(inputs, self.model)


def augmented(run: Run) -> Iterator[Tensor]:
    """All training samples once, augmented as in training, in shuffled batches; without a last batch of one, of which
    batch normalisation has no statistics."""
    order = torch.randperm(run.num_samples, generator=run.generator("algorithm"))
    if run.num_samples % run.batch_size == 1:
        order = order[:-1]
    for _, inputs in run.source.shuffled(order, run.batch_size, 0, run.generator("view")):
        yield inputs


class SWA:
    """After `start` epochs the learning rate goes to `swa_lr`, and the mean of the epochs' last weights predicts.

    As in the official code of SURE (YutingLi0606/SURE, a355ecfcd1f8), by torch's `SWALR` and `update_bn`: the first epoch
    after `start` still has the schedule's rate, which then goes to `swa_lr` by a half cosine; before each evaluation the
    statistics of batch normalisation are computed anew by a pass over augmented training data, weighing all batches
    alike. Until `start` the network itself predicts. Deviation: there is no further epoch (that code trains 201). Factors
    of a factorised weight (`kpd`) are averaged one by one: the average of factors is not the factor of the average.

    Args:
        start: epochs before the first that is averaged; 60 % of all without, SURE's 120 of 200 on Animal-10N. On
            Food-101N it is 22 of 30.
        swa_lr: the learning rate that is gone to; Animal-10N 0.05, Food-101N 0.005.
        anneal_epochs: epochs until it is reached; 10.
    """

    declares = Declares(tasks=("classification", "multilabel", "regression"))

    def __init__(
        self,
        start: Annotated[int, Ge(0)] | None = None,
        swa_lr: Positive = 0.05,
        anneal_epochs: Annotated[int, Ge(0)] = 10,
    ) -> None:
        self.start = start
        self.swa_lr = swa_lr
        self.anneal_epochs = anneal_epochs

    def setup(self, run: Run) -> None:
        """The average, a copy of the network until it is first updated."""
        self.first = (run.epochs * 3 // 5 if self.start is None else self.start) + 1
        self.average = run.average("swa")
        self.averaged = 0
        self.rates: list[float] = []

    def epoch_start(self, run: Run) -> None:
        """Sets the learning rate of each group, whatever the schedule says."""
        if run.epoch < self.first:
            return
        groups = run.optimizer.param_groups
        if run.epoch == self.first:
            self.rates = [float(group["lr"]) for group in groups]
        for group, rate in zip(groups, self.rates, strict=True):
            group["lr"] = annealed_rate(rate, self.swa_lr, run.epoch - self.first, self.anneal_epochs)

    def epoch_end(self, run: Run) -> None:
        """Averages the weights, and computes the average's statistics of batch normalisation anew."""
        if run.epoch < self.first:
            return
        self.average.update(self.averaged / (self.averaged + 1))
        self.averaged += 1
        if run.num_samples > 1:
            update_bn(augmented(run), _Forward(run, self.average.model))

    def predict(self, run: Run, inputs: Tensor) -> Tensor | None:
        """What the average predicts, once there is one."""
        if not self.averaged:
            return None
        return PREDICTIONS[run.task](run.forward(inputs, self.average.model))

    def state_dict(self) -> dict[str, Any]:
        """How many epochs are averaged, and the learning rates that were annealed; the average is in the run's state."""
        return {"averaged": self.averaged, "rates": self.rates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.averaged = int(state["averaged"])
        self.rates = list(state["rates"])
