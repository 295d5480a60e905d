"""The real files under HARNESS_DATA are what their papers say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from harness_plugins.datasets.cifar100_superclasses import SUPERCLASSES
from harness_plugins.datasets.cifar_n import CIFAR10N_FILE, CIFAR10N_KEYS, CIFAR100N_FILE, CIFAR100N_KEYS, read_labels
from harness_plugins.datasets.torchvision_images import CIFAR10_FILES, FASHION_FILES, MNIST_FILES

import harness
from harness import LabelledData
from harness.paths import data_folder

pytestmark = pytest.mark.data


def need(*files: str) -> None:
    lacking = [file for file in files if not (data_folder() / file).exists()]
    if lacking:
        pytest.skip(f"{lacking[0]} is not under HARNESS_DATA ({data_folder()})")


RATES = [
    (CIFAR10N_FILE, CIFAR10N_KEYS, "aggregate", 0.0901),
    (CIFAR10N_FILE, CIFAR10N_KEYS, "random1", 0.1723),
    (CIFAR10N_FILE, CIFAR10N_KEYS, "random2", 0.1812),
    (CIFAR10N_FILE, CIFAR10N_KEYS, "random3", 0.1764),
    (CIFAR10N_FILE, CIFAR10N_KEYS, "worse", 0.4021),
    (CIFAR100N_FILE, CIFAR100N_KEYS, "noisy", 0.4020),
]


@pytest.mark.parametrize(("file", "keys", "name", "rate"), RATES, ids=[case[2] for case in RATES])
def test_human_labels_have_the_published_noise_rates(file: str, keys: dict[str, str], name: str, rate: float) -> None:
    need(file)
    labels = read_labels(data_folder() / file, "cifar10n")
    clean, classes = labels["clean_label"], int(labels["clean_label"].max()) + 1
    human = {ours: labels[theirs] for ours, theirs in keys.items()}
    data = LabelledData(torch.zeros(len(clean), 1), clean, classes, human=human)
    noise = harness.create("noise", "human", labels=name)
    noisy = noise(data, rng=np.random.default_rng(0))
    assert len(noisy) == 50_000
    assert float((noisy != clean).double().mean()) == pytest.approx(rate, abs=5.1e-5)
    balanced = 1 - float(noise.transition_matrix(data).diagonal().mean())
    assert balanced == pytest.approx(rate, abs=5.1e-5)


def test_our_super_classes_are_the_coarse_labels_of_cifar_100() -> None:
    need(CIFAR100N_FILE)
    labels = read_labels(data_folder() / CIFAR100N_FILE, "cifar100n")
    assert torch.equal(torch.tensor(SUPERCLASSES)[labels["clean_label"]], labels["clean_coarse_label"])


def test_cifar_10n_is_cifar_10_with_human_labels() -> None:
    need(CIFAR10N_FILE, *CIFAR10_FILES)
    splits = harness.create("dataset", "cifar10n")
    assert splits.train.inputs.shape == (50_000, 3, 32, 32)
    assert splits.test.inputs.shape == (10_000, 3, 32, 32)
    assert sorted(splits.train.human) == sorted(CIFAR10N_KEYS)
    assert not splits.test.human
    noise = harness.create("noise", "asymmetric", rate=0.4)
    names = splits.train.class_names
    mapping = {names[s]: names[t] for s, t in noise.mapping(splits.train).items()}
    assert mapping == {"truck": "automobile", "bird": "airplane", "cat": "dog", "dog": "cat", "deer": "horse"}


@pytest.mark.parametrize(("name", "files"), [("mnist", MNIST_FILES), ("fashion_mnist", FASHION_FILES)])
def test_mnist_and_fashion_mnist_have_their_sizes_and_known_maps(name: str, files: tuple[str, ...]) -> None:
    need(*files)
    splits = harness.create("dataset", name)
    assert splits.train.inputs.shape == (60_000, 1, 28, 28)
    assert splits.test.inputs.shape == (10_000, 1, 28, 28)
    assert splits.train.inputs.dtype == torch.uint8
    assert len(harness.create("noise", "asymmetric", rate=0.4).mapping(splits.train)) in (4, 5)


def test_mnist_3_has_the_paper_s_counts() -> None:
    need(*MNIST_FILES)
    splits = harness.create("dataset", "mnist3")
    assert torch.bincount(splits.train.targets).tolist() == [5923, 6742, 5958]
    assert len(splits.train) == 18_623
    assert len(splits.test) == 3147
    assert splits.train.num_classes == 3


def test_california_housing_has_the_paper_s_splits_without_overlap() -> None:
    need("cal_housing_py3.pkz")
    splits = harness.create("dataset", "california_housing")
    assert splits.train.inputs.shape == (13_000, 8)
    assert splits.test.inputs.shape == (3000, 8)
    assert splits.train.targets.dtype == torch.float32
    assert splits.train.targets.shape == (13_000,)
    rows = torch.cat([splits.train.inputs, splits.test.inputs])
    assert len(torch.unique(rows, dim=0)) == 16_000
    assert float(splits.train.targets.min()) > 0.14 and float(splits.train.targets.max()) < 5.01
    again = harness.create("dataset", "california_housing")
    assert torch.equal(splits.test.inputs, again.test.inputs)


def test_hate_speech_is_rare_and_a_single_vote_is_noisier_than_the_majority() -> None:
    need("hate-speech/labeled_data.csv", "models/all-MiniLM-L6-v2/tokenizer.json")
    pytest.importorskip("tokenizers", reason="the extra text is not installed")
    data = harness.create("dataset", "hate_speech").train
    assert float(data.targets.double().mean()) == pytest.approx(0.0577, abs=1e-4)
    rates = {
        rule: float(
            (harness.create("noise", "annotators", rule=rule)(data, rng=np.random.default_rng(0)) != data.targets)
            .double()
            .mean()
        )
        for rule in ("majority", "one")
    }
    assert rates["majority"] < 0.005 < 0.05 < rates["one"] < 0.07


@pytest.mark.parametrize(
    ("name", "size", "wrong"), [("youtube", 1506, 0.132), ("sms", 1852, 0.029), ("trec", 4791, 0.463)]
)
def test_wrench_s_majority_has_the_noise_rate_of_its_labelling_functions(name: str, size: int, wrong: float) -> None:
    need(f"wrench/{name}/train.json", "models/all-MiniLM-L6-v2/tokenizer.json")
    pytest.importorskip("tokenizers", reason="the extra text is not installed")
    data = harness.create("dataset", f"wrench:{name}").train
    noisy = harness.create("noise", "annotators")(data, rng=np.random.default_rng(0))
    assert len(data) == size
    assert float((noisy != data.targets).double().mean()) == pytest.approx(wrong, abs=0.02)
