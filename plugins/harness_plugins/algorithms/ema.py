"""EMA: an exponential moving average of the weights, which predicts (Polyak and Juditsky, 1992; Tarvainen and Valpola,
2017)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from harness import Declares, Run, Step, hookimpl
from harness.parameters import Rate
from harness.training.tasks import PREDICTIONS


def warmed_up(decay: float, step: int) -> float:
    """``min(decay, (1 + t) / (10 + t))`` for the ``t``-th step, from 1: early on the average follows faster."""
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def average_buffers(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Floating-point buffers become ``decay`` times themselves plus the rest of the model's; counters are copied."""
    means, values = [], []
    for mean, value in zip(average.buffers(), model.buffers(), strict=True):
        if mean.is_floating_point():
            means.append(mean)
            values.append(value)
        else:
            mean.copy_(value)
    if means:
        torch._foreach_lerp_(means, values, 1 - decay)


class EMA:
    """An average of the weights over the steps predicts, `a = decay a + (1 - decay) w`; training is left as it is.

    It is one of the two ingredients that explain much of what the semi-supervised methods gain; the other is
    `strong_augmentation`. As timm's `ModelEmaV2` it starts as a copy of the untrained network, moves after every step of
    the optimizer, and averages the statistics of batch normalisation like the weights. Factors of a factorised weight
    (`kpd`) are averaged one by one: the average of factors is not the factor of the average. Epochs are selected on noisy
    validation by what the average predicts.

    Args:
        decay: 0.999, for some ten thousand steps (timm: 0.9999); an average looks back about `1 / (1 - decay)` steps.
        warmup: use `min(decay, (1 + t) / (10 + t))` in step `t`, so that a short training forgets how it started.
        buffers: `average` the statistics of batch normalisation too, or `copy` those of the network.
    """

    declares = Declares(tasks=("classification", "multilabel", "regression"))

    def __init__(
        self, decay: Rate = 0.999, warmup: bool = False, buffers: Literal["average", "copy"] = "average"
    ) -> None:
        self.decay = decay
        self.warmup = warmup
        self.buffers = buffers

    def setup(self, run: Run) -> None:
        """The average, a copy of the network."""
        self.average = run.average("ema")
        self.steps = 0

    @hookimpl(trylast=True)
    def after_step(self, run: Run, step: Step) -> None:
        """Moves the average after steps of the trial's own network."""
        if step.network:
            return
        self.steps += 1
        decay = warmed_up(self.decay, self.steps) if self.warmup else self.decay
        self.average.update(decay, buffers=self.buffers == "copy")
        if self.buffers == "average":
            average_buffers(self.average.model, run.model, decay)

    def predict(self, run: Run, inputs: Tensor) -> Tensor:
        """What the average predicts."""
        return PREDICTIONS[run.task](run.forward(inputs, self.average.model))

    def state_dict(self) -> dict[str, Any]:
        """The number of steps; the average is in the run's state."""
        return {"steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.steps = int(state["steps"])
