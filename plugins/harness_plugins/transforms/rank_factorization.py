"""Rank factorisation: each weight ``W = U V`` (the baseline of the KPD paper)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.parameters import Count
from harness_plugins.transforms.layers import kaiming_variance, matrix_shape, parametrize_layers, to_weight


class LowRank(nn.Module):
    """The parametrization of one weight: originals are the factors U (m, r) and V (r, n)."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        self.shape = weight.shape
        self.rank = rank

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        """The dense weight."""
        return to_weight(u @ v, self.shape)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Random factors whose product has the dense layer's Kaiming variance."""
        m, n = matrix_shape(weight)
        scale = (kaiming_variance(weight) / self.rank) ** 0.25
        return scale * torch.randn(m, self.rank), scale * torch.randn(self.rank, n)


class RankFactorization:
    """Every linear and convolution weight a product `U V` of rank at most `rank`.

    The layout is that of KPD, (in, out) and (kh c_in, kw c_out): rank factorisation is KPD with (m1, n1) = (m, 1) and
    (m2, n2) = (1, n). The rank is kept even where it exceeds min(m, n).

    Args:
        rank: 100 in the paper, for every layer.
    """

    def __init__(self, rank: Count = 100) -> None:
        self.rank = rank

    def __call__(self, model: nn.Module) -> nn.Module:
        """Parametrize a model in place and return it."""
        return parametrize_layers(model, lambda weight: LowRank(weight, self.rank), "rank_factorization")
