"""A hidden layer before the last one: its formula, the paper's count of trained parameters, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import harness
from harness import HarnessError


def hidden(model: nn.Module, width: int = 5) -> nn.Module:
    return harness.create("transform", "hidden_layer", width=width)(model)


def test_the_last_linear_layer_becomes_two_with_relu_between() -> None:
    torch.manual_seed(0)
    model = hidden(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)))
    x = torch.randn(7, 4)
    features = torch.tanh(model[0](x))
    first, _, last = model[2]
    expected = (features @ first.weight.T + first.bias).clamp_min(0) @ last.weight.T + last.bias
    assert expected.shape == (7, 3) and torch.allclose(model(x), expected, atol=1e-6)
    assert isinstance(hidden(nn.Linear(4, 3)), nn.Sequential)


def test_on_a_frozen_resnet50_the_papers_number_of_parameters_is_trained() -> None:
    """Appendix E.3 of the RRM paper: 1,050,114, which two output units make and one does not."""
    model = nn.Module()
    model.body, model.fc = nn.Linear(3, 2048), nn.Linear(2048, 2)
    model = harness.create("transform", "freeze", **{"except": ["fc|classifier"]})(hidden(model, 512))
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 1_050_114


def test_a_model_without_a_last_layer_is_refused_in_one_line() -> None:
    with pytest.raises(HarnessError, match="no linear layer"):
        hidden(nn.Sequential(nn.Conv2d(1, 2, 3)))
    with pytest.raises(HarnessError, match="no shape yet"):
        hidden(nn.Sequential(nn.LazyLinear(3)))
