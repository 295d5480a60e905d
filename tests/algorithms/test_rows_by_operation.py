"""Views drawn operation by operation are, bit for bit, those of every operation on the whole batch, from the same numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from harness.training.data import Standardiser
from harness.training.policies import (
    AUTOAUGMENT_GREY,
    CIFAR10_POLICY,
    CODES,
    EQUALIZE,
    IDENTITY,
    PROMIX_GREY,
    PROMIX_OPERATIONS,
    autoaugment_view,
    equalized,
    promix_view,
)
from harness.training.views import (
    CUTOUT_GREY,
    LUMA,
    OPERATIONS,
    as_on_accelerator,
    changed,
    enhancers,
    geometric,
    painted,
    square,
    strong_view,
)

View = Callable[[Tensor, torch.Generator, Standardiser | None], Tensor]
SHAPES = [(1, 1, 28, 28), (1, 3, 32, 32), (40, 1, 28, 28), (33, 3, 16, 16), (3, 2, 2, 5)]


def enhanced(pixels: Tensor, operation: Tensor, factor: Tensor, bits: Tensor, threshold: Tensor) -> Tensor:
    """Every operation on every image, of which each image keeps its own."""

    def chosen(name: str) -> Tensor:
        return (operation == OPERATIONS.index(name)).view(-1, 1, 1, 1)

    grey = pixels.mean(1, keepdim=True)
    if pixels.shape[1] == 3:
        grey = LUMA[0] * pixels[:, :1] + LUMA[1] * pixels[:, 1:2] + LUMA[2] * pixels[:, 2:]
    smooth = pixels.clone()
    if min(pixels.shape[-2:]) >= 3:
        kernel = pixels.new_ones(3, 3)
        kernel[1, 1] = 5
        weight = (kernel / 13).expand(pixels.shape[1], 1, 3, 3)
        smooth[:, :, 1:-1, 1:-1] = functional.conv2d(pixels, weight, groups=pixels.shape[1])
    base = torch.where(chosen("contrast"), grey.mean((1, 2, 3), keepdim=True), torch.zeros_like(pixels))
    base = torch.where(chosen("color"), grey, base)
    base = torch.where(chosen("sharpness"), smooth, base)
    blends = chosen("brightness") | chosen("contrast") | chosen("color") | chosen("sharpness")
    after = torch.where(blends, base + factor * (pixels - base), pixels).clamp(0, 1)
    low, high = pixels.amin((2, 3), keepdim=True), pixels.amax((2, 3), keepdim=True)
    stretched = torch.where(high > low, (pixels - low) / (high - low).clamp_min(1e-6), pixels)
    after = torch.where(chosen("autocontrast"), stretched, after)
    steps = 2.0**bits
    after = torch.where(chosen("posterize"), (pixels * 255 / 256 * steps).floor() / steps, after)
    inverted = chosen("invert") | (chosen("solarize") & ((pixels * 255).round() >= threshold))
    return torch.where(inverted, 1 - pixels, after)


def sampled(pixels: Tensor, affine: Tensor) -> Tensor:
    grid = functional.affine_grid(affine[:, :2], list(pixels.shape), align_corners=False)
    return functional.grid_sample(pixels, grid, padding_mode="zeros", align_corners=False)


def unstandardised(images: Tensor, standardiser: Standardiser | None) -> tuple[Tensor, Tensor | float, Tensor | float]:
    mean, std = (0.0, 1.0) if standardiser is None else (standardiser.mean, standardiser.std)
    return (images * std + mean).clamp(0, 1), mean, std


def whole_strong(images: Tensor, generator: torch.Generator, standardiser: Standardiser | None) -> Tensor:
    size = len(images)
    pixels, mean, std = unstandardised(images, standardiser)
    affine = torch.eye(3, dtype=images.dtype).expand(size, 3, 3)
    for _ in range(2):
        drawn = torch.randint(len(OPERATIONS), (size,), generator=generator)
        level = torch.randint(1, 10, (size,), generator=generator) / 10
        coin = torch.randint(2, (2, size), generator=generator)
        centre = torch.rand(size, 2, generator=generator).to(images.dtype)
        operation = torch.where(coin[0] == 1, drawn, -1)
        strength = level.to(images.dtype).view(-1, 1, 1, 1)
        bits, threshold = 4 - (4 * strength + 1e-4).floor(), 256 - (256 * strength).floor()
        after = enhanced(pixels, operation, 1.8 * strength + 0.1, bits, threshold)
        hidden = (operation == OPERATIONS.index("cutout")).view(-1, 1, 1, 1)
        pixels = painted(after, hidden & square(pixels, centre, 20 / 32 * strength.flatten()), CUTOUT_GREY)
        affine = affine @ geometric(operation, (level * (2.0 * coin[1] - 1)).to(images.dtype))
    view = sampled((pixels - mean) / std, affine)
    centre = torch.rand(size, 2, generator=generator).to(images.dtype)
    return view.masked_fill(square(view, centre, torch.full((size,), 0.5)), 0.0)


def whole_round(pixels: Tensor, operation: Tensor, factor: Tensor, bits: Tensor, threshold: Tensor) -> Tensor:
    values = (value.view(-1, 1, 1, 1) for value in (factor, bits, threshold))
    after = enhanced(pixels, operation, *values)
    return torch.where((operation == EQUALIZE).view(-1, 1, 1, 1), equalized(pixels), after)


def whole_promix(images: Tensor, generator: torch.Generator, standardiser: Standardiser | None) -> Tensor:
    size = len(images)
    pixels, mean, std = unstandardised(images, standardiser)
    affine = torch.eye(3, dtype=images.dtype).expand(size, 3, 3)
    chosen = torch.randint(len(PROMIX_OPERATIONS), (3, size), generator=generator)
    amount = torch.rand(3, size, generator=generator).to(images.dtype)
    codes = torch.tensor([CODES[name] for name in PROMIX_OPERATIONS])
    for operation, u in zip(codes[chosen], amount, strict=True):
        pixels = whole_round(pixels, operation, 0.05 + 0.9 * u, (4 + 4 * u).floor(), 256 * u)
        affine = affine @ geometric(operation, 2 * u - 1, 0.3)
    pixels = sampled(pixels, affine)
    place = torch.rand(size, 3, generator=generator).to(images.dtype)
    return (painted(pixels, square(pixels, place[:, :2], place[:, 2] / 2), PROMIX_GREY) - mean) / std


def whole_autoaugment(images: Tensor, generator: torch.Generator, standardiser: Standardiser | None) -> Tensor:
    size = len(images)
    pixels, mean, std = unstandardised(images, standardiser)
    affine = torch.eye(3, dtype=images.dtype).expand(size, 3, 3)
    pair = torch.randint(len(CIFAR10_POLICY), (size,), generator=generator)
    luck = torch.rand(2, size, generator=generator)
    sign = (2 * torch.randint(2, (2, size), generator=generator) - 1).to(images.dtype)
    for turn in range(2):
        of = [CIFAR10_POLICY[number][turn] for number in pair.tolist()]
        done = luck[turn] < torch.tensor([chance for _, chance, _ in of])
        operation = torch.where(done, torch.tensor([CODES[name] for name, _, _ in of]), IDENTITY)
        strength = torch.tensor([level for _, _, level in of]).to(images.dtype) / 9
        way = sign[turn]
        pixels = whole_round(
            pixels, operation, 1 + 0.9 * way * strength, 8 - (4 * strength).round(), 256 - 256 * strength
        )
        turned = torch.where(operation == CODES["rotate"], strength, way * strength)
        affine = affine @ geometric(operation, turned, 150 / 331)
    return (sampled(pixels - AUTOAUGMENT_GREY, affine) + AUTOAUGMENT_GREY - mean) / std


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("view", "whole"),
    [(strong_view, whole_strong), (promix_view, whole_promix), (autoaugment_view, whole_autoaugment)],
    ids=["strong", "promix", "autoaugment"],
)
def test_a_view_is_that_of_all_operations_on_all_images(
    view: View, whole: View, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    constants = torch.full((shape[1], 1, 1), 0.3, dtype=dtype), torch.full((shape[1], 1, 1), 0.21, dtype=dtype)
    for seed in range(20 if shape[0] == 1 else 4):
        images = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
        images[0] = 0.5 if seed == 1 else images[0]
        standardiser = Standardiser(*constants, 1.0) if seed % 2 else None
        generators = [torch.Generator().manual_seed(seed) for _ in range(2)]
        expected = whole(images, generators[0], standardiser)
        assert torch.equal(view(images, generators[1], standardiser), expected)
        assert torch.equal(generators[0].get_state(), generators[1].get_state())
        with as_on_accelerator():
            assert torch.equal(view(images, torch.Generator().manual_seed(seed), standardiser), expected)


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name in ("sharpness", "contrast", "autocontrast")])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_operation_gives_an_image_the_same_whichever_others_draw_it(name: str, channels: int) -> None:
    images = torch.rand(8, channels, 12, 12, generator=torch.Generator().manual_seed(0))
    factor, bits, threshold = torch.full((8,), 1.7), torch.full((8,), 3.0), torch.full((8,), 99.0)
    changes = enhancers(images, factor, bits, threshold)
    code = OPERATIONS.index(name)
    together = changed(images, torch.full((8,), code), changes)
    for alone in range(8):
        operation = torch.full((8,), -1)
        operation[alone] = code
        found = changed(images, operation, changes)
        assert torch.equal(found[alone], together[alone])
        assert torch.equal(found[operation < 0], images[operation < 0])
