"""Built-in and synthetic data sets: shapes, laws, fixed splits, and one line where something is missing."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from harness_plugins.datasets.cifar_n import CIFAR10N_KEYS, read_labels, with_human_labels

import harness
from harness import DataSplits, HarnessError


def digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "train", "test", "shape"), [("digits", 1438, 359, (1, 8, 8)), ("mnist5k", 4000, 1000, (1, 28, 28))]
)
def test_built_in_images_are_split_alike_every_time(name: str, train: int, test: int, shape: tuple[int, ...]) -> None:
    first, again = harness.create("dataset", name), harness.create("dataset", name)
    assert (len(first.train), len(first.test)) == (train, test)
    assert first.train.inputs.shape[1:] == shape
    assert first.train.inputs.dtype == torch.uint8
    assert digest(first.test.inputs) == digest(again.test.inputs)
    assert first.train.num_classes == 10
    overall = torch.bincount(torch.cat([first.train.targets, first.test.targets])) / (train + test)
    assert torch.allclose(torch.bincount(first.test.targets) / test, overall, atol=1.01 / test)


def test_no_image_is_both_trained_and_tested_on() -> None:
    from sklearn.datasets import load_digits

    splits = harness.create("dataset", "digits")
    rows = torch.cat([splits.train.inputs, splits.test.inputs]).reshape(1797, -1).numpy()
    whole = np.round(load_digits().data * (255 / 16)).astype(np.uint8)
    assert sorted(map(bytes, rows)) == sorted(map(bytes, whole))


def test_linear_regression_is_exactly_linear_with_normal_inputs() -> None:
    splits = harness.create("dataset", "linear_regression", train=2000)
    x, y = splits.train.inputs.double(), splits.train.targets.double()
    w = torch.linalg.lstsq(x, y).solution
    assert torch.allclose(x @ w, y, atol=1e-4)
    assert torch.allclose(splits.test.inputs.double() @ w, splits.test.targets.double(), atol=1e-4)
    assert float(w.mean()) == pytest.approx(0, abs=0.12)
    assert float(w.std()) == pytest.approx(1, abs=0.1)
    assert np.cov(x.numpy().T) == pytest.approx(np.eye(36), abs=0.15)
    assert splits.task == "regression"


def test_linear_regression_has_the_paper_s_sizes_by_default() -> None:
    splits = harness.create("dataset", "linear_regression")
    assert splits.train.inputs.shape == splits.test.inputs.shape == (100, 36)
    assert splits.train.targets.shape == (100, 36)


def test_the_sparse_linear_model_is_low_rank_and_its_test_set_asks_for_the_minimum_norm_solution() -> None:
    splits = harness.create("dataset", "sparse_linear")
    jacobian, y = splits.train.inputs.double(), splits.train.targets.double()
    assert jacobian.shape == (20, 40)
    assert int(torch.linalg.matrix_rank(jacobian, rtol=1e-5)) == 3
    theta = torch.linalg.pinv(jacobian, rtol=1e-5) @ y
    assert torch.allclose(jacobian @ theta, y, atol=1e-4)
    assert torch.allclose(splits.test.inputs.double() @ theta, splits.test.targets.double(), atol=1e-3)


@pytest.mark.parametrize("name", ["linear_regression", "sparse_linear"])
def test_synthetic_data_depend_on_their_own_seed_alone(name: str) -> None:
    first, again, other = (harness.create("dataset", name, seed=seed) for seed in (0, 0, 1))
    torch.randn(7)
    assert digest(first.train.targets) == digest(again.train.targets)
    assert digest(first.train.targets) != digest(other.train.targets)


@pytest.mark.parametrize(
    "name", ["mnist", "mnist3", "fashion_mnist", "cifar10", "cifar100", "cifar10n", "cifar100n", "california_housing"]
)
def test_missing_files_are_told_in_one_line_with_the_command_that_fetches_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    with pytest.raises(HarnessError) as caught:
        harness.create("dataset", name)
    assert f"harness data fetch {name}" in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def small_splits() -> DataSplits:
    splits = harness.create("dataset", "digits")
    return DataSplits(splits.train.subset(torch.arange(6)), splits.test)


def test_human_labels_must_belong_to_the_very_images() -> None:
    splits = small_splits()
    labels = {key: splits.train.targets.clone() for key in ("clean_label", *CIFAR10N_KEYS.values())}
    labels["worse_label"] = labels["worse_label"].flip(0)
    human = with_human_labels(splits, labels, CIFAR10N_KEYS, "cifar10n").train.human
    assert torch.equal(human["worse"], splits.train.targets.flip(0))
    assert sorted(human) == ["aggregate", "random1", "random2", "random3", "worse"]
    labels["clean_label"] = labels["clean_label"].roll(1)
    with pytest.raises(HarnessError, match=r"clean labels are not those of the 6 training images \(\d differ\)"):
        with_human_labels(splits, labels, CIFAR10N_KEYS, "cifar10n")
    del labels["worse_label"]
    with pytest.raises(HarnessError, match="no 'worse_label'"):
        with_human_labels(splits, labels, CIFAR10N_KEYS, "cifar10n")


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("never-made"),))


def test_a_label_file_with_anything_but_arrays_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"clean_label": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(HarnessError, match="cannot be read"):
        read_labels(tmp_path / "evil.pt", "cifar10n")
    assert not (tmp_path / "never-made").exists()
    (tmp_path / "torn.pt").write_bytes(b"PK\x03\x04torn")
    with pytest.raises(HarnessError, match="cannot be read"):
        read_labels(tmp_path / "torn.pt", "cifar10n")


def test_label_files_of_numpy_arrays_and_lists_are_read(tmp_path: Path) -> None:
    torch.save({"clean_label": np.arange(3), "noisy_coarse_label": [2, 1, 0]}, tmp_path / "labels.pt")
    labels = read_labels(tmp_path / "labels.pt", "cifar100n")
    assert labels["clean_label"].tolist() == [0, 1, 2]
    assert labels["noisy_coarse_label"].dtype == torch.int64
