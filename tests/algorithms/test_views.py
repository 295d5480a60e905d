"""Strong views: each operation against PIL or its definition, and randomness from the given generator alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from harness import HarnessError
from harness.training.data import Standardiser
from harness.training.views import OPERATIONS, geometric, photometric, square, strong_view


def picture(channels: int = 3, size: int = 16) -> Tensor:
    """One image with pixels in [0, 1] on the grid of 8-bit values."""
    values = torch.randint(30, 220, (1, channels, size, size), generator=torch.Generator().manual_seed(0))
    return values.float() / 255


def as_pil(image: Tensor) -> Image.Image:
    return Image.fromarray((image[0].permute(1, 2, 0) * 255).round().byte().numpy())


def as_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 255


def apply(name: str, image: Tensor, level: float) -> Tensor:
    return photometric(image, torch.tensor([OPERATIONS.index(name)]), torch.tensor([level]), torch.full((1, 2), 0.5))


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", ["brightness", "contrast", "color", "sharpness"])
def test_enhancers_are_pils(name: str, level: float) -> None:
    enhancer = getattr(ImageEnhance, name.title())
    expected = as_tensor(enhancer(as_pil(picture())).enhance(1.8 * level + 0.1))
    difference = (apply(name, picture(), level) - expected).abs()
    assert float(difference.max()) <= 3 / 255


@pytest.mark.parametrize("level", [0.1, 0.3, 0.5, 0.9])
def test_invert_posterize_solarize_and_autocontrast_are_pils(level: float) -> None:
    image = picture()
    expected = {
        "invert": ImageOps.invert(as_pil(image)),
        "solarize": ImageOps.solarize(as_pil(image), 256 - int(256 * level)),
        "autocontrast": ImageOps.autocontrast(as_pil(image)),
    }
    for name, theirs in expected.items():
        assert float((apply(name, image, level) - as_tensor(theirs)).abs().max()) <= 1.5 / 255, name
    theirs = as_tensor(ImageOps.posterize(as_pil(image), 4 - int(4 * level)))
    assert float((apply("posterize", image, level) - theirs).abs().max()) <= 1 / 255 + 1e-6


def test_an_image_without_an_operation_stays() -> None:
    image = picture()
    assert torch.equal(photometric(image, torch.tensor([-1]), torch.tensor([0.9]), torch.rand(1, 2)), image)
    assert torch.equal(geometric(torch.tensor([-1]), torch.tensor([0.9])), torch.eye(3)[None])
    for name in ("shear_x", "rotate", "translate_y"):
        assert torch.equal(apply(name, image, 0.9), image)


def moved(name: str, level: float, image: Tensor) -> Tensor:
    matrix = geometric(torch.tensor([OPERATIONS.index(name)]), torch.tensor([level]))
    grid = torch.nn.functional.affine_grid(matrix[:, :2], list(image.shape), align_corners=False)
    return torch.nn.functional.grid_sample(image, grid, align_corners=False, padding_mode="zeros")


def test_translations_move_by_their_share_of_the_side() -> None:
    image = picture(1, 32)
    assert torch.allclose(moved("translate_x", 0.3, image)[..., :-3], image[..., 3:], atol=1e-5)
    assert torch.allclose(moved("translate_y", -0.5, image)[..., 5:, :], image[..., :-5, :], atol=1e-5)


def test_a_rotation_is_by_30_degrees_at_level_1_and_a_shear_by_0_3() -> None:
    rotation = geometric(torch.tensor([OPERATIONS.index("rotate")]), torch.tensor([1.0]))[0]
    assert float(rotation[0, 0]) == pytest.approx(np.cos(np.pi / 6)) and torch.allclose(
        rotation @ rotation.T, torch.eye(3)
    )
    shear = geometric(torch.tensor([OPERATIONS.index("shear_x")]), torch.tensor([-1.0]))[0]
    assert float(shear[0, 1]) == pytest.approx(-0.3) and float(shear[1, 0]) == 0.0


def test_a_square_has_its_side_and_stops_at_the_border() -> None:
    image = torch.zeros(2, 1, 8, 8)
    hidden = square(image, torch.tensor([[0.5, 0.5], [0.0, 0.0]]), torch.tensor([0.5, 0.5]))
    assert hidden.sum((1, 2, 3)).tolist() == [16, 4]
    assert hidden[0, 0, 2:6, 2:6].all()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_views_depend_on_the_generator_alone(channels: int) -> None:
    images = torch.randn(7, channels, 8, 8)
    fit = Standardiser(torch.full((channels, 1, 1), 0.4), torch.full((channels, 1, 1), 0.2), 1 / 255)
    first, again, other = (strong_view(images, torch.Generator().manual_seed(s), fit) for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == images.shape and torch.isfinite(first).all()
    assert float(first.min()) >= -0.4 / 0.2 - 1e-5 and float(first.max()) <= 0.6 / 0.2 + 1e-5


def test_views_differ_between_samples_and_half_a_side_is_cut_out() -> None:
    images = torch.full((64, 1, 16, 16), 0.9)
    views = strong_view(images, torch.Generator().manual_seed(0))
    assert len(views.flatten(1).unique(dim=0)) > 32
    assert ((views == 0).float().sum((1, 2, 3)) >= 16).all()


def test_a_view_does_not_disturb_the_global_generator() -> None:
    images = torch.rand(3, 3, 8, 8)
    before = torch.get_rng_state()
    strong_view(images, torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_run_draws_a_view_anew_and_knows_its_name(make_run: Any) -> None:
    run = make_run(torch.nn.Linear(8, 3), torch.rand(6, 1, 8, 8), torch.arange(6) % 3)
    index = torch.tensor([4, 1])
    first, second = run.view(index, "strong"), run.view(index, "strong")
    assert first.shape == (2, 1, 8, 8) and not torch.equal(first, second)
    assert torch.equal(run.view(index, "weak"), run.source.gather(index))
    with pytest.raises(HarnessError, match="unknown view"):
        run.view(index, "weakest")
