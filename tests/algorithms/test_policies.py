"""Named strong views: their operations against PIL, their draws against the policies, randomness from one generator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import AutoAugmentPolicy
from torchvision.transforms.v2 import AutoAugment

from harness.training.data import Standardiser
from harness.training.policies import (
    CIFAR10_POLICY,
    CODES,
    PROMIX_GREY,
    Round,
    autoaugment_view,
    equalized,
    promix_view,
    transformed,
)


def pictures(count: int = 5, channels: int = 3, size: int = 16) -> Tensor:
    values = torch.randint(30, 220, (count, channels, size, size), generator=torch.Generator().manual_seed(0))
    return values.float() / 255


def as_pil(image: Tensor) -> Image.Image:
    return Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy())


def as_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255


def once(images: Tensor, name: str, fill: float = 0.0, **amounts: float) -> Tensor:
    size = len(images)
    values = {"factor": 1.0, "bits": 8.0, "threshold": 256.0, "level": 0.0} | amounts
    operation = torch.full((size,), CODES[name])
    drawn = Round(operation, **{key: torch.full((size,), value) for key, value in values.items()})
    return transformed(images, [drawn], translation=0.3, fill=fill)


def test_equalisation_is_pils() -> None:
    images = pictures()
    images[1] = 0.5  # nothing to equalise
    expected = torch.stack([as_tensor(ImageOps.equalize(as_pil(image))) for image in images])
    assert torch.allclose(equalized(images), expected, atol=1e-6)
    assert torch.allclose(once(images, "equalize"), expected, atol=1e-5)


@pytest.mark.parametrize("bits", [4, 5, 7])
def test_posterize_and_solarize_take_bits_and_a_threshold(bits: int) -> None:
    images = pictures()
    expected = torch.stack([as_tensor(ImageOps.posterize(as_pil(image), bits)) for image in images])
    assert float((once(images, "posterize", bits=bits) - expected).abs().max()) <= 1 / 255 + 1e-5
    expected = torch.stack([as_tensor(ImageOps.solarize(as_pil(image), 20 * bits)) for image in images])
    assert torch.allclose(once(images, "solarize", threshold=20.0 * bits), expected, atol=1e-5)


def test_a_rotation_is_counter_clockwise_and_what_comes_from_outside_is_filled() -> None:
    images = pictures(1, size=17)
    turned = once(images, "rotate", level=1.0, fill=0.5)
    expected = as_tensor(as_pil(images[0]).rotate(30, resample=Image.Resampling.BILINEAR))
    assert float((turned[0, :, 6:11, 6:11] - expected[:, 6:11, 6:11]).abs().max()) < 3 / 255
    assert torch.allclose(turned[0, :, 0, 0], torch.full((3,), 0.5), atol=1e-5)
    moved = once(images, "translate_x", level=10 / 17)  # of .3 of the side: 3 pixels
    assert torch.allclose(moved[0, :, :, :14], images[0, :, :, 3:], atol=1e-4) and not moved[0, :, :, 14:].any()


def test_the_policy_for_cifar10_is_torchvisions() -> None:
    words = {"translate_x": "TranslateX", "translate_y": "TranslateY", "shear_x": "ShearX", "shear_y": "ShearY"}
    special = {"autocontrast": "AutoContrast"}

    def told(name: str, level: int) -> tuple[str, int | None]:
        without = name in ("autocontrast", "equalize", "invert")
        return words.get(name, special.get(name, name.title())), None if without else level

    theirs = AutoAugment(AutoAugmentPolicy.CIFAR10)._policies
    assert len(CIFAR10_POLICY) == 25
    for pair, other in zip(CIFAR10_POLICY, theirs, strict=True):
        for (name, chance, level), (word, probability, magnitude) in zip(pair, other, strict=True):
            assert (*told(name, level), chance) == (word, magnitude, probability)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("view", [promix_view, autoaugment_view])
def test_views_depend_on_the_generator_alone_and_stay_in_range(view: object, channels: int) -> None:
    assert callable(view)
    images = (pictures(7, channels, 8) - 0.4) / 0.2
    fit = Standardiser(torch.full((channels, 1, 1), 0.4), torch.full((channels, 1, 1), 0.2), 1 / 255)
    before = torch.get_rng_state()
    first, again, other = (view(images, torch.Generator().manual_seed(s), fit) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == images.shape and first.isfinite().all()
    assert float(first.min()) >= -0.4 / 0.2 - 1e-5 and float(first.max()) <= 0.6 / 0.2 + 1e-5


def test_an_image_is_augmented_alike_whatever_else_is_in_the_batch() -> None:
    images = pictures(6)
    other = images.clone()
    other[1:] = 0.1
    for view in (promix_view, autoaugment_view):
        first, second = (view(batch, torch.Generator().manual_seed(3)) for batch in (images, other))
        assert torch.equal(first[0], second[0])


def test_promix_cuts_out_squares_of_up_to_half_the_side() -> None:
    images = torch.zeros(400, 3, 16, 16)
    views = promix_view(images, torch.Generator().manual_seed(0))
    grey = torch.tensor(PROMIX_GREY).view(1, 3, 1, 1)
    hidden = ((views - grey).abs() < 1e-6).all(1).sum((1, 2))
    assert int(hidden.max()) == 49 and int(hidden.min()) == 0  # floor of less than 8, and of less than 1
    assert len(hidden.unique()) > 10


def test_each_pair_of_the_cifar_policy_is_drawn_and_done_by_its_chances() -> None:
    images = pictures(1, size=32).expand(800, 3, 32, 32)
    views = autoaugment_view(images, torch.Generator().manual_seed(0))
    same = (views - images).abs().flatten(1).amax(1).lt(1e-5).float().mean()
    chances = [[0.0 if (name, level) == ("color", 0) else p for name, p, level in pair] for pair in CIFAR10_POLICY]
    nothing = float(np.mean([(1 - first) * (1 - second) for first, second in chances]))
    assert float(same) == pytest.approx(nothing, abs=4 * (nothing * (1 - nothing) / 800) ** 0.5)
