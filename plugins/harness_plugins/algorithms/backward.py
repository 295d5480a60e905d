"""Backward loss correction (Patrini et al., CVPR 2017, Theorem 1): the losses of all classes, weighted by the inverse
noise."""

from __future__ import annotations

import torch
from torch import Tensor

from harness import Declares, HarnessError, Run, Step
from harness.parameters import Count
from harness_plugins.algorithms.transition import Matrix, TransitionCorrection

CLIP = 1e-7
WORST_CONDITION = 1e6
MEAN = "a corrected loss, below 0 without bound, stands for a sample in the mean over its labels and not by itself"


def backward_corrected(outputs: Tensor, targets: Tensor, inverse: Tensor) -> Tensor:
    """``sum_k (T^-1)[y, k] * -log clip(p_k)``: per sample, (B,), with the clean loss as its mean over noisy labels.

    Args:
        outputs: (B, K) logits.
        targets: (B,) int64 noisy classes, or (B, K) probabilities of them.
        inverse: (K, K) ``T^-1``.
    """
    classes = -outputs.softmax(1).clamp(CLIP, 1 - CLIP).log()
    rows = inverse[targets] if targets.ndim == 1 else targets @ inverse
    return (rows * classes).sum(1)


class BackwardCorrection(TransitionCorrection):
    """`T^-1 l` for cross entropy `l`: an unbiased estimate of the clean loss (Patrini et al., 2017, Theorem 1).

    As in the official code p is clipped to [1e-7, 1 - 1e-7]: weights may be negative, so without it the loss has no
    lower bound. Before an estimate is there, the loss is plain cross entropy of those probabilities.

    Args:
        matrix: `noise.matrix`: the true one (an oracle); `estimated`: by Patrini's anchor points, after a warm-up
            without correction; or the matrix itself, rows are clean classes.
        warmup: epochs of the warm-up. They are the first of the trial's, at most half of all; with `restart` they come
            on top, at most as many as the trial has.
        restart: `true`: after the estimate all starts anew from fresh weights, as in the paper and the official code
            (which train a full schedule for the estimate); the trial's epochs count from there, and the warm-up shows
            in the seconds of epoch 1. `false`: training goes on from the weights of the warm-up.
    """

    declares = Declares(
        uses_matrix=True,
        replaces="ce",
        soft_targets=True,
        refuses=dict.fromkeys(("rrm", "aux"), MEAN),
        later=("restart",),
    )
    name = "backward"

    def __init__(self, matrix: Matrix = "noise.matrix", warmup: Count = 10, restart: bool = False) -> None:
        super().__init__(matrix, warmup, restart)
        self._inverse: Tensor | None = None

    def setup(self, run: Run) -> None:
        """Checks a given matrix; before an estimate the identity stands in."""
        self._inverse = torch.eye(run.num_outputs, device=run.device, dtype=run.dtype)
        super().setup(run)

    def use(self, matrix: Tensor) -> None:
        """Takes a matrix into use.

        Raises:
            HarnessError: when it has no useful inverse.
        """
        super().use(matrix)
        if not float(torch.linalg.cond(matrix)) < WORST_CONDITION:
            raise HarnessError("has no useful inverse", "algorithms.backward.matrix", "use the algorithm 'forward'")
        self._inverse = torch.linalg.inv(matrix).to(self.device, self.dtype)

    def compute_losses(self, run: Run, step: Step) -> bool:
        """Replaces cross entropy."""
        assert step.outputs is not None and self._inverse is not None
        step.losses = backward_corrected(step.outputs, step.targets, self._inverse)
        return True
