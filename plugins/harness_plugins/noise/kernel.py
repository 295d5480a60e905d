"""Label noise by a given kernel of confusions, such as Table 9 of the RRM paper."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from harness import Declares, HarnessError, LabelledData
from harness.parameters import NonNegative, Rate
from harness_plugins.noise.matrix import Count, classes_of, corrupt_by_matrix

RRM_TABLE9: tuple[tuple[int, ...], ...] = (
    (0, 1, 1, 2, 0, 1, 5, 0, 2, 1),
    (0, 0, 3, 1, 0, 1, 1, 0, 3, 0),
    (3, 2, 0, 8, 1, 0, 3, 6, 8, 0),
    (0, 0, 1, 0, 0, 1, 0, 1, 5, 0),
    (3, 1, 2, 2, 0, 2, 6, 1, 3, 7),
    (3, 1, 0, 37, 1, 0, 9, 0, 6, 2),
    (4, 3, 1, 1, 1, 3, 0, 0, 4, 0),
    (2, 9, 8, 5, 0, 0, 0, 0, 8, 8),
    (3, 1, 3, 10, 3, 2, 2, 3, 0, 1),
    (3, 8, 0, 10, 8, 8, 1, 4, 5, 0),
)
"""The confusions of an imperfect MNIST classifier, as counts. The printed fractions of Table 9 are these counts over
their row's sum, rounded to four digits, and so sum to 0.9997-1.0001."""
KERNELS: dict[str, tuple[tuple[int, ...], ...]] = {"rrm_table9": RRM_TABLE9}


def kernel_matrix(rate: float, kernel: np.ndarray) -> np.ndarray:
    """``T = (1 - C) I + C kernel``, (K, K), of the RRM paper's appendix D.

    Args:
        rate: C, the share of samples that is contaminated.
        kernel: (K, K) rows over wrong classes; scaled to sum to 1.
    """
    rows: np.ndarray = kernel / kernel.sum(axis=1, keepdims=True)
    matrix: np.ndarray = (1 - rate) * np.eye(len(kernel)) + rate * rows
    return matrix


class Kernel:
    """A share C of all samples, chosen uniformly, draws its label from the kernel's row of the true class.

    Args:
        rate: C in [0, 1].
        kernel: a named kernel (`rrm_table9`: appendix D, for the ten digits), or K rows of K weights each; a row is
            scaled to sum to 1. A suite's setting reads a list of lists as an axis: wrap it in one more list there.
        count: `binomial` (each sample by itself) or `exact` (`int(C N)` samples over the whole set, as the paper).
    """

    declares = Declares(classes_for={f"kernel={name}": len(rows) for name, rows in KERNELS.items()})

    def __init__(
        self,
        rate: Rate,
        kernel: Literal["rrm_table9"] | list[list[NonNegative]] = "rrm_table9",
        count: Count = "binomial",
    ) -> None:
        rows = KERNELS[kernel] if isinstance(kernel, str) else kernel
        if not rows or any(len(row) != len(rows) for row in rows):
            raise HarnessError("is not square", "noise.kernel.kernel", "give K rows of K numbers")
        self.rate = rate
        self.kernel = np.asarray(rows, dtype=np.float64)
        self.count: Count = count
        if not (self.kernel.sum(axis=1) > 0).all():
            raise HarnessError(
                "has a row of zeros", "noise.kernel.kernel", "put a 1 on its diagonal to keep that class"
            )

    def __call__(self, data: LabelledData, *, rng: np.random.Generator) -> Tensor:
        """(N,) noisy classes."""
        return corrupt_by_matrix(data.targets, self._matrix(data), rng, rate=self.rate, count=self.count)

    def transition_matrix(self, data: LabelledData) -> Tensor:
        """(K, K), rows are the clean class."""
        return torch.from_numpy(self._matrix(data))

    def _matrix(self, data: LabelledData) -> np.ndarray:
        classes = classes_of(data, "kernel")
        if classes != len(self.kernel):
            raise HarnessError(
                f"the kernel is for {len(self.kernel)} classes, the data have {classes}",
                "noise.kernel.kernel",
                "give another",
            )
        return kernel_matrix(self.rate, self.kernel)
