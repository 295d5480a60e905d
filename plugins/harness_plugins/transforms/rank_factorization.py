"""Rank factorisation: each weight ``W = U V`` (the baseline of the KPD paper)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from harness import Declares
from harness.parameters import Count
from harness_plugins.transforms.kpd import nearest_kronecker_sum
from harness_plugins.transforms.layers import (
    ONCE,
    kaiming_variance,
    matrix_shape,
    parametrize_layers,
    to_matrix,
    to_weight,
)


class LowRank(nn.Module):
    """The parametrization of one weight: originals are the factors U (m, r) and V (r, n)."""

    def __init__(self, weight: Tensor, rank: int, init: str) -> None:
        super().__init__()
        self.shape = weight.shape
        self.rank = rank
        self._init = init

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        """The dense weight, by way of the transposed matrix, from which `to_weight` copies least."""
        return to_weight((v.t() @ u.t()).t(), self.shape)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Initial factors: random, with a product of the dense layer's Kaiming variance, or nearest to the weight."""
        m, n = matrix_shape(weight)
        if self._init == "svd":
            a, b = nearest_kronecker_sum(to_matrix(weight), (m, 1), (1, n), self.rank)
            return a[:, :, 0].t().contiguous(), b[:, 0, :]
        scale = (kaiming_variance(weight) / self.rank) ** 0.25
        u, v = scale * torch.randn(m, self.rank), scale * torch.randn(self.rank, n)
        return u.to(weight), v.to(weight)


class RankFactorization:
    """Every linear and convolution weight a product `U V` of rank at most `rank`.

    The layout is that of KPD, (in, out) and (kh c_in, kw c_out): rank factorisation is KPD with (m1, n1) = (m, 1) and
    (m2, n2) = (1, n). The rank is kept even where it exceeds min(m, n). Random factors are drawn as KPD's; the paper
    only says "random".

    Args:
        rank: 100 in the paper, for every layer.
        init: `random`, or `svd`: the product nearest to the model's dense weights.
    """

    declares = Declares(refuses=dict.fromkeys(("kpd", "rank_factorization"), ONCE))

    def __init__(self, rank: Count = 100, init: Literal["random", "svd"] = "random") -> None:
        self.rank = rank
        self.init = init

    def __call__(self, model: nn.Module) -> nn.Module:
        """Parametrize a model in place and return it."""
        return parametrize_layers(model, lambda weight: LowRank(weight, self.rank, self.init), "rank_factorization")
