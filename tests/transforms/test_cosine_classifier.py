"""The cosine classifier: logits against numpy, what is replaced, and weights that stay factorised."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from harness_plugins.transforms.cosine_classifier import CosineClassifier, CosineLinear
from harness_plugins.transforms.kpd import KroneckerProductDecomposition
from torch import nn
from torch.nn.utils import parametrize

import harness
from harness import HarnessError


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)).double()


def cosines(features: np.ndarray, weight: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(features, axis=1)[:, None] * np.linalg.norm(weight, axis=1)[None]
    return features @ weight.T / lengths


def test_logits_are_scaled_cosines_of_features_and_the_models_own_weights() -> None:
    model = small()
    weight = model[2].weight.detach().numpy().copy()
    x = torch.randn(5, 6, dtype=torch.float64)
    changed = CosineClassifier(scale=3.0)(model)
    assert changed is model and isinstance(model[2], CosineLinear) and model[2].bias is None
    features = np.maximum(model[0](x).detach().numpy(), 0)
    np.testing.assert_allclose(model(x).detach().numpy(), 3 * cosines(features, weight), atol=1e-12)


def test_gradients_agree_with_finite_differences_and_are_at_right_angles_to_the_weights() -> None:
    layer = CosineLinear(3, 4, 8.0).double()
    features = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (features,))
    layer(features).square().sum().backward()
    assert layer.weight.grad is not None and features.grad is not None
    assert torch.allclose((layer.weight * layer.weight.grad).sum(1), torch.zeros(4).double(), atol=1e-10)
    assert torch.allclose((features * features.grad).sum(1), torch.zeros(5).double(), atol=1e-10)


def test_a_feature_of_zeros_has_finite_logits() -> None:
    assert CosineLinear(3, 4, 8.0)(torch.zeros(2, 3)).tolist() == 2 * [4 * [0.0]]


@pytest.mark.parametrize("order", ["kpd first", "cosine first"])
def test_a_factorised_weight_stays_factorised(order: str) -> None:
    transforms = [KroneckerProductDecomposition(rank=2), CosineClassifier()]
    if order == "cosine first":
        transforms.reverse()
    model: nn.Module = small()
    for transform in transforms:
        model = transform(model)
        if isinstance(transform, KroneckerProductDecomposition):
            dense = model[2].weight.detach().clone()  # type: ignore[index]
    last = model[2]  # type: ignore[index]
    assert parametrize.is_parametrized(last, "weight") and torch.equal(last.weight, dense)
    x = torch.randn(5, 6, dtype=torch.float64)
    features = np.maximum(model[0](x).detach().numpy(), 0)  # type: ignore[index]
    np.testing.assert_allclose(model(x).detach().numpy(), 8 * cosines(features, dense.numpy()), atol=1e-12)
    assert not any(name.endswith("bias") and name.startswith("2.") for name, _ in model.named_parameters())
    twin = copy.deepcopy(model)
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin(x), model(x))


@pytest.mark.parametrize("name", ["linear", "mlp", "lenet", "cifar_resnet18", "preact_resnet18"])
def test_the_houses_models_end_in_it(name: str) -> None:
    shape = (1, 28, 28) if name in ("linear", "mlp", "lenet") else (3, 8, 8)
    model = CosineClassifier()(harness.create("model", name, input_shape=shape, num_outputs=7)).eval()
    with torch.no_grad():
        outputs = model(torch.randn(3, *shape))
    assert outputs.shape == (3, 7) and float(outputs.abs().max()) <= 8
    assert sum(isinstance(module, CosineLinear) for module in model.modules()) == 1


def test_a_model_that_is_one_linear_layer_becomes_it() -> None:
    assert isinstance(CosineClassifier()(nn.Linear(3, 2)), CosineLinear)


@pytest.mark.parametrize(
    ("model", "reason"),
    [(nn.Sequential(nn.Conv2d(1, 2, 3)), "no linear layer"), (nn.Sequential(nn.LazyLinear(3)), "no shape yet")],
)
def test_what_has_no_last_layer_is_refused_in_one_line(model: nn.Module, reason: str) -> None:
    with pytest.raises(HarnessError, match=reason):
        CosineClassifier()(model)
