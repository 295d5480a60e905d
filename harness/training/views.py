"""Strong views: a second, harder augmentation of a batch, on the device, for methods that compare two views (SOP+)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

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
        view = moved((pixels - mean) / std, affine)
        centre = torch.rand(len(images), 2, generator=generator, device=generator.device)
        hidden = square(view, centre.to(images.dtype), torch.full((len(images),), 0.5, device=images.device))
        return view.masked_fill_(hidden, 0.0)


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
    bits, threshold = 4 - (4 * level + 1e-4).floor(), 256 - (256 * level).floor()

    def cut(images: Tensor, rows: Rows) -> Tensor:
        return painted(images, square(images, centre[rows], 20 / 32 * level[rows]), CUTOUT_GREY)

    changes = enhancers(pixels, 1.8 * level + 0.1, bits, threshold)
    return changed(pixels, operation, changes | {OPERATIONS.index("cutout"): cut})


def painted(pixels: Tensor, hidden: Tensor, colour: tuple[float, float, float]) -> Tensor:
    """Pixels (B, C, H, W) with a colour, in one channel a middle grey, where ``hidden`` (B, 1, H, W) is true."""
    if pixels.shape[1] != 3:
        return pixels.masked_fill(hidden, 0.5)
    filling = torch.cat([pixels.new_full((1, 1, 1, 1), value) for value in colour], 1)
    return torch.where(hidden, filling, pixels)


Rows = Tensor | slice
"""Which images of a batch: (n,) int64, or all of them as a slice."""
Change = Callable[[Tensor, Rows], Tensor]
"""Of images (n, C, H, W) and their rows in the batch: what an operation makes of them."""


_ON_HOST = ContextVar("on_host", default=True)


@contextmanager
def as_on_accelerator() -> Iterator[None]:
    """Views are drawn on a CPU by the operations that they take on an accelerator, for checks without one."""
    before = _ON_HOST.set(False)
    try:
        yield
    finally:
        _ON_HOST.reset(before)


def _by_rows(pixels: Tensor) -> bool:
    """Whether to sort out images by what they drew, which reads numbers of tensors: for free on a CPU only."""
    return pixels.device.type == "cpu" and _ON_HOST.get()


def changed(pixels: Tensor, operation: Tensor, changes: Mapping[int, Change]) -> Tensor:
    """Each image (of B, C, H, W) after what its ``operation`` (B,) changes; without a change it stays as it is.

    On a CPU an operation gets the images that drew it. Elsewhere it gets all: their number would have to be waited for, and
    one more kernel over a batch costs a GPU less than that.
    """
    if not _by_rows(pixels):
        for code, change in changes.items():
            pixels = torch.where((operation == code).view(-1, 1, 1, 1), change(pixels, slice(None)), pixels)
        return pixels
    order = operation.argsort()
    codes, counts = operation[order].unique_consecutive(return_counts=True)
    found = pixels.clone()
    for code, rows in zip(codes.tolist(), order.split(counts.tolist()), strict=True):
        if code in changes:
            found.index_copy_(0, rows, changes[code](pixels.index_select(0, rows), rows))
    return found


def enhancers(pixels: Tensor, factor: Tensor, bits: Tensor, threshold: Tensor) -> dict[int, Change]:
    """PIL's enhancers, autocontrast, posterize, invert and solarize, by their position in :data:`OPERATIONS`.

    Args:
        pixels: (B, C, H, W), for their number.
        factor: (B,) of brightness, contrast, color and sharpness; 1 changes nothing.
        bits: (B,) that posterize keeps.
        threshold: (B,) from which on, of 256 grey values, solarize inverts.
    """
    size = len(pixels)

    def of(amount: Tensor, rows: Rows) -> Tensor:
        return amount[rows].view(-1, 1, 1, 1)

    def blend(base: Tensor, images: Tensor, rows: Rows) -> Tensor:
        return (images - base).mul_(of(factor, rows)).add_(base).clamp_(0, 1)

    def brightness(images: Tensor, rows: Rows) -> Tensor:
        return (images * of(factor, rows)).clamp_(0, 1)

    def contrast(images: Tensor, rows: Rows) -> Tensor:
        return blend(_grey(images).mean((1, 2, 3), keepdim=True), images, rows)

    def color(images: Tensor, rows: Rows) -> Tensor:
        return blend(_grey(images), images, rows)

    def sharpness(images: Tensor, rows: Rows) -> Tensor:
        if len(images) == 1 < size:  # oneDNN rounds an image that is alone otherwise than one of several
            return blend(_smooth(images.repeat(2, 1, 1, 1))[:1], images, rows)
        return blend(_smooth(images), images, rows)

    def autocontrast(images: Tensor, rows: Rows) -> Tensor:
        low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
        return torch.where(high > low, (images - low) / (high - low).clamp_min(1e-6), images)

    def posterize(images: Tensor, rows: Rows) -> Tensor:
        steps = 2.0 ** of(bits, rows)
        return (images * 255 / 256 * steps).floor() / steps

    def solarize(images: Tensor, rows: Rows) -> Tensor:
        return torch.where((images * 255).round() >= of(threshold, rows), 1 - images, images)

    def invert(images: Tensor, rows: Rows) -> Tensor:
        return 1 - images

    named = (brightness, contrast, color, sharpness, autocontrast, posterize, solarize, invert)
    return {OPERATIONS.index(change.__name__): change for change in named}


def moved(pixels: Tensor, affine: Tensor) -> Tensor:
    """Images (B, C, H, W) sampled bilinearly where (B, 3, 3) maps of :func:`geometric` send their pixels; 0 from outside.

    On a CPU the places of an image that stays are worked out once for all of them.
    """
    if not _by_rows(pixels) or not len(pixels):
        grid = functional.affine_grid(affine[:, :2], list(pixels.shape), align_corners=False)
    else:
        still = torch.eye(3, dtype=affine.dtype)
        rows = (affine != still).flatten(1).any(1).nonzero().squeeze(1)
        shape = list(pixels.shape[1:])
        grid = functional.affine_grid(still[None, :2], [1, *shape], align_corners=False).repeat(len(pixels), 1, 1, 1)
        if len(rows):
            elsewhere = functional.affine_grid(affine[rows, :2], [len(rows), *shape], align_corners=False)
            grid.index_copy_(0, rows, elsewhere)
    sampled: Tensor = functional.grid_sample(pixels, grid, padding_mode="zeros", align_corners=False)
    return sampled


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
