"""Models have the parameters that their papers count, and adapt to images of any size and number of channels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import harness
from harness import HarnessError


def make(name: str, shape: tuple[int, ...], outputs: int, **params: Any) -> nn.Module:
    model: nn.Module = harness.create("model", name, input_shape=shape, num_outputs=outputs, **params)
    return model


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


COUNTS = [
    ("lenet", (1, 28, 28), 10, 61_706),
    ("rrm_mlp", (1, 28, 28), 3, 417_880),
    ("rrm_cnn", (1, 28, 28), 10, 320 + 18_496 + 36_928 + 102_500 + 1010),
    ("linear", (8,), 1, 9),
    ("linear", (36,), 36, 36 * 37),
    ("mlp", (1, 8, 8), 10, 64 * 256 + 256 + 256 * 256 + 256 + 2570),
    ("cifar_resnet18", (3, 32, 32), 10, 11_173_962),
    ("cifar_resnet34", (3, 32, 32), 10, 21_282_122),
    ("cifar_resnet50", (3, 32, 32), 10, 23_520_842),
    ("preact_resnet18", (3, 32, 32), 10, 11_171_274),
    ("small_resnet", (3, 32, 32), 10, 269_722 + (16 * 32 + 64) + (32 * 64 + 128)),  # ResNet-20, and two shortcuts
]


@pytest.mark.parametrize(("name", "shape", "outputs", "count"), COUNTS, ids=[f"{c[0]}-{c[2]}" for c in COUNTS])
def test_parameter_counts_are_those_of_the_papers(name: str, shape: tuple[int, ...], outputs: int, count: int) -> None:
    assert parameters(make(name, shape, outputs)) == count


@pytest.mark.parametrize("blocks", [(2, 2, 2, 2), (3, 4, 6, 3)])
def test_a_resnet_s_count_follows_from_its_layers(blocks: tuple[int, ...]) -> None:
    total, fan_in = 3 * 64 * 9 + 2 * 64, 64
    for width, count in zip((64, 128, 256, 512), blocks, strict=True):
        for _ in range(count):
            total += 9 * fan_in * width + 9 * width * width + 4 * width
            total += (fan_in * width + 2 * width) if fan_in != width else 0
            fan_in = width
    name = {2: "cifar_resnet18", 3: "cifar_resnet34"}[blocks[0]]
    assert parameters(make(name, (3, 32, 32), 10)) == total + 512 * 10 + 10


@pytest.mark.parametrize(
    "name", ["lenet", "rrm_cnn", "rrm_mlp", "mlp", "linear", "cifar_resnet18", "preact_resnet18", "small_resnet"]
)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (2, 20, 24)])
def test_models_take_images_of_any_size_and_channels(name: str, shape: tuple[int, ...]) -> None:
    model = make(name, shape, 7)
    inputs = torch.randn(2, *shape, requires_grad=True)
    outputs = model(inputs)
    assert outputs.shape == (2, 7)
    outputs.sum().backward()
    assert torch.isfinite(inputs.grad).all()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 8, 30), (1, 12, 12), (3, 11, 64)])
def test_lenet_fits_small_and_oblong_images(shape: tuple[int, ...]) -> None:
    assert make("lenet", shape, 3)(torch.randn(2, *shape)).shape == (2, 3)


@pytest.mark.parametrize(
    "name", ["lenet", "rrm_cnn", "cifar_resnet18", "preact_resnet18", "small_resnet", "timm:resnet18"]
)
def test_convolutional_models_refuse_features_in_one_line(name: str) -> None:
    with pytest.raises(HarnessError, match="needs images"):
        make(name, (8,), 3)


def test_the_rrm_networks_start_as_keras_starts_them() -> None:
    torch.manual_seed(0)
    cnn = make("rrm_cnn", (1, 28, 28), 10)
    layers = [layer for layer in cnn.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer in layers:
        fan_in, fan_out = layer.weight[0].numel(), layer.weight.shape[0]
        limit = (6 / (fan_in + fan_out)) ** 0.5 if layer is layers[-1] else (6 / fan_in) ** 0.5
        weight = layer.weight.detach()
        assert 0.95 * limit < float(weight.abs().max()) <= limit
        assert float(weight.std()) == pytest.approx(limit / 3**0.5, rel=0.1)
        assert not layer.bias.any()
    for layer in make("rrm_mlp", (1, 28, 28), 3).modules():
        if isinstance(layer, nn.Linear):
            assert layer.bias is None
            assert float(layer.weight.detach().abs().max()) <= (6 / sum(layer.weight.shape)) ** 0.5


def test_the_rrm_mlp_is_320_320_200() -> None:
    shapes = [tuple(parameter.shape) for parameter in make("rrm_mlp", (1, 28, 28), 3).parameters()]
    assert shapes == [(320, 784), (320, 320), (200, 320), (3, 200)]


@pytest.mark.parametrize(
    ("variant", "shape"),
    [("resnet10t", (3, 32, 32)), ("resnet10t", (1, 28, 28)), ("vit_tiny_patch16_224", (3, 32, 32))],
)
def test_timm_models_take_the_data_s_channels_and_pixels(variant: str, shape: tuple[int, ...]) -> None:
    model = make(f"timm:{variant}", shape, 7)
    assert model.training
    assert model(torch.randn(2, *shape)).shape == (2, 7)


def test_a_patch_size_lets_a_transformer_see_small_images() -> None:
    model = make("timm:vit_tiny_patch16_224", (1, 28, 28), 5, patch_size=7)
    assert model(torch.randn(2, 1, 28, 28)).shape == (2, 5)
    assert model.pos_embed.shape[1] == 1 + 16
    with pytest.raises(HarnessError, match="would leave out part of 28 x 28 pixels"):
        make("timm:vit_tiny_patch16_224", (1, 28, 28), 5)


@pytest.mark.parametrize(
    ("variant", "params", "words"),
    [
        ("resnet81", {}, "did you mean"),
        ("inception_v4", {}, "does not take images of 32 x 32 pixels"),
        ("resnet10t", {"patch_size": 4}, "timm refuses it"),
    ],
)
def test_timm_models_that_cannot_be_are_told_in_one_line(variant: str, params: dict[str, Any], words: str) -> None:
    with pytest.raises(HarnessError) as caught:
        make(f"timm:{variant}", (3, 32, 32), 7, **params)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(("width", "blocks"), [(16, 3), (32, 1), (8, 2)])
def test_the_small_resnet_has_6n_plus_2_layers_of_three_widths(width: int, blocks: int) -> None:
    model = make("small_resnet", (3, 32, 32), 10, width=width, blocks=blocks)
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear) and m.weight.shape[2:] != (1, 1)]
    assert len(layers) == 6 * blocks + 2
    widths = [layer.weight.shape[0] for layer in layers[:-1]]
    assert widths == [width] * (1 + 2 * blocks) + [2 * width] * 2 * blocks + [4 * width] * 2 * blocks


@pytest.mark.parametrize(("stride", "side"), [(1, 8), (2, 4)])
def test_a_stem_of_stride_2_halves_every_stage_of_the_small_resnet(stride: int, side: int) -> None:
    model = make("small_resnet", (3, 32, 32), 10, blocks=1, stride=stride)
    seen: list[tuple[int, ...]] = []
    body = next(m for m in model.children() if isinstance(m, nn.Sequential))
    body.register_forward_hook(lambda module, inputs, outputs: seen.append(tuple(outputs.shape)))
    model(torch.randn(2, 3, 32, 32))
    assert seen == [(2, 64, side, side)]


def test_the_pre_activation_resnet_has_the_layout_of_the_codes_that_use_it() -> None:
    """Normalised stem, every shortcut from the activated input, pooling straight after the last sum."""
    torch.manual_seed(0)
    model = make("preact_resnet18", (3, 16, 16), 5)
    inputs = torch.randn(2, 3, 16, 16)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    (head,) = (m for m in model.modules() if isinstance(m, nn.Linear))
    next_convolution, next_norm = iter(convolutions), iter(norms)
    value = torch.relu(next(next_norm)(next(next_convolution)(inputs)))
    for block in range(8):
        active = torch.relu(next(next_norm)(value))
        value = next(next_convolution)(active)
        value = next(next_convolution)(torch.relu(next(next_norm)(value)))
        value = value + (next(next_convolution)(active) if block in (2, 4, 6) else active)
    expected = head(value.mean((2, 3)))
    assert torch.allclose(model(inputs), expected, atol=1e-6)


def test_pretrained_weights_lie_in_a_folder_of_the_model_s_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As timm's ``save_for_hf`` lays them out."""
    timm = pytest.importorskip("timm")
    from harness_plugins.models.timm_models import preprocessing
    from safetensors.torch import save_file

    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    folder = tmp_path / "models" / "test_resnet"
    folder.mkdir(parents=True)
    kept = timm.create_model("test_resnet", num_classes=7)
    save_file(kept.state_dict(), folder / "model.safetensors")
    told = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "input_size": [3, 160, 160], "num_classes": 7}
    told |= {"first_conv": kept.pretrained_cfg["first_conv"], "classifier": kept.pretrained_cfg["classifier"]}
    config = {"architecture": "test_resnet", "num_classes": 7, "pretrained_cfg": told}
    (folder / "config.json").write_text(json.dumps(config))
    model = make("timm:test_resnet", (3, 32, 32), 4, pretrained=True).eval()
    kept.eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(model.forward_features(images), kept.forward_features(images))  # type: ignore[operator]
        assert model(images).shape == (2, 4), "the head is the data's"
    assert preprocessing("test_resnet", pretrained=True) == {
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
        "size": 160,
    }
    assert preprocessing("test_resnet") is None
    (folder / "config.json").write_text(json.dumps({**config, "architecture": "resnet18"}))
    with pytest.raises(HarnessError, match="holds weights of 'resnet18'; choose timm:resnet18"):
        make("timm:test_resnet", (3, 32, 32), 4, pretrained=True)
    (folder / "config.json").write_text(json.dumps({**config, "pretrained_cfg": {**told, "num_classes": 7}}))
    save_file({"nothing": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(HarnessError, match=r"model\.safetensors does not fit") as error:
        make("timm:test_resnet", (3, 32, 32), 4, pretrained=True)
    assert "\n" not in str(error.value)
