"""Colours of whole batches on the device: torchvision's AutoAugment, RandAugment and ColorJitter, part of a setting."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from harness.training.data import Standardiser
from harness.training.policies import CIFAR10_POLICY, CODES, Policy, Round, policy_view, transformed
from harness.training.views import OPERATIONS, Change, changed, enhancers, statistics

IMAGENET_POLICY: Policy = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 0)),
    (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 0), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 0)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 0)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 0), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("color", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 0)),
    (("equalize", 0.0, 0), ("equalize", 0.8, 0)),
    (("invert", 0.6, 0), ("equalize", 1.0, 0)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("color", 1.0, 2)),
    (("color", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 0)),
    (("shear_x", 0.6, 5), ("equalize", 1.0, 0)),
    (("color", 0.4, 0), ("equalize", 0.6, 0)),
    (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 0)),
    (("invert", 0.6, 0), ("equalize", 1.0, 0)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
)
"""AutoAugment's 25 pairs for ImageNet (Cubuk et al., 2019): operation, probability, magnitude of 0 to 9."""
RANDAUGMENT = (
    *("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "color", "contrast"),
    *("sharpness", "posterize", "solarize", "autocontrast", "equalize"),
)
POLICIES = ("autoaugment", "autoaugment_cifar10", "randaugment")
TRANSLATION = 150 / 331
JITTERED = ("brightness", "contrast", "color", "hue")


@dataclasses.dataclass(frozen=True)
class Colours:
    """A policy, then jitter of colours, on standardised images.

    Attributes:
        policy: one of :data:`POLICIES`, or none.
        jitter: strengths of brightness, contrast, saturation and hue, as torchvision's ``ColorJitter`` has them.
        standardiser: what images were standardised by; without it they are taken to lie in [0, 1].
    """

    policy: str = ""
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    standardiser: Standardiser | None = None

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """(B, C, H, W), changed; random numbers come from ``generator`` alone."""
        if self.policy == "randaugment":
            images = randaugment(images, generator, self.standardiser)
        elif self.policy:
            table = IMAGENET_POLICY if self.policy == "autoaugment" else CIFAR10_POLICY
            images = policy_view(images, generator, self.standardiser, table, fill=0.0, turns_both_ways=True)
        if any(self.jitter):
            mean, std = statistics(images, self.standardiser)
            images = (jittered((images * std + mean).clamp(0, 1), self.jitter, generator) - mean) / std
        return images


def randaugment(
    images: Tensor,
    generator: torch.Generator,
    standardiser: Standardiser | None = None,
    number: int = 2,
    magnitude: int = 9,
) -> Tensor:
    """RandAugment as torchvision has it (Cubuk et al., 2020): ``number`` of 14 operations at ``magnitude`` of 0 to 30.

    Factors are ``1 +- .9 m/30``, bits 8 to 4, thresholds 255 to 0, shears to .3, translations to 150/331 of the side,
    rotations to 30 degrees, each with a random sign; what comes from outside is black. Deviations are those of
    :mod:`harness.training.policies`: geometry is composed and sampled once, bilinearly, about the centre.

    Args:
        images: (B, C, H, W) standardised images.
        generator: on the images' device.
        standardiser: what the images were standardised by; without it they are taken to lie in [0, 1].
        number, magnitude: torchvision's defaults.
    """
    with torch.no_grad():
        mean, std = statistics(images, standardiser)
        device, size = generator.device, len(images)
        operations = torch.tensor([CODES[name] for name in RANDAUGMENT], device=device)
        chosen = operations[torch.randint(len(RANDAUGMENT), (number, size), generator=generator, device=device)]
        sign = (2 * torch.randint(2, (number, size), generator=generator, device=device) - 1).to(images.dtype)
        strength = magnitude / 30
        bits, threshold = (
            torch.full((size,), value, device=device, dtype=images.dtype)
            for value in (8 - round(4 * strength), 255 - 255 * strength)
        )
        rounds = [
            Round(code, 1 + 0.9 * strength * way, bits, threshold, strength * way)
            for code, way in zip(chosen, sign, strict=True)
        ]
        pixels = (images * std + mean).clamp(0, 1)
        return (transformed(pixels, rounds, translation=TRANSLATION, fill=0.0) - mean) / std


def jittered(pixels: Tensor, strengths: tuple[float, float, float, float], generator: torch.Generator) -> Tensor:
    """torchvision's ``ColorJitter``: the four changes in an order of each image's own, by factors of its own.

    Args:
        pixels: (B, C, H, W) in [0, 1].
        strengths: brightness, contrast and saturation: factors are uniform in ``1 +- strength``, at least 0; hue: shifts are
            uniform in ``+- strength`` of a turn.
        generator: on the images' device.
    """
    with torch.no_grad():
        device, size = generator.device, len(pixels)
        order = torch.rand(size, 4, generator=generator, device=device).argsort(1)
        draw = torch.rand(4, size, generator=generator, device=device).to(pixels.dtype)
        factors = []
        for strength, u, middle in zip(strengths, draw, (1.0, 1.0, 1.0, 0.0), strict=True):
            low = max(0.0, 1 - strength) if middle else -strength
            factors.append(low + (middle + strength - low) * u)
        changes = jitter_changes(pixels, factors, strengths)
        for place in range(4):
            pixels = changed(pixels, order[:, place], changes)
        return pixels


def jitter_changes(
    pixels: Tensor, factors: list[Tensor], strengths: tuple[float, ...] = (1, 1, 1, 1)
) -> Mapping[int, Change]:
    """The changes of :func:`jittered` by their place in :data:`JITTERED`, with (B,) factors; those of no strength are left
    out."""
    found: dict[int, Change] = {}
    for place, name in enumerate(JITTERED):
        if not strengths[place]:
            continue
        if name == "hue":
            shift = factors[place]
            found[place] = lambda images, rows, shift=shift: shifted(images, shift[rows])  # type: ignore[misc]
        else:
            factor = factors[place]
            found[place] = enhancers(pixels, factor, factor, factor)[OPERATIONS.index(name)]
    return found


def shifted(pixels: Tensor, shift: Tensor) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] with their hue turned by (B,) shares of a turn; grey ones stay."""
    if pixels.shape[1] != 3:
        return pixels
    largest, least = pixels.amax(1, keepdim=True), pixels.amin(1, keepdim=True)
    spread = largest - least
    red, green, blue = torch.split(pixels, 1, dim=1)
    safe = torch.where(spread > 0, spread, torch.ones_like(spread))
    sector = torch.where(
        largest == red,
        (green - blue) / safe,
        torch.where(largest == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = sector + 6 * shift.view(-1, 1, 1, 1)
    places = torch.cat([hue + 5, hue + 3, hue + 1], 1).remainder(6)  # of HSV back to RGB, in closed form
    return largest - spread * torch.minimum(places, 4 - places).clamp(0, 1)
