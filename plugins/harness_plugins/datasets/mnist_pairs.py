"""Two real MNIST digits side by side: the smallest real data set in which a sample has several labels. No download."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness import DataSplits, Declares, LabelledData
from harness.parameters import Count
from harness_plugins.datasets.files import describe
from harness_plugins.datasets.mnist5k import mnist5k

DIGITS = 10


@describe(Declares(tasks=("multilabel",), classes=DIGITS))
def mnist_pairs(pairs: Count = 4000) -> DataSplits:
    """Pairs of MNIST digits (28 x 56) with ten labels: which digits the image shows, one or two of them.

    Training pairs are made of the training images of `mnist5k`, 1,000 test pairs of its test images, so that no digit is
    in both. The pairs are fixed: every seed of a suite has the same ones.

    Args:
        pairs: training pairs; 4,000 use every training image twice, once on each side.
    """
    digits = mnist5k()
    rng = np.random.default_rng(0)
    return DataSplits(_paired(digits.train, pairs, rng), _paired(digits.test, len(digits.test), rng))


def _paired(data: LabelledData, pairs: int, rng: np.random.Generator) -> LabelledData:
    """Pairs of some digits; each side runs through all of them in an order of its own, again and again."""
    assert isinstance(data.inputs, Tensor)
    rounds = -(-pairs // len(data))
    left, right = (
        torch.from_numpy(np.concatenate([rng.permutation(len(data)) for _ in range(rounds)])[:pairs]) for _ in range(2)
    )
    shown = [torch.nn.functional.one_hot(data.targets[side], DIGITS) for side in (left, right)]
    images = torch.cat([data.inputs[left], data.inputs[right]], dim=3)
    return LabelledData(images, shown[0] | shown[1], DIGITS, data.class_names)
