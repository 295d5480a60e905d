"""The transition matrix of loss correction (Patrini et al., CVPR 2017): given, the noise's own, or estimated.

An estimate needs a network that was trained without correction. The paper and the official code train one to the end,
estimate, and train anew from fresh weights (``restart``); without ``restart`` training goes on from the weights that the
estimate was read from, which costs nothing but leaves the corrected network what the uncorrected one had learnt by heart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from harness import Declares, HarnessError, Run, hookimpl
from harness.parameters import NOISE_MATRIX
from harness.training.run import Prelude

Matrix = Literal["noise.matrix", "estimated"] | list[list[float]]
OUTLIERS = 0.97
MANY_CLASSES = 100


def estimate_matrix(probabilities: Tensor, quantile: float | None = OUTLIERS) -> Tensor:
    """Patrini's estimate: row ``i`` is the prediction at the sample that is most surely of class ``i``, normalised.

    Args:
        probabilities: (N, K) noisy-label predictions on the training inputs.
        quantile: samples whose probability of class ``i`` reaches this quantile ("higher" interpolation) are passed
            over as outliers; ``None`` passes over none. The official code takes 0.97, and none for CIFAR-100.

    Returns:
        (K, K), rows sum to 1. Deviation: the official code zeroes outliers in place, so that rows of later classes read
        zeros where an earlier class had an outlier; here rows are the predictions themselves.
    """
    candidates = probabilities
    if quantile is not None and len(probabilities) > 1:
        position = -int(-quantile * (len(probabilities) - 1) // 1)
        bound = probabilities.sort(0).values[position]
        below = probabilities.masked_fill(probabilities >= bound, -1.0)
        # where all samples tie, none lies below the quantile and the largest is taken
        candidates = torch.where(below.amax(0) < 0, probabilities, below)
    anchors = candidates.argmax(0)
    rows = probabilities[anchors]
    return rows / rows.sum(1, keepdim=True)


def checked_matrix(rows: list[list[float]], num_classes: int, owner: str) -> Tensor:
    """A written matrix as a (K, K) float64 tensor.

    Raises:
        HarnessError: when it is not K x K, has a negative entry, or a row that does not sum to 1.
    """
    where = f"algorithms.{owner}.matrix"
    if len(rows) != num_classes or any(len(row) != num_classes for row in rows):
        raise HarnessError(f"is not {num_classes} x {num_classes}", where, "give a row and a column for each class")
    matrix = torch.tensor(rows, dtype=torch.float64)
    if bool((matrix < 0).any()) or not torch.allclose(
        matrix.sum(1), torch.ones(num_classes, dtype=torch.float64), atol=1e-4
    ):
        raise HarnessError("has a row that is no distribution", where, "rows are clean classes and sum to 1")
    return matrix


class TransitionCorrection:
    """Life cycle of a correction's matrix: ``self.matrix`` is (K, K), or ``None`` while it is still to be estimated."""

    declares = Declares(uses_matrix=True)
    name = ""

    def __init__(self, matrix: Matrix, warmup: int, restart: bool) -> None:
        self.source = matrix
        self.warmup = warmup
        self.restart = restart
        self.matrix: Tensor | None = None

    def use(self, matrix: Tensor) -> None:
        """Take a matrix, (K, K) float64 on CPU, into use."""
        self.matrix = matrix

    def setup(self, run: Run) -> None:
        """Checks a given matrix, or asks for the training that an estimate needs."""
        if self.source == "estimated" and self.restart:
            run.train_before(Prelude(min(self.warmup, run.epochs), self.estimate, self.use))
        self.device, self.dtype = run.device, run.dtype
        if self.source == NOISE_MATRIX:
            raise HarnessError(
                "refers to the noise of a setting, and there is none",
                f"algorithms.{self.name}.matrix",
                "give a matrix or 'estimated'",
            )
        if isinstance(self.source, list):
            self.use(checked_matrix(self.source, run.num_outputs, self.name))

    @hookimpl(tryfirst=True)
    def epoch_end(self, run: Run) -> None:
        """Estimates the matrix once, when the warm-up is over, before other parts rank samples by the losses. With
        ``restart`` it is there before epoch 1."""
        if self.matrix is None and not self.restart and run.epoch >= max(1, min(self.warmup, run.epochs // 2)):
            self.use(self.estimate(run))

    @torch.no_grad()
    def estimate(self, run: Run) -> Tensor:
        """(K, K) float64 on CPU, from the predictions of the network as it is on the unaugmented training inputs."""
        with run.evaluating():
            predictions = torch.cat([run.predict(inputs).exp() for _, inputs in run.source.ordered(512)])
        quantile = None if run.num_outputs >= MANY_CLASSES else OUTLIERS
        return estimate_matrix(predictions.double(), quantile).cpu()

    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """Mean of the matrix' diagonal: the share of labels taken to be right."""
        return {} if self.matrix is None else {f"{self.name}.diagonal": float(self.matrix.diagonal().mean())}

    def state_dict(self) -> dict[str, Any]:
        """The matrix, once there is one."""
        return {} if self.matrix is None else {"matrix": self.matrix}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.matrix = None
        if "matrix" in state:
            self.use(state["matrix"].cpu())
