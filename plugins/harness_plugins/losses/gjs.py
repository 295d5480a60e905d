"""Generalised Jensen-Shannon divergence (Englesson and Azizpour, NeurIPS 2021): between a label and predictions of views."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from annotated_types import Gt, Lt
from torch import Tensor

from harness import Declares, Run, Step, hookimpl
from harness_plugins.losses.labels import classes, distribution
from harness_plugins.losses.peers import TWICE

SMALLEST = 1e-7
Weight = Annotated[float, Gt(0), Lt(1)]
REFUSES = {
    **dict.fromkeys(("forward", "vol_min_net"), TWICE),
    "backward": TWICE,
    "aux": "its second view is seen by the network alone, whose outputs `aux` would not change",
    "strong_augmentation": "it draws the views of its samples by itself",
}


def jensen_shannon(outputs: Sequence[Tensor], targets: Tensor, weight: float, scaled: bool = True) -> Tensor:
    """``s sum_v w_v KL(d_v || m)`` per sample, ``d = (Y, p_1, ..., p_M)`` and ``m = sum_v w_v d_v``, clamped at 1e-7.

    Args:
        outputs: (B, K) logits of each of M views, which share ``1 - weight`` evenly.
        targets: (B,) int64 classes.
        weight: ``w_0``, of the label, in (0, 1).
        scaled: whether ``s = -1 / ((1 - w_0) log(1 - w_0))``, else 1.

    Returns:
        (B,) losses.
    """
    label = distribution(outputs[0], classes(targets, "gjs"), "gjs")
    parts = [label, *(view.softmax(1) for view in outputs)]
    weights = [weight, *([(1 - weight) / len(outputs)] * len(outputs))]
    mean = sum((w * part for w, part in zip(weights, parts, strict=True)), label.new_zeros(()))
    log_mean = mean.clamp(SMALLEST, 1.0).log()
    total = label.new_zeros(())
    for w, part in zip(weights, parts, strict=True):
        total = total + w * (part * (part.clamp_min(SMALLEST).log() - log_mean)).sum(1)
    return total * (-1 / ((1 - weight) * math.log1p(-weight)) if scaled else 1.0)


class GeneralisedJensenShannon:
    """JS divergence between the label and the predictions of two strong views (Englesson and Azizpour, 2021).

    Follows the official code (ErikEnglesson/GJS, 1a3c9e0788d4): both views are `strong` ones, each has its forward pass, so
    that statistics of batch normalisation move twice. Outside of training steps (passes that rank samples, perturbations of
    inputs) both views are the sample as it is. `views = 1` is the plain JS loss of the batch. The code's RandAugment is N = 1,
    M = 3 with a cutout of 16; here it is the harness's strong view.

    By data set, `weight`: CIFAR-10 symmetric 0, 20, 40, 60, 80 %: 0.5, 0.3, 0.9, 0.1, 0.1, asymmetric 0.3; CIFAR-100 symmetric 0.3,
    0.3, 0.5, 0.9, 0.1, asymmetric 20, 40 %: 0.5, 0.1; WebVision 0.1 with `scaled = false` and `view = "weak"`. 400 epochs of
    Nesterov, a tenth at 200 and 300; CIFAR-10 0.1 and weight decay 5e-4 (asymmetric 1e-3), CIFAR-100 0.2 and 5e-5 (0.4 and 1e-4).

    Args:
        weight: `w_0`, of the label; the views share the rest evenly.
        views: 2, or 1: the batch itself, the JS loss.
        view: `strong`, or `weak`: the setting's augmentation.
        scaled: divide by `-(1 - w_0) log(1 - w_0)`, which makes cross entropy and mean absolute error the two limits.
    """

    declares = Declares(views=("strong", "weak"), refuses=REFUSES)

    def __init__(
        self,
        weight: Weight = 0.3,
        views: Literal[1, 2] = 2,
        view: Literal["strong", "weak"] = "strong",
        scaled: bool = True,
    ) -> None:
        self.weight = weight
        self.two = views == 2
        self.view = view
        self.scaled = scaled
        self._second: Tensor | None = None

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, K) logits, every view the same."""
        return jensen_shannon((outputs,), targets, self.weight, self.scaled)

    @hookimpl(tryfirst=True)
    def before_forward(self, run: Run, step: Step) -> None:
        """Replaces the inputs of a training step by a first view, and draws the second."""
        if step.phase == "train" and self.two:
            if self.view == "strong":
                step.inputs = run.view(step.index, self.view)
            self._second = run.view(step.index, self.view)

    def compute_losses(self, run: Run, step: Step) -> bool | None:
        """Losses of both views in training; a step that is taken again (SAM) meets the same second one."""
        if not self.two or step.phase not in ("train", "again"):
            return None
        assert step.outputs is not None and self._second is not None
        second = run.forward(self._second, run.of(step.network).model)
        step.losses = jensen_shannon((step.outputs, second), step.targets, self.weight, self.scaled)
        return True
