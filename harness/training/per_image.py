"""Large images one by one, as torchvision changes them: for streams, in the processes that read them.

What is drawn for an image depends on the trial's generator, the order of the pass and the place in it, and on no other
image. So neither the number of processes nor a stop in between changes what is drawn.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

from harness.training.augment import Augmentation
from harness.training.seeds import derive

AUTOAUGMENT = {
    "autoaugment": v2.AutoAugmentPolicy.IMAGENET,
    "autoaugment_cifar10": v2.AutoAugmentPolicy.CIFAR10,
}


class PerImage:
    """An augmentation as torchvision's v2 transforms of single uint8 images (C, H, W); cutout is left to the batch.

    This module takes seconds to import, for torchvision; it is imported where there is a stream of large images, before
    processes are forked.
    """

    def __init__(self, augmentation: Augmentation) -> None:
        self.augmentation = augmentation
        self._made: dict[tuple[int, ...], tuple[Any, Any]] = {}

    def still(self, image: Tensor) -> Tensor:
        """An image as it is evaluated."""
        found: Tensor = self._of(image)[0](image)
        return found

    def drawn(self, image: Tensor, seed: int) -> Tensor:
        """An image as it is trained on."""
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator, which is a method's
            torch.manual_seed(seed)
            found: Tensor = self._of(image)[1](image)
        return found

    def _of(self, image: Tensor) -> tuple[Any, Any]:
        """What changes images of a shape: as they are evaluated, and as they are trained on."""
        shape = tuple(image.shape)
        if shape not in self._made:
            still = [*self._resize(), *([v2.CenterCrop(side)] if (side := self._frame.side) else [])]
            self._made[shape] = self._composed(still), self._composed([*self._resize(), *self._random(shape)])
        return self._made[shape]

    @property
    def _frame(self) -> Any:
        return self.augmentation.frame

    def _composed(self, steps: list[Any]) -> Any:
        return v2.Compose(steps) if steps else v2.Identity()

    def _resize(self) -> list[Any]:
        return [v2.Resize(self._frame.resize, antialias=True)] if self._frame.resize else []

    def _random(self, shape: tuple[int, ...]) -> list[Any]:
        frame, augmentation = self._frame, self.augmentation
        steps: list[Any] = []
        if frame.random_resized_crop:
            steps.append(v2.RandomResizedCrop(frame.random_resized_crop, frame.scale, frame.ratio, antialias=True))
        elif frame.random_crop:
            steps.append(v2.RandomCrop(frame.random_crop))
        elif frame.center_crop:
            steps.append(v2.CenterCrop(frame.center_crop))
        if augmentation.crop:
            steps.append(v2.RandomCrop(frame.shape(shape)[-2:], padding=augmentation.crop))
        if augmentation.flip:
            steps.append(v2.RandomHorizontalFlip())
        colours = augmentation.colours
        if colours is not None:
            if colours.policy == "randaugment":
                steps.append(v2.RandAugment())
            elif colours.policy:
                steps.append(v2.AutoAugment(AUTOAUGMENT[colours.policy]))
            if any(colours.jitter):
                steps.append(v2.ColorJitter(*colours.jitter))
        return steps


@dataclasses.dataclass(frozen=True)
class AsTrained:
    """What is trained on of the image at a place of a pass, which starts at place ``first`` of its order."""

    images: PerImage
    seed: int
    first: int

    def __call__(self, image: Tensor, place: int) -> Tensor:
        return self.images.drawn(image, derive(self.seed, "image", self.first + place))


@dataclasses.dataclass(frozen=True)
class AsEvaluated:
    """What is evaluated of an image."""

    images: PerImage

    def __call__(self, image: Tensor, place: int) -> Tensor:
        return self.images.still(image)


def pass_seed(generator: torch.Generator, order: Tensor) -> int:
    """What the draws of a pass over samples in an order come from: the seed of a generator, however far it has got."""
    content = hashlib.sha256(order.contiguous().numpy().tobytes()).hexdigest()
    return derive(generator.initial_seed(), "image", content)
