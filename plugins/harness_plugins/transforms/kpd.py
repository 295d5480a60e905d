"""KPD: each weight a sum of Kronecker products, ``W = sum_r kron(A_r, B_r)`` (the KPD paper, section 3)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from harness import Declares
from harness.parameters import Count
from harness_plugins.transforms.layers import (
    ONCE,
    kaiming_variance,
    matrix_shape,
    parametrize_layers,
    to_matrix,
    to_weight,
)


def nearest_divisor(size: int) -> int:
    """The divisor of ``size`` nearest its square root: the largest one not above it."""
    return largest_divisor(size, math.isqrt(size))


def largest_divisor(size: int, bound: int) -> int:
    """The largest divisor of ``size`` that is at most ``bound``."""
    return next(d for d in range(min(size, bound), 0, -1) if size % d == 0)


def factor_shapes(m: int, n: int, patch: int | None = None) -> tuple[tuple[int, int], tuple[int, int]]:
    """Shapes of A (m1, n1) and B (m2, n2) with ``m = m1 m2``, ``n = n1 n2``.

    A takes the divisor nearest the square root, the smaller factor (so 8 x 1 gives A 2 x 1 and B 4 x 1); with
    ``patch`` B is (patch, patch), or the largest divisor not above it where a dimension is not divisible.
    """
    if patch is not None:
        m2, n2 = largest_divisor(m, patch), largest_divisor(n, patch)
        return (m // m2, n // n2), (m2, n2)
    m1, n1 = nearest_divisor(m), nearest_divisor(n)
    return (m1, n1), (m // m1, n // n1)


def kronecker_sum(a: Tensor, b: Tensor) -> Tensor:
    """``sum_r kron(A_r, B_r)`` by one matrix product.

    Args:
        a: (R, m1, n1).
        b: (R, m2, n2).

    Returns:
        (m1 m2, n1 n2).
    """
    rank, m1, n1 = a.shape
    _, m2, n2 = b.shape
    product = a.reshape(rank, m1 * n1).t() @ b.reshape(rank, m2 * n2)
    return product.view(m1, n1, m2, n2).permute(0, 2, 1, 3).reshape(m1 * m2, n1 * n2)


def nearest_kronecker_sum(
    matrix: Tensor, a_shape: tuple[int, int], b_shape: tuple[int, int], rank: int
) -> tuple[Tensor, Tensor]:
    """Factors of the nearest sum of ``rank`` Kronecker products in Frobenius norm (Van Loan and Pitsianis, 1993).

    The rearranged matrix, one row per block of ``matrix``, is cut to ``rank`` singular triplets; factors beyond the
    useful rank ``min(m1 n1, m2 n2)`` are zero in B and small in A.
    """
    (m1, n1), (m2, n2) = a_shape, b_shape
    rearranged = matrix.reshape(m1, m2, n1, n2).permute(0, 2, 1, 3).reshape(m1 * n1, m2 * n2)
    left, values, right = torch.linalg.svd(rearranged.double(), full_matrices=False)
    useful = min(rank, len(values))
    root = values[:useful].sqrt()
    a = left.new_zeros(rank, m1 * n1)
    b = left.new_zeros(rank, m2 * n2)
    a[:useful] = (left[:, :useful] * root).t()
    b[:useful] = right[:useful] * root[:, None]
    if useful < rank:
        a[useful:] = 1e-3 * torch.randn(rank - useful, m1 * n1, dtype=torch.float64).to(a.device)
    return a.reshape(rank, m1, n1).to(matrix.dtype), b.reshape(rank, m2, n2).to(matrix.dtype)


class KroneckerSum(nn.Module):
    """The parametrization of one weight: originals are the factors A (R, m1, n1) and B (R, m2, n2)."""

    def __init__(self, weight: Tensor, rank: int, patch: int | None, init: str) -> None:
        super().__init__()
        self.shape = weight.shape
        self.rank = rank
        self.a_shape, self.b_shape = factor_shapes(*matrix_shape(weight), patch)
        self._init = init

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """The dense weight, by way of the transposed matrix, from which `to_weight` copies least."""
        return to_weight(kronecker_sum(a.mT, b.mT).t(), self.shape)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Initial factors: random, or nearest to the given weight."""
        if self._init == "svd":
            return nearest_kronecker_sum(to_matrix(weight), self.a_shape, self.b_shape, self.rank)
        scale = (kaiming_variance(weight) / self.rank) ** 0.25
        a, b = scale * torch.randn(self.rank, *self.a_shape), scale * torch.randn(self.rank, *self.b_shape)
        return a.to(weight), b.to(weight)


class KroneckerProductDecomposition:
    """Every linear and convolution weight a sum of `rank` Kronecker products `kron(A_r, B_r)`.

    A linear weight is laid out as (in, out), a kernel as (kh c_in, kw c_out); A takes the divisor nearest the square
    root of each side and B the rest (3x3x256->512: A 24 x 32, B 32 x 48). Biases and batch normalisation stay dense.
    The rank is kept even where it exceeds the useful rank. Random factors are `N(0, (v / rank)^(1/2))` so that the
    weight has the dense layer's Kaiming variance `v`; the paper only says "random".

    Args:
        rank: number of Kronecker products; 100 in the paper, for every layer.
        patch: side of B, as in the paper's ablation; by default the divisors nearest the square roots.
        init: `random`, or `svd`: the sum nearest to the model's dense weights.
    """

    declares = Declares(refuses=dict.fromkeys(("kpd", "rank_factorization"), ONCE))

    def __init__(
        self, rank: Count = 100, patch: Count | None = None, init: Literal["random", "svd"] = "random"
    ) -> None:
        self.rank = rank
        self.patch = patch
        self.init = init

    def __call__(self, model: nn.Module) -> nn.Module:
        """Parametrize a model in place and return it."""
        return parametrize_layers(model, lambda weight: KroneckerSum(weight, self.rank, self.patch, self.init), "kpd")
