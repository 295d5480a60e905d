"""L_DMI (Xu et al., 2019): minus the log determinant of the joint matrix of labels and predictions in a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

from harness import Declares, Run
from harness.parameters import NonNegative
from harness_plugins.losses.ce import cross_entropy
from harness_plugins.losses.labels import classes, distribution

Epochs = Annotated[int, Ge(0)]


def joint_matrix(outputs: Tensor, targets: Tensor, divide: bool = True) -> Tensor:
    """(K, K) ``Y^T p``, rows by label; divided by B it is the joint distribution of label and predicted class.

    Args:
        outputs: (B, K) logits; taken to float32 where they are of a shorter type.
        targets: (B,) int64 classes.
        divide: whether to divide by B.
    """
    logits = outputs if outputs.dtype == torch.float64 else outputs.float()
    matrix = distribution(logits, classes(targets, "dmi"), "dmi").T @ logits.softmax(1)
    return matrix / len(outputs) if divide else matrix


def determinant_mutual_information(outputs: Tensor, targets: Tensor, eps: float = 0.0, divide: bool = True) -> Tensor:
    """``-log(|det M| + eps)`` of a batch, with ``M`` the joint matrix of labels and predictions.

    With ``eps = 0`` it is computed by ``slogdet``; a singular ``M``, which a batch without some class has, then gives
    loss 0 and gradient 0, as if the batch were skipped (the authors' eps gives ``-log(eps)`` and gradient 0).

    Args:
        outputs: (B, K) logits.
        targets: (B,) int64 classes.
        eps: added to the determinant; 1e-3 in the authors' code, none in the paper.
        divide: whether ``M`` is divided by B; without eps that only adds a constant.

    Returns:
        A scalar.
    """
    matrix = joint_matrix(outputs, targets, divide)
    if eps > 0:
        determinant: Tensor = torch.linalg.det(matrix)
        return -(determinant.abs() + eps).log()
    singular = torch.linalg.slogdet(matrix.detach()).logabsdet.isneginf()
    # where() must choose the matrix, not the loss: the gradient of a singular one is not a number even when masked
    safe = torch.where(singular, torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device), matrix)
    log_determinant: Tensor = torch.linalg.slogdet(safe).logabsdet
    return -log_determinant


class DeterminantMutualInformation:
    """L_DMI: `-log |det M|`, `M = Y^T p / B`, one number per batch, after `warmup` epochs of CE (Xu et al., 2019).

    Deviations: `slogdet` in place of `log(|det| + 1e-3)`, whose gradient vanishes with 1/B (the determinant of a 10 x
    10 joint matrix is far below 1e-3); the CIFAR-10 code is `eps = 1e-3, divide = false`. The official protocol
    starts from a network trained with CE and goes on with SGD at 1e-6 on full batches of 256; here the first `warmup`
    epochs are CE in the same trial, reduced in a short last batch as any loss is, and the drop of the learning rate is
    for the schedule to make. After them a short last batch counts nothing, as in the official CIFAR-10 code, nor does a
    batch that misses a class, so that with many classes and small batches nothing trains (CIFAR-100 at batch size 128);
    one that nearly does has a gradient without bound: take batches of hundreds, a small learning rate, or clip.

    Args:
        eps: added to the determinant; 0 takes `slogdet`.
        divide: whether `M` is divided by the batch size.
        warmup: epochs of cross entropy before; outside a trial there is none.
    """

    declares = Declares(per_batch=True)

    def __init__(self, eps: NonNegative = 0.0, divide: bool = True, warmup: Epochs = 0) -> None:
        self.eps = eps
        self.divide = divide
        self.warmup = warmup
        self.epoch = 0
        self.full_batch = 0

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor | None = None) -> Tensor:
        """A scalar for (B, K) logits."""
        if 0 < self.epoch <= self.warmup:
            return cross_entropy(outputs, classes(targets, "dmi")).mean()
        if len(outputs) < self.full_batch and torch.is_grad_enabled():
            return 0.0 * outputs.sum()
        return determinant_mutual_information(outputs, targets, self.eps, self.divide)

    def epoch_start(self, run: Run) -> None:
        """Notes the epoch, by which the warm-up ends, and the size of a full batch."""
        self.epoch = run.epoch
        self.full_batch = min(run.batch_size, run.num_samples)

    def state_dict(self) -> dict[str, Any]:
        """The epoch and the batch size: a trial that resumes within an epoch does not start it again."""
        return {"epoch": self.epoch, "full_batch": self.full_batch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.epoch = int(state["epoch"])
        self.full_batch = int(state["full_batch"])
