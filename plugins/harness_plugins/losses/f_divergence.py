"""Robust f-divergences (Wei and Liu, ICLR 2021): the variational difference between labels as given and as drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from harness import Declares, Run, Step
from harness.parameters import NonNegative
from harness_plugins.algorithms.running import EpochMean
from harness_plugins.losses.ce import cross_entropy
from harness_plugins.losses.labels import classes, of_target
from harness_plugins.losses.peers import REFUSES, Peers

SMALL = 1e-6
LOG2 = math.log(2)
Divergence = Literal[
    "kl",
    "reverse_kl",
    "jeffrey",
    "squared_hellinger",
    "pearson",
    "neyman",
    "jensen_shannon",
    "total_variation",
]
Function = Callable[[Tensor], Tensor]
DIVERGENCES: Mapping[str, tuple[Function, Function]] = {
    "kl": (lambda v: v, lambda v: (v - 1).exp()),
    "reverse_kl": (lambda v: -v.exp(), lambda v: -1 - v),
    "jeffrey": (lambda v: v, lambda v: v + v**2 / 4 + v**3 / 16),
    "squared_hellinger": (lambda v: -torch.expm1(v), lambda v: torch.expm1(-v)),
    "pearson": (lambda v: v, lambda v: v + v**2 / 4),
    "neyman": (lambda v: -torch.expm1(v), lambda v: 2 - 2 * (1 - v).clamp_min(SMALL).sqrt()),
    "jensen_shannon": (
        lambda v: LOG2 - torch.log1p((-v).exp()),
        lambda v: v + torch.log1p((-v).exp()) - LOG2,
    ),
    "total_variation": (lambda v: v.tanh() / 2, lambda v: v.tanh() / 2),
}
"""``g(v)`` and ``f*(g(v))`` of a probability ``v``, both as the official code has them."""


def conjugate_term(divergence: str, drawn: Tensor, exact: bool = False) -> Tensor:
    """``f*(g(v'))``, entry by entry, of the divergence ``mean g(v) - mean f*(g(v'))`` that is maximised.

    Args:
        divergence: by name.
        drawn: ``v'``, probabilities of drawn labels at drawn inputs, of any shape.
        exact: take the conjugate that belongs to ``g``, ``2 - 2 exp(v' / 2)``, where the code has another one (neyman).
    """
    if exact and divergence == "neyman":
        return -2 * torch.expm1(drawn / 2)
    return DIVERGENCES[divergence][1](drawn)


class FDivergence:
    """Maximise an f-divergence between given and drawn labels: `-g(v) + f*(g(v'))`, `v = p_y(x)`, `v' = p_y2(x1)`.

    Follows the official code (weijiaheng/Robust-f-divergence-measures, 93d9efe616b7) of Wei and Liu, ICLR 2021, without bias
    correction: drawn inputs and labels are those of `peer`, with a second forward pass in train mode; the argument of `g` is
    the probability itself. The authors advise against `reverse_kl`, `squared_hellinger` and `neyman`. `jeffrey` is a series.
    The second term is of the batch as a whole: weights of samples (RRM) act on the first.

    Deviations: the code's conjugate of `neyman`, `2 - 2 sqrt(1 - v')`, is not that of its `g`, and its slope at 1 is infinite:
    `1 - v'` is clamped at 1e-6 (`exact` takes the conjugate). On CIFAR the code starts from a model that was trained by cross
    entropy for 240 epochs (its own warm-up fails there); here the first `warmup` epochs of the trial are cross entropy.
    It chooses the epoch by the divergence on noisy validation, here the mean over the epoch's batches is recorded.

    By data set, by the code: CIFAR after the warm-up 100 epochs at 0.01, a tenth at 30, 60, 90, weight decay 5e-4, a new
    optimizer every epoch, `eps = 1e-5` for CIFAR-100; MNIST and Fashion-MNIST without warm-up 80 epochs of Adam at 1e-3, 5e-4
    from epoch 21; Clothing1M 0.002, weight decay 1e-3, 40 epochs.

    Args:
        divergence: by name.
        warmup: epochs of cross entropy before.
        eps: added to probabilities; 1e-5 for CIFAR-100.
        exact: of `neyman`, the conjugate of its `g`.
        reset_optimizer: whether momentum and Adam's moments start anew in every epoch after the warm-up; not on MNIST.
    """

    declares = Declares(views=("weak",), whole_batch="always", refuses=REFUSES)

    def __init__(
        self,
        divergence: Divergence = "total_variation",
        warmup: Annotated[int, Ge(0)] = 0,
        eps: NonNegative = 0.0,
        exact: bool = False,
        reset_optimizer: bool = True,
    ) -> None:
        self.divergence = divergence
        self.warmup = warmup
        self.eps = eps
        self.exact = exact
        self.reset_optimizer = reset_optimizer
        self.peers = Peers()
        self.warming = False

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) first terms of (B, K) logits; cross entropy in the warm-up of a trial."""
        if self.warming:
            return cross_entropy(outputs, classes(targets, "f_divergence"))
        return -DIVERGENCES[self.divergence][0](self.probabilities(outputs, targets))

    def probabilities(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(B,) ``p_y + eps``."""
        return of_target(outputs.softmax(1), targets, "f_divergence") + self.eps

    def setup(self, run: Run) -> None:
        """The mean of the divergence over an epoch."""
        self.means = EpochMean(("f_divergence.estimate",), run.device)

    def epoch_start(self, run: Run) -> None:
        """Whether this epoch is one of the warm-up; after it a new optimizer."""
        self.warming = run.epoch <= self.warmup
        self.means.reset()
        if self.reset_optimizer and not self.warming:
            run.optimizer.state.clear()

    def after_losses(self, run: Run, step: Step) -> None:
        """Adds the term of drawn samples to what is differentiated."""
        if self.warming or step.phase not in ("train", "again"):
            return
        drawn = self.probabilities(*self.peers.outputs(run, step))
        term = conjugate_term(self.divergence, drawn, self.exact).mean()
        if step.phase == "train":
            assert step.losses is not None
            self.means.add(-step.losses.mean() - term)
        step.penalty = term if step.penalty is None else step.penalty + term

    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """Mean of the divergence over the epoch's batches, once the warm-up is over."""
        return {} if self.warming else self.means.means()

    def state_dict(self) -> dict[str, Any]:
        """Whether the epoch is one of the warm-up, and the mean so far."""
        return {"warming": self.warming, "means": self.means.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.warming = bool(state["warming"])
        self.means.load_state_dict(state["means"])
