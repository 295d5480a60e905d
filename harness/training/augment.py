"""Augmentation of whole batches on the device: crop, flip, colours, cutout. Part of the setting, alike for every method."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.training.frames import Frame, window

if TYPE_CHECKING:
    from harness.training.colours import Colours

WHOLE = Frame()
"""Images are seen as they are."""


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What a network sees of an image, random crop after padding, random horizontal flip, colours, cutout, each drawn per
    sample.

    Attributes:
        crop: pixels of padding on each side before a crop back to the size; 0 is off.
        flip: mirror half of the images.
        cutout: side in pixels of a square, centred anywhere in the image, set to 0, the mean of standardised images
            (DeVries and Taylor, 2017, whose code cuts after it standardises).
        zero: (C, 1, 1) the value of a black pixel, with which a crop is padded.
        frame: resizing, and what is cut out before all else.
        colours: a policy and jitter of colours, after the flip.
    """

    crop: int = 0
    flip: bool = False
    cutout: int = 0
    zero: Tensor | None = None
    frame: Frame = WHOLE
    colours: Colours | None = None

    @property
    def active(self) -> bool:
        return bool(self.crop or self.flip or self.cutout or self.large)

    @property
    def large(self) -> bool:
        """Whether images change in size or colours, which of a stream each is changed in the process that reads it."""
        return self.frame.active or self.colours is not None

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """(B, C, H, W) standardised images, augmented; random numbers come from ``generator`` alone."""
        if self.frame.active:
            images = self.frame.drawn(images, generator)
        if self.crop:
            images = self._crop(images, generator)
        if self.flip:
            mirrored = self._draw(len(images), 2, generator).bool()
            images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)
        if self.colours is not None:
            images = self.colours(images, generator)
        if self.cutout:
            images = self._cutout(images, generator)
        return images

    @staticmethod
    def _draw(size: int, high: int, generator: torch.Generator) -> Tensor:
        return torch.randint(high, (size,), generator=generator, device=generator.device)

    def _black(self, images: Tensor) -> Tensor:
        zero = self.zero if self.zero is not None else torch.zeros(())
        return zero.to(images.device, images.dtype).expand(images.shape[1], 1, 1)

    def _crop(self, images: Tensor, generator: torch.Generator) -> Tensor:
        batch, channels, height, width = images.shape
        pad = self.crop
        padded = self._black(images).expand(channels, height + 2 * pad, width + 2 * pad).repeat(batch, 1, 1, 1)
        padded[:, :, pad : pad + height, pad : pad + width] = images
        top = self._draw(batch, 2 * pad + 1, generator)
        left = self._draw(batch, 2 * pad + 1, generator)
        return window(padded, top, left, height, width)

    def _cutout(self, images: Tensor, generator: torch.Generator) -> Tensor:
        batch, _, height, width = images.shape
        top = self._draw(batch, height, generator) - self.cutout // 2
        left = self._draw(batch, width, generator) - self.cutout // 2
        y = torch.arange(height, device=images.device)
        x = torch.arange(width, device=images.device)
        rows = (y >= top[:, None]) & (y < top[:, None] + self.cutout)
        columns = (x >= left[:, None]) & (x < left[:, None] + self.cutout)
        hidden = (rows[:, :, None] & columns[:, None, :]).unsqueeze(1)
        return images.masked_fill(hidden, 0.0)
