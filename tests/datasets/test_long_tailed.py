"""A long-tailed data set keeps ever fewer samples of its classes, the same ones for every seed, under any noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from harness_plugins.datasets.long_tailed import long_tailed_counts

import harness
from harness import HarnessError


def test_the_counts_are_those_of_long_tailed_cifar() -> None:
    """Cao et al.'s (LDAM) CIFAR-10-LT at 100, whose code is the same formula: 5000 down to 50, 12,406 in all."""
    counts = long_tailed_counts(np.full(10, 5000), 100)
    assert counts.tolist() == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert counts.sum() == 12_406


def test_no_class_vanishes_or_grows() -> None:
    assert long_tailed_counts(np.array([10, 3, 10, 10]), 1000).tolist() == [10, 1, 1, 1]
    assert long_tailed_counts(np.array([5, 5]), 1).tolist() == [5, 5]
    assert long_tailed_counts(np.array([4]), 7).tolist() == [4]


def test_training_samples_are_those_of_the_other_set_and_tests_stay_whole() -> None:
    whole = harness.create("dataset", "digits")
    tailed = harness.create("dataset", "long_tailed", data="digits", ratio=10)
    again = harness.create("dataset", "long_tailed", data="digits", ratio=10)
    counts = torch.bincount(tailed.train.targets)
    assert counts.tolist() == long_tailed_counts(torch.bincount(whole.train.targets).numpy(), 10).tolist()
    assert torch.equal(tailed.train.inputs, again.train.inputs)
    assert torch.equal(tailed.test.inputs, whole.test.inputs)
    rows = {
        bytes(image.numpy().tobytes()): int(k) for image, k in zip(whole.train.inputs, whole.train.targets, strict=True)
    }
    assert all(
        rows[image.numpy().tobytes()] == int(k)
        for image, k in zip(tailed.train.inputs, tailed.train.targets, strict=True)
    )


@pytest.mark.parametrize("noise", ["symmetric", "pairflip", "instance"])
def test_any_noise_takes_it(noise: str) -> None:
    data = harness.create("dataset", "long_tailed", data="digits", ratio=5).train
    noisy = harness.create("noise", noise, rate=0.3)(data, rng=np.random.default_rng(0))
    assert 0.1 < float((noisy != data.targets).float().mean()) < 0.45


def test_bad_input_is_told_in_one_line() -> None:
    with pytest.raises(HarnessError, match="is for regression"):
        harness.create("dataset", "long_tailed", data="sparse_linear")
    with pytest.raises(HarnessError, match="unknown dataset 'cifar'"):
        harness.create("dataset", "long_tailed", data="cifar")
    with pytest.raises(HarnessError, match="ratio"):
        harness.create("dataset", "long_tailed", data="digits", ratio=0.5)
