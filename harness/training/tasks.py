"""What a task is in tensors: which one data pose, and what a method's outputs mean in it. Facts are in :mod:`harness.tasks`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from torch import Tensor
from torch.nn import functional

Task = Literal["classification", "regression", "multilabel"]


def task_of(targets: Tensor, num_classes: int | None) -> Task:
    """``regression`` without classes; ``multilabel`` where a sample has a row of labels, else ``classification``."""
    if num_classes is None:
        return "regression"
    return "classification" if targets.ndim == 1 else "multilabel"


PREDICTIONS: Mapping[Task, Callable[[Tensor], Tensor]] = {
    "classification": lambda outputs: outputs.log_softmax(1),
    "regression": lambda outputs: outputs,
    "multilabel": functional.logsigmoid,
}
"""What is predicted by a network's outputs (B, K): log-probabilities of classes or of labels, or the outputs themselves."""
