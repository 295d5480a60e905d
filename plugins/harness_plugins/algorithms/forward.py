"""Forward loss correction (Patrini et al., CVPR 2017, Theorem 2): predictions are passed through the noise."""

from __future__ import annotations

import torch
from torch import Tensor

from harness import Declares, Run, Step
from harness.parameters import Count
from harness_plugins.algorithms.transition import Matrix, TransitionCorrection

TWICE = "each corrects for all of the label noise, which would be taken away twice"
LOGITS = "it changes with a constant added to the logits, and log-probabilities fix that constant at will"
REFUSES = {
    **dict.fromkeys(("backward", "sop", "sop_plus", "cores2"), TWICE),
    **dict.fromkeys(("ldr_kl", "aldr_kl"), LOGITS),
    "dmi": "det(M T) = det(M) det(T), so that a matrix adds a constant to it and no gradient",
}


def forward_corrected(outputs: Tensor, matrix: Tensor) -> Tensor:
    """``log(T' softmax(z))``: log-probabilities (B, K) of noisy labels, which serve as logits to any loss.

    Args:
        outputs: (B, K) logits of clean classes.
        matrix: (K, K) ``T``, rows are clean classes.
    """
    noisy = outputs.softmax(1) @ matrix
    return noisy.clamp_min(torch.finfo(noisy.dtype).tiny).log()


class ForwardCorrection(TransitionCorrection):
    """Loss of `T' p` in place of `p`: the network predicts clean labels, the loss sees noisy ones (Patrini, 2017).

    Prediction is by the network itself. The official code clips p to [1e-7, 1 - 1e-7], where its gradient is then zero;
    here only a logarithm of 0 is guarded. Works with every loss that a constant added to the logits does not change,
    since log-probabilities are logits.

    Args:
        matrix: `noise.matrix`: the true one (an oracle); `estimated`: by Patrini's anchor points, after a warm-up
            without correction; or the matrix itself, rows are clean classes.
        warmup: epochs of the warm-up. They are the first of the trial's, at most half of all; with `restart` they come
            on top, at most as many as the trial has.
        restart: `true`: after the estimate all starts anew from fresh weights, as in the paper and the official code
            (which train a full schedule for the estimate); the trial's epochs count from there, and the warm-up shows
            in the seconds of epoch 1. `false`: training goes on from the weights of the warm-up.
    """

    declares = Declares(uses_matrix=True, refuses=REFUSES, later=("restart",))
    name = "forward"

    def __init__(self, matrix: Matrix = "noise.matrix", warmup: Count = 10, restart: bool = False) -> None:
        super().__init__(matrix, warmup, restart)
        self._matrix: Tensor | None = None

    def use(self, matrix: Tensor) -> None:
        """Takes a matrix into use."""
        super().use(matrix)
        self._matrix = matrix.to(self.device, self.dtype)

    def after_forward(self, run: Run, step: Step) -> None:
        """Logits of noisy labels, in every pass of training."""
        if self._matrix is not None:
            assert step.outputs is not None
            step.outputs = forward_corrected(step.outputs, self._matrix)
