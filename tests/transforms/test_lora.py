"""LoRA and freeze: the update's formula, what is trained, the paper's count, and one line for what does not fit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import harness
from harness import HarnessError


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3)
        self.query = nn.Linear(12, 6)
        self.classifier = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.relu(self.query(torch.relu(self.conv(x)).flatten(1))))


def small() -> Small:
    torch.manual_seed(0)
    return Small()


def trained(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def lora(model: nn.Module, **options: object) -> nn.Module:
    return harness.create("transform", "lora", **options)(model)


def freeze(model: nn.Module, *kept: str) -> nn.Module:
    return harness.create("transform", "freeze", **{"except": list(kept)})(model)


def test_the_model_starts_as_it_was_and_its_update_is_alpha_over_rank_times_a_product() -> None:
    model, plain = lora(small(), targets=["query", "conv"], rank=2, alpha=6.0), small()
    x = torch.randn(4, 2, 4, 4)
    assert torch.allclose(model(x), plain(x))
    for name in ("query", "conv"):
        layer, before = model.get_submodule(name), plain.get_submodule(name).weight
        update = layer.parametrizations.weight[0]
        with torch.no_grad():
            update.b.normal_()
        difference = (layer.weight - before).detach()
        if name == "query":
            assert torch.allclose(difference, 3.0 * update.b @ update.a, atol=1e-5)
        matrix = difference.flatten(1) if name == "query" else difference.permute(2, 1, 3, 0).reshape(6, 9)
        assert torch.linalg.matrix_rank(matrix, atol=1e-4) == 2


def test_a_weight_that_is_assigned_is_the_weight_whatever_the_update() -> None:
    model = lora(small(), targets=["query", "conv"])
    for layer in (model.query, model.conv):
        nn.init.normal_(layer.parametrizations.weight[0].b)
        wanted = torch.randn_like(layer.weight)
        layer.weight = wanted
        assert torch.allclose(layer.weight, wanted, atol=1e-5)
        assert not layer.parametrizations.weight.original.requires_grad


def test_only_the_update_of_a_layer_learns_and_the_original_never_moves() -> None:
    model = lora(small(), targets=["query"])
    before = model.query.parametrizations.weight.original.clone()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for _ in range(3):
        model(torch.randn(4, 2, 4, 4)).square().sum().backward()
        optimizer.step()
    assert torch.equal(model.query.parametrizations.weight.original, before)
    assert model.query.parametrizations.weight[0].b.abs().sum() > 0
    assert "query.parametrizations.weight.original" not in trained(model)


@pytest.mark.parametrize("first", ["lora", "freeze"])
def test_with_freeze_before_or_after_the_update_and_the_named_parts_are_trained(first: str) -> None:
    model: nn.Module = small()
    for name in (first, "freeze" if first == "lora" else "lora"):
        model = lora(model, targets=["query"]) if name == "lora" else freeze(model, "classifier")
    update = {f"query.parametrizations.weight.0.{part}" for part in "ab"}
    assert trained(model) == {"classifier.weight", "classifier.bias"} | update


def test_freeze_takes_names_of_parts_and_of_parameters() -> None:
    assert trained(freeze(small(), "conv.bias", "query")) == {"conv.bias", "query.weight", "query.bias"}
    assert trained(freeze(small())) == set()
    assert trained(freeze(small(), "pre_classifier|classifier")) == {"classifier.weight", "classifier.bias"}
    with pytest.raises(HarnessError, match=r"no part 'clasifier'.*classifier"):
        freeze(small(), "clasifier")


def test_a_model_of_table_12_trains_the_paper_s_number_of_parameters() -> None:
    with torch.device("meta"):
        model: nn.Module = harness.create(
            "model", "distilbert", input_shape=(256,), num_outputs=2, vocabulary=30_522, weights=""
        )
        model = lora(freeze(model, "pre_classifier", "classifier"), rank=4, targets=["q_lin"])
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 628_994


def test_the_gradients_are_those_of_two_small_matrices_beside_the_layer() -> None:
    model = lora(small(), targets=["query"], rank=3, alpha=6.0).double()
    update = model.query.parametrizations.weight[0]
    with torch.no_grad():
        update.b.normal_()
    x = torch.randn(5, 2, 4, 4, dtype=torch.float64)
    model(x).square().sum().backward()
    a, b = (p.detach().clone().requires_grad_() for p in (update.a, update.b))
    hidden = torch.relu(model.conv(x)).flatten(1).detach()
    made = nn.functional.linear(hidden, model.query.parametrizations.weight.original, model.query.bias)
    made = made + 2.0 * (hidden @ a.t()) @ b.t()
    model.classifier(torch.relu(made)).square().sum().backward()
    assert torch.allclose(update.a.grad, a.grad)
    assert torch.allclose(update.b.grad, b.grad)


def test_what_does_not_fit_is_said_in_one_line() -> None:
    with pytest.raises(HarnessError, match=r"no linear or convolution layer is named 'q_lin'.*classifier, conv, query"):
        lora(small(), targets=["q_lin"])
    with pytest.raises(HarnessError, match="no layer is named"):
        lora(small(), targets=[])
    with pytest.raises(HarnessError, match="already parametrized"):
        lora(harness.create("transform", "kpd", rank=1)(small()), targets=["query"])


def test_frozen_batch_normalisation_keeps_its_statistics_where_asked() -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 4)
    for statistics in ("moving", "kept"):
        model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.BatchNorm1d(3), nn.Linear(3, 2))
        frozen = harness.create("transform", "freeze", **{"except": ["2", "3"], "statistics": statistics})(model)
        before = frozen[1].running_mean.clone()
        expected = frozen[:2].eval()(x)
        frozen.train()
        middle = frozen[:2](x)
        frozen(x)
        assert torch.equal(frozen[1].running_mean, before) == (statistics == "kept")
        assert torch.equal(middle, expected) == (statistics == "kept")
        assert not torch.equal(frozen[2].running_mean, torch.zeros(3)), "what is trained moves its own"
