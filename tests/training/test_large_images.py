"""Frames and colours of large images: what torchvision makes of each image alone, in batches and in streams."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from harness import HarnessError, load_suite
from harness.training.augment import Augmentation
from harness.training.colours import (
    IMAGENET_POLICY,
    POLICIES,
    RANDAUGMENT,
    Colours,
    jitter_changes,
    jittered,
    randaugment,
)
from harness.training.data import ResidentSource, Standardiser, StreamingSource
from harness.training.frames import Frame, random_boxes, resampled
from harness.training.policies import CIFAR10_POLICY, CODES, Round, transformed
from harness.training.preprocessing import augmentation_of

CPU = torch.device("cpu")
ONE = torch.ones(1)


def images(number: int = 6, height: int = 20, width: int = 20, seed: int = 0) -> Tensor:
    """Smooth images in [0, 1] with edges: noise at a quarter of the size, enlarged."""
    noise = torch.rand(number, 3, height // 4, width // 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, (height, width), mode="bilinear").clamp(0, 1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- frames ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [7, 12, 31])
@pytest.mark.parametrize("size", [(20, 20), (20, 28), (28, 20)])
def test_resizing_is_torchvisions(size: tuple[int, int], side: int) -> None:
    given = images(3, *size)
    assert torch.allclose(Frame(resize=side).still(given), v2.Resize(side, antialias=True)(given), atol=1e-6)
    assert Frame(resize=side).shape((3, *size)) == tuple(v2.Resize(side)(given[0]).shape)


@pytest.mark.parametrize("side", [5, 8, 13, 20])
def test_what_is_evaluated_is_torchvisions_centre(side: int) -> None:
    given = images(3, 20, 28)
    for frame in (Frame(center_crop=side), Frame(random_crop=side), Frame(random_resized_crop=side)):
        assert torch.equal(frame.still(given), v2.CenterCrop(side)(given))
        assert frame.shape((3, 20, 28)) == (3, side, side)


@pytest.mark.parametrize("side", [6, 16, 40])
def test_a_box_is_resized_as_torchvision_does(side: int) -> None:
    given = images(5, 24, 32)
    boxes = torch.tensor([[0, 0, 24, 32], [3, 5, 7, 9], [10, 20, 14, 12], [1, 0, 5, 32], [23, 31, 1, 1]])
    found = resampled(given, boxes.float(), side)
    for image, box, ours in zip(given, boxes.tolist(), found, strict=True):
        expected = tv.resized_crop(image, *box, size=[side, side], antialias=True)
        assert torch.allclose(ours, expected, atol=1e-5)


def test_boxes_have_torchvisions_distribution() -> None:
    number, size, scale, ratio = 4000, (24, 32), (0.08, 1.0), (3 / 4, 4 / 3)
    ours = random_boxes(number, size, scale, ratio, generator()).numpy()
    torch.manual_seed(0)
    image = torch.zeros(3, *size)
    crop = v2.RandomResizedCrop(4, scale, ratio)
    drawn = [crop.make_params([image]) for _ in range(number)]
    theirs = np.array([[one["top"], one["left"], one["height"], one["width"]] for one in drawn])
    top, left, height, width = ours.T
    assert (top >= 0).all() and (left >= 0).all() and (height >= 1).all() and (width >= 1).all()
    assert (top + height <= size[0]).all() and (left + width <= size[1]).all()
    for k in range(4):
        error = math.hypot(ours[:, k].std(), theirs[:, k].std()) / math.sqrt(number)
        assert abs(ours[:, k].mean() - theirs[:, k].mean()) < 4 * error
        assert ours[:, k].std() == pytest.approx(theirs[:, k].std(), rel=0.08)


def test_a_box_that_never_fits_becomes_the_largest_at_the_centre() -> None:
    torch.manual_seed(0)
    for size in ((4, 64), (64, 4)):
        ours = random_boxes(3, size, (0.9, 1.0), (3 / 4, 4 / 3), generator())
        theirs = v2.RandomResizedCrop(4, (0.9, 1.0)).make_params([torch.zeros(3, *size)])
        assert ours.tolist() == [[theirs["top"], theirs["left"], theirs["height"], theirs["width"]]] * 3


def test_a_random_crop_is_a_window_of_the_image_and_reaches_both_ends() -> None:
    given = torch.arange(36.0).view(1, 1, 6, 6).repeat(400, 1, 1, 1)
    found = Frame(random_crop=4).drawn(given, generator())
    corners = found[:, 0, 0, 0]
    assert {*corners.tolist()} == {6.0 * top + left for top in range(3) for left in range(3)}
    assert torch.equal(found - corners.view(-1, 1, 1, 1), (given[:, :, :4, :4]).expand_as(found))


# --- colours -----------------------------------------------------------------------------------------------------------

CHANGES: list[tuple[str, float, Any]] = [
    ("brightness", 1.4, tv.adjust_brightness),
    ("contrast", 0.3, tv.adjust_contrast),
    ("color", 1.7, tv.adjust_saturation),
    ("hue", 0.31, tv.adjust_hue),
    ("hue", -0.5, tv.adjust_hue),
]


@pytest.mark.parametrize("name, factor, expected", CHANGES)
def test_jitter_changes_colours_as_torchvision_does(name: str, factor: float, expected: Any) -> None:
    given = images(4)
    given[3] = given[3].mean(0)  # grey
    place = ("brightness", "contrast", "color", "hue").index(name)
    changes = jitter_changes(given, [torch.full((4,), factor)] * 4)
    assert torch.allclose(changes[place](given, slice(None)), expected(given, factor), atol=2e-4)


def test_jitter_draws_factors_and_orders_like_torchvision() -> None:
    number = 3000
    given = images(1, 8, 8).expand(number, 3, 8, 8)
    strengths = (0.4, 0.5, 0.6, 0.2)
    torch.manual_seed(0)
    jitter = v2.ColorJitter(*strengths)
    theirs = torch.stack([jitter(image) for image in given]).flatten(1)
    ours = jittered(given, strengths, generator()).flatten(1)
    error = (ours.var(0) + theirs.var(0)).sqrt() / math.sqrt(number)
    assert ((ours.mean(0) - theirs.mean(0)).abs() < 4.5 * error).all()
    assert torch.allclose(ours.std(0), theirs.std(0), rtol=0.12)


def named(policy: Any) -> list[list[tuple[str, float, int]]]:
    """torchvision's pairs by our names."""
    words = {"ShearX": "shear_x", "ShearY": "shear_y", "TranslateX": "translate_x", "TranslateY": "translate_y"}
    found = [[(words.get(o, o.lower()), p, m or 0) for o, p, m in pair] for pair in v2.AutoAugment(policy)._policies]
    return found


def test_policies_are_torchvisions() -> None:
    plain = [
        [(o, p, 0 if o in ("autocontrast", "equalize", "invert") else m) for o, p, m in pair]
        for pair in IMAGENET_POLICY
    ]
    assert plain == named(v2.AutoAugmentPolicy.IMAGENET)
    plain = [
        [(o, p, 0 if o in ("autocontrast", "equalize", "invert") else m) for o, p, m in pair] for pair in CIFAR10_POLICY
    ]
    assert plain == named(v2.AutoAugmentPolicy.CIFAR10)
    assert len(RANDAUGMENT) == len(v2.RandAugment._AUGMENTATION_SPACE)


ANGLE = 30 * 9 / 30
OPERATIONS: list[tuple[str, Any]] = [
    ("rotate", lambda x: tv.rotate(x, ANGLE * 0.3, interpolation=v2.InterpolationMode.BILINEAR)),
    ("brightness", lambda x: tv.adjust_brightness(x, 1.27)),
    ("color", lambda x: tv.adjust_saturation(x, 1.27)),
    ("contrast", lambda x: tv.adjust_contrast(x, 1.27)),
    ("sharpness", lambda x: tv.adjust_sharpness(x, 1.27)),
    ("posterize", lambda x: tv.posterize((x * 255).round().byte(), 7).float() / 255),
    ("solarize", lambda x: tv.solarize((x * 255).round().byte(), 255 - 255 * 0.3).float() / 255),
    ("autocontrast", tv.autocontrast),
    ("equalize", lambda x: tv.equalize((x * 255).round().byte()).float() / 255),
    ("identity", lambda x: x),
]


@pytest.mark.parametrize("name, expected", OPERATIONS)
def test_an_operation_of_randaugment_is_torchvisions(name: str, expected: Any) -> None:
    given = (images(4) * 255).round() / 255
    level = 0.3 * (0.3 if name == "rotate" else 1.0)
    one = Round(
        torch.full((4,), CODES[name]),
        1 + 0.9 * 0.3 * ONE.expand(4),
        7 * ONE.expand(4),
        (255 - 255 * 0.3) * ONE.expand(4),
        level * ONE.expand(4),
    )
    found = transformed(given, [one], translation=150 / 331, fill=0.0)
    assert torch.allclose(found[:, :, 4:-4, 4:-4], expected(given)[:, :, 4:-4, 4:-4], atol=0.006)


def test_randaugment_draws_two_operations_of_fourteen() -> None:
    given = images(600, 8, 8)
    found = randaugment(given, generator())
    unchanged = (found - given).abs().flatten(1).amax(1) < 1e-6
    assert 0 < unchanged.float().mean() < 0.06, "identity twice: 1/196, and what saturates"
    assert torch.equal(found, randaugment(given, generator()))
    assert (found >= 0).all() and (found <= 1).all()


@pytest.mark.parametrize("policy", POLICIES)
def test_colours_work_on_the_pixels_behind_standardised_images(policy: str) -> None:
    given = images(8)
    standardiser = Standardiser.given((given * 255).byte(), [0.4, 0.5, 0.6], [0.2, 0.3, 0.1])
    plain = Colours(policy, (0.2, 0.2, 0.2, 0.1))(given, generator())
    mean, std = standardiser.mean, standardiser.std
    changed = Colours(policy, (0.2, 0.2, 0.2, 0.1), standardiser)((given - mean) / std, generator())
    assert torch.allclose(changed * std + mean, plain, atol=0.01)


# --- sources -----------------------------------------------------------------------------------------------------------


class Stored(Dataset[Tensor]):
    """Images in memory that stream."""

    def __init__(self, stored: Tensor) -> None:
        self.stored = stored

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, position: int) -> Tensor:
        return self.stored[position]


STORED = (images(23, 24, 24) * 255).byte()


def both(augment: dict[str, Any], workers: int = 0) -> tuple[ResidentSource, StreamingSource]:
    standardiser = Standardiser.fit(STORED, "channel")
    augmentation = augmentation_of(augment, standardiser)
    return (
        ResidentSource(STORED, standardiser, augmentation, CPU),
        StreamingSource(Stored(STORED), standardiser, augmentation, CPU, workers),
    )


def test_what_is_evaluated_of_a_stream_is_what_is_of_resident_images() -> None:
    resident, streaming = both({"resize": 20, "random_resized_crop": 16, "flip": True, "policy": "randaugment"})
    index = torch.tensor([3, 0, 22])
    assert resident.gather(index).shape == (3, 3, 16, 16) and resident.whole(index).shape == (3, 3, 24, 24)
    assert torch.allclose(resident.gather(index), streaming.gather(index), atol=0.03), "uint8 is rounded"
    assert torch.equal(resident.whole(index), streaming.whole(index))
    for (_, inputs), (_, others) in zip(resident.ordered(10), streaming.ordered(10), strict=True):
        assert torch.allclose(inputs, others, atol=0.03)


FULL = {
    "random_resized_crop": 16,
    "crop": 2,
    "flip": True,
    "cutout": 4,
    "policy": "autoaugment",
    "color_jitter": [0.4, 0.4, 0.4, 0.1],
}


@pytest.mark.parametrize("augment", [FULL, {"random_crop": 16, "policy": "randaugment"}], ids=["all", "some"])
def test_a_stream_goes_on_in_the_middle_of_a_pass_with_any_number_of_processes(augment: dict[str, Any]) -> None:
    order = torch.randperm(23, generator=generator(1))
    drawn = generator(7)
    whole, states = [], []
    for index, inputs in both(augment)[1].shuffled(order, 5, 0, drawn):
        whole.append((index, inputs))
        states.append(drawn.get_state())
    for workers in (0, 2):
        again = generator(7)
        again.set_state(states[1])
        rest = list(both(augment, workers)[1].shuffled(order, 5, 2, again))
        assert len(rest) == len(whole) - 2
        for (index, inputs), (other, others) in zip(whole[2:], rest, strict=True):
            assert torch.equal(index, other) and torch.equal(inputs, others)
    other_order = list(both(augment)[1].shuffled(order.flip(0), 5, 0, generator(7)))
    same = torch.cat([inputs for _, inputs in whole]) == torch.cat([inputs for _, inputs in other_order]).flip(0)
    assert not same.all(), "another pass draws other numbers"


def test_a_stream_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    list(both(FULL)[1].shuffled(torch.arange(23), 5, 0, generator()))
    assert torch.equal(before, torch.get_rng_state())


def test_the_draws_of_streams_and_of_resident_images_are_alike() -> None:
    one = STORED[:1].repeat(900, 1, 1, 1)
    augmentation = augmentation_of({"random_resized_crop": 6, "flip": True, "color_jitter": [0.4]}, None)
    order = torch.arange(len(one))
    means, errors = [], []
    for source in (
        ResidentSource(one.float() / 255, None, augmentation, CPU),
        StreamingSource(Stored(one), Standardiser.fit(one, "none"), augmentation, CPU),
    ):
        seen = torch.cat([inputs for _, inputs in source.shuffled(order, 300, 0, generator())]).flatten(1)
        means.append(seen.mean(0))
        errors.append(seen.std(0) / math.sqrt(len(one)))
    assert ((means[0] - means[1]).abs() < 4.5 * (errors[0].square() + errors[1].square()).sqrt() + 0.002).all()


# --- settings ----------------------------------------------------------------------------------------------------------

SUITE = """
[suite]
name = "large"
seeds = [0]
[[setting]]
dataset = "digits"
model = "{model}"
subset = 20
normalize = "{normalize}"
augment = {augment}
[training]
epochs = 1
batch_size = 10
[[method]]
name = "CE"
"""


def suite(tmp_path: Path, augment: str, model: str = "linear", normalize: str = "channel") -> Path:
    path = tmp_path / "suite.toml"
    path.write_text(SUITE.format(augment=augment, model=model, normalize=normalize))
    return path


def identity(path: Path) -> Any:
    return next(iter(load_suite(str(path)).entries())).trial.identity["augment"]


def test_an_id_knows_what_is_not_at_its_default(tmp_path: Path) -> None:
    plain = {"crop": 0, "flip": False, "cutout": 0}
    assert identity(suite(tmp_path, "{}")) == plain
    assert identity(suite(tmp_path, "{ resize = 0, policy = '' }")) == plain
    found = identity(suite(tmp_path, "{ random_resized_crop = 16, crop_scale = [0.2, 1] }"))
    assert found == {**plain, "random_resized_crop": 16, "crop_scale": [0.2, 1.0]}
    assert identity(suite(tmp_path, "{ resize = 'model' }")) == {**plain, "resize": "model"}


@pytest.mark.parametrize(
    "augment, words",
    [
        ("{ random_crop = 8, random_resized_crop = 8 }", "stands beside random_crop"),
        ("{ random_crop = 8, center_crop = 9 }", "differ"),
        ("{ random_resized_crop = 8, crop_scale = [0.5, 0.2] }", "two numbers in order"),
        ("{ random_resized_crop = 8, crop_scale = [0.5, 2.0] }", "at most 1"),
        ("{ crop_ratio = [1.0, 1.0] }", "add random_resized_crop"),
        ("{ color_jitter = [0.1, 0.1, 0.1, 0.6] }", "half a turn"),
        ("{ policy = 'auto' }", "policy"),
        ("{ resize = 'own' }", "resize"),
    ],
)
def test_an_augmentation_that_cannot_be_is_told_in_one_line(tmp_path: Path, augment: str, words: str) -> None:
    with pytest.raises(HarnessError) as error:
        load_suite(str(suite(tmp_path, augment)))
    assert words in str(error.value) and "\n" not in str(error.value) and "augment" in str(error.value)


def test_a_network_is_made_for_what_it_sees(tmp_path: Path) -> None:
    from harness.plugins import load_host
    from harness.training.prepare import prepare

    def prepared(**words: str) -> Any:
        return prepare(next(iter(load_suite(str(suite(tmp_path, **words))).entries())).trial, load_host(), CPU)  # type: ignore[arg-type]

    ready = prepared(augment="{ resize = 20, random_crop = 16, flip = true }")
    assert ready.run.input_shape == (1, 16, 16)
    index, inputs = next(iter(ready.run.source.shuffled(torch.arange(20), 4, 0, generator())))
    assert inputs.shape == (4, 1, 16, 16) and ready.run.source.gather(index).shape == (4, 1, 16, 16)
    assert ready.run.view(index, "weak").shape == (4, 1, 16, 16)
    assert ready.run.view(index, "strong").shape == (4, 1, 16, 16)
    assert next(iter(ready.evaluator.test.ordered(3)))[1].shape == (3, 1, 16, 16)
    for words, line in (
        ({"augment": "{ random_crop = 40 }"}, "cannot be cut out of 8 x 8"),
        ({"augment": "{ resize = 'model' }"}, "does not say what its weights were trained on"),
        ({"augment": "{}", "normalize": "model"}, "does not say what its weights were trained on"),
    ):
        with pytest.raises(HarnessError, match=line):
            prepared(**words)


def test_plain_settings_draw_as_before() -> None:
    augmentation = augmentation_of({"crop": 2, "flip": True, "cutout": 0}, None)
    assert augmentation == Augmentation(crop=2, flip=True)
