"""Gaussian noise falls on whole samples of regression targets, at the rate and size that are asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

import harness
from harness import LabelledData


def regression(size: int, outputs: int | None = 36) -> LabelledData:
    shape = (size,) if outputs is None else (size, outputs)
    return LabelledData(torch.zeros(size, 2), torch.randn(shape, generator=torch.Generator().manual_seed(0)))


def test_a_sample_is_moved_on_all_outputs_or_on_none() -> None:
    data = regression(5000)
    noisy = harness.create("noise", "gaussian", std=60**0.5, rate=0.55)(data, rng=np.random.default_rng(0))
    moved = noisy != data.targets
    hit = moved.all(1)
    assert torch.equal(moved.any(1), hit)
    assert float(hit.float().mean()) == pytest.approx(0.55, abs=4 * (0.55 * 0.45 / 5000) ** 0.5)
    noise = (noisy - data.targets)[hit].numpy().ravel()
    assert stats.kstest(noise[::7], "norm", args=(0, 60**0.5)).pvalue > 1e-3
    assert noisy.dtype == torch.float32


def test_outputs_of_a_sample_are_independent() -> None:
    data = regression(20_000, 3)
    noise = harness.create("noise", "gaussian", std=2.0)(data, rng=np.random.default_rng(0)) - data.targets
    covariance = np.cov(noise.numpy().T)
    assert covariance == pytest.approx(4 * np.eye(3), abs=0.2)


def test_single_targets_all_get_noise_by_default() -> None:
    data = regression(3000, None)
    noisy = harness.create("noise", "gaussian", std=3.0)(data, rng=np.random.default_rng(0))
    assert noisy.shape == (3000,)
    assert float((noisy - data.targets).std()) == pytest.approx(3, rel=0.06)
    assert (noisy != data.targets).all()


def test_an_exact_count_corrupts_exactly_k_samples() -> None:
    data = regression(20, None)
    noisy = harness.create("noise", "gaussian", std=1.0, rate=0.15, count="exact")(data, rng=np.random.default_rng(0))
    assert int((noisy != data.targets).sum()) == 3


def test_the_clean_targets_are_left_alone() -> None:
    data = regression(10)
    before = data.targets.clone()
    harness.create("noise", "gaussian", std=1.0)(data, rng=np.random.default_rng(0))
    assert torch.equal(data.targets, before)
