"""Label noise follows its transition matrix, is drawn from the clean labels, and costs what it may."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.noise.asymmetric import MAPS
from harness_plugins.noise.matrix import exact_count
from hypothesis import given, settings
from hypothesis import strategies as st

import harness
from harness import HarnessError, LabelledData

pytestmark = pytest.mark.portable

DIGITS = tuple("0123456789")
CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def labelled(size: int, classes: int, names: tuple[str, ...] = (), seed: int = 0, **more: Any) -> LabelledData:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(classes, (size,), generator=generator)
    return LabelledData(torch.zeros(size, 1, dtype=torch.uint8), targets, classes, names, **more)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def counts(clean: torch.Tensor, noisy: torch.Tensor, classes: int) -> np.ndarray:
    table = np.zeros((classes, classes))
    np.add.at(table, (clean.numpy(), noisy.numpy()), 1)
    return table


SUPER = torch.arange(20) % 4
MATRIX_NOISE = [
    ("none", {}, 10),
    ("symmetric", {"rate": 0.4}, 10),
    ("symmetric", {"rate": 0.4, "inclusive": True}, 10),
    ("symmetric", {"rate": 0.9}, 3),
    ("symmetric", {"rate": 1.0}, 2),
    ("pairflip", {"rate": 0.45}, 10),
    ("asymmetric", {"rate": 0.4, "map": "cifar10_patrini"}, 10),
    ("asymmetric", {"rate": 0.6, "map": "mnist_patrini"}, 10),
    ("superclass", {"rate": 0.4}, 20),
    ("superclass", {"rate": 0.3, "map": "block"}, 20),
    ("superclass", {"rate": 0.4, "map": "pairs"}, 20),
    ("kernel", {"rate": 0.2}, 10),
    ("kernel", {"rate": 0.5, "kernel": [[0, 1, 1], [3, 0, 1], [1, 1, 2]]}, 3),
]


@pytest.mark.parametrize("count", ["binomial", "exact"])
@pytest.mark.parametrize(("name", "params", "classes"), MATRIX_NOISE)
def test_labels_follow_the_transition_matrix(name: str, params: dict[str, Any], classes: int, count: str) -> None:
    params = params if name == "none" else {**params, "count": count}
    noise = harness.create("noise", name, **params)
    total = np.zeros((classes, classes))
    for seed in range(5):
        data = labelled(20_000, classes, seed=seed, superclasses=SUPER if classes == 20 else None)
        total += counts(data.targets, noise(data, rng=rng(seed)), classes)
    matrix = noise.transition_matrix(data)
    assert matrix.shape == (classes, classes)
    assert torch.allclose(matrix.sum(1), torch.ones(classes, dtype=torch.float64))
    rows = total.sum(1, keepdims=True)
    error = np.sqrt(matrix.numpy() * (1 - matrix.numpy()) / rows)
    assert (np.abs(total / rows - matrix.numpy()) <= 4 * error + 5 / rows).all()
    assert (total[matrix.numpy() == 0] == 0).all()


@pytest.mark.parametrize("name", ["symmetric", "pairflip", "superclass", "kernel", "asymmetric", "instance"])
def test_the_same_stream_gives_the_same_labels_and_another_does_not(name: str) -> None:
    data = labelled(2000, 10, DIGITS, superclasses=torch.arange(10) // 5)
    first, again, other = (harness.create("noise", name, rate=0.4)(data, rng=rng(s)) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", ["none", "symmetric", "pairflip", "superclass", "kernel", "asymmetric", "instance"])
@pytest.mark.parametrize("count", ["binomial", "exact"])
def test_clean_labels_stay_as_they_are_and_empty_data_pass(name: str, count: str) -> None:
    data = labelled(500, 10, DIGITS, superclasses=torch.arange(10) // 5)
    before = data.targets.clone()
    params: dict[str, Any] = {} if name == "none" else {"rate": 0.5}
    params |= {} if name in ("none", "instance") else {"count": count}
    noise = harness.create("noise", name, **params)
    noisy = noise(data, rng=rng())
    assert noisy.dtype == torch.int64
    noisy += 1
    assert torch.equal(data.targets, before)
    empty = data.subset(torch.empty(0, dtype=torch.int64))
    assert noise(empty, rng=rng()).shape == (0,)


@pytest.mark.parametrize("name", ["symmetric", "pairflip", "superclass", "kernel", "asymmetric", "instance"])
def test_a_rate_of_zero_is_no_noise(name: str) -> None:
    data = labelled(500, 10, DIGITS, superclasses=torch.arange(10) // 5)
    assert torch.equal(harness.create("noise", name, rate=0.0)(data, rng=rng()), data.targets)


@settings(deadline=None, max_examples=40)
@given(rate=st.floats(0, 1), size=st.integers(1, 400), classes=st.integers(2, 7), seed=st.integers(0, 99))
def test_exact_symmetric_noise_moves_exactly_its_share(rate: float, size: int, classes: int, seed: int) -> None:
    data = labelled(size, classes, seed=seed)
    noisy = harness.create("noise", "symmetric", rate=rate, count="exact")(data, rng=rng(seed))
    assert int((noisy != data.targets).sum()) == exact_count(rate, size)
    assert int(noisy.min()) >= 0 and int(noisy.max()) < classes


@pytest.mark.parametrize(
    ("rate", "size", "count"), [(0.29, 100, 29), (0.57, 100, 57), (0.2, 48_000, 9600), (0.55, 9, 4)]
)
def test_an_exact_count_is_that_of_decimal_arithmetic(rate: float, size: int, count: int) -> None:
    assert exact_count(rate, size) == count


def test_exact_class_noise_moves_its_share_of_every_source_class() -> None:
    data = labelled(5000, 10, DIGITS)
    noisy = harness.create("noise", "asymmetric", rate=0.4, map="mnist_cdr", count="exact")(data, rng=rng())
    table = counts(data.targets, noisy, 10)
    for source, target in MAPS["mnist_cdr"].items():
        assert table[source, target] == int(0.4 * table[source].sum())
    assert (noisy != data.targets).sum() == sum(table[s, t] for s, t in MAPS["mnist_cdr"].items())


PATRINI = {
    OBJECTS: {"truck": "automobile", "bird": "airplane", "cat": "dog", "dog": "cat", "deer": "horse"},
    DIGITS: {"7": "1", "2": "7", "5": "6", "6": "5", "3": "8"},
    CLOTHES: {"T-shirt/top": "Shirt", "Pullover": "Coat", "Sandal": "Sneaker", "Sneaker": "Sandal"},
}


@pytest.mark.parametrize("names", list(PATRINI), ids=["cifar10", "digits", "clothes"])
def test_the_automatic_map_is_the_one_known_for_the_class_names(names: tuple[str, ...]) -> None:
    noise = harness.create("noise", "asymmetric", rate=0.4)
    mapping = {names[s]: names[t] for s, t in noise.mapping(labelled(10, 10, names)).items()}
    assert mapping == PATRINI[names]


def test_the_other_maps_differ_from_patrini_s_as_their_papers_say() -> None:
    assert MAPS["mnist_patrini"].items() - MAPS["mnist_cdr"].items() == {(7, 1)}
    assert MAPS["cifar10_patrini"].items() - MAPS["cifar10_dmi"].items() == {(5, 3)}
    assert MAPS["fashion_mnist_eps_softmax"] == MAPS["mnist_patrini"]
    assert MAPS["fashion_mnist_gce"] == {9: 7, 7: 5, 2: 6, 4: 3, 3: 4}
    assert all(source != target for mapping in MAPS.values() for source, target in mapping.items())


@pytest.mark.parametrize("count", ["binomial", "exact"])
def test_a_cat_becomes_a_dog_at_the_full_rate_although_dogs_become_cats(count: str) -> None:
    data = labelled(200_000, 10, OBJECTS)
    noisy = harness.create("noise", "asymmetric", rate=0.4, count=count)(data, rng=rng())
    cats = data.targets == 3
    share = float((noisy[cats] == 5).float().mean())
    assert share == pytest.approx(0.4, abs=4 * (0.24 / int(cats.sum())) ** 0.5)


def test_symmetric_matrices_are_those_of_the_two_conventions() -> None:
    data = labelled(10, 10)
    exclusive = harness.create("noise", "symmetric", rate=0.4).transition_matrix(data)
    inclusive = harness.create("noise", "symmetric", rate=0.4, inclusive=True).transition_matrix(data)
    assert torch.allclose(exclusive.diagonal(), torch.full((10,), 0.6, dtype=torch.float64))
    assert exclusive[0, 1] == pytest.approx(0.4 / 9)
    assert inclusive[0, 0] == pytest.approx(0.64)
    assert inclusive[0, 1] == pytest.approx(0.04)


CIFAR100_NEXT = json.loads(
    "[51,32,11,42,30,20,7,14,13,10,16,35,17,48,18,19,28,37,24,21,25,31,39,33,6,84,45,29,61,44,55,38,67,49,63,46,50,68,15,"
    "40,86,69,43,88,78,77,98,52,58,60,65,53,56,57,62,72,59,83,90,96,71,9,70,64,66,74,75,73,76,81,82,23,95,91,80,34,12,79,"
    "93,99,36,85,92,0,94,89,87,22,97,41,8,1,54,27,5,4,47,3,2,26]"
)


def test_cifar_100_shifts_inside_its_true_super_classes() -> None:
    from harness_plugins.datasets.cifar100_superclasses import SUPERCLASSES

    assert np.bincount(SUPERCLASSES).tolist() == [5] * 20
    data = labelled(50_000, 100, superclasses=torch.tensor(SUPERCLASSES))
    noise = harness.create("noise", "superclass", rate=0.4)
    assert noise.mapping(data) == dict(enumerate(CIFAR100_NEXT))
    noisy = noise(data, rng=rng())
    groups = torch.tensor(SUPERCLASSES)
    assert torch.equal(groups[noisy], groups[data.targets])
    assert torch.equal(noise(labelled(50_000, 100), rng=rng()), noisy)


def test_the_block_shift_leaves_the_super_class_of_94_of_100_classes() -> None:
    from harness_plugins.datasets.cifar100_superclasses import SUPERCLASSES

    mapping = harness.create("noise", "superclass", rate=0.4, map="block").mapping(labelled(10, 100))
    assert mapping == {k: 5 * (k // 5) + (k + 1) % 5 for k in range(100)}
    assert sum(SUPERCLASSES[s] == SUPERCLASSES[t] for s, t in mapping.items()) == 6


@pytest.mark.parametrize("pairs", [0, 1, 7])
def test_one_pair_of_classes_is_swapped_in_each_block_of_five(pairs: int) -> None:
    noise = harness.create("noise", "superclass", rate=0.4, map="pairs", pairs=pairs)
    matrix = noise.transition_matrix(labelled(10, 100)).numpy()
    assert np.array_equal(matrix, matrix.T)
    for first in range(0, 100, 5):
        own = matrix[first : first + 5, first : first + 5]
        assert own.sum() == pytest.approx(5), "nothing leaves its block"
        assert sorted(own[own > 0].tolist()) == pytest.approx([0.4, 0.4, 0.6, 0.6, 1.0, 1.0, 1.0])


def test_which_pairs_are_swapped_is_the_setting_s_and_not_the_seed_s() -> None:
    data = labelled(50_000, 100)
    noise = harness.create("noise", "superclass", rate=1.0, map="pairs")
    assert torch.equal(noise(data, rng=rng(0)), noise(data, rng=rng(1)))
    drawn = [harness.create("noise", "superclass", rate=0.4, map="pairs", pairs=n).mapping(data) for n in range(40)]
    assert len({tuple(sorted(mapping)) for mapping in drawn}) == 40
    seen = np.zeros((5, 5))
    for mapping in drawn:
        for one, other in mapping.items():
            seen[one % 5, other % 5] += 1
    expected = 40 * 20 * 2 / 20  # of each ordered pair of a block
    assert np.abs(seen[~np.eye(5, dtype=bool)] - expected).max() < 4.5 * expected**0.5


PRINTED_TABLE_9 = [
    [0, 0.0769, 0.0769, 0.1538, 0, 0.0769, 0.3846, 0, 0.1538, 0.0769],
    [0, 0, 0.3333, 0.1111, 0, 0.1111, 0.1111, 0, 0.3333, 0],
    [0.0968, 0.0645, 0, 0.2581, 0.0323, 0, 0.0968, 0.1935, 0.2581, 0],
    [0, 0, 0.1250, 0, 0, 0.1250, 0, 0.1250, 0.6250, 0],
    [0.1111, 0.0370, 0.0741, 0.0741, 0, 0.0741, 0.2222, 0.0370, 0.1111, 0.2593],
    [0.0508, 0.0169, 0, 0.6271, 0.0169, 0, 0.1525, 0, 0.1017, 0.0339],
    [0.2353, 0.1765, 0.0588, 0.0588, 0.0588, 0.1765, 0, 0, 0.2353, 0],
    [0.0500, 0.2250, 0.2000, 0.1250, 0, 0, 0, 0, 0.2000, 0.2000],
    [0.1071, 0.0357, 0.1071, 0.3571, 0.1071, 0.0714, 0.0714, 0.1071, 0, 0.0357],
    [0.0638, 0.1702, 0, 0.2128, 0.1702, 0.1702, 0.0213, 0.0851, 0.1064, 0],
]


def test_the_rrm_kernel_is_table_9_of_the_paper() -> None:
    matrix = harness.create("noise", "kernel", rate=0.3).transition_matrix(labelled(10, 10)).numpy()
    assert matrix == pytest.approx(0.7 * np.eye(10) + 0.3 * np.array(PRINTED_TABLE_9), abs=0.3 * 6e-5)


def test_an_exact_kernel_contaminates_exactly_its_share() -> None:
    data = labelled(4810, 10)
    noisy = harness.create("noise", "kernel", rate=0.3, count="exact")(data, rng=rng())
    assert int((noisy != data.targets).sum()) == 1443


def test_human_labels_replace_the_clean_ones_and_give_their_own_matrix() -> None:
    human = torch.tensor([0, 1, 1, 2, 2, 0])
    data = LabelledData(torch.zeros(6, 1), torch.tensor([0, 0, 1, 1, 2, 2]), 4, human={"worse": human})
    noise = harness.create("noise", "human", labels="worse")
    assert torch.equal(noise(data, rng=rng()), human)
    part = data.subset(torch.tensor([1, 3]))
    assert noise(part, rng=rng()).tolist() == [1, 2]
    expected = [[0.5, 0.5, 0, 0], [0, 0.5, 0.5, 0], [0.5, 0, 0.5, 0], [0, 0, 0, 1]]
    assert noise.transition_matrix(data).tolist() == expected


@pytest.mark.parametrize(
    ("name", "params", "data", "words"),
    [
        ("human", {}, labelled(5, 3), "no human labels"),
        ("human", {}, labelled(5, 3, human={"noisy": torch.zeros(5, dtype=torch.int64)}), "choose one of noisy"),
        ("asymmetric", {"rate": 0.1}, labelled(5, 10), "no map is known"),
        ("asymmetric", {"rate": 0.1, "map": "mnist_cdr"}, labelled(5, 3), "for 10 classes, the data have 3"),
        ("superclass", {"rate": 0.1}, labelled(5, 100, tuple(map(str, range(100)))), "no super-classes"),
        ("superclass", {"rate": 0.1, "map": "block"}, labelled(5, 7), "blocks of 5"),
        ("superclass", {"rate": 0.1, "map": "pairs"}, labelled(5, 7), "blocks of 5"),
        ("kernel", {"rate": 0.1}, labelled(5, 3), "for 10 classes, the data have 3"),
        ("symmetric", {"rate": 0.1}, LabelledData(torch.zeros(3, 1), torch.zeros(3)), "is for classification"),
        ("gaussian", {"std": 1.0}, labelled(5, 3), "is for regression"),
        ("none", {}, LabelledData(torch.zeros(3, 1), torch.zeros(3)), "is for classification"),
    ],
)
def test_noise_that_does_not_fit_the_data_says_so_in_one_line(
    name: str, params: dict[str, Any], data: LabelledData, words: str
) -> None:
    noise = harness.create("noise", name, **params)
    with pytest.raises(HarnessError) as caught:
        if hasattr(noise, "transition_matrix"):
            noise.transition_matrix(data)
        noise(data, rng=rng())
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kernel", [[[0.0, 1.0]], [[0.0, 0.0], [1.0, 0.0]], [[0.0, -1.0], [1.0, 0.0]]])
def test_a_kernel_that_is_no_matrix_of_weights_is_refused(kernel: list[list[float]]) -> None:
    with pytest.raises(HarnessError):
        harness.create("noise", "kernel", rate=0.1, kernel=kernel)


def test_the_lists_of_human_labels_are_known_to_a_suite_without_a_rate() -> None:
    from harness.plugins import load_host

    registry = load_host().registry
    facts = {name: registry.facts(registry.find("noise", name)[0]) for name in registry.names("noise")}
    assert [name for name, fact in facts.items() if "transition_matrix" not in fact.hooks] == [
        "gaussian",
        "given",
        "instance",
        "label_flip",
    ]
    assert facts["gaussian"].declares.tasks == ("regression",)
    assert facts["human"].declares.fixed_rate is None
