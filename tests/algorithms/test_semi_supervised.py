"""The shared pieces of the methods with unlabelled samples, each against an independent computation."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from harness_plugins.algorithms import semi_supervised
from harness_plugins.algorithms.semi_supervised import (
    Blend,
    balance,
    binary_mask,
    fit_seed,
    fmix_mask,
    linear_ramp,
    low_frequencies,
    minmax,
    mixture_posterior,
    negative_entropy,
    sharpen,
    sigmoid_ramp,
    soft_cross_entropy,
)
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

FLOAT64 = {"rtol": 1e-12, "atol": 1e-13}


def logits(rows: int = 7, classes: int = 5, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0, 2.0])
def test_sharpening_is_a_power_that_is_normalised_again(temperature: float) -> None:
    probabilities = logits().softmax(1)
    powers = probabilities.numpy() ** (1 / temperature)
    np.testing.assert_allclose(sharpen(probabilities, temperature), powers / powers.sum(1, keepdims=True), **FLOAT64)


def test_sharpening_survives_probabilities_that_underflow() -> None:
    sharp = sharpen(torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]), 0.5)
    assert torch.allclose(sharp, torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]))
    tiny = torch.tensor([[1e-30, 1e-30, 0.0]])  # whose squares are 0 in float32
    assert torch.allclose(sharpen(tiny, 0.5), torch.tensor([[0.5, 0.5, 0.0]]), atol=1e-6)


@given(time=st.floats(-5, 50), start=st.floats(0, 20), length=st.floats(0, 20))
def test_a_linear_ramp_rises_from_nothing_to_one(time: float, start: float, length: float) -> None:
    expected = np.clip((time - start) / length, 0, 1) if length else float(time >= start)
    assert linear_ramp(time, start, length) == pytest.approx(expected)


def test_a_sigmoid_ramp_is_that_of_mean_teacher() -> None:
    for now in (0.0, 1.0, 17.0, 40.0, 41.0):
        phase = 1 - np.clip(now, 0, 40) / 40
        assert sigmoid_ramp(now, 40) == pytest.approx(np.exp(-5 * phase * phase))
    assert sigmoid_ramp(3, 0) == 1.0


def test_negative_entropy_and_balance_are_those_of_scipy() -> None:
    outputs = logits()
    probabilities = special.softmax(outputs.numpy(), axis=1)
    assert float(negative_entropy(outputs)) == pytest.approx(-stats.entropy(probabilities, axis=1).mean(), rel=1e-12)
    uniform = np.full(5, 0.2)
    assert float(balance(outputs)) == pytest.approx(stats.entropy(uniform, probabilities.mean(0)), rel=1e-12)


def test_balance_and_entropy_stay_finite_where_a_probability_underflows() -> None:
    outputs = torch.tensor([[300.0, 0.0], [300.0, 0.0]], requires_grad=True)
    total = negative_entropy(outputs) + balance(outputs)
    total.backward()
    assert total.isfinite() and outputs.grad is not None and outputs.grad.isfinite().all()
    assert float(balance(torch.zeros(4, 3))) == pytest.approx(0, abs=1e-6)


def test_soft_cross_entropy_takes_targets_that_sum_to_anything() -> None:
    outputs, targets = logits(), torch.rand(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = -(targets.numpy() * special.log_softmax(outputs.numpy(), axis=1)).sum(1)
    np.testing.assert_allclose(soft_cross_entropy(outputs, targets), expected, **FLOAT64)


def test_minmax_spans_zero_to_one_and_leaves_equal_values_at_zero() -> None:
    values = torch.tensor([3.0, -1.0, 1.0])
    assert minmax(values).tolist() == [1.0, 0.0, 0.5]
    assert minmax(torch.full((4,), 2.0)).tolist() == [0.0] * 4
    assert minmax(torch.empty(0)).shape == (0,)


# --- mixture fits ------------------------------------------------------------------------------------------------------


def losses(low: int = 600, high: int = 400) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(np.concatenate([rng.normal(0.1, 0.05, low), rng.normal(0.7, 0.1, high)]))


def em(values: np.ndarray, low: float, high: float, rounds: int = 500) -> np.ndarray:
    """The posterior of the lower of two Gaussians, by plain EM to its fixed point."""
    shares, means, variances = np.array([0.5, 0.5]), np.array([low, high]), np.array([0.05, 0.05])
    for _ in range(rounds):
        weighted = shares * stats.norm.pdf(values[:, None], means, np.sqrt(variances))
        posterior = weighted / weighted.sum(1, keepdims=True)
        count = posterior.sum(0)
        shares, means = count / count.sum(), (posterior * values[:, None]).sum(0) / count
        variances = (posterior * (values[:, None] - means) ** 2).sum(0) / count + 5e-4
    return posterior[:, 0]


def test_a_mixture_fit_is_the_fixed_point_of_em() -> None:
    values = losses()
    expected = em(values.numpy(), 0.0, 1.0)
    lower = mixture_posterior(values, seed=1, iterations=500, tolerance=1e-12)
    np.testing.assert_allclose(lower, expected, atol=1e-6)
    upper = mixture_posterior(values, seed=1, component="upper", iterations=500, tolerance=1e-12)
    np.testing.assert_allclose(upper, 1 - expected, atol=1e-6)


@pytest.mark.parametrize("values", [torch.full((5,), 0.3), torch.tensor([0.7]), torch.empty(0)])
def test_values_that_nothing_tells_apart_are_all_kept(values: torch.Tensor) -> None:
    assert mixture_posterior(values, seed=0).tolist() == [1.0] * len(values)


def test_two_values_are_told_apart_and_the_type_is_kept() -> None:
    posterior = mixture_posterior(torch.tensor([1.0, 0.0], requires_grad=True), seed=0)
    assert posterior.dtype == torch.float32 and not posterior.requires_grad
    assert posterior.round().tolist() == [0.0, 1.0]


def test_a_fit_draws_from_its_own_seed_alone() -> None:
    values = torch.from_numpy(np.random.default_rng(3).random(40))
    before = np.random.get_state()[1].tobytes()  # noqa: NPY002
    first = mixture_posterior(values, fit_seed(1, 2, "", 3))
    assert np.random.get_state()[1].tobytes() == before  # noqa: NPY002
    assert torch.equal(first, mixture_posterior(values, fit_seed(1, 2, "", 3)))
    seeds = {fit_seed(*keys) for keys in ((1, 2, "", 3), (2, 2, "", 3), (1, 3, "", 3), (1, 2, "a", 3), (1, 2, "", 4))}
    assert len(seeds) == 5 and max(seeds) < 2**32


def test_equal_losses_need_no_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.mixture", None)
    assert mixture_posterior(torch.zeros(3), seed=0).tolist() == [1.0, 1.0, 1.0]


# --- mixtures of rows --------------------------------------------------------------------------------------------------


def test_a_blend_mixes_inputs_and_targets_alike_and_each_row_keeps_most_of_itself() -> None:
    inputs, targets = torch.randn(6, 2, 3, dtype=torch.float64), torch.eye(6, dtype=torch.float64)
    blend = Blend.draw(6, 4.0, torch.Generator().manual_seed(5))
    assert 0.5 <= blend.lam <= 1 and sorted(blend.partners.tolist()) == list(range(6))
    for row, partner in enumerate(blend.partners.tolist()):
        mixed = blend.lam * inputs[row] + (1 - blend.lam) * inputs[partner]
        assert torch.allclose(blend(inputs)[row], mixed, **FLOAT64)
        assert torch.allclose(blend(targets)[row], blend.lam * targets[row] + (1 - blend.lam) * targets[partner])
    assert torch.allclose(blend(inputs, rows=2), blend(inputs)[:2], **FLOAT64)


def test_the_share_of_a_blend_is_the_larger_of_two_of_the_beta_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = np.array([Blend.draw(2, 4.0, generator).lam for _ in range(3000)])
    distribution = stats.beta(4, 4)
    assert stats.kstest(draws, lambda x: 2 * distribution.cdf(x) - 1).pvalue > 0.01


# --- FMix --------------------------------------------------------------------------------------------------------------


def official_image(noise: np.ndarray, height: int, width: int) -> np.ndarray:
    """FMix's image from a whole random spectrum (height, columns, 2), its first axis taken for real and imaginary part."""
    columns = noise.shape[1]
    radius = np.sqrt(np.fft.fftfreq(height)[:, None] ** 2 + np.fft.fftfreq(width)[:columns] ** 2)
    spectrum = noise * (1 / np.maximum(radius, 1 / max(height, width)) ** 3)[..., None]
    image = np.real(np.fft.irfftn(spectrum[0] + 1j * spectrum[1], (height, width), axes=(0, 1)))
    image -= image.min()
    return image / image.max()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (28, 28), (9, 7), (4, 12)])
def test_the_image_of_fmix_is_that_of_the_official_code(height: int, width: int) -> None:
    columns = len(np.fft.fftfreq(width)[: width // 2 + (2 if width % 2 else 1)])
    noise = np.random.default_rng(0).normal(size=(height, columns, 2))
    image = low_frequencies(torch.from_numpy(noise[:2].copy()), height, width)
    np.testing.assert_allclose(image, official_image(noise, height, width), atol=1e-9)


@pytest.mark.parametrize("lam", [0.0, 0.3, 0.501, 1.0])
@pytest.mark.parametrize("up", [False, True])
def test_the_largest_pixels_of_an_image_are_the_ones_of_its_mask(lam: float, up: bool) -> None:
    image = torch.rand(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mask = binary_mask(image, lam, up)
    count = (math.ceil if up else math.floor)(lam * 35)
    assert int(mask.sum()) == count and set(mask.unique().tolist()) <= {0.0, 1.0}
    if 0 < count < 35:
        assert float(image[mask == 1].min()) >= float(image[mask == 0].max())


def test_a_mask_has_its_share_and_the_coin_falls_both_ways() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = {int(fmix_mask(9, 7, 0.4, generator).sum()) for _ in range(30)}
    assert counts == {25, 26}  # of 25.2 pixels
    assert fmix_mask(1, 6, 0.5, generator).shape == (1, 6)


def test_a_worker_of_another_method_does_not_import_scikit_learn() -> None:
    lines = Path(semi_supervised.__file__).read_text().splitlines()
    assert not [line for line in lines if line.startswith(("import ", "from ")) and "sklearn" in line]
