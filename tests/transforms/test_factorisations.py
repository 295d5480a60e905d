"""KPD and rank factorisation: the dense weight is numpy's, at every layer shape of the papers' networks."""

from __future__ import annotations

import importlib
from functools import reduce
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.transforms.kpd import factor_shapes, kronecker_sum, nearest_kronecker_sum
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import harness
from harness import HarnessError


def matrix_of(weight: torch.Tensor) -> np.ndarray:
    """M[a c_in + c, b c_out + o] = kernel[o, c, a, b], and W.T for a linear layer, written out with numpy."""
    kernel = weight.detach().double().numpy()
    if kernel.ndim == 2:
        return kernel.T
    out, channels, height, width = kernel.shape
    matrix = np.empty((height * channels, width * out))
    for a in range(height):
        for b in range(width):
            matrix[a * channels : (a + 1) * channels, b * out : (b + 1) * out] = kernel[:, :, a, b].T
    return matrix


def kron_sum(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    left, right = a.detach().double().numpy(), b.detach().double().numpy()
    return reduce(np.add, (np.kron(x, y) for x, y in zip(left, right, strict=True)))


def resnet_layers() -> list[tuple[int, ...]]:
    shapes: dict[tuple[int, ...], None] = {}
    importlib.import_module("torchvision")  # torch 2.8 cannot import a part of itself while meta is the device
    with torch.device("meta"):
        for name, classes in (("cifar_resnet18", 10), ("cifar_resnet50", 100)):
            model = harness.create("model", name, input_shape=(3, 32, 32), num_outputs=classes)
            shapes |= dict.fromkeys(
                tuple(m.weight.shape) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)
            )
    return [*shapes, (64, 1, 3, 3), (10, 2048), (1, 8)]


def layer_of(shape: tuple[int, ...]) -> nn.Module:
    return nn.Linear(shape[1], shape[0]) if len(shape) == 2 else nn.Conv2d(shape[1], shape[0], shape[2:], padding=1)


@pytest.mark.parametrize("shape", resnet_layers(), ids=str)
def test_the_weight_of_every_resnet_layer_is_numpy_s_sum_of_kronecker_products(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = harness.create("transform", "kpd", rank=3)(layer_of(shape))
    factors = layer.parametrizations.weight
    assert tuple(layer.weight.shape) == shape
    assert layer.weight.is_contiguous()
    np.testing.assert_allclose(matrix_of(layer.weight), kron_sum(factors.original0, factors.original1), atol=1e-5)


@pytest.mark.parametrize("shape", resnet_layers(), ids=str)
def test_the_weight_of_every_resnet_layer_is_numpy_s_product_u_v(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = harness.create("transform", "rank_factorization", rank=3)(layer_of(shape))
    u, v = (factor.detach().double().numpy() for factor in layer.parametrizations.weight.parameters())
    m, n = matrix_of(layer.weight).shape
    assert u.shape == (m, 3)
    assert v.shape == (3, n)
    np.testing.assert_allclose(matrix_of(layer.weight), u @ v, atol=1e-5)


PAPER = [
    ((512, 256, 3, 3), (24, 32), (32, 48)),
    ((64, 3, 3, 3), (3, 12), (3, 16)),
    ((64, 1, 3, 3), (1, 12), (3, 16)),
    ((10, 512), (16, 2), (32, 5)),
    ((10, 2048), (32, 2), (64, 5)),
    ((100, 2048), (32, 10), (64, 10)),
    ((1, 8), (2, 1), (4, 1)),
    ((36, 36), (6, 6), (6, 6)),
]


@pytest.mark.parametrize(("shape", "a", "b"), PAPER, ids=str)
def test_factors_have_the_sizes_that_the_paper_states(
    shape: tuple[int, ...], a: tuple[int, int], b: tuple[int, int]
) -> None:
    layer = harness.create("transform", "kpd")(layer_of(shape))
    assert tuple(layer.parametrizations.weight.original0.shape) == (100, *a)
    assert tuple(layer.parametrizations.weight.original1.shape) == (100, *b)


@given(m=st.integers(1, 3000), n=st.integers(1, 3000))
def test_the_first_factor_takes_the_divisor_nearest_the_square_root(m: int, n: int) -> None:
    (m1, n1), (m2, n2) = factor_shapes(m, n)
    for size, first, second in ((m, m1, m2), (n, n1, n2)):
        divisors = [d for d in range(1, size + 1) if size % d == 0]
        assert first * second == size
        assert first == min(divisors, key=lambda d: (abs(d - size**0.5), d))


@pytest.mark.parametrize(("patch", "b"), [(2, (2, 2)), (4, (4, 4)), (8, (8, 8))])
def test_a_patch_fixes_the_second_factor_where_it_divides(patch: int, b: tuple[int, int]) -> None:
    assert factor_shapes(768, 1536, patch) == ((768 // patch, 1536 // patch), b)
    assert factor_shapes(9, 192, 4)[1] == (3, 4)
    assert factor_shapes(7, 5, 4)[1] == (1, 1)


@settings(deadline=None)
@given(st.lists(st.integers(1, 6), min_size=5, max_size=5))
def test_kronecker_sums_are_numpy_s(sizes: list[int]) -> None:
    rank, m1, n1, m2, n2 = sizes
    generator = torch.Generator().manual_seed(sum(sizes))
    a = torch.randn(rank, m1, n1, generator=generator, dtype=torch.float64)
    b = torch.randn(rank, m2, n2, generator=generator, dtype=torch.float64)
    assert kronecker_sum(a, b).numpy() == pytest.approx(kron_sum(a, b), abs=1e-12)


def weights_only(model: nn.Module, rank: int) -> int:
    return sum(
        rank * (np.prod(a) + np.prod(b))
        for a, b in (
            factor_shapes(*matrix_of(layer.weight).shape)
            for layer in model.modules()
            if isinstance(layer, nn.Conv2d | nn.Linear)
        )
    )


@pytest.mark.parametrize(
    ("name", "dense", "kpd"), [("cifar_resnet18", 11.16, 2.45), ("cifar_resnet50", 23.47, 6.29)], ids=["18", "50"]
)
def test_a_resnet_shrinks_at_rank_100_as_the_paper_counts(name: str, dense: float, kpd: float) -> None:
    model = harness.create("model", name, input_shape=(3, 32, 32), num_outputs=10)
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    others = sum(p.numel() for p in model.parameters()) - sum(layer.weight.numel() for layer in layers)
    assert sum(layer.weight.numel() for layer in layers) / 1e6 == pytest.approx(dense, abs=0.005)
    expected = weights_only(model, 100)
    assert expected / 1e6 == pytest.approx(kpd, abs=0.005)
    model = harness.create("transform", "kpd")(model)
    assert sum(p.numel() for p in model.parameters()) - others == expected
    assert all(hasattr(layer, "parametrizations") for layer in layers)


@pytest.mark.parametrize("name", ["kpd", "rank_factorization"])
def test_biases_and_batch_norm_stay_dense_and_unchanged(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 4))
    before = {
        key: value.clone() for key, value in model.state_dict().items() if key in ("0.bias", "1.weight", "3.bias")
    }
    after = harness.create("transform", name, rank=2)(model).state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


@pytest.mark.parametrize("name", ["kpd", "rank_factorization"])
@pytest.mark.parametrize("shape", [(5, 12), (8, 6, 3, 3), (6, 4, 1, 1)], ids=str)
def test_outputs_and_gradients_are_those_of_a_dense_layer_with_the_built_weight(
    name: str, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    layer = harness.create("transform", name, rank=4)(layer_of(shape)).double()
    x = torch.randn(2, *((shape[1],) if len(shape) == 2 else (shape[1], 5, 5)), dtype=torch.float64)
    out, channels = shape[:2]
    matrix = torch.from_numpy(matrix_of(layer.weight))
    if len(shape) == 2:
        expected = x @ matrix + layer.bias
    else:
        kernel = matrix.reshape(shape[2], channels, shape[3], out).permute(3, 1, 0, 2)
        expected = functional.conv2d(x, kernel, layer.bias, padding=1)
    assert torch.allclose(layer(x), expected, atol=1e-12)
    parametrization = layer.parametrizations.weight
    factors = tuple(f.detach().clone().requires_grad_() for f in parametrization.parameters())
    assert torch.autograd.gradcheck(parametrization[0], factors)


@pytest.mark.parametrize(("name", "params"), [("kpd", {}), ("kpd", {"patch": 2}), ("rank_factorization", {})])
@pytest.mark.parametrize("shape", [(10, 24), (8, 6, 3, 3), (6, 4, 1, 1)], ids=str)
def test_svd_start_is_exact_at_the_useful_rank(name: str, params: dict[str, Any], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    dense = layer_of(shape).double()
    layer = harness.create("transform", name, rank=200, init="svd", **params)
    weight = dense.weight.detach().clone()
    assert torch.allclose(layer(dense).weight, weight, atol=1e-10)


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_svd_start_truncates_optimally(rank: int) -> None:
    matrix = torch.randn(12, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a, b = nearest_kronecker_sum(matrix, (3, 4), (4, 5), rank)
    blocks = [matrix[4 * i : 4 * i + 4, 5 * j : 5 * j + 5].reshape(-1).numpy() for i in range(3) for j in range(4)]
    values = np.linalg.svd(np.array(blocks), compute_uv=False)
    assert np.linalg.norm(matrix.numpy() - kron_sum(a, b)) == pytest.approx(np.linalg.norm(values[rank:]))
    dense = nn.Linear(12, 20, dtype=torch.float64)
    values = np.linalg.svd(dense.weight.detach().numpy(), compute_uv=False)
    before = dense.weight.detach().clone()
    layer = harness.create("transform", "rank_factorization", rank=rank, init="svd")(dense)
    assert (layer.weight - before).norm().item() == pytest.approx(np.linalg.norm(values[rank:]))


@pytest.mark.parametrize("name", ["kpd", "rank_factorization"])
@pytest.mark.parametrize("shape", [(256, 512), (128, 64, 3, 3)], ids=str)
def test_random_factors_give_the_kaiming_variance_of_the_dense_layer(name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = harness.create("transform", name)(layer_of(shape))
    fan_in = int(np.prod(shape[1:]))
    assert float(layer.weight.detach().var()) == pytest.approx(2 / fan_in, rel=0.1)


def test_rank_factorisation_is_kpd_with_single_columns_and_rows() -> None:
    u = torch.randn(12, 4, dtype=torch.float64)
    v = torch.randn(4, 9, dtype=torch.float64)
    assert torch.allclose(kronecker_sum(u.t()[:, :, None], v[:, None, :]), u @ v)


@pytest.mark.parametrize("name", ["kpd", "rank_factorization"])
def test_weights_that_cannot_be_factorised_are_told_in_one_line(name: str) -> None:
    transform = harness.create("transform", name, rank=2)
    with pytest.raises(HarnessError, match="no linear or convolution weight"):
        transform(nn.Sequential(nn.Embedding(3, 4), nn.ReLU()))
    once = transform(nn.Sequential(nn.Linear(4, 4)))
    with pytest.raises(HarnessError, match="the weight of 0 is already parametrized"):
        transform(once)
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    with pytest.raises(HarnessError, match="0 and 1 share one weight"):
        transform(tied)
    with pytest.raises(HarnessError, match="has no shape yet"):
        transform(nn.Sequential(nn.LazyLinear(4)))


def test_grouped_convolutions_stay_dense_beside_others() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 2, 1))
    harness.create("transform", "kpd", rank=1)(model)
    assert isinstance(model[0].weight, nn.Parameter)
    assert hasattr(model[1], "parametrizations")


def test_factorised_models_train_and_round_trip_through_a_checkpoint() -> None:
    torch.manual_seed(0)
    model = harness.create("model", "lenet", input_shape=(1, 28, 28), num_outputs=10)
    model = harness.create("transform", "kpd", rank=4)(model)
    inputs, targets = torch.randn(16, 1, 28, 28), torch.arange(16) % 10
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    first = functional.cross_entropy(model(inputs), targets).item()
    for _ in range(30):
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    assert functional.cross_entropy(model(inputs), targets).item() < 0.5 * first
    torch.manual_seed(1)
    other = harness.create("model", "lenet", input_shape=(1, 28, 28), num_outputs=10)
    other = harness.create("transform", "kpd", rank=4)(other)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(inputs), model(inputs))


@pytest.mark.parametrize("params", [{"init": "random"}, {"init": "svd"}])
@pytest.mark.parametrize("name", ["kpd", "rank_factorization"])
def test_factors_have_the_precision_and_device_of_the_weight(name: str, params: dict[str, Any]) -> None:
    transform = harness.create("transform", name, rank=30, **params)
    for layer, inputs in ((nn.Linear(8, 6), torch.randn(2, 8)), (nn.Conv2d(4, 6, 3), torch.randn(2, 4, 5, 5))):
        model = transform(nn.Sequential(layer.double()))
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
        assert model(inputs.double()).dtype == torch.float64
    if params["init"] == "random":
        model = transform(nn.Sequential(nn.Linear(8, 6, device="meta")))
        assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
