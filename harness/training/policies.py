"""Named strong views: the augmentation policies that methods' official codes use, on whole batches on the device.

Each works on the pixels of an image before the setting's own augmentation, as ``run.view(index, "promix")`` draws it. As
in :func:`harness.training.views.strong_view` the geometric operations of an image are composed and sampled once, after
its other operations, bilinearly and about the centre (PIL, one after the other, mostly to the nearest pixel, and
shears about a corner); pixels are not rounded to 256 values in between.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from harness.training.augment import Augmentation
from harness.training.data import Standardiser
from harness.training.views import (
    OPERATIONS,
    changed,
    enhancers,
    geometric,
    moved,
    painted,
    square,
    statistics,
    strong_view,
)

IDENTITY = -1
EQUALIZE = len(OPERATIONS)
CODES = {name: code for code, name in enumerate((*OPERATIONS, "equalize"))} | {"identity": IDENTITY}
PROMIX_OPERATIONS = (
    *("autocontrast", "brightness", "color", "contrast", "equalize", "identity", "posterize", "rotate", "sharpness"),
    *("shear_x", "shear_y", "solarize", "translate_x", "translate_y"),
)
PROMIX_GREY = (125 / 255, 123 / 255, 114 / 255)
AUTOAUGMENT_GREY = 128 / 255
Policy = tuple[tuple[tuple[str, float, int], tuple[str, float, int]], ...]
"""Pairs of operations, each with its probability and magnitude."""
CIFAR10_POLICY: Policy = (
    (("invert", 0.1, 7), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.5, 8), ("equalize", 0.9, 2)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 5), ("equalize", 0.5, 1)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 7), ("autocontrast", 0.4, 8)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 3)),
    (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
    (("equalize", 0.2, 8), ("equalize", 0.6, 4)),
    (("color", 0.9, 9), ("equalize", 0.6, 6)),
    (("autocontrast", 0.8, 4), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("autocontrast", 0.9, 3)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.9, 2), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 8), ("invert", 0.1, 3)),
    (("translate_y", 0.7, 9), ("autocontrast", 0.9, 1)),
)
"""AutoAugment's 25 pairs for CIFAR-10 (Cubuk et al., 2019): operation, probability, magnitude of 0 to 9."""


@dataclasses.dataclass(frozen=True)
class Round:
    """One operation for each image, with its magnitude in all units, of which the operation takes its own.

    Attributes:
        operation: (B,) int64, a value of :data:`CODES`.
        factor: (B,) of an enhancer; bits: (B,) kept; threshold: (B,) of 256 grey values; level: (B,) in [-1, 1] of geometry.
    """

    operation: Tensor
    factor: Tensor
    bits: Tensor
    threshold: Tensor
    level: Tensor


def promix_view(images: Tensor, generator: torch.Generator, standardiser: Standardiser | None = None) -> Tensor:
    """ProMix's strong view (Xiao et al., 2023): three operations of 14, drawn with replacement, then a grey square.

    As in the official code's ``RandomAugment(3, 5)``: factors in [.05, .95], 4 to 7 bits, thresholds in [0, 256),
    rotations within 30 degrees, shears within .3 and translations within .3 of the side, all uniform; the square, of
    (125, 123, 114), has up to half the side. What comes from outside is black.

    Args:
        images: (B, C, H, W) standardised images.
        generator: on the images' device; all randomness comes from it.
        standardiser: what the images were standardised by; without it they are taken to lie in [0, 1].

    Returns:
        (B, C, H, W), without gradient.
    """
    with torch.no_grad():
        mean, std = statistics(images, standardiser)
        device, size = generator.device, len(images)
        chosen = torch.randint(len(PROMIX_OPERATIONS), (3, size), generator=generator, device=device)
        amount = torch.rand(3, size, generator=generator, device=device).to(images.dtype)
        operations = _codes(PROMIX_OPERATIONS, device)[chosen]
        rounds = [
            Round(code, 0.05 + 0.9 * u, (4 + 4 * u).floor(), 256 * u, 2 * u - 1)
            for code, u in zip(operations, amount, strict=True)
        ]
        pixels = transformed((images * std + mean).clamp(0, 1), rounds, translation=0.3, fill=0.0)
        place = torch.rand(size, 3, generator=generator, device=device).to(images.dtype)
        hidden = square(pixels, place[:, :2], place[:, 2] / 2)
        return (painted(pixels, hidden, PROMIX_GREY) - mean) / std


def autoaugment_view(images: Tensor, generator: torch.Generator, standardiser: Standardiser | None = None) -> Tensor:
    """AutoAugment's policy for CIFAR-10 (Cubuk et al., 2019), as the codes of UNICON and CORES2 have it.

    Each image draws one of 25 pairs of operations, each done with its own probability: factors ``1 +- .9 m/9``, bits from 8
    down to 4, thresholds from 256 down to 0, shears to .3, translations to 150/331 of the side, both with a random
    sign, rotations to 30 degrees, counter-clockwise only. What comes from outside is grey (128).

    Args and result are those of :func:`promix_view`.
    """
    return policy_view(images, generator, standardiser, CIFAR10_POLICY, fill=AUTOAUGMENT_GREY, turns_both_ways=False)


def policy_view(
    images: Tensor,
    generator: torch.Generator,
    standardiser: Standardiser | None,
    policy: Policy,
    *,
    fill: float,
    turns_both_ways: bool,
) -> Tensor:
    """A pair of operations for each image, as :func:`autoaugment_view` says.

    Args:
        images, generator, standardiser: as there.
        policy: the pairs.
        fill: of what comes from outside, in [0, 1].
        turns_both_ways: whether rotations have a random sign, as torchvision's have.
    """
    with torch.no_grad():
        mean, std = statistics(images, standardiser)
        device, size = generator.device, len(images)
        codes, probabilities, magnitudes = _tables(policy, device)
        pair = torch.randint(len(policy), (size,), generator=generator, device=device)
        done = torch.rand(2, size, generator=generator, device=device) < probabilities[pair].T
        sign = (2 * torch.randint(2, (2, size), generator=generator, device=device) - 1).to(images.dtype)
        rounds = []
        for operation, some, way, level in zip(codes[pair].T, done, sign, magnitudes[pair].T, strict=True):
            strength = level.to(images.dtype) / 9
            turned = way * strength
            if not turns_both_ways:
                turned = torch.where(operation == CODES["rotate"], strength, turned)
            bits = 8 - (4 * strength).round()
            code = torch.where(some, operation, IDENTITY)
            rounds.append(Round(code, 1 + 0.9 * way * strength, bits, 256 - 256 * strength, turned))
        pixels = (images * std + mean).clamp(0, 1)
        return (transformed(pixels, rounds, translation=150 / 331, fill=fill) - mean) / std


def transformed(pixels: Tensor, rounds: Iterable[Round], translation: float, fill: float) -> Tensor:
    """Pixels after all rounds: their operations on grey values in turn, then their geometry, sampled once."""
    affine = torch.eye(3, device=pixels.device, dtype=pixels.dtype).expand(len(pixels), 3, 3)
    for one in rounds:
        changes = enhancers(pixels, one.factor, one.bits, one.threshold)
        pixels = changed(pixels, one.operation, changes | {EQUALIZE: lambda images, rows: equalized(images)})
        affine = affine @ geometric(one.operation, one.level, translation)
    return moved(pixels - fill, affine).add_(fill)


def equalized(pixels: Tensor) -> Tensor:
    """PIL's histogram equalisation of each image and channel, (B, C, H, W) in [0, 1], over 256 grey values."""
    found: Tensor = _torchvision().equalize((pixels * 255).round().to(torch.uint8))
    return found.to(pixels.dtype) / 255


@functools.cache
def _torchvision() -> Any:
    from torchvision.transforms.v2 import functional as transforms  # seconds, which only these views need

    return transforms


@functools.cache
def _codes(names: tuple[str, ...], device: torch.device) -> Tensor:
    return torch.tensor([CODES[name] for name in names], device=device)


@functools.cache
def _tables(policy: Policy, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """(P, 2) operations, probabilities and magnitudes."""
    codes = torch.tensor([[CODES[name] for name, _, _ in pair] for pair in policy], device=device)
    chances = torch.tensor([[chance for _, chance, _ in pair] for pair in policy], device=device)
    levels = torch.tensor([[level for _, _, level in pair] for pair in policy], device=device)
    return codes, chances, levels


POLICIES: dict[str, Callable[[Tensor, torch.Generator, Standardiser | None], Tensor]] = {
    "promix": promix_view,
    "autoaugment": autoaugment_view,
}
"""Views by the name that ``run.view`` knows them by."""


def drawn_view(
    images: Tensor,
    name: str,
    generator: torch.Generator,
    augmentation: Augmentation,
    standardiser: Standardiser | None,
) -> Tensor:
    """A view of standardised samples by its name, ``weak``, ``strong`` or one of :data:`POLICIES`; see ``run.view``."""
    if name in POLICIES:
        images = POLICIES[name](images, generator, standardiser)
    if augmentation.active:
        images = augmentation(images, generator)
    return strong_view(images, generator, standardiser) if name == "strong" else images


VIEWS = ("weak", "strong", *POLICIES)
"""Augmented views by name."""
