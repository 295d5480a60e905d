"""Strong views: a second, harder augmentation of a batch, on the device, for methods that compare two views (SOP+)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from harness.training.data import Standardiser

OPERATIONS = (
    "invert",
    "autocontrast",
    "posterize",
    "solarize",
    "brightness",
    "contrast",
    "color",
    "sharpness",
    "cutout",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
)
"""UDA's list without ``equalize``, whose histogram per image and channel has no cheap batched form."""
LUMA = (0.299, 0.587, 0.114)
CUTOUT_GREY = (125 / 255, 122 / 255, 113 / 255)


def strong_view(
    images: Tensor, generator: torch.Generator, standardiser: Standardiser | None = None, rounds: int = 2
) -> Tensor:
    """A strong view of each image: UDA's RandAugment, then cutout.

    Each of ``rounds`` times an image draws an operation of :data:`OPERATIONS`, a level in {0.1, ..., 0.9} and whether
    it is applied (1/2); then a square of half the side is cut out. Operations and levels are those of UDA's image code
    (Xie et al., 2020; RandAugment: Cubuk et al., 2020): brightness, contrast, colour and sharpness by ``1.8 level +
    0.1``, posterize to ``4 - int(4 level)`` bits, solarize from ``1 - level`` up, shear by ``0.3 level``, rotation by
    ``30 level`` degrees, translation by ``10/32 level`` of the side; what comes from outside an image, and the final
    cutout, is 0 after standardisation. Deviations: no ``equalize``; the geometric operations of all rounds are
    composed and sampled once, bilinearly; levels of geometry are not rounded to integers; the cutout operation is a
    square of ``20/32 level`` of the side.

    Args:
        images: (B, C, H, W) standardised images.
        generator: on the images' device; all randomness comes from it.
        standardiser: what the images were standardised by; without it they are taken to lie in [0, 1].
        rounds: operations per image; 2 in UDA.

    Returns:
        (B, C, H, W), without gradient.
    """
    with torch.no_grad():
        mean, std = statistics(images, standardiser)
        pixels = (images * std + mean).clamp(0, 1)
        affine = torch.eye(3, device=images.device, dtype=images.dtype).expand(len(images), 3, 3)
        for _ in range(rounds):
            operation, level, sign, centre = _draw(len(images), generator)
            pixels = photometric(pixels, operation, level.to(images.dtype), centre.to(images.dtype))
            affine = affine @ geometric(operation, (level * sign).to(images.dtype))
        moved = (pixels - mean) / std
        size = list(images.shape)
        grid = functional.affine_grid(affine[:, :2], size, align_corners=False)
        moved = functional.grid_sample(moved, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        centre = torch.rand(len(images), 2, generator=generator, device=generator.device)
        hidden = square(moved, centre.to(images.dtype), torch.full((len(images),), 0.5, device=images.device))
        return moved.masked_fill(hidden, 0.0)


def statistics(images: Tensor, standardiser: Standardiser | None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation that images were standardised by, on their device; 0 and 1 without a standardiser."""
    if standardiser is None:
        return images.new_zeros(()), images.new_ones(())
    return (
        standardiser.mean.to(images.device, images.dtype),
        standardiser.std.to(images.device, images.dtype),
    )


def _draw(size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Operations (-1: none), levels, signs and centres of one round."""
    device = generator.device
    operation = torch.randint(len(OPERATIONS), (size,), generator=generator, device=device)
    level = torch.randint(1, 10, (size,), generator=generator, device=device) / 10
    coin = torch.randint(2, (2, size), generator=generator, device=device)
    centre = torch.rand(size, 2, generator=generator, device=device)
    return torch.where(coin[0] == 1, operation, -1), level, 2.0 * coin[1] - 1, centre


def photometric(pixels: Tensor, operation: Tensor, level: Tensor, centre: Tensor) -> Tensor:
    """Operations that change pixels where they stand.

    Args:
        pixels: (B, C, H, W) in [0, 1].
        operation: (B,) int64 positions in :data:`OPERATIONS`; others leave an image alone.
        level: (B,) in [0, 1].
        centre: (B, 2) centre of the cutout as a share of height and width.
    """

    strength = level.view(-1, 1, 1, 1)
    bits, threshold = 4 - (4 * strength + 1e-4).floor(), 256 - (256 * strength).floor()
    changed = enhanced(pixels, operation, 1.8 * strength + 0.1, bits, threshold)
    hidden = (operation == OPERATIONS.index("cutout")).view(-1, 1, 1, 1)
    hidden = hidden & square(pixels, centre, 20 / 32 * level)
    return painted(changed, hidden, CUTOUT_GREY)


def painted(pixels: Tensor, hidden: Tensor, colour: tuple[float, float, float]) -> Tensor:
    """Pixels (B, C, H, W) with a colour, in one channel a middle grey, where ``hidden`` (B, 1, H, W) is true."""
    if pixels.shape[1] != 3:
        return pixels.masked_fill(hidden, 0.5)
    filling = torch.cat([pixels.new_full((1, 1, 1, 1), value) for value in colour], 1)
    return torch.where(hidden, filling, pixels)


def enhanced(pixels: Tensor, operation: Tensor, factor: Tensor, bits: Tensor, threshold: Tensor) -> Tensor:
    """PIL's enhancers, autocontrast, posterize, invert and solarize, each image by its own operation.

    Args:
        pixels: (B, C, H, W) in [0, 1].
        operation: (B,) int64 positions in :data:`OPERATIONS`; others leave an image alone.
        factor: (B, 1, 1, 1) of brightness, contrast, color and sharpness; 1 changes nothing.
        bits: (B, 1, 1, 1) that posterize keeps.
        threshold: (B, 1, 1, 1) from which on, of 256 grey values, solarize inverts.
    """

    def chosen(name: str) -> Tensor:
        return (operation == OPERATIONS.index(name)).view(-1, 1, 1, 1)

    grey = _grey(pixels)
    base = torch.where(chosen("contrast"), grey.mean((1, 2, 3), keepdim=True), torch.zeros_like(pixels))
    base = torch.where(chosen("color"), grey, base)
    base = torch.where(chosen("sharpness"), _smooth(pixels), base)
    blends = chosen("brightness") | chosen("contrast") | chosen("color") | chosen("sharpness")
    changed = torch.where(blends, base + factor * (pixels - base), pixels).clamp(0, 1)
    low, high = pixels.amin((2, 3), keepdim=True), pixels.amax((2, 3), keepdim=True)
    stretched = torch.where(high > low, (pixels - low) / (high - low).clamp_min(1e-6), pixels)
    changed = torch.where(chosen("autocontrast"), stretched, changed)
    steps = 2.0**bits
    changed = torch.where(chosen("posterize"), (pixels * 255 / 256 * steps).floor() / steps, changed)
    inverted = chosen("invert") | (chosen("solarize") & ((pixels * 255).round() >= threshold))
    return torch.where(inverted, 1 - pixels, changed)


def geometric(operation: Tensor, level: Tensor, translation: float = 10 / 32) -> Tensor:
    """(B, 3, 3) maps from output to input coordinates in [-1, 1] of the geometric operations, the identity for others.

    Args:
        operation: (B,) int64 positions in :data:`OPERATIONS`.
        level: (B,) in [-1, 1], the sign is the direction; a rotation by a positive one is counter-clockwise.
        translation: the largest, as a share of the side.
    """

    def amount(name: str, maximum: float) -> Tensor:
        return torch.where(operation == OPERATIONS.index(name), maximum * level, torch.zeros_like(level))

    angle = amount("rotate", torch.pi / 6)
    one, zero = torch.ones_like(level), torch.zeros_like(level)
    rows = [
        angle.cos(),
        amount("shear_x", 0.3) - angle.sin(),
        2 * amount("translate_x", translation),
        amount("shear_y", 0.3) + angle.sin(),
        angle.cos(),
        2 * amount("translate_y", translation),
        zero,
        zero,
        one,
    ]
    return torch.stack(rows, 1).view(-1, 3, 3)


def square(images: Tensor, centre: Tensor, side: Tensor) -> Tensor:
    """(B, 1, H, W) bool: where a square lies, cut off at the border.

    Args:
        images: (B, C, H, W), for their size.
        centre: (B, 2) in [0, 1), a share of height and width.
        side: (B,) a share of the height.
    """
    height, width = images.shape[-2:]
    length = (side * height).floor()[:, None]
    top = (centre[:, :1] * height).floor() - (length / 2).floor()
    left = (centre[:, 1:] * width).floor() - (length / 2).floor()
    y = torch.arange(height, device=images.device)
    x = torch.arange(width, device=images.device)
    rows = (y >= top) & (y < top + length)
    columns = (x >= left) & (x < left + length)
    return (rows[:, :, None] & columns[:, None, :]).unsqueeze(1)


def _grey(pixels: Tensor) -> Tensor:
    """(B, 1, H, W) luma of three channels, else their mean."""
    if pixels.shape[1] != 3:
        return pixels.mean(1, keepdim=True)
    red, green, blue = torch.split(pixels, 1, dim=1)  # a tensor of weights would be copied from the host at every batch
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def _smooth(pixels: Tensor) -> Tensor:
    """The 3 x 3 smoothing of PIL's sharpness (weights 1, 5 at the centre, over 13); the border stays."""
    kernel = pixels.new_ones(3, 3)
    kernel[1, 1] = 5
    channels = pixels.shape[1]
    if min(pixels.shape[-2:]) < 3:
        return pixels
    weight = (kernel / 13).expand(channels, 1, 3, 3)
    smooth = pixels.clone()
    smooth[:, :, 1:-1, 1:-1] = functional.conv2d(pixels, weight, groups=channels)
    return smooth
