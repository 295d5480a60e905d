"""What a network sees of an image: resizing and cutting whole batches on the device, as torchvision does each image."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor
from torch.nn import functional

from harness.errors import DataError

TRIES = 10
"""Boxes that a random resized crop draws for an image until one lies inside it."""


@dataclasses.dataclass(frozen=True)
class Frame:
    """Which part of an image is seen, and at what size; 0 switches an operation off.

    In training images are resized, then cut at random. Where nothing is drawn (evaluation, scores) they are resized and
    cut at the centre.

    Attributes:
        resize: pixels of the shorter side.
        center_crop: side of a square at the centre.
        random_crop: side of a square anywhere within the image.
        random_resized_crop: side to which a random box is resized (Szegedy et al., 2015).
        scale: least and largest share of the image's area that such a box has.
        ratio: its least and largest width by height.
    """

    resize: int = 0
    center_crop: int = 0
    random_crop: int = 0
    random_resized_crop: int = 0
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    @property
    def active(self) -> bool:
        return bool(self.resize or self.side)

    @property
    def side(self) -> int:
        """Of what is cut out; 0: nothing is."""
        return self.random_resized_crop or self.random_crop or self.center_crop

    def shape(self, given: tuple[int, ...]) -> tuple[int, ...]:
        """The shape (C, H, W) of what is seen of images of a shape.

        Raises:
            DataError: when the images are smaller than what is to be cut out.
        """
        size = (given[-2], given[-1])
        if self.resize:
            size = resized_size(size, self.resize)
        if not self.side:
            return (*given[:-2], *size)
        if self.side > min(size):
            raise DataError(
                f"{self.side} pixels cannot be cut out of {size[0]} x {size[1]}", "augment",
                "resize the images before, or let the data set give larger ones (its parameter size)",
            )  # fmt: skip
        return (*given[:-2], self.side, self.side)

    def still(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) as they are evaluated."""
        images = self._resized(images)
        return center_cropped(images, self.side) if self.side else images

    def drawn(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images (B, C, H, W) as they are trained on; random numbers come from ``generator`` alone."""
        images = self._resized(images)
        if self.random_resized_crop:
            boxes = random_boxes(len(images), images.shape[-2:], self.scale, self.ratio, generator)
            return resampled(images, boxes.to(images.device), self.random_resized_crop)
        if self.random_crop:
            top, left = (
                torch.randint(side - self.random_crop + 1, (len(images),), generator=generator, device=generator.device)
                for side in images.shape[-2:]
            )
            return window(images, top, left, self.random_crop, self.random_crop)
        return center_cropped(images, self.center_crop) if self.center_crop else images

    def _resized(self, images: Tensor) -> Tensor:
        size = resized_size(images.shape[-2:], self.resize) if self.resize else images.shape[-2:]
        if tuple(size) == tuple(images.shape[-2:]):
            return images
        return functional.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)


def resized_size(size: tuple[int, ...], side: int) -> tuple[int, int]:
    """Height and width after the shorter one has become ``side``, as torchvision rounds the longer one."""
    height, width = size
    if height <= width:
        return side, int(side * width / height)
    return int(side * height / width), side


def center_cropped(images: Tensor, side: int) -> Tensor:
    """The square of (B, C, side, side) at the centre."""
    top, left = (round((pixels - side) / 2) for pixels in images.shape[-2:])
    return images[..., top : top + side, left : left + side]


def window(images: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """(B, C, height, width): of each image what lies from its own (B,) ``top`` and ``left`` on."""
    windows = images.unfold(2, height, 1).unfold(3, width, 1)  # (B, C, top, left, height, width) without a copy
    return windows[torch.arange(len(images), device=images.device), :, top, left].contiguous()


def random_boxes(
    batch: int,
    size: tuple[int, ...],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    generator: torch.Generator,
) -> Tensor:
    """(B, 4) float top, left, height and width of the boxes of a random resized crop.

    As torchvision draws them: area uniform, the logarithm of width by height uniform; of ten draws the first that lies
    inside, else the largest box at the centre whose width by height is allowed.
    """
    height, width = size
    draw = torch.rand(4, batch, TRIES, generator=generator, device=generator.device, dtype=torch.float64)
    area = height * width * (scale[0] + (scale[1] - scale[0]) * draw[0])
    shape = (math.log(ratio[0]) + (math.log(ratio[1]) - math.log(ratio[0])) * draw[1]).exp()
    wide, high = (area * shape).sqrt().round(), (area / shape).sqrt().round()
    inside = (wide >= 1) & (wide <= width) & (high >= 1) & (high <= height)
    first = inside.int().argmax(1, keepdim=True)
    wide, high, down, right = (x.gather(1, first).squeeze(1) for x in (wide, high, draw[2], draw[3]))
    top, left = (down * (height - high + 1)).floor(), (right * (width - wide + 1)).floor()
    found = torch.stack([top, left, high, wide], 1)
    whole_width = min(width, round(height * ratio[1]))
    whole_height = min(height, round(width / ratio[0]))
    centred = [(height - whole_height) // 2, (width - whole_width) // 2, whole_height, whole_width]
    rest = torch.stack([torch.full_like(top, value) for value in centred], 1)
    return torch.where(inside.any(1, keepdim=True), found, rest).float()


def resampled(images: Tensor, boxes: Tensor, side: int) -> Tensor:
    """(B, C, side, side): each image's own box (B, 4) of top, left, height and width, resized bilinearly with antialiasing.

    What torchvision's ``resized_crop`` gives of each image alone; here the weights of all rows and columns are two
    products of matrices.
    """
    height, width = images.shape[-2:]
    with torch.autocast(images.device.type, enabled=False):
        rows = _weights(boxes[:, 0], boxes[:, 2], side, height).to(images.dtype)[:, None]
        columns = _weights(boxes[:, 1], boxes[:, 3], side, width).to(images.dtype)[:, None]
        return rows @ images @ columns.transpose(-1, -2)


def _weights(start: Tensor, length: Tensor, side: int, size: int) -> Tensor:
    """(B, side, size) what each of ``size`` pixels gives to each of ``side``: a triangle over what a pixel covers."""
    step = (length / side)[:, None, None]
    centre = start[:, None, None] + step * (torch.arange(side, device=start.device)[:, None] + 0.5)
    pixel = torch.arange(size, device=start.device) + 0.5
    weights = (1 - (pixel - centre).abs() / step.clamp_min(1)).clamp_min(0)
    end = (start + length)[:, None, None]
    weights = weights * ((pixel > start[:, None, None]) & (pixel < end))
    return weights / weights.sum(-1, keepdim=True)
