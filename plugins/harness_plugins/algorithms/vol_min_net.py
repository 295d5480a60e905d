"""VolMinNet (Li et al., ICML 2021): a transition matrix is learnt with the network, and kept as small as it can be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from harness import Declares, Run, Step, hookimpl
from harness.parameters import NonNegative, Positive
from harness_plugins.algorithms.forward import REFUSES, TWICE, forward_corrected

NAME = "vol_min_net"


def learnt_matrix(weights: Tensor) -> Tensor:
    """(K, K) ``T``: the sigmoid of the weights off the diagonal, 1 on it, rows divided by their sums."""
    scores = weights.sigmoid().diagonal_scatter(weights.new_ones(len(weights)))
    return scores / scores.sum(1, keepdim=True)


def log_volume(matrix: Tensor) -> Tensor:
    """``log |det T|``, a scalar; 0 without gradient for a singular matrix, which has no volume to make smaller."""
    singular = torch.linalg.slogdet(matrix.detach()).logabsdet.isneginf()
    # where() must choose the matrix, not the value: the gradient of a singular one is not a number even when masked
    safe = torch.where(singular, torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device), matrix)
    volume: Tensor = torch.linalg.slogdet(safe).logabsdet
    return volume


class Weights(nn.Module):
    """``w``, (K, K), from which the matrix is made."""

    def __init__(self, num_classes: int, start: float) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.full((num_classes, num_classes), start))


class VolMinNet:
    """Loss of `T' p`, with T learnt beside the network under `lam log |det T|` (Li et al., 2021).

    Follows the official code (xuefeng-li1/Provably-end-to-end-label-noise-learning-without-anchor-points, 06e4167e054c): w starts
    at `-c` and steps with the network, by an optimizer of its own without weight decay; prediction is by the network itself.
    Works with every loss that `forward` works with. Nothing is clamped but a logarithm of 0. w's learning rate follows the
    trial's schedule. The code chooses the epoch of the lowest loss on noisy validation.

    By data set: MNIST LeNet, 60 epochs, `optimizer = "adam"`; CIFAR-10 ResNet-18, CIFAR-100 ResNet-34, `c = 4.5` and
    `optimizer = "adam"`, both 80 epochs, a tenth after 30 and 60. SGD 0.01, momentum 0.9, weight decay 1e-4 for the network.

    Args:
        lam: weight of the logarithm of the volume.
        c: w starts at `-c`: 2, and 4.5 for 100 classes; the diagonal of T is then about 0.48.
        lr: of w.
        optimizer: of w: `sgd` with momentum 0.9, or `adam`.
    """

    declares = Declares(refuses={**REFUSES, "forward": TWICE})

    def __init__(
        self,
        lam: NonNegative = 1e-4,
        c: Positive = 2.0,
        lr: Positive = 0.01,
        optimizer: Literal["sgd", "adam"] = "sgd",
    ) -> None:
        self.lam = lam
        self.c = c
        self.optimizer: dict[str, float | str] = {"name": optimizer, "lr": lr}
        if optimizer == "sgd":
            self.optimizer["momentum"] = 0.9

    def setup(self, run: Run) -> None:
        """w, and its optimizer under the trial's schedule."""
        run.new_head(NAME, "", lambda _: Weights(run.num_outputs, -self.c), optimizer=self.optimizer)

    def weights(self, run: Run) -> nn.Parameter:
        """``w``."""
        found: nn.Parameter = run.heads[NAME].weights  # type: ignore[assignment]
        return found

    def after_forward(self, run: Run, step: Step) -> None:
        """Logits of noisy labels in every pass of training, and the volume beside their loss."""
        assert step.outputs is not None
        weights = self.weights(run)
        if step.phase == "again":
            weights.grad = None  # as with the network's own, the gradient of the second pass is the one that counts
        matrix = learnt_matrix(weights)
        step.outputs = forward_corrected(step.outputs, matrix)
        if self.lam and step.phase in ("train", "again"):
            volume = self.lam * log_volume(matrix)
            step.penalty = volume if step.penalty is None else step.penalty + volume

    @hookimpl(tryfirst=True)
    def after_step(self, run: Run, step: Step) -> None:
        """A step of w."""
        optimizer = run.nets.trainee(NAME).optimizer
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        run.nets.stepped.add(NAME)

    @torch.no_grad()
    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """Mean of the matrix' diagonal, the share of labels taken to be right, and the logarithm of its volume."""
        matrix = learnt_matrix(self.weights(run).detach().double())
        volume = float(log_volume(matrix))
        return {
            f"{NAME}.diagonal": float(matrix.diagonal().mean()),
            f"{NAME}.log_volume": volume if math.isfinite(volume) else 0.0,
        }
