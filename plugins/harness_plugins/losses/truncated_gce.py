"""Truncated generalized cross entropy (Zhang and Sabuncu, 2018): samples with an improbable label stop counting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from harness import Declares, Run
from harness.parameters import Count, PositiveRate, Rate
from harness_plugins.losses.gce import box_cox
from harness_plugins.losses.labels import of_target
from harness_plugins.losses.sample_memory import SampleMemory

PASS_BATCH = 512


def truncated_generalized_cross_entropy(outputs: Tensor, targets: Tensor, q: float = 0.7, k: float = 0.5) -> Tensor:
    """``min(L_q(p_y), L_q(k))`` per sample: constant, without gradient, where ``p_y <= k`` (KPD paper, eq. 18).

    Args:
        outputs: (B, K) logits.
        targets: (B,) int64 classes.
        q: in (0, 1].
        k: the threshold, in [0, 1]; the KPD paper's tau.

    Returns:
        (B,) losses in [0, L_q(k)].
    """
    log_p = of_target(outputs.log_softmax(1), targets, "truncated_gce")
    return torch.where(log_p.exp() > k, box_cox(log_p, q), (1 - k**q) / q)


def pruning_weights(outputs: Tensor, targets: Tensor, k: float = 0.5) -> Tensor:
    """(B,) 1 where ``p_y > k``, which is ``L_q(p_y) < L_q(k)`` for every q, else 0."""
    return (of_target(outputs.detach().softmax(1), targets, "truncated_gce") > k).to(outputs.dtype)


def pruned_generalized_cross_entropy(
    outputs: Tensor, targets: Tensor, weights: Tensor, q: float = 0.7, k: float = 0.5
) -> Tensor:
    """``w_i (L_q(p_y) - L_q(k))`` per sample, without a clamp of ``p_y``.

    Args:
        outputs: (B, K) logits.
        targets: (B,) int64 classes.
        weights: (B,) in {0, 1}, as :func:`pruning_weights` gives them.
        q: in (0, 1].
        k: the threshold, in [0, 1].

    Returns:
        (B,) losses in [-L_q(k), 1/q - L_q(k)]. Eq. 18 adds ``L_q(k)`` to each, which has no gradient.
    """
    log_p = of_target(outputs.log_softmax(1), targets, "truncated_gce")
    losses: Tensor = weights * (box_cox(log_p, q) - (1 - k**q) / q)
    return losses


class TruncatedGeneralizedCrossEntropy:
    """Truncated generalized cross entropy: `w_i (L_q(p_y) - L_q(k))`, `w_i = 1[p_y > k]` (Zhang and Sabuncu, 2018).

    In mode `prune` all weights are 1 until epoch `start_epoch`; from there on, before every epoch that `every` divides,
    one pass over the unaugmented training set in eval mode sets them anew, by the outputs that the stack gives to the
    loss (under forward correction those of noisy labels, as in training). In mode `clamp` every batch takes
    `min(L_q(p_y), L_q(k))`, eq. 18 of the KPD paper to the letter: from scratch with many classes each `p_y` lies below
    `k` and nothing trains, which is why pruning starts late.

    Deviations: the authors' code is not public; the PyTorch port (AlanChou/Truncated-Loss) is followed in formula and
    schedule (its 0-based `epoch + 1` is our epoch), but it prunes with the checkpoint of the best *test* accuracy, on
    augmented inputs. Here the current network prunes: clean test labels are out of reach of a method by design, and
    so is the choice by validation.

    Args:
        q: in (0, 1]; 0.7 in the paper.
        k: the threshold on `p_y`; 0.5 in the port. The KPD paper does not give its tau.
        start_epoch: first epoch that may prune, from 1; 40 for CIFAR-10, 80 for CIFAR-100.
        every: epochs between prunings; 10 in the port.
        mode: `prune`, or `clamp` per batch; `start_epoch` and `every` are for `prune`.
    """

    declares = Declares(sample_state=True)

    def __init__(
        self,
        q: PositiveRate = 0.7,
        k: Rate = 0.5,
        start_epoch: Count = 40,
        every: Count = 10,
        mode: Literal["prune", "clamp"] = "prune",
    ) -> None:
        self.q = q
        self.k = k
        self.start_epoch = start_epoch
        self.every = every
        self.mode = mode
        self.weights = SampleMemory(1.0)
        self._pruning = False

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) losses of (B, K) logits; samples without an index have weight 1."""
        if self.mode == "clamp":
            return truncated_generalized_cross_entropy(outputs, targets, self.q, self.k)
        if self._pruning and index is not None:
            if not torch.is_grad_enabled():  # a pass for the gradient of the inputs comes before the one that counts
                self.prune(outputs, targets, index)
            index = None
        return pruned_generalized_cross_entropy(outputs, targets, self.weights.read(index, outputs), self.q, self.k)

    def prune(self, outputs: Tensor, targets: Tensor, index: Tensor) -> None:
        """Set the weights of the samples ``index`` from their (B, K) logits."""
        self.weights.write(index, pruning_weights(outputs, targets, self.k))

    def setup(self, run: Run) -> None:
        """Weights (N,) of 1."""
        self.weights.allocate(run.num_samples, run.device, run.dtype)

    def epoch_start(self, run: Run) -> None:
        """Prunes when the schedule says so."""
        if self.mode == "prune" and run.epoch >= self.start_epoch and run.epoch % self.every == 0:
            self._pruning = True
            for index, inputs in run.source.ordered(PASS_BATCH):
                run.losses(inputs, run.targets.index_select(0, index), index, "score")
            self._pruning = False

    def epoch_end(self, run: Run) -> None:
        """Scores pruned samples as corrupted."""
        if self.mode == "prune":
            run.score_samples("truncated_gce.pruned", 1 - self.weights.data)

    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """Share of samples that do not count."""
        return {"truncated_gce.pruned_share": float((1 - self.weights.data).mean())} if self.mode == "prune" else {}

    def state_dict(self) -> dict[str, Any]:
        """The weights."""
        return {"weights": self.weights.data}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.weights.load(state["weights"])
