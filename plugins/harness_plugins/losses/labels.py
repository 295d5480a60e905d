"""Targets as losses take them: classes (B,), or class probabilities (B, K) where a formula is defined for them."""

from __future__ import annotations

import torch
from torch import Tensor

from harness import HarnessError


def classes(targets: Tensor, loss: str) -> Tensor:
    """(B,) int64 classes, for a loss that is defined for one class per sample.

    Args:
        targets: (B,) integer classes.
        loss: registered name of the loss, for the error.

    Raises:
        HarnessError: when class probabilities arrive, as mixup makes them.
    """
    if targets.is_floating_point() or targets.ndim != 1:
        kind = str(targets.dtype).removeprefix("torch.")
        raise HarnessError(
            f"takes (B,) classes, got {kind} targets of shape {tuple(targets.shape)}",
            f"losses.{loss}",
            "use a loss that takes soft targets, such as 'ce', 'mae' or 'mse'",
        )
    return targets.long()


def distribution(outputs: Tensor, targets: Tensor, loss: str) -> Tensor:
    """(B, K) class probabilities in the type of ``outputs``: one-hot rows for classes, soft targets as they are.

    Args:
        outputs: (B, K) logits, for shape, type and device.
        targets: (B,) classes or (B, K) probabilities.
        loss: registered name of the loss, for the error.

    Raises:
        HarnessError: when soft targets have another shape than ``outputs``.
    """
    if targets.is_floating_point():
        if targets.shape != outputs.shape:
            raise HarnessError(
                f"takes (B,) classes or {tuple(outputs.shape)} probabilities, got {tuple(targets.shape)}",
                f"losses.{loss}",
                "give int64 classes or one probability for each class",
            )
        return targets.to(outputs.dtype)
    return torch.zeros_like(outputs).scatter_(1, classes(targets, loss)[:, None], 1.0)


def of_target(values: Tensor, targets: Tensor, loss: str) -> Tensor:
    """(B,) the entries of (B, K) ``values`` that belong to the classes ``targets``."""
    return values.gather(1, classes(targets, loss)[:, None]).squeeze(1)


def expected(values: Tensor, targets: Tensor, loss: str) -> Tensor:
    """(B,) ``sum_k t_k values_k``: the target's entry for classes, the mean under soft targets."""
    if targets.is_floating_point():
        return (distribution(values, targets, loss) * values).sum(1)
    return of_target(values, targets, loss)
