"""Synthetic linear regression with many outputs (the KPD paper, section 5.1)."""

from __future__ import annotations

import torch

from harness import DataSplits, Declares, LabelledData
from harness.parameters import Count
from harness_plugins.datasets.files import describe


@describe(Declares(tasks=("regression",)))
def linear_regression(
    train: Count = 100, test: Count = 100, features: Count = 36, outputs: Count = 36, seed: int = 0
) -> DataSplits:
    """`y = W x` with `x ~ N(0, I)` and a random `W`, without noise (add `gaussian`, `std = 7.746`, `rate = 0.55`).

    The paper gives neither the law of `W` nor its scale; here its entries are `N(0, 1)`.

    Args:
        train: number of training samples.
        test: number of test samples.
        features: dimension of x.
        outputs: dimension of y.
        seed: of W and x. It is the data set's own: every seed of a suite sees the same data.
    """
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(outputs, features, generator=generator)
    x = torch.randn(train + test, features, generator=generator)
    data = LabelledData(x, x @ w.t())
    return DataSplits(data.subset(torch.arange(train)), data.subset(torch.arange(train, train + test)))
