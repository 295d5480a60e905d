"""Peer loss (Liu and Guo, ICML 2020): cross entropy, less that of samples under the labels of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from harness import Declares, HarnessError, Run, Step
from harness.parameters import NonNegative
from harness_plugins.losses.labels import of_target
from harness_plugins.losses.peers import REFUSES, Peers
from harness_plugins.planned_rates import PlannedRates

EPSILON = 1e-5
Piece = tuple[float, float, int]
ALPHAS: Mapping[str, Sequence[Piece]] = {
    "cifar10": ((0, 0, 20), (0, 0.1, 20), (1, 2, 50), (2, 2.5, 50), (2.5, 3.3, 100), (3.3, 5, 100)),
    "cifar10_sparse": ((0, 0, 20), (0, 1, 20), (1, 2, 50), (2, 5, 50), (5, 10, 100), (10, 20, 100)),
    "cifar100": ((0, 0, 100), (0.95, 0.95, 1)),
    "cifar100_sparse": ((0, 0, 110), (0, 2, 20), (2, 10, 70), (10, 20, 50)),
    "mnist": ((0, 0, 120), (0, 1, 180)),
}
"""The official schedules of alpha: start, end and epochs of each linear piece."""
Schedule = (
    NonNegative | Literal["cifar10", "cifar10_sparse", "cifar100", "cifar100_sparse", "mnist"] | list[list[float]]
)


def smoothed_cross_entropy(outputs: Tensor, targets: Tensor, eps: float = EPSILON) -> Tensor:
    """``-log(p_y + eps)`` per sample.

    Args:
        outputs: (B, K) logits.
        targets: (B,) int64 classes.
        eps: added to the probability.
    """
    return -(of_target(outputs.softmax(1), targets, "peer") + eps).log()


def expected_peer(outputs: Tensor, prior: Tensor, eps: float = EPSILON) -> Tensor:
    """``sum_k prior_k (-log(p_k + eps))`` per sample, (B,): the peer term under labels drawn from ``prior`` (K,)."""
    return -(outputs.softmax(1) + eps).log() @ prior


def scheduled_alpha(pieces: Sequence[Sequence[float]], epoch: int) -> float:
    """Alpha in an epoch, from 1: each piece goes evenly from its start to its end, both included; after the last it stays.

    Args:
        pieces: ``(start, end, epochs)`` each.
        epoch: from 1.
    """
    done = epoch - 1
    for start, end, epochs in pieces:
        if done < epochs:
            return float(start) if epochs == 1 else start + (end - start) * done / (epochs - 1)
        done -= int(epochs)
    return float(pieces[-1][1])


def label_prior(targets: Tensor, num_classes: int, dtype: torch.dtype) -> Tensor:
    """(K,) shares of the classes among (N,) labels; 0 for a class without samples."""
    return torch.bincount(targets, minlength=num_classes).to(dtype) / len(targets)


class PeerLoss:
    """`CE(z(x), y) - alpha CE(z(x1), y2)`, the label of the second term from another sample (Liu and Guo, 2020).

    Follows the official code (weijiaheng/Multi-class-Peer-Loss-functions, fba9eb6d2b62): `CE = -log(p + 1e-5)`; each step
    draws as many inputs as its batch has, augmented, and the labels of as many others; a second forward pass, in train mode,
    so that statistics of batch normalisation move twice; alpha in linear pieces, and the learning rate `1 / (1 + alpha)`
    times the schedule's (the paper: a constant alpha, and no such factor). Every epoch has a new optimizer. The second term
    is of the batch as a whole: weights of samples (RRM) act on the first.

    Deviations: where alpha is 0 there is no second pass; incomplete batches train (`last_batch = "drop"` leaves them out, as
    the code does); for CIFAR-100 the code goes on at epoch 100 from the model that was best on noisy validation, here from
    the last. Under `strong_augmentation` the peers are still seen by the setting's augmentation.

    By data set, by the code: CIFAR-10 `cifar10` (sparse noise `cifar10_sparse`), lr 0.1, a tenth every 40 of 300 epochs,
    weight decay 1e-4; CIFAR-100 `cifar100` (`cifar100_sparse`), 0.1 for 60, 0.01 for 40, 0.001 for 150 epochs, 5e-4; MNIST and
    Fashion-MNIST `mnist`, Adam at 1e-4, 300 epochs. Pre-activation ResNet-18; crop 4, flip, rotation by 15 degrees.

    Args:
        alpha: a number; an official schedule by name; or pieces `[start, end, epochs]`, after which it stays.
        peer: `drawn`, or `expected`: the mean over labels by their shares, of the batch itself, with no second pass
            (CORES, CAL).
        reset_optimizer: whether momentum and Adam's moments start anew in every epoch.
    """

    declares = Declares(views=("weak",), whole_batch="always", refuses=REFUSES)

    def __init__(
        self,
        alpha: Schedule = "cifar10",
        peer: Literal["drawn", "expected"] = "drawn",
        reset_optimizer: bool = True,
    ) -> None:
        self.pieces = checked_pieces(alpha)
        self.drawn = peer == "drawn"
        self.reset_optimizer = reset_optimizer
        self.peers = Peers()
        self.rates = PlannedRates()

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """(B,) first terms of (B, K) logits."""
        return smoothed_cross_entropy(outputs, targets)

    def alpha(self, run: Run) -> float:
        """Alpha in the epoch under way."""
        return scheduled_alpha(self.pieces, run.epoch)

    def setup(self, run: Run) -> None:
        """The shares of the noisy labels."""
        self.prior = label_prior(run.targets, run.num_outputs, run.dtype)

    def epoch_start(self, run: Run) -> None:
        """A new optimizer, and the learning rate over `1 + alpha`."""
        if self.reset_optimizer:
            run.optimizer.state.clear()
        self.rates.scale(run.network, 1 / (1 + self.alpha(run)))

    def after_losses(self, run: Run, step: Step) -> None:
        """Takes the peer term away from what is differentiated."""
        alpha = self.alpha(run)
        if not alpha or step.phase not in ("train", "again"):
            return
        if self.drawn:
            term = smoothed_cross_entropy(*self.peers.outputs(run, step)).mean()
        else:
            assert step.outputs is not None
            term = expected_peer(step.outputs, self.prior).mean()
        step.penalty = -alpha * term if step.penalty is None else step.penalty - alpha * term

    def epoch_end(self, run: Run) -> None:
        """The schedule's learning rate again."""
        self.rates.restore(run.network)

    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """Alpha of the epoch."""
        return {"peer.alpha": self.alpha(run)}

    def state_dict(self) -> dict[str, Any]:
        """The schedule's learning rate."""
        return self.rates.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.rates.load_state_dict(state)


def checked_pieces(alpha: float | str | list[list[float]]) -> Sequence[Sequence[float]]:
    """The linear pieces of a schedule as a suite writes it.

    Raises:
        HarnessError: for a piece that is no start, end and number of epochs.
    """
    if isinstance(alpha, str):
        return ALPHAS[alpha]
    if isinstance(alpha, (int, float)):
        return ((alpha, alpha, 1),)
    for piece in alpha:
        if len(piece) != 3 or min(piece) < 0 or piece[2] < 1 or piece[2] != int(piece[2]):
            raise HarnessError(
                f"has the piece {piece}", "losses.peer.alpha", "give [start, end, epochs], such as [0.0, 1.0, 20]"
            )
    if not alpha:
        raise HarnessError("has no piece", "losses.peer.alpha", "give [[start, end, epochs], ...] or a number")
    return alpha
