"""Instance-dependent noise: flip rates are a truncated normal's, wrong classes follow the softmax, nothing is slow."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from harness_plugins.noise.instance import Instance, class_weights, draw, truncated_normal, wrong_classes
from scipy import stats

import harness
from harness import HarnessError, LabelledData


def images(size: int, features: int, classes: int, seed: int = 0) -> LabelledData:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (size, 1, features, 1), dtype=torch.uint8, generator=generator)
    return LabelledData(pixels, torch.randint(classes, (size,), generator=generator), classes)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("mean", "std"), [(0.4, 0.1), (0.05, 0.1), (0.0, 0.1), (1.0, 0.3), (0.5, 100.0)])
def test_flip_rates_are_those_of_a_truncated_normal(mean: float, std: float) -> None:
    draws = truncated_normal(mean, std, 20_000, rng())
    law = stats.truncnorm(-mean / std, (1 - mean) / std, loc=mean, scale=std)
    assert stats.kstest(draws, law.cdf).pvalue > 1e-3
    assert draws.min() >= 0 and draws.max() <= 1


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.45])
def test_the_realised_rate_is_the_mean_of_the_flip_rates(rate: float) -> None:
    data = images(20_000, 16, 5)
    expected = stats.truncnorm.mean(-rate / 0.1, (1 - rate) / 0.1, loc=rate, scale=0.1)
    share = float((Instance(rate)(data, rng=rng()) != data.targets).float().mean())
    assert share == pytest.approx(expected, abs=4 * (expected * (1 - expected) / len(data)) ** 0.5)


def test_a_flipped_label_is_always_wrong_and_depends_on_the_image() -> None:
    data = images(4000, 64, 10)
    noisy = Instance(1.0, std=1e-6)(data, rng=rng())
    assert (noisy != data.targets).all()
    twins = LabelledData(data.inputs[:1].expand(500, -1, -1, -1), data.targets[:1].expand(500), 10)
    assert len(Instance(1.0, std=1e-6)(twins, rng=rng()).unique()) <= 2


def test_wrong_classes_follow_the_softmax_without_the_true_class() -> None:
    x, weights = torch.tensor([[0.3, -0.7]]), torch.randn(2, 6, generator=torch.Generator().manual_seed(1)).double()
    logits = np.delete((x.double() @ weights).numpy()[0], 2)
    expected = np.exp(logits) / np.exp(logits).sum()
    drawn = draw(wrong_classes(x.expand(50_000, -1), weights, 2), rng().random(50_000))
    observed = np.delete(np.bincount(drawn, minlength=6), 2)
    assert not (drawn == 2).any()
    assert stats.chisquare(observed, 50_000 * expected).pvalue > 1e-3


def test_weights_are_standard_normal_and_sums_over_pixels_exact() -> None:
    weights = class_weights(3, 0, 784, 10)
    assert stats.kstest(weights.numpy().ravel(), "norm").pvalue > 1e-3
    pixels = torch.randint(256, (5, 784), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    scaled = (weights * 2**16).round().to(torch.int64)
    exact = pixels.to(torch.int64) @ scaled
    assert torch.equal((pixels.double() @ weights) * 2**16, exact.double())


def test_labels_do_not_depend_on_the_number_of_threads() -> None:
    data = images(3000, 784, 10)
    before = torch.get_num_threads()
    labels = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        labels.append(Instance(0.4)(data, rng=rng()))
    torch.set_num_threads(before)
    assert all(torch.equal(labels[0], other) for other in labels)


def test_training_and_validation_labels_come_from_one_annotator() -> None:
    data = images(2000, 64, 10)
    one = Instance(1.0, std=1e-6)
    first, second = one(data, rng=rng(0)), one(data, rng=rng(1))
    stranger = Instance(1.0, std=1e-6)(data, rng=rng(1))
    assert float((first == second).float().mean()) > 0.95
    assert float((first == stranger).float().mean()) < 0.4


def test_streaming_data_and_tokens_are_refused_in_one_line() -> None:
    tokens = LabelledData(torch.zeros(4, 3, dtype=torch.int64), torch.zeros(4, dtype=torch.int64), 2)
    with pytest.raises(HarnessError, match="in memory"):
        Instance(0.2)(tokens, rng=rng())


MEMORY = """
import resource, torch
from harness import LabelledData
from harness_plugins.noise.instance import Instance
import numpy as np
data = LabelledData(torch.zeros(50_000, 3072, dtype=torch.uint8), torch.arange(50_000) % 100, 100)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
Instance(0.4)(data, rng=np.random.default_rng(0))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.slow
def test_it_needs_less_than_a_gibibyte_at_the_size_of_cifar_100() -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, timeout=200)
    assert int(done.stdout) < 2**30


def test_it_shows_what_the_labels_were_drawn_from() -> None:
    data = images(300, 12, 4)
    noise = harness.create("noise", "instance", rate=0.4)
    noisy = noise(data, rng=rng())
    x, y = data.inputs.reshape(300, -1).double(), data.targets
    scores = torch.einsum("nd,ndk->nk", x, noise.W[y])
    scores[torch.arange(300), y] = -torch.inf
    expected = noise.q[:, None] * scores.softmax(1)
    expected[torch.arange(300), y] = 1 - noise.q
    assert torch.allclose(noise.flip_probabilities, expected, atol=1e-12)
    law = stats.truncnorm(-4, 6, loc=0.4, scale=0.1)
    assert stats.kstest(noise.q.numpy(), law.cdf).pvalue > 1e-3
    assert (noise.flip_probabilities[torch.arange(300), noisy] > 0).all()


def test_what_was_shown_can_be_given_again() -> None:
    data = images(400, 12, 4)
    noise = harness.create("noise", "instance", rate=0.4)
    noise(data, rng=rng())
    again = harness.create("noise", "instance", rate=0.4, W=noise.W, q=noise.q)
    again(data, rng=rng(7))
    assert torch.equal(again.W, noise.W) and torch.equal(again.q, noise.q)
    assert torch.allclose(again.flip_probabilities, noise.flip_probabilities, atol=1e-15)
    given = harness.create("noise", "instance", rate=0.4, flip_probabilities=noise.flip_probabilities)
    labels = torch.stack([given(data, rng=rng(seed)) for seed in range(300)])
    shares = torch.nn.functional.one_hot(labels, 4).double().mean(0)
    p = noise.flip_probabilities
    assert (shares - p).abs().max() < 6 * (p * (1 - p) / 300).sqrt().max()
    assert torch.allclose(given.q, noise.q)


def test_certain_flips_give_the_very_labels_also_to_the_parts_of_a_split() -> None:
    data = images(50, 12, 4)
    wanted = (data.targets + 1) % 4
    noise = Instance(0.5, flip_probabilities=torch.nn.functional.one_hot(wanted, 4).double().tolist())
    assert torch.equal(noise(data, rng=rng()), wanted)
    part = torch.tensor([40, 3, 7])
    whole = LabelledData(data.inputs, data.targets, 4, positions=torch.arange(50))
    assert torch.equal(noise(whole.subset(part), rng=rng()), wanted[part])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"W": [[[0.0]]]}, r"W: has shape \(1, 1, 1\)"),
        ({"W": [[0.0]]}, "W"),
        ({"q": [0.5]}, "does not fit 20 samples"),
        ({"q": [1.5] * 20}, "q"),
        ({"flip_probabilities": [[0.5, 0.5]] * 20}, "does not fit 20 samples"),
        ({"flip_probabilities": [[0.25] * 4] * 20, "q": [0.5] * 20}, "stands for W and q"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(given: dict[str, object], message: str) -> None:
    with pytest.raises(HarnessError, match=message) as caught:
        harness.create("noise", "instance", rate=0.4, **given)(images(20, 12, 4), rng=rng())
    assert "\n" not in str(caught.value)
