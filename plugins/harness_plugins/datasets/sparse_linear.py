"""The over-parameterised linear model on which SOP's theory stands (Liu et al., 2022, section 3)."""

from __future__ import annotations

import torch

from harness import DataSplits, Declares, LabelledData
from harness.parameters import Count
from harness_plugins.datasets.files import describe


@describe(Declares(tasks=("regression",)))
def sparse_linear(
    samples: Count = 20, features: Count = 40, rank: Count = 3, test: Count = 1000, seed: int = 0
) -> DataSplits:
    """`y = J theta` with `J = G R` of low rank and `theta ~ N(0, I)`, all factors standard normal, without noise.

    The paper's corruption, k entries of `N(0, 1)`, is the noise `gaussian` with `std = 1`, `rate = k / N` and
    `count = "exact"`. Its defaults (N, p, r, k) = (20, 40, 3, 3) are ours. The paper has no test set: it compares with
    the minimum-norm `theta`. Test inputs here are further rows of `G R`; they lie in the row space of J, so the true
    and the minimum-norm `theta` agree on them.

    Args:
        samples: N, training samples.
        features: p, the dimension of theta.
        rank: r, at most min(N, p).
        test: number of test samples.
        seed: of all factors. It is the data set's own: every seed of a suite sees the same data.
    """
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(samples + test, rank, generator=generator, dtype=torch.float64)
    right = torch.randn(rank, features, generator=generator, dtype=torch.float64)
    theta = torch.randn(features, generator=generator, dtype=torch.float64)
    jacobian = left @ right
    data = LabelledData(jacobian.float(), (jacobian @ theta).float())
    return DataSplits(data.subset(torch.arange(samples)), data.subset(torch.arange(samples, samples + test)))
